"""What a plan will cost before anything runs: floating-point operations, and the time that they take here.

Time is an estimate: training operations over this machine's own matmul rate, measured for a moment.
"""

from __future__ import annotations

import time

import torch

from bench.run.answer import Costs
from bench.run.plan import Job, Plan, StagePlan
from bench.train.recipe import EncoderFacts
from bench.train.settings import Training

EFFICIENCY = 0.4
"""Share of the matmul rate that training reaches on short batches (ours; measured by tests/benchmarks)."""


def matmul_rate(device: torch.device, size: int = 1024, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations per second of a matmul, the best of a few."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def _width(plan: Plan) -> EncoderFacts:
    from bench.run.inputs import encoder_facts

    if plan.checkpoint:
        return encoder_facts(plan.checkpoint)
    own = next((getattr(j.hyper, "pretrain", None) for j in plan.jobs if getattr(j.hyper, "pretrain", None)), None)
    return EncoderFacts(own.layers, own.hidden, own.heads, 1600) if own else EncoderFacts(12, 768, 12, 30522)


def _operations(plan: Plan, job: Job, stage: StagePlan) -> float:
    """6 operations per weight and token of training; half the teacher's layers for a student."""
    facts = _width(plan)
    layers = facts.layers if job.reference is None else facts.layers / 2
    weights = layers * 12 * facts.hidden**2
    total = 0.0
    for name in stage.stage.uses:
        settings = getattr(job.hyper, name)
        training = settings if isinstance(settings, Training) else getattr(settings, "training", None)
        if not isinstance(training, Training):
            continue
        if stage.corpus:
            vocabulary = 3 * facts.vocabulary * facts.hidden  # the head of student and teacher
            total += 6 * getattr(settings, "corpus_tokens", 0) * training.epochs * (weights + vocabulary / 2)
        else:
            encoded = plan.inputs.encoded(job.task, job.task.train, job.reading)
            total += 6 * int(encoded.offsets[-1]) * training.epochs * weights
    return total


def costs(plan: Plan) -> Costs:
    """What each job and stage will cost, as numbers that do not depend on what is cached."""
    rate = matmul_rate(torch.device("cuda" if torch.cuda.is_available() else "cpu")) * EFFICIENCY
    seen: set[str] = set()
    jobs = []
    for job in plan.jobs:
        stages = []
        for stage in job.stages:
            shared = stage.key in seen
            seconds = 0.0 if shared else _operations(plan, job, stage) / rate
            stages.append({"name": stage.stage.name, "key": stage.key, "shared": shared, "seconds": seconds})
            seen.add(stage.key)
        jobs.append({"spec": job.spec.as_dict(), "stages": stages})
    facts = _width(plan)
    return {"jobs": jobs, "weights": facts.layers * 12 * facts.hidden**2 + facts.vocabulary * facts.hidden}
