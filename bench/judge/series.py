"""Which records belong together: the only place that says it. Which of them speaks first, `standing` says.

A **series** is all runs of one thing that differ in the seed only: variant, task, scale, tier, settings, budget, data,
text, encoder, code of the stages, sizes of the model (but where the run itself searched for it) and of its teacher. Of
two runs of one seed the newer one counts; failed runs never enter. A **suite** is the series of one variant on several
tasks that may enter one average: what is a matter of one task (rows, epochs) may differ between them. A **timing** is
what a suite says of one time on one machine under one protocol: times of two machines or devices, and quick and full
sessions, are never pooled.

Verdicts, tables, figures, exports, `choose` and `show` read their numbers from here, in the order of `rank`; what
`regress` and `history` may set side by side is said here, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from bench.judge.runs import SHAPE, Run, Settings
from bench.judge.standing import SCALE_ORDER, Standing, budget_size, own_method, shared, standing

PROTOCOLS = ("quick", "run", "full")
"""How times are taken, the best last."""

PAPER_SIZED = ("full", SHAPE)
"""The scales whose models have the paper's own architecture."""

SEARCHED = ("searched", "parameters")
"""The measurement of a run that chose the size of its own model: so many parameters are what it found."""

Key = tuple[str, str]
"""(paper, variant)"""

Rank = tuple[object, ...]
"""Larger speaks first."""


