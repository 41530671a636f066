"""What a plan will cost before anything runs: the time, memory and disk that each stage takes on the device at hand.

Time is an estimate: operations over this device's own matmul rate, measured for a moment, and no batch under a floor.
"""

from __future__ import annotations

import time

import torch
from accelerate import Accelerator

from bench.core import environment
from bench.run.answer import Costs
from bench.run.costs import StageCosts
from bench.run.plan import Plan
from bench.train.precision import choose

EFFICIENCY = {("cpu", "fp32"): 0.4, ("cpu", "bf16"): 0.15, ("cuda", "fp32"): 0.3, ("cuda", "bf16"): 0.2}
"""Share of the matmul rate that training reaches on short batches (ours; of a GPU, what BERT-base reaches at least as
graphs in tests/benchmarks/gpu-h100.json and gpu-h200.json)."""
BATCH_S = {"cpu": 0.004, "cuda": 0.003}
"""Seconds that no batch goes under: what starting its kernels takes (tests/benchmarks/gpu-h100.json: some 400 small
steps a second as graphs)."""
MATMUL = {"cpu": 1024, "cuda": 4096}
"""Rows and columns of the matrices that are multiplied to know the rate."""


def matmul_rate(device: torch.device, size: int = 1024, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations per second of a matmul, the best of a few."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def costs(plan: Plan) -> Costs:
    """What each job and stage will cost, as numbers that do not depend on what is cached."""
    device = Accelerator().device
    precision = choose("auto", device)
    dtype = torch.bfloat16 if precision.name == "bf16" else torch.float32
    rate = matmul_rate(device, MATMUL.get(device.type, 1024), dtype)
    rate *= EFFICIENCY.get((device.type, precision.name), 0.1)
    known, seen = StageCosts(plan, narrow=precision.name == "bf16"), set()
    jobs = []
    for job in plan.jobs:
        stages = []
        for stage in job.stages:
            shared = stage.key in seen
            seen.add(stage.key)
            cost = known.stage(job, stage)
            seconds = max(cost.flops / rate, cost.batches * BATCH_S.get(device.type, 0.0))
            stages.append({"name": stage.stage.name, "key": stage.key, "shared": shared,
                           "seconds": 0.0 if shared else seconds, "device_bytes": cost.device_bytes,
                           "host_bytes": cost.host_bytes, "kept_bytes": 0.0 if shared else cost.kept_bytes,
                           "progress_bytes": cost.progress_bytes})  # fmt: skip
        jobs.append({"spec": job.spec.as_dict(), "stages": stages, "finish_s": known.finish(job) / rate})
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else environment.fingerprint()["cpu"]
    return {"jobs": jobs, "device": f"{name}, {precision.name}", "gpu": device.type == "cuda",
            "processes": Accelerator().num_processes}  # fmt: skip
