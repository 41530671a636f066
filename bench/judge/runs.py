"""Records as the judge and the reports look at them: small, and what many runs have in common is held once.

A hundred thousand records have to fit into memory: a `Run` keeps nothing that another run already has.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.core import store
from bench.core.answers import unpack
from bench.core.collection import no_collection
from bench.core.record import BELOW_FLOOR, Code, Data, Packed, Record, StageEntry
from bench.core.spec import RECORD_SCALES

if TYPE_CHECKING:
    import numpy as np

SHAPE = "shape"
"""The scale, and the task, of what is measured without training: every session is a run of seed 0."""


class Measured(NamedTuple):
    """One number of a run in the unit of records; `value` is None where the metric is undefined.

    `n` is how many examples, rounds or sets of processes stand behind it.
    """

    value: float | None
    n: int
    samples: tuple[float, ...]


Measurements = Mapping[tuple[str, str], Measured]
"""By (metric, split)."""


class Answered(NamedTuple):
    """Which rows of a split a model got right, packed; `rows` tells whether two models answered the same ones."""

    rows: str
    n: int
    packed: Packed

    def right(self) -> np.ndarray:
        """Whether each row was right, bool [N].  Raises: RecordError where that is damaged."""
        return unpack(self.packed, self.n).astype(bool)


class StageCost(NamedTuple):
    """What one stage of a run cost; a cached one was paid for by another run."""

    name: str
    seconds: float
    steps: int
    cached: bool
    rows: int
    """Of the task, that it trained on, each time counted; 0 of a stage that read a corpus."""


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The hyper-parameters of a run, and what of them `--set` changed. Equal settings are one object."""

    hyper: Mapping[str, Any] = field(repr=False)
    changes: Mapping[str, Any]

    @property
    def budget(self) -> Mapping[str, Any]:
        """What the run was allowed: rows, epochs, tokens; None where there was no limit."""
        return self.hyper.get("budget") or {}


@dataclass(frozen=True, slots=True, eq=False)
class Environment:
    """Where a run was made. Equal environments are one object."""

    facts: Mapping[str, Any] = field(repr=False)
    machine: str
    """The key under which times are compared; it holds the threads, and the device where that is not the GPU."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One record. What it shares with others (settings, environment, data, code) is compared by identity."""

    id: str
    ok: bool
    reason: str
    paper: str
    variant: str
    task: str
    scale: str
    seed: int
    tier: str
    started: str
    dev_looks: int
    settings: Settings
    environment: Environment
    data: Data | None
    code: Code
    teacher: str
    """The id of the teacher's record, or empty."""
    teacher_score: float | None
    stages: tuple[StageCost, ...] = field(repr=False)
    measured: Measurements = field(repr=False)
    weights: str = field(default="", repr=False)
    """What tells the weights of its finished model from others; empty where it kept none."""
    answers: Mapping[str, Answered] = field(default_factory=dict, repr=False)
    """By split; where they were asked for."""

    @property
    def refused(self) -> bool:
        """Whether it failed because its teacher guesses: nothing of its own went wrong."""
        return not self.ok and BELOW_FLOOR in self.reason

    @property
    def key(self) -> tuple[str, str]:
        """(paper, variant)"""
        return self.paper, self.variant

    def value(self, metric: str, split: str) -> float | None:
        """The value of a measurement, or None when it was not made or is undefined."""
        entry = self.measured.get((metric, split))
        return None if entry is None else entry.value

    @property
    def timed(self) -> bool:
        """Whether it says how long the model takes; a shape known by arithmetic alone does not."""
        return any(metric in ("latency_s", "speedup") for metric, _ in self.measured)

    @property
    def guessed(self) -> str:
        """What of the architecture no source gives, where it is our stand-in; empty for the paper's own."""
        return str(self.settings.hyper.get("guessed") or "")

    @property
    def made_up(self) -> bool:
        """Whether the run's data is synthetic: its scores say nothing about the paper's."""
        return self.scale == "smoke" or (self.data is not None and self.data.source.startswith("synthetic"))

    @property
    def protocol(self) -> str:
        """How its times were taken: in a `full` or a `quick` session of `bench measure`, or shortly within a `run`."""
        if self.scale != SHAPE:
            return "run"
        return "quick" if self.tier == "reduced" else "full"