class SuiteKey(NamedTuple):
    """What runs share that may enter one average."""

    paper: str
    variant: str
    scale: str
    budget: tuple[tuple[str, object], ...] = ()
    changes: str = ""
    origin: str | None = None
    """The source of the data"""
    teacher: float | None = None
    """Its size class"""
    size: float | None = None

    @property
    def rivals(self) -> tuple[object, ...]:
        """What suites of other variants must share: all but paper, variant and size, in which variants differ."""
        return self.scale, self.budget, self.changes, self.origin, self.teacher


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Runs of one variant on one task that differ in the seed only."""

    paper: str
    variant: str
    task: str
    scale: str
    tier: str
    settings: Settings
    teacher_size: float | None
    """Parameters of the teacher, where its record is at hand."""
    runs: Mapping[int, Run]
    """By seed, in its order."""
    repeated: tuple[Run, ...]
    """Older runs of the same seeds."""
    suite: SuiteKey = field(repr=False)
    """What series on other tasks must share to enter an average with this one."""
    rivals: tuple[object, ...] = field(repr=False)
    """What series of other variants on this task must share to be compared with this one: budget, rows, teacher."""
    rank: Standing = field(repr=False)

    @property
    def newest(self) -> Run:
        """Its run that started last."""
        return max(self.runs.values(), key=age)

    @property
    def made_up(self) -> bool:
        """Whether its data is synthetic, which its runs share."""
        return self.newest.made_up


@dataclass(frozen=True, slots=True, eq=False)
class Suite:
    """The series of one variant that may enter one average, by task, the best first."""

    paper: str
    variant: str
    scale: str
    series: Mapping[str, tuple[Series, ...]]
    rank: Standing = field(repr=False)

    @property
    def best(self) -> dict[str, Series]:
        """The series that speaks on each task."""
        return {task: found[0] for task, found in self.series.items()}

    @property
    def runs(self) -> list[Run]:
        """The runs behind every number of this suite: of each task those that speak; at shape, every session."""
        if self.scale == SHAPE:  # one session may hold a batch size or a backend that the others do not
            every = (series for found in self.series.values() for series in found)
            return [run for series in every for run in (*series.repeated, *series.runs.values())]
        return [run for found in self.series.values() for run in found[0].runs.values()]

    @property
    def rivals(self) -> tuple[object, ...]:
        """What suites of other variants must share to be compared with this one."""
        return next(iter(self.best.values())).suite.rivals

    def timings(self, metric: str, split: str, task: str = "") -> list[Timing]:
        """What is known of one time, per machine and protocol, the best first; `task` keeps runs of one task only."""
        found: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in self.runs:
            if run.value(metric, split) is not None and task in ("", run.task):
                found[run.environment.machine, run.protocol].append(run)
        if self.scale == SHAPE:  # sessions have no seeds: the newest one speaks
            found = {name: [max(runs, key=age)] for name, runs in found.items()}
        timings = [Timing(self, metric, split, *name, tuple(runs)) for name, runs in found.items()]
        return sorted(timings, key=lambda timing: (timing.rank, timing.newest), reverse=True)

    def machines(self) -> list[str]:
        """The machines on which it was timed, or else ran; sorted."""
        timed = {run.environment.machine for run in self.runs if run.timed}
        return sorted(timed or {run.environment.machine for run in self.runs})


@dataclass(frozen=True, slots=True, eq=False)
class Timing:
    """The runs behind one time or speed-up on one machine under one protocol."""

    suite: Suite = field(repr=False)
    metric: str
    split: str
    machine: str
    protocol: str
    runs: tuple[Run, ...]

    @property
    def values(self) -> list[float]:
        """The value of each run."""
        return [value for run in self.runs if (value := run.value(self.metric, self.split)) is not None]

    @property
    def rank(self) -> Rank:
        """A model of paper size first, then the better protocol, the better suite, more runs."""
        return self.suite.scale in PAPER_SIZED, PROTOCOLS.index(self.protocol), self.suite.rank, len(self.runs)

    @property
    def newest(self) -> tuple[str, str]:
        """(start, id) of its run that started last; larger is newer."""
        return age(max(self.runs, key=age))


def age(run: Run) -> tuple[str, str]:
    """(start, id): larger is newer, by the clocks of the machines."""
    return run.started, run.id


def stage_code(run: Run) -> tuple[tuple[str, str], ...]:
    """(stage, hash of its code) of a run, sorted."""
    return tuple(sorted(run.code.stage_hashes.items()))


def timed_alike(run: Run, other: Run) -> bool:
    """Whether the same code took the times of two runs, as far as is known: records of format 1 do not say."""
    codes = {run.code.measure_hash, other.code.measure_hash}
    return len(codes) == 1 or "" in codes


class SeriesIndex:
    """All series, suites and timings of some runs."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = tuple(runs)
        self.by_id = {run.id: run for run in self.runs}
        self._of: dict[Key, list[Run]] = defaultdict(list)
        for run in self.runs:
            self._of[run.key].append(run)
        self._suites: dict[Key, list[Suite]] = {}
        self._series: dict[tuple[Key, str], list[Series]] = {}

    @property
    def keys(self) -> list[Key]:
        """Every (paper, variant) with a run, failed ones included; sorted."""
        return sorted(self._of)

    def failed(self, key: Key) -> list[Run]:
        """The failed runs of a variant, in the order of their start."""
        return sorted((run for run in self._of.get(key, ()) if not run.ok), key=age)

    def tasks(self, key: Key) -> list[str]:
        """The tasks on which a variant has a finished run; sorted."""
        return sorted({task for suite in self.suites(key) for task in suite.series})

    def series(self, key: Key, task: str) -> list[Series]:
        """The series of a variant on a task, the best first."""
        if (key, task) not in self._series:
            found = (one for suite in self.suites(key) for one in suite.series.get(task, ()))
            self._series[key, task] = sorted(found, key=lambda series: series.rank, reverse=True)
        return self._series[key, task]

    def suites(self, key: Key) -> list[Suite]:
        """The suites of a variant, the best first."""
        if key not in self._suites:
            self._suites[key] = self._group([run for run in self._of.get(key, ()) if run.ok])
        return self._suites[key]

    def timings(self, key: Key, metric: str, split: str, task: str = "") -> list[Timing]:
        """What is known of one time of a variant, the best first: by machine, protocol and suite."""
        found = [
            timing
            for suite in self.suites(key)
            for timing in suite.timings(metric, split, "" if suite.scale == SHAPE else task)
        ]
        return sorted(found, key=self.preference, reverse=True)

    def preference(self, timing: Timing) -> tuple[Rank, int, tuple[str, str]]:
        """The order of preference of timings: larger speaks first."""
        return timing.rank, -self.machines.index(timing.machine), timing.newest

    def counted(self, key: Key, metric: str, split: str, task: str = "") -> list[Run]:
        """The runs that hold a size or count, the best first. What is measured at shape belongs to every task."""
        runs = [
            run
            for run in self._of.get(key, ())
            if run.ok and run.value(metric, split) is not None and (task in ("", run.task) or run.task == SHAPE)
        ]
        return sorted(runs, key=lambda run: (-SCALE_ORDER.index(run.scale), own_method(run.settings), age(run)),
                      reverse=True)  # fmt: skip

    @cached_property
    def machines(self) -> list[str]:
        """Every machine, the one with most variants in full sessions at paper size first, then the newest."""
        full: dict[str, set[Key]] = defaultdict(set)
        newest: dict[str, tuple[str, str]] = {}
        for run in self.runs:
            machine = run.environment.machine
            full[machine] |= {run.key} if run.ok and run.protocol == "full" and run.timed else set()
            newest[machine] = max(newest.get(machine, ("", "")), age(run))
        return sorted(full, key=lambda machine: (len(full[machine]), newest[machine]), reverse=True)

    def teacher(self, run: Run) -> Run | None:
        """The run of a run's own teacher, where it is at hand."""
        return self.by_id.get(run.teacher)

    @cached_property
    def _sizes(self) -> dict[float, float]:
        """parameters -> the smallest of their class: heads differ by task, so steps within 1% are one size."""
        classes: dict[float, float] = {}
        smallest = last = 0.0
        sizes = {size for run in self.runs if run.ok and (size := run.value("parameters", "all")) is not None}
        for size in sorted(sizes):
            # Sizes are visited in order: a gap of more than 1% to the one before begins a class.
            smallest = size if size > 1.01 * last else smallest
            classes[size] = smallest
            last = size
        return classes

    def _group(self, runs: list[Run]) -> list[Suite]:
        by_series: dict[tuple[object, ...], list[Run]] = defaultdict(list)
        for run in sorted(runs, key=age):
            by_series[self._identity(run)].append(run)
        by_suite: dict[tuple[object, ...], list[Series]] = defaultdict(list)
        for members in by_series.values():
            one = self._one(members)
            by_suite[one.suite].append(one)
        return sorted((_suite(found) for found in by_suite.values()), key=lambda suite: suite.rank, reverse=True)

    def comparable(self, run: Run) -> tuple[object, ...]:
        """What two runs share that a regression may compare: all that makes a series but the code of its stages.

        Sessions of `bench measure` may differ in their effort, too, which is said by their protocol.
        """
        # Shared parts are one object each, so their ids compare as their contents do.
        if run.scale == SHAPE:
            return run.task, run.tier, self._suite_key(run), run.environment.machine, run.protocol
        return *self._alike(run), self._given(run)

    def _alike(self, run: Run) -> tuple[object, ...]:
        """All that two comparable runs share but what they were given to learn from."""
        return run.task, run.tier, self._suite_key(run), id(run.settings), _rows(run)

    def _given(self, run: Run) -> tuple[str, str]:
        """(hash of the text, hash of the encoder).

        Older records hold neither: such a run gets the pair of its comparable runs where they have one only, else two
        empty texts.
        """
        said = run.data and (run.data.corpus, run.data.encoder)
        if said and any(said):
            return said
        known = self._known.get(self._alike(run), set())
        return next(iter(known)) if len(known) == 1 else ("", "")

    @cached_property
    def _known(self) -> dict[tuple[object, ...], set[tuple[str, str]]]:
        known: dict[tuple[object, ...], set[tuple[str, str]]] = defaultdict(set)
        for run in self.runs:
            if run.data and (run.data.corpus or run.data.encoder):
                known[self._alike(run)].add((run.data.corpus, run.data.encoder))
        return known

    def _identity(self, run: Run) -> tuple[object, ...]:
        """Everything but the seed."""
        return *self.comparable(run), id(run.settings), stage_code(run)

    def _suite_key(self, run: Run) -> SuiteKey:
        if run.scale == SHAPE:
            return SuiteKey(run.paper, run.variant, run.scale)
        teacher, size = self.teacher(run), run.value("parameters", "all")
        if run.value(*SEARCHED) is not None:  # seeds find models of several sizes, which are one thing all the same
            size = None
        taught = teacher and teacher.value("parameters", "all")
        return SuiteKey(
            run.paper, run.variant, run.scale, tuple(sorted(shared(run.settings.budget).items())),
            repr(sorted(run.settings.changes.items())), run.data and run.data.origin,
            taught and self._sizes[taught], size and self._sizes.get(size),
        )  # fmt: skip

    def _one(self, members: Sequence[Run]) -> Series:
        """The series of runs that share an identity, which come in the order of their start."""
        newest = members[-1]
        by_seed = {run.seed: run for run in members}
        suite = self._suite_key(newest)
        settings, teacher = newest.settings, self.teacher(newest)
        return Series(
            newest.paper, newest.variant, newest.task, newest.scale, newest.tier, settings,
            teacher.value("parameters", "all") if teacher else None,
            {seed: by_seed[seed] for seed in sorted(by_seed)},
            tuple(run for run in members if by_seed[run.seed] is not run), suite,
            # A variant that reads no text is compared with those that do.
            (newest.task, newest.tier, repr(sorted(settings.budget.items())), _rows(newest), self._given(newest)[1],
             *suite.rivals),
            standing(newest.tier, newest.scale, len(by_seed), settings, age(newest)),
        )  # fmt: skip


def _rows(run: Run) -> tuple[object, ...]:
    """Which rows of which source a run saw."""
    data = run.data
    return (data.source, data.revision, data.sha256, tuple(sorted(data.rows.items())), data.partial) if data else ()


def _suite(members: Sequence[Series]) -> Suite:
    by_task: dict[str, list[Series]] = defaultdict(list)
    for series in sorted(members, key=lambda series: series.rank, reverse=True):
        by_task[series.task].append(series)
    first = members[0]
    best = [found[0] for found in by_task.values()]
    # A suite stands as its best series does, but rows and epochs, which are a matter of one task, compare no suites.
    top = max(best, key=lambda series: series.rank)
    rank = top.rank._replace(budget=budget_size(shared(top.settings.budget)), tasks=len(best))
    series = {task: tuple(found) for task, found in sorted(by_task.items())}
    return Suite(first.paper, first.variant, first.scale, series, rank)
