"""The systems that somebody might deploy, each with what was printed of it and what was measured here.

The first screen, its figure and `bench choose` read their numbers from here, so that they name the same records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from bench.claims.claim import Claim, Ledger, System
from bench.claims.units import UNITS
from bench.core.conditions import Condition
from bench.core.names import JOINT
from bench.core.spec import GLUE
from bench.core.stats import Estimate
from bench.judge.caveats import first_caveat
from bench.judge.rules import Judged
from bench.judge.runs import Run
from bench.judge.scores import ScoreBook, Scores
from bench.judge.series import PAPER_SIZED, Key, SeriesIndex, Timing
from bench.judge.sizes import estimate
from bench.report.rows import LENGTH

ARITHMETIC = "by arithmetic"
"""Whose bytes were counted, and not read off a file."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with the records behind it."""

    value: float
    records: tuple[str, ...]
    by: str = "measured"
    """ARITHMETIC where no such file was written."""


@dataclass(frozen=True, slots=True)
class SystemView:
    """One system."""

    ledger: Ledger
    system: System
    size: Judged | None
    speed: Judged | None
    speed_judged: Judged | None
    """`speed`, or None where its verdict is from another machine than `timing`."""
    retention: Judged | None
    cost: Judged | None
    bytes_: Measured | None
    """Bytes at paper size: of the weight files, or by arithmetic where no such file exists."""
    own_size: Measured | None
    """The measured value of the size claim's metric where the network is our stand-in: shown, and judging nothing."""
    timing: Timing | None
    """Its speed-up over the reference at batch 1, on the kernels that it takes, of the machine that speaks."""
    read: Timing | None
    """The same where each reads the text first, if its tokeniser is its own: a fast model waits for it."""
    scores: Scores | None
    """Its scores on the GLUE tasks of its best suite of runs, those left out on which it or its teacher guesses, beside
    those of the reference from which it, or its own teacher, learnt."""
    worst_printed: str
    """The task on which it lost most by the paper's own table; empty where that prints none."""
    guessed: bool
    of_own_teacher: Estimate | None
    """The share of its own teacher's score, where its paper made one between it and the reference; else None."""
    faulty: bool
    """Whether a run behind its scores has a caveat."""
    tasks: Mapping[str, Scores]
    """GLUE task -> its scores there, of the series that answers the claims, beside those of the reference."""

    @property
    def key(self) -> Key:
        return self.ledger.paper.name, self.system.variant

    @property
    def reference(self) -> bool:
        return self.ledger.paper.reference

    @property
    def speedup(self) -> Estimate | None:
        return estimate(self.timing) if self.timing else None

    @property
    def kept(self) -> Estimate | None:
        """The share of the reference's score, measured."""
        return self.scores.kept() if self.scores else None

    @property
    def worst_measured(self) -> str:
        """The task on which it lost most in our runs, or empty."""
        if self.scores is None:
            return ""
        shares = {}
        for entry, scores in zip(self.scores.entries, self.scores.scores, strict=True):
            trained = [score for score in scores if not score.degenerate]
            taught = [score.teacher for score in trained if score.teacher]
            if taught and len(taught) == len(trained):
                shares[entry.task] = sum(score.value for score in trained) / sum(taught)
        return min(shares, key=lambda task: shares[task], default="") if len(shares) > 1 else ""

    def printed(self, field: str) -> float | None:
        """What was printed of a field (`size`, `speed`, `retention`, `cost`), in the unit of records."""
        entry: Judged | None = getattr(self, field)
        return None if entry is None else UNITS[entry.claim.unit].to_record(entry.claim.number())

    def rows(self, task: str) -> int | None:
        """The rows of a task that the runs learnt from that say what it keeps there."""
        scores = self.tasks.get(task)
        data = scores.series[0].newest.data if scores else None
        return data.rows.get("train") if data else None

    @property
    def guesses(self) -> list[str]:
        """The tasks of the runs behind its average on which student or teacher does no better than guessing."""
        if self.scores is None:
            return []
        told = {entry.task for entry in self.scores.entries}
        return [task for task in GLUE if task in self.scores.suite.series and task not in told]

    @property
    def device_hours(self) -> float | None:
        """The printed training time over all devices."""
        seconds = self.printed("cost")
        return None if seconds is None else seconds / 3600 * self.system.devices


def systems(ledgers: Sequence[Ledger], judged: Sequence[Judged], book: ScoreBook) -> list[SystemView]:
    """All systems: the reference first, then by the date of their paper; stacks of several papers last."""
    verdicts = {entry.claim.id: entry for entry in judged}
    ordered = sorted(ledgers, key=lambda ledger: (not ledger.paper.reference, not ledger.paper.arxiv,
                                                  ledger.paper.arxiv, ledger.paper.name))  # fmt: skip
    references = {ledger.paper.name for ledger in ledgers if ledger.paper.reference}
    found = [_view(ledger, system, verdicts, book, references) for ledger in ordered for system in ledger.systems]
    return sorted(found, key=lambda view: JOINT in view.system.variant)


