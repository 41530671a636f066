"""The same runs of each paper, made twice by fresh processes with caches of their own, are the same to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import commands
import pytest
import words

from bench.core import registry
from bench.core.record import Measurement, Record

folder, tokenizer = commands.folder, words.tokenizer  # fixtures

ROOT = Path(__file__).resolve().parents[2]
TUNED = {"fine_tune.epochs": 12, "fine_tune.lr": 3e-3}
"""Of the teacher, which all papers of a profile share."""
PARTS: Sequence[tuple[str, str, Mapping[str, Any]]] = (
    ("distilbert", "distilbert", {"general.corpus_tokens": 500, "head.corpus_tokens": 500}),
    ("tinybert", "tinybert-4", {"general.corpus_tokens": 500, "pretrain.corpus_tokens": 500, "student.every": 2,
                                "augmentation.letters_only": "false"}),
    ("mobilebert", "mobilebert", {
        "stream.hidden_size": 32, "stream.embedding_size": 16, "stream.initializer_range": 0.1,
        "teacher.intra_bottleneck_size": 32, "teacher.intermediate_size": 64, "student.intra_bottleneck_size": 16,
        "student.intermediate_size": 32, "corpus.corpus_tokens": 1000, "fine_tune.training.epochs": 12,
        "fine_tune.training.lr": 3e-3}),
    ("qbert", "qbert-mp23", {}),
    ("adabert", "adabert", {
        "student.hidden": 16, "student.max_cells": 2, "head.corpus_tokens": 500, "augmentation.letters_only": "false",
        "probes.training.epochs": 1, "search.training.epochs": 2, "retrain.training.epochs": 2}),
    ("lowresource", "bilstm", {"training.epochs": 2, "least_steps": 6}),
    ("lowresource", "cnn-aug", {"training.epochs": 2, "least_steps": 6}),
)  # fmt: skip
"""(paper, variant, changes that make it quick); the reference comes with each."""


def profile(folder: Path) -> Path:
    """All parts, on the folder's tiny teacher, task and corpus."""
    lines = ['scale = "smoke"', 'task = ["sst2"]', f'teacher = "{folder / "teacher"}"', f'data = "{folder / "data"}"',
             f'corpus = "{folder / "corpus.txt"}"', *table("set", TUNED)]  # fmt: skip
    for paper, variant, changes in PARTS:
        lines += ["[[part]]", f'paper = ["{paper}"]', f'variant = ["{variant}"]', *table("part.set", changes)]
    path = folder / "all.toml"
    path.write_text("\n".join(lines))
    return path


def table(name: str, changes: Mapping[str, Any]) -> list[str]:
    return [f"[{name}]", *(f'"{path}" = {json.dumps(value)}' for path, value in changes.items())]


def lasts(one: Measurement) -> bool:
    """Whether a measurement is of the model, and not of the machine's time or memory while it was made."""
    timed = one.unit in ("s", "examples/s") or (one.unit == "ratio" and one.split.startswith("batch"))
    return not timed and not one.metric.endswith("peak_bytes")


def content(record: Record) -> dict[str, Any]:
    """All that two runs of one thing must have in common, with every digit."""
    return {
        "hash": record.hash, "status": record.status, "reason": record.reason,
        "measured": [one.model_dump() for one in record.measurements if lasts(one)],
        "stages": [(one.name, one.steps, one.examples, one.first_loss, one.last_loss) for one in record.stages],
        "weights": [(one.name, one.sha256) for one in record.artefacts],
        "answers": {split: one.model_dump() for split, one in record.answers.items()},
    }  # fmt: skip


@contextmanager
def started(folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """The command, of which nothing is left after."""
    command = [sys.executable, "-m", "bench", "run", str(folder / "all.toml"), "--results", name, "--json"]
    settings = {"BENCH_HOME": str(folder / f"home-{name}"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=folder / "work", env=os.environ | settings, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str]) -> dict[str, Record]:
    """The records by what they are of."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    return {str(record.spec): record for record in map(Record.model_validate, json.loads(out))}


@pytest.mark.slow
def test_every_paper_gives_the_same_bytes_again(folder: Path) -> None:
    profile(folder)
    with started(folder, "first") as one, started(folder, "second") as other:
        first, second = finished(one), finished(other)
    assert {record.spec.paper for record in first.values()} == set(registry.find()[0])
    assert first.keys() == second.keys() and len(first) >= len(PARTS) + 1
    for name, record in first.items():
        assert content(record) == content(second[name]), name
    measured = [one for record in first.values() for one in record.measurements]
    assert len(list(filter(lasts, measured))) >= 10 * len(first)
    assert {one.metric for one in measured if not lasts(one)} == {
        "aa_ratio", "latency_s", "speedup", "teacher_latency_s", "throughput", "training_peak_bytes",
        "training_seconds",
    }  # fmt: skip
    trained = [one.last_loss for record in first.values() for one in record.stages if one.last_loss is not None]
    assert len(trained) >= 12 and all(record.artefacts for record in first.values())
