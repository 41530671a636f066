"""What a plan will cost before anything runs: the time, memory and disk that each stage takes on the device at hand.

Work is counted (`bench.run.costs`); how long it takes is learned from recorded runs (`bench.run.recorded`), of this
machine where there are any, or timed for a moment (`bench.run.pace`). Each estimate says where it is from.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import psutil
import torch
from accelerate import Accelerator

from bench.core import environment
from bench.run import pace, recorded
from bench.run.costs import StageCosts
from bench.run.device import threads
from bench.run.plan import Job, Plan, StagePlan
from bench.run.plan_summary import Costs
from bench.run.recorded import FINISH, Calibration
from bench.train.precision import choose

WORKSPACE = 6e8
"""Bytes that a process which trains on a CPU keeps beside its models and batches: of kernels for each shape of batch,
and of blocks that were freed. Ours; the committed records of such runs have from 0.3 to 0.9 GB."""
START_S = 0.1
"""Of a stage, beside its work: what it loads and saves."""


def costs(plan: Plan) -> Costs:
    """What each job and stage will cost by itself, as numbers that do not depend on what is cached."""
    device = Accelerator().device
    precision = choose("auto", device)
    clock = _Clock(plan, StageCosts(plan, narrow=precision.name == "bf16"), device)
    base = psutil.Process().memory_info().rss + (WORKSPACE if device.type == "cpu" else 0)
    jobs = [{"spec": job.spec.as_dict(), "hash": job.hash, "asks": [other.hash for other in job.direct],
             "stages": [clock.stage(job, stage, base) for stage in job.stages], "finish_s": clock.finish_s(job)}
            for job in plan.jobs]  # fmt: skip
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else environment.fingerprint()["cpu"]
    return {"jobs": jobs, "device": f"{name}, {precision.name}", "gpu": device.type == "cuda",
            "processes": Accelerator().num_processes, "base_bytes": base, "from": _says(clock.told),
            "start_s": time.time() - psutil.Process().create_time()}  # fmt: skip


_measured = functools.cache(pace.measured)
"""Once for all parts of a profile: it takes a moment each time."""


class _Clock:
    """The costs of a plan's stages on this machine: work by `known`, seconds corrected by recorded runs."""

    def __init__(self, plan: Plan, known: StageCosts, device: torch.device):
        self._known, self._gpu = known, device.type == "cuda"
        self._often = 60 * plan.request.checkpoint_minutes
        machine = environment.fingerprint(threads())["machine"]
        runs = recorded.read(recorded.folders(plan.request.results), device.type)
        # Runs of another scale correct the clock, too, but are no measure of how steps of this size compare.
        here = any(one.machine == machine and one.scale == plan.request.scale for one in runs)
        self._pace = pace.nominal(device) if here else _measured(known.facts, device)
        timed = not here and not self._gpu
        self.told = Calibration(runs, machine, lambda one: self._expected(*known.recorded(one)), timed)

    def stage(self, job: Job, stage: StagePlan, base_bytes: float) -> dict[str, Any]:
        """What making a stage costs; memory beside what a process holds at its start."""
        cost, asked = self._known.stage(job, stage), _keys(job, stage.stage.name)
        factor, source = self.told.factor(asked)
        seconds = factor * self._expected(cost.flops, cost.batches)
        held, peak = cost.device_bytes, self.told.peak_bytes(asked)
        if peak is not None:  # on a CPU it is that of the whole process
            held = peak if self._gpu else max(0.0, peak - base_bytes - cost.host_bytes)
        return {"name": stage.stage.name, "key": stage.key, "from": source, "seconds": seconds, "device_bytes": held,
                "host_bytes": cost.host_bytes, "kept_bytes": cost.kept_bytes,
                "progress_bytes": cost.progress_bytes if seconds > self._often else 0.0}  # fmt: skip

    def finish_s(self, job: Job) -> float:
        """Seconds of scoring and timing a finished model."""
        return self.told.factor(_keys(job, FINISH))[0] * self._expected(*self._known.finish(job))

    def _expected(self, flops: float, batches: float) -> float:
        return START_S + self._pace.seconds(flops, batches)


def _keys(job: Job, stage: str) -> tuple[recorded.Key, ...]:
    spec = job.spec
    return recorded.keys(spec.paper, spec.variant, spec.task, spec.scale, stage)


def _says(told: Calibration) -> str:
    """Where the times of a plan are from, in a few words."""
    if told.runs:
        return f"{told.runs} recorded run{'s' if told.runs > 1 else ''} of this machine"
    plural = "s" if told.machines > 1 else ""
    others = f", and the proportions of {told.machines} other{plural}" if told.machines else ""
    return f"a moment's training on this machine{others}: no run of it is recorded"
