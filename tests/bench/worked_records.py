"""Records and claims whose verdicts can be worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.claims.claim import Claim, Entry, Ledger, Paper, Tolerance
from bench.core.record import Data, Measurement, Record, RunSpec, TeacherLink
from bench.judge.rules import VERDICTS, Judged
from bench.judge.runs import runs_of
from bench.judge.verdict import judge

POINT = Tolerance(absolute=0.01, why="a point")
TOLERANCES = {
    "accuracy": POINT, "average": POINT, "matthews": POINT,
    "retention": Tolerance(absolute=0.02, why="two points"),
    "difference_to": Tolerance(absolute=0.005, why="half a point"),
    "parameters": Tolerance(relative=0.02, why="whole millions"),
    "parameters_ratio": Tolerance(absolute=0.02, why="whole tens"),
    "speedup": Tolerance(relative=0.1, why="a tenth"),
    "training_seconds": Tolerance(relative=0.25, why="about"),
}  # fmt: skip
SST2, RTE = (Entry(task=task, metrics=("accuracy",), splits=("validation",)) for task in ("sst2", "rte"))

CHAIN = ("toy-random", "toy-cut", "toy")


def ledger(*claims: Claim, name: str = "toy", **paper: Any) -> Ledger:
    about = Paper(name=name, title="A toy", label="Toy", arxiv="", venue="nowhere", code="", commit="", **paper)
    return Ledger(paper=about, tolerances=TOLERANCES, averages={}, claims=claims, file="claims.toml")


def claim(**given: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "toy.c", "says": "Toy has 90%.", "kind": "quality", "variant": "toy", "task": "sst2",
        "split": "validation", "metric": "accuracy", "value": 90.0, "unit": "%", "source": "Table 1",
        "transcription": "seen", "aggregation": "mean", "seeds": 3,
    }  # fmt: skip
    return Claim.model_validate(fields | given)


def size_claim(**given: Any) -> Claim:
    fields = {"kind": "size", "task": "", "split": "all", "metric": "parameters", "value": 66, "unit": "M"}
    return claim(**(fields | given))


def speed_claim(**given: Any) -> Claim:
    fields = {"kind": "speed", "task": "", "split": "batch1-length128", "metric": "speedup", "value": 60,
              "unit": "% faster"}  # fmt: skip
    return claim(**(fields | given))


def number(metric: str, split: str, value: float | None, samples: Sequence[float] = ()) -> Measurement:
    return Measurement(metric=metric, split=split, value=value, unit="fraction", n=10**6, samples=list(samples))


def record(score: float | None = None, seed: int = 0, *extra: Measurement, **given: Any) -> Record:
    scale, variant, task = given.pop("scale", "full"), given.pop("variant", "toy"), given.pop("task", "sst2")
    paper, rows = given.pop("paper", "toy"), given.pop("rows", 100)
    source = given.pop("source", "synthetic" if scale == "smoke" else "hub")
    budget, teacher = given.pop("budget", {"limit": None}), given.pop("teacher", None)
    taught = given.pop("taught", None)
    name = f"{paper}-{variant}-{task}-{scale}-{rows}-{budget}-s{seed}"
    measurements = [*extra] if score is None else [number("accuracy", "validation", score), *extra]
    fields: dict[str, Any] = {
        "id": name, "status": "ok", "tier": "exact", "hyper": {"lr": 1e-4, "budget": budget}, "hash": "0" * 64,
        "code": {"commit": "c", "dirty": False}, "environment": {"machine": "m1"}, "seconds": 1.0,
        "started": "2026-01-01T00:00:00Z",
        "data": Data(source=source, revision="r", sha256="cd" * 32, rows={"train": rows}, partial=False),
        "teacher": TeacherLink(record=teacher or "none", score=taught) if teacher or taught is not None else None,
    }  # fmt: skip
    spec = RunSpec(paper=paper, variant=variant, task=task, scale=scale, seed=seed)
    return Record.model_validate(fields | given | {"spec": spec, "measurements": measurements})


def runs(centre: float, spread: float = 0.001, n: int = 3, **given: Any) -> list[Record]:
    offsets = {1: [0.0], 2: [-1.0, 1.0], 3: [0.0, 1.0, -1.0], 5: [0.0, 1.0, -1.0, 1.0, -1.0]}[n]
    return [record(centre + spread * offset, seed, **given) for seed, offset in enumerate(offsets)]


def one(found: Claim, records: Sequence[Record], **paper: Any) -> Judged:
    [judged] = judge([ledger(found, **paper)], runs_of(records))
    assert judged.verdict in VERDICTS
    assert judged.why.endswith(".") and len(judged.why.split()) > 4
    return judged


def average_claim(**given: Any) -> Claim:
    return claim(**{"task": "", "metric": "average", "tasks": (SST2, RTE), "value": 75.0, **given})


def ordering(**given: Any) -> Claim:
    fields = {"kind": "ordering", "task": "", "metric": "average", "tasks": (SST2, RTE), "order": CHAIN, "value": None,
              "unit": "", "seeds": 5}  # fmt: skip
    return claim(**(fields | given))


def field_day(means: dict[str, float], spread: float = 0.002, n: int = 5, **given: Any) -> list[Record]:
    """Both tasks; the spread is of the differences, a far larger noise is shared by all variants."""
    shared = [0.0, 0.1, -0.1, 0.05, -0.05]
    own = {"toy-random": [0, 1, -1, 1, -1], "toy-cut": [0, 0, 0, 0, 0], "toy": [0, -1, 1, 1, -1]}
    return [
        record(centre + shared[seed] + spread * own[variant][seed], seed, variant=variant, task=task, **given)
        for variant, centre in means.items()
        for task in ("sst2", "rte")
        for seed in range(n)
    ]
