"""A suite of runs on display: what it is called, and the numbers that every table and figure shows of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.claims.units import TASK_METRICS
from bench.core.conditions import Condition
from bench.core.spec import GLUE, RECORD_SCALES
from bench.core.stats import Estimate
from bench.judge.runs import SHAPE
from bench.judge.scores import ScoreBook, Scores
from bench.judge.series import Key, Suite
from bench.judge.sizes import estimate
from bench.judge.standing import shared
from bench.report.page import Number, Outcome

LENGTH = 128
"""Word pieces of each example that systems are compared on."""
ONE = str(Condition(1, LENGTH))
"""The condition under which systems are compared: one example."""
INT8 = str(Condition(1, LENGTH, "int8"))
"""The same on 8-bit kernels."""
BATCHES = (ONE, str(Condition(32, LENGTH)))
"""The two conditions of the tables."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One suite; `label` is the variant with what tells it from its other suites."""

    suite: Suite
    label: str
    reference: bool
    """Whether it is of the paper that is everybody's teacher."""
    glue: Scores | None
    """The primary scores on the GLUE tasks that it ran."""
    telling: Scores | None
    """The same without the tasks on which it or its teacher guesses: no share of a guess is shown."""
    book: ScoreBook = field(repr=False)

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it: a variant of the reference paper without a speed-up of its own."""
        return self.reference and not any(metric == "speedup" and split in BATCHES
                                          for run in self.suite.runs for metric, split in run.measured)  # fmt: skip

    @property
    def scale(self) -> str:
        return self.suite.scale

    @property
    def paper(self) -> str:
        return self.suite.paper

    def where(self) -> dict[str, str]:
        """The first cells of a table row about this suite."""
        return {"scale": self.scale, "paper": self.paper, "variant": self.label}

    def typical(self, metric: str, split: str) -> float | None:
        """The median over runs of a measurement that hardly varies (size, parameters, FLOPs); the newest at shape."""
        runs = sorted(self.suite.runs, key=lambda run: run.started)
        values = [value for run in runs if (value := run.value(metric, split)) is not None]
        return (values[-1] if self.scale == SHAPE else median(values)) if values else None

    @property
    def size_bytes(self) -> float | None:
        """Bytes of the weight files that were scored or timed."""
        return self.typical("size_bytes", "artefact")

    @property
    def teacher_size(self) -> float | None:
        """Parameters of the teacher, where its record is at hand."""
        return next((s.teacher_size for s in self.suite.best.values() if s.teacher_size is not None), None)

    @property
    def guessed(self) -> bool:
        """Whether the architecture is our stand-in for one that its paper does not give."""
        return any(run.guessed for run in self.suite.runs)

    def speedup(self, machine: str, split: str) -> Estimate | None:
        """Speed-up over the own teacher (at shape, over the reference) on one machine, by the protocol that speaks."""
        found = [timing for timing in self.suite.timings("speedup", split) if timing.machine == machine]
        return estimate(found[0]) if found else None

    def times(self, metric: str, split: str, machine: str) -> list[float]:
        """The values of a time on one machine, one per run."""
        found = [timing for timing in self.suite.timings(metric, split) if timing.machine == machine]
        return found[0].values if found else []

    def training_seconds(self, machine: str) -> tuple[float, int] | None:
        """(median seconds of a run, runs) on one machine."""
        values = self.times("training_seconds", "all", machine)
        return (median(values), len(values)) if values else None

    def outcomes(self) -> list[Outcome]:
        """The runs of this row, as the sections of a paper see them: of every series, of which one speaks per task."""
        primary = {task: scores.entries[0].names()[0] for task in self.suite.series
                   if task in TASK_METRICS and (scores := self.book.primary(self.suite, (task,)))}  # fmt: skip
        apart = _told({**_origin(self.suite), **_changes(self.suite, with_budget=False)})
        return [
            Outcome(self.scale, self.label, run.task, *primary.get(run.task, ("", "")), run.seed,
                    run.environment.machine, {name: Number(m.value, m.samples) for name, m in run.measured.items()},
                    self.suite.variant, run.settings.budget, apart, series is found[0])
            for found in self.suite.series.values() for series in found for run in series.runs.values()
        ]  # fmt: skip


def rows(book: ScoreBook, references: set[str]) -> list[Row]:
    """One row per suite: by scale, the papers in `references` first, then by name, a variant's suites best first."""
    found = []
    for key in book.index.keys:
        by_scale: dict[str, list[Suite]] = defaultdict(list)
        for suite in book.index.suites(key):
            by_scale[suite.scale].append(suite)
        for suites in by_scale.values():
            labels = _labels(key, suites)
            found += [Row(suite, label, key[0] in references, book.primary(suite, GLUE),
                          book.telling(suite, GLUE), book)
                      for suite, label in zip(suites, labels, strict=True)]  # fmt: skip
    # Stable: the suites of one variant keep their order.
    return sorted(found, key=lambda row: (
        RECORD_SCALES.index(row.scale), not row.reference, row.paper, row.suite.variant))  # fmt: skip


def _labels(key: Key, suites: Sequence[Suite]) -> list[str]:
    """The variant, with what tells each suite from the others in brackets."""
    if len(suites) == 1:
        return [_with(key[1], _changes(suites[0]))]
    facts = [_facts(suite) for suite in suites]
    differ = {name for one in facts for name in one if len({other.get(name) for other in facts}) > 1}
    labels = []
    for suite, one in zip(suites, facts, strict=True):
        told = {name: value for name, value in one.items() if name in differ} | _changes(suite)
        labels.append(_with(key[1], told))
    return [f"{label} #{place}" if labels.count(label) > 1 else label for place, label in enumerate(labels, 1)]


def _changes(suite: Suite, with_budget: bool = True) -> dict[str, str]:
    """What `--set` changed."""
    settings = next(iter(suite.best.values())).settings
    if suite.scale == SHAPE:
        return {}
    return {name: str(value) for name, value in settings.changes.items() if with_budget or name not in settings.budget}


def _facts(suite: Suite) -> dict[str, str]:
    """What may tell the suites of one variant apart: budgets that all tasks share, sizes, data."""
    series = next(iter(suite.best.values()))
    budget = {name: f"{value:,}" if isinstance(value, int) else str(value)
              for name, value in shared(series.settings.budget).items()}  # fmt: skip
    own = series.newest.value("parameters", "all")
    return budget | ({"parameters": f"{own / 1e6:.0f}M"} if own else {}) | _origin(suite)


def _origin(suite: Suite) -> dict[str, str]:
    """The size of the teacher, and where the data is from."""
    series = next(iter(suite.best.values()))
    size, data = series.teacher_size, series.newest.data
    return ({"teacher": f"{size / 1e6:.0f}M"} if size else {}) | ({"data": data.origin} if data else {})


def _with(name: str, told: Mapping[str, str]) -> str:
    return f"{name} ({_told(told)})" if told else name


def _told(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(facts.items()))