class _Reader:
    """Turns records into runs; what was seen before is not kept twice."""

    def __init__(self, metrics: Container[str] | None = None) -> None:
        self._shared: dict[object, Any] = {}
        self._metrics, self._answers = metrics, metrics is not None

    def run(self, record: Record) -> Run:
        spec, teacher, once = record.spec, record.teacher, self._shared.setdefault
        measured = {
            once((m.metric, m.split), (m.metric, m.split)): Measured(m.value, m.n, tuple(m.samples))
            for m in record.measurements if self._metrics is None or m.metric in self._metrics
        }  # fmt: skip
        return Run(
            record.id, record.status == "ok", record.reason, spec.paper, spec.variant, spec.task, spec.scale, spec.seed,
            record.tier, record.started, record.dev_looks, self._settings(record), self._environment(record),
            self._data(record.data), self._code(record.code),
            teacher.record if teacher else "", teacher.score if teacher else None,
            tuple(map(_stage, record.stages)), measured,
            weights_of(record), answers(record) if self._answers else {},
        )  # fmt: skip

    def _settings(self, record: Record) -> Settings:
        key = "settings", repr(record.hyper), repr(sorted(record.overrides.items()))
        return self._shared.get(key) or self._shared.setdefault(key, Settings(record.hyper, record.changes))

    def _environment(self, record: Record) -> Environment:
        key, facts = ("environment", repr(record.environment)), record.environment
        return self._shared.get(key) or self._shared.setdefault(key, Environment(facts, machine_of(facts)))

    def _data(self, data: Data | None) -> Data | None:
        if data is None:
            return None
        key = ("data", data.source, data.revision, data.sha256, tuple(sorted(data.rows.items())), data.partial,
               data.corpus, data.encoder)  # fmt: skip
        return self._shared.setdefault(key, data)

    def _code(self, code: Code) -> Code:
        return self._shared.setdefault(
            ("code", code.commit, code.dirty, code.measure_hash, tuple(sorted(code.stage_hashes.items()))), code
        )


def _stage(entry: StageEntry) -> StageCost:
    rows = 0 if entry.corpus_tokens else entry.examples
    return StageCost(entry.name, entry.seconds, entry.steps, entry.cached, rows)


def answers(record: Record) -> dict[str, Answered]:
    """Whether each row was right, by split, of the records that hold it themselves.

    What lies in a file beside its record is passed over: a run does not know its folder.
    """
    return {split: Answered(found.rows_sha256, found.n, found.correct) for split, found in record.answers.items()
            if found.correct is not None and found.correct.base64}  # fmt: skip


def weights_of(record: Record) -> str:
    """What tells the weights of a run's finished model from others; empty where it kept none."""
    return " ".join(sorted(artefact.sha256 for artefact in record.artefacts))


def machine_of(environment: Mapping[str, Any]) -> str:
    """The machine that a time belongs to. A GPU machine run on its processor is another one."""
    key = str(environment.get("machine", "unknown"))
    idle_gpu = environment.get("gpus") and environment.get("device") == "cpu"
    return f"{key}-on-cpu" if idle_gpu else key


def runs_of(records: Iterable[Record], metrics: Container[str] | None = None) -> list[Run]:
    """The runs of records, with all that they measured; or with these metrics, and which rows were right."""
    reader = _Reader(metrics)
    return [reader.run(record) for record in records]


def read_runs(folders: Sequence[Path], scales: tuple[str, ...] = RECORD_SCALES) -> list[Run]:
    """All runs of these scales in results folders, as `read_each` finds them."""
    return [run for runs in read_each(folders, scales) for run in runs]


def read_each(folders: Sequence[Path], scales: tuple[str, ...] = RECORD_SCALES) -> list[list[Run]]:
    """The runs of each folder, in the order of `store.each_record`; of a record in several folders the first counts.

    What is no record is named in a warning and left out. Raises: RecordError for a folder that is not there.
    """
    reader, seen, found = _Reader(), set[str](), []
    with no_collection():
        for folder in folders:
            new = [record for record in store.each_record(folder, scales) if record.id not in seen]
            seen |= {record.id for record in new}
            found.append([reader.run(record) for record in new])
    return found