def common(views: Sequence[SystemView]) -> str:
    """The task on which most systems can be compared, or empty."""
    numbers = Counter(task for view in views if not view.reference for task in view.tasks)
    return numbers.most_common(1)[0][0] if numbers else ""


def timings(view: SystemView, index: SeriesIndex) -> list[Timing]:
    """Its speed-ups over the reference at paper size, the best first; of each machine and protocol one."""
    if view.timing is None:
        return []
    suite = view.timing.suite
    return _paper_sized(index, (suite.paper, suite.variant), view.timing.split)


def with_text(index: SeriesIndex, timing: Timing) -> Timing | None:
    """The same speed-up on the same machine where each reads the text first, if its tokeniser is its own."""
    found = _paper_sized(index, (timing.suite.paper, timing.suite.variant), f"{timing.split}-text")
    return next((one for one in found if one.machine == timing.machine), None)


def _paper_sized(index: SeriesIndex, key: Key, split: str) -> list[Timing]:
    return [one for one in index.timings(key, "speedup", split) if one.suite.scale in PAPER_SIZED]


def _view(
    ledger: Ledger, system: System, verdicts: Mapping[str, Judged], book: ScoreBook, references: Container[str]
) -> SystemView:  # fmt: skip
    key = ledger.paper.name, system.variant
    timed = key
    if system.timed_as:
        paper, _, variant = system.timed_as.partition("/")
        timed = paper, variant
    split = str(Condition(1, LENGTH, system.backend))
    speeds = _paper_sized(book.index, timed, split)
    size = verdicts.get(system.size)
    sized = _sized(book, key, "parameters", "all")
    guessed = system.stand_in or bool(sized and sized.guessed)
    scored = system.scored_as or system.variant
    scores, of_own = _scored(book, (ledger.paper.name, scored), GLUE, references)
    alone = {task: _scored(book, (ledger.paper.name, scored), (task,), references)[0] for task in GLUE}
    speed = verdicts.get(system.speed)
    machines = {book.index.by_id[name].environment.machine for name in (speed.records if speed else ())}
    here = not speeds or machines <= {speeds[0].machine}
    return SystemView(
        ledger, system,
        size=size, speed=speed, speed_judged=speed if here else None,
        retention=verdicts.get(system.retention), cost=verdicts.get(system.cost),
        bytes_=_bytes(book, key, ledger.paper.reference),
        own_size=_counted(book, key, size.claim.metric, size.claim.split) if size and guessed else None,
        timing=speeds[0] if speeds else None, read=with_text(book.index, speeds[0]) if speeds else None,
        scores=scores, worst_printed=_worst_printed(ledger, scored), guessed=guessed, of_own_teacher=of_own,
        faulty=bool(scores and first_caveat(ledger, scores.records, book.index)),
        tasks={task: one for task, one in alone.items() if one is not None},
    )  # fmt: skip


def _scored(
    book: ScoreBook, key: Key, tasks: Sequence[str], references: Container[str]
) -> tuple[Scores | None, Estimate | None]:
    """The best scores on these tasks, beside the reference's; and the share of a teacher of the paper's own."""
    scores = book.shown(key, tasks)
    if scores is None or key[0] in references:
        return scores, None
    taught = [teacher for own in scores.scores for one in own if (teacher := book.index.teacher(one.run)) is not None]
    if any(teacher.paper == key[0] for teacher in taught):
        return book.beside(scores, references), scores.kept()
    return scores, None


def _bytes(book: ScoreBook, key: Key, reference: bool) -> Measured | None:
    """What it weighs: its file, or packed where a paper packs it. (What the reference would weigh packed is only what
    others are compared with.)"""
    packed = None if reference else _counted(book, key, "size_bytes", "packed", ARITHMETIC)
    return packed or _counted(book, key, "size_bytes", "artefact")


def _counted(book: ScoreBook, key: Key, metric: str, split: str, by: str = "measured") -> Measured | None:
    """What the newest run at paper size counted."""
    run = _sized(book, key, metric, split)
    return Measured(run.value(metric, split) or 0.0, (run.id,), by) if run else None


def _sized(book: ScoreBook, key: Key, metric: str, split: str) -> Run | None:
    return next((run for run in book.index.counted(key, metric, split) if run.scale in PAPER_SIZED), None)


def _worst_printed(ledger: Ledger, variant: str) -> str:
    """The task with the smallest share in the first table that prints several of a variant's tasks."""
    by_table: dict[str, list[Claim]] = {}
    for claim in ledger.claims:
        if claim.derived_from and claim.variant == variant and claim.task:
            by_table.setdefault(claim.table, []).append(claim)
    several = next((found for found in by_table.values() if len({claim.task for claim in found}) > 1), [])
    return min(several, key=lambda claim: claim.number()).task if several else ""
