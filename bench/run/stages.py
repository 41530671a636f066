"""Runs a job's chain of stages: from the deepest cached one on, saving after each."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from bench.core.record import StageEntry
from bench.core.spec import digest
from bench.run.context import StageContext
from bench.run.plan import Job, Plan, StagePlan
from bench.train.fit import peak_bytes
from bench.train.recipe import State


@dataclass(slots=True)
class ChainLog:
    """What the stages of a job did, for its record."""

    entries: list[StageEntry] = field(default_factory=list)
    dev_looks: int = 0


class StageRunner:
    """Runs chains over one plan's cache and inputs; only the main process writes."""

    def __init__(self, plan: Plan, accelerator: Accelerator):
        self.plan, self.accelerator = plan, accelerator

    def run(self, job: Job, log: ChainLog, upto: str | None = None) -> str:
        """Make sure that the chain is in the cache, up to the stage key `upto`; returns the last key.

        `log` is filled as stages end, so that a failed run can say how far it came.
        """
        keys = [plan.key for plan in job.stages]
        stop = keys.index(upto) + 1 if upto else len(keys)
        state, before = State(), None
        deepest = max((i for i in range(stop) if self.plan.cache.has(keys[i])), default=-1)
        for i, plan in enumerate(job.stages[:stop]):
            if i <= deepest:
                self._remember(plan, log)
                if i == deepest and i + 1 < stop:
                    state = self.plan.cache.load(plan.key)
            else:
                state = self._build(job, plan, state, before, log)
            before = plan.key
        return keys[stop - 1]

    def _remember(self, plan: StagePlan, log: ChainLog) -> None:
        manifest = self.plan.cache.manifest(plan.key)
        log.entries.append(StageEntry.model_validate(manifest["log"] | {"cached": True}))
        log.dev_looks += manifest["dev_looks"]

    def _build(self, job: Job, plan: StagePlan, state: State, before: str | None, log: ChainLog) -> State:
        cache = self.plan.cache
        if self.accelerator.num_processes > 1:  # all processes train together: none of them may wait for a lock
            return self._execute(job, plan, state, before, log)
        with cache.lock(plan.key):
            if cache.has(plan.key):  # another bench made it while this one waited
                self._remember(plan, log)
                return cache.load(plan.key)
            return self._execute(job, plan, state, before, log)

    def _execute(self, job: Job, plan: StagePlan, state: State, before: str | None, log: ChainLog) -> State:
        seed = int(digest([plan.seed, plan.stage.name])[:8], 16)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        context = self._context(job, plan)
        hyper = SimpleNamespace(**{name: getattr(job.hyper, name) for name in plan.stage.uses})
        started = time.monotonic()
        after = plan.stage.run(state, hyper, context)
        fits = context.logs
        entry = StageEntry(
            name=plan.stage.name,
            seconds=round(sum(f.seconds for f in fits) if fits else time.monotonic() - started, 3),
            steps=sum(f.steps for f in fits), examples=sum(f.examples for f in fits),
            first_loss=fits[0].first_loss if fits else None, last_loss=fits[-1].last_loss if fits else None,
            peak_bytes=max([f.peak_bytes for f in fits], default=peak_bytes(self.accelerator.device)),
            precision=fits[-1].precision if fits else None, teacher_logits=context.teacher_logits_from,
        )  # fmt: skip
        log.entries.append(entry)
        log.dev_looks += context.dev_looks
        if self.accelerator.is_main_process:
            tokenizer = self.plan.inputs.tokenizer(job.tokenizer_folder)
            self.plan.cache.save(plan.key, after, state, before, entry, context.dev_looks, tokenizer)
        self.accelerator.wait_for_everyone()
        return after

    def _context(self, job: Job, plan: StagePlan) -> StageContext:
        def teacher(kind: str) -> PreTrainedModel:
            assert plan.stage.teacher == kind, f"stage {plan.stage.name} did not declare teacher={kind!r}"
            assert job.teacher is not None
            upto = job.teacher.pretrained_key if kind == "pretrained" else None
            return self.plan.cache.load(self.run(job.teacher, ChainLog(), upto)).model

        return StageContext(
            task=job.task, scale=job.spec.scale, seed=plan.seed, inputs=self.plan.inputs,
            accelerator=self.accelerator, reading=job.reading,
            checkpoint=self.plan.checkpoint if job.teacher is None else None, released=job.released,
            progress_folder=self.plan.cache.progress(plan.key),
            teachers={kind: (lambda kind=kind: teacher(kind)) for kind in ("pretrained", "fine_tuned")},
            teacher_key=job.teacher.key if job.teacher else "",
            label=f"{job.spec.variant} {job.spec.task} s{job.spec.seed} {plan.stage.name}",
        )  # fmt: skip
