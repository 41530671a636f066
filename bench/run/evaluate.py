"""What a run measures of its finished model: quality, size, FLOPs and speed, on the very artefact it saved.

Teacher and student go through the same functions, and their timing rounds are interleaved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import nn

from bench.core.files import file_sha256
from bench.core.record import Artefact, Measurement, StageEntry
from bench.core.steering import deterministic
from bench.data.row_answers import Said
from bench.measure import within
from bench.measure.within import LENGTH
from bench.models.flops import count
from bench.models.size import folder_bytes, parameters, parameters_without_embeddings
from bench.run.inputs import Reading
from bench.run.plan import Job
from bench.train.cpu import keep_large_blocks
from bench.train.predict import predict


def logits(job: Job, model: nn.Module, reading: Reading, accelerator: Accelerator) -> dict[str, np.ndarray]:
    """Scored split -> the model's logits, in the order of the encoded rows."""
    return {
        split: predict(model, job.inputs.encoded(job.task, split, reading), accelerator) for split in job.task.scored
    }


def said(job: Job, logits: Mapping[str, np.ndarray], reading: Reading) -> dict[str, Said]:
    """Scored split -> what the logits say of each row."""
    return {split: job.inputs.said(job.task, split, reading, found) for split, found in logits.items()}


def quality(job: Job, told: Mapping[str, Said]) -> list[Measurement]:
    """Every metric of the task on every scored split, and `majority`: the accuracy of always saying the commonest."""
    out = []
    for split, found in told.items():
        labels = job.inputs.rows(job.task, split).labels
        for metric, value in job.inputs.scores(job.task, split, found).items():
            out.append(Measurement(metric=metric, split=split, value=value, unit="fraction", n=len(labels)))
        if job.task.kind == "label":
            share = float(np.bincount(labels).max() / len(labels))
            out.append(Measurement(metric="majority", split=split, value=share, unit="fraction", n=len(labels)))
    return out


def size(model: nn.Module, folder: Path) -> list[Measurement]:
    """Parameters, bytes on disk and FLOPs of one forward pass."""

    def one(metric: str, split: str, value: float, unit: str) -> Measurement:
        return Measurement(metric=metric, split=split, value=value, unit=unit, n=1)

    return [
        one("parameters", "all", parameters(model), "count"),
        one("parameters_without_embeddings", "all", parameters_without_embeddings(model), "count"),
        one("size_bytes", "artefact", folder_bytes(folder), "bytes"),
        one("flops", f"batch1-length{LENGTH}", count(model, 1, LENGTH), "flop"),
    ]


def findings(facts: Mapping[str, Any]) -> list[Measurement]:
    """What the stages found out by the way (sensitivities, bits): each split's numbers and their mean."""
    return [
        Measurement(metric=metric, split=split, value=float(np.mean(numbers)), unit="one", n=len(numbers),
                    samples=list(numbers) if len(numbers) > 1 else [])
        for metric, by_split in facts.items() if isinstance(by_split, Mapping)
        for split, numbers in by_split.items()
    ]  # fmt: skip


def timed() -> bool:
    """Whether a run's times say anything: not those of deterministic operations, which are slower than the usual."""
    return not deterministic()


def speed(model: nn.Module, teacher: nn.Module | None, accelerator: Accelerator) -> list[Measurement]:
    """Times of the model, and against its teacher; tokenisation excluded. None where they would say nothing."""
    if not timed():
        return []
    keep_large_blocks()  # as training in this process has done: a model from the cache is timed as a new one is
    return within.speed(model, teacher, accelerator.device)


def against_reference(job: Job, mine: list[Measurement], theirs: list[Measurement]) -> list[Measurement]:
    """Retention of the primary metric and the ratios of size and FLOPs, each to the run's own reference."""
    out = []

    def ratio(metric: str, split: str, name: str, to: str) -> None:
        a, b = ([m.value for m in ms if m.metric == metric and m.split == split] for ms in (mine, theirs))
        if a and b and a[0] is not None and b[0]:
            out.append(Measurement(metric=name, split=to, value=a[0] / b[0], unit="ratio", n=1))

    for split in job.task.scored:
        ratio(job.task.primary, split, "retention", split)
    ratio("parameters", "all", "parameters_ratio", "teacher")
    ratio("size_bytes", "artefact", "size_ratio", "teacher")
    ratio("flops", f"batch1-length{LENGTH}", "flops_ratio", "teacher")
    return out


def cost(entries: list[StageEntry]) -> list[Measurement]:
    """What training cost, stages from the cache included: their time was spent once and is part of the price."""
    seconds = sum(entry.seconds for entry in entries)
    peak = max((entry.peak_bytes for entry in entries), default=0)
    taken = Measurement(metric="training_seconds", split="all", value=round(seconds, 3), unit="s", n=len(entries))
    held = Measurement(metric="training_peak_bytes", split="all", value=peak, unit="bytes", n=len(entries))
    return [*([taken] if timed() else []), held]


def artefacts(files: Iterable[Path]) -> list[Artefact]:
    """Weight files by sha256."""
    return [Artefact(name=file.name, sha256=file_sha256(file), bytes=file.stat().st_size) for file in files]
