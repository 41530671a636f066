"""What a plan will cost before anything runs: cached stages, floating-point operations, time, memory and disk.

Time is an estimate: training operations over this machine's own matmul rate, measured for a moment.
"""

from __future__ import annotations

import time
from typing import Any

import torch

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


def forecast(plan: Plan) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per job and the totals. A stage that several jobs share is counted once."""
    rate = matmul_rate(torch.device("cuda" if torch.cuda.is_available() else "cpu")) * EFFICIENCY
    seen: set[str] = set()
    rows = []
    for job in plan.jobs:
        stages, seconds = [], 0.0
        for stage in job.stages:
            cached = plan.cache.has(stage.key)
            shared = stage.key in seen
            seconds += 0.0 if cached or shared else _operations(plan, job, stage) / rate
            seen.add(stage.key)
            stages.append({"name": stage.stage.name, "cached": cached, "shared": shared, "key": stage.key[:12]})
        rows.append({**job.spec.as_dict(), "stages": stages, "expected_s": round(seconds)})
    facts = _width(plan)
    weights = facts.layers * 12 * facts.hidden**2 + facts.vocabulary * facts.hidden
    new = sum(not s["cached"] and not s["shared"] for row in rows for s in row["stages"])
    return rows, {
        "jobs": len(rows),
        "expected_s": sum(row["expected_s"] for row in rows),
        "memory_mb": round(weights * 4 * 6 / 1e6),
        "disk_mb": round(new * weights * 4 / 1e6),
    }
