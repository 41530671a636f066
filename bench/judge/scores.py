"""What a suite scores: over one task or an average of several, seed by seed, beside its own teachers.

The estimate of a score is the mean over the seeds that trained, with a t interval: seeds that guess say how often the
method fails, not how well it does. They stay in sight: a second estimate counts all seeds by a trimmed mean, which
leaves out as many at each end as there are degenerate ones, and its centre must not gainsay the verdict. A trimmed mean
stays near where most seeds are; a plain mean of all would be carried away by one, and its interval holds neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from bench.claims.claim import Entry
from bench.claims.units import TASK_METRICS, TASK_SPLITS
from bench.core.stats import Estimate, mean_of, mean_of_estimates, ratio_of, trimmed_mean_of
from bench.judge.chance import Chance, degenerate_run
from bench.judge.runs import Run
from bench.judge.series import Key, Rank, Series, SeriesIndex, Suite
from bench.judge.standing import TIERS

Names = tuple[tuple[str, str], ...]
"""(metric, split) of every number that enters a score."""


@dataclass(frozen=True, slots=True)
class Score:
    """One seed on one task; `degenerate` says why it looks as if it guessed, or is empty."""

    seed: int
    value: float
    """The mean over the metrics and splits asked for; an undefined one counts as 0, as on the GLUE server."""
    teacher: float | None
    degenerate: str
    run: Run = field(repr=False)


@dataclass(frozen=True, slots=True)
class Summary:
    """A score estimated twice: over the seeds that trained, and, where some did not, over all of them.

    Units: fractions, or what the function that made it says.
    """

    trained: Estimate | None
    """None where no seed trained."""
    every: Estimate | None
    """None where all trained."""
    values: tuple[float, ...]
    """The value of each seed that trained, where seeds are comparable over the tasks; else empty."""
    degenerate: int = 0

    @property
    def estimate(self) -> Estimate | None:
        """What is shown: the seeds that trained, or all where none did."""
        return self.trained or self.every


@dataclass(frozen=True, slots=True)
class Scores:
    """A suite's scores on some tasks, one entry each."""

    suite: Suite
    entries: tuple[Entry, ...]
    series: tuple[Series, ...]
    scores: tuple[tuple[Score, ...], ...]
    """Per entry, by seed."""
    tier: str
    rank: Rank
    at_chance: str
    """Whose scores are those of guessing and on which tasks, or empty."""

    @property
    def scale(self) -> str:
        """The scale of all its runs."""
        return self.suite.scale

    @property
    def made_up(self) -> bool:
        """Whether the data of any of its tasks is synthetic."""
        return any(series.made_up for series in self.series)

    @property
    def records(self) -> tuple[str, ...]:
        """The ids of the runs behind it, sorted."""
        return tuple(sorted({score.run.id for scores in self.scores for score in scores}))

    @property
    def seeds(self) -> int:
        """The fewest seeds of any task."""
        return min(len(scores) for scores in self.scores)

    @property
    def example(self) -> float:
        """What one dev example moves the score by, at most: no interval is narrower."""
        steps = [1 / max(1, min(score.run.measured[name].n for score in scores for name in entry.names()))
                 for entry, scores in zip(self.entries, self.scores, strict=True)]  # fmt: skip
        return max(steps) / len(steps)  # one task of several moves their mean by its share only

    def average(self) -> Summary:
        """The mean over the tasks of the score, as a fraction."""
        return self._summary(lambda score: score.value, self.example)

    def by_seed(self) -> dict[int, float]:
        """The mean over the tasks of each seed that ran them all and trained on them all."""
        return {seed: fmean(score.value for score in own) for seed, own in self._common().items()}

    def every_seed(self) -> dict[int, float]:
        """The mean over the tasks of each seed that ran them all, trained or not."""
        return {seed: fmean(score.value for score in own) for seed, own in self._common(all_seeds=True).items()}

    def teachers_by_seed(self) -> dict[int, float]:
        """The mean over the tasks of the own teacher's score, of the same seeds, where it is known on all."""
        return {seed: fmean(score.teacher or 0.0 for score in own) for seed, own in self._common(all_seeds=True).items()
                if all(score.teacher is not None for score in own)}  # fmt: skip

    def _common(self, all_seeds: bool = False) -> dict[int, list[Score]]:
        """The scores of each seed that trained on all tasks, or that ran them all."""
        found = [{score.seed: score for score in scores if all_seeds or not score.degenerate} for scores in self.scores]
        return {seed: [own[seed] for own in found] for seed in sorted(set.intersection(*map(set, found)))}

    def _summary(self, of: Callable[[Score], float], least: float) -> Summary:
        """Both estimates of the mean over the tasks of `of`; `least` is the least width of an interval."""
        lost = sum(bool(score.degenerate) for scores in self.scores for score in scores)
        common = self._common()
        trained = [[of(score) for score in scores if not score.degenerate] for scores in self.scores]
        values = tuple(fmean(map(of, own)) for own in common.values())
        alike = all(len(own) == len(common) for own in trained)
        first = None
        if all(trained):
            # Seeds that ran every task are compared whole; else the tasks are independent samples.
            first = mean_of(values, least) if alike else mean_of_estimates([mean_of(own) for own in trained], least)
        if not lost:
            return Summary(first, None, values if alike else ())
        # All seeds: as many trimmed at each end as are degenerate on that task, whichever ones they are.
        every = [_counting_all([of(score) for score in scores], sum(bool(score.degenerate) for score in scores))
                 for scores in self.scores]  # fmt: skip
        return Summary(first, mean_of_estimates(every, least), values if alike else (), lost)

    def retention(self) -> Summary | None:
        """The share of the own teachers' score, paired by seed; None where a run's teacher is not known or scored 0.

        Where every seed trained on every task, with a score above 0, it is the geometric mean of the seeds' ratios, its
        interval taken on the logs; else the ratio of the averages, linearised (delta method). Units: a fraction.
        """
        taught = [[score.teacher for score in scores if score.teacher is not None] for scores in self.scores]
        if any(len(known) < len(scores) for known, scores in zip(taught, self.scores, strict=True)):
            return None
        if fmean(fmean(known) for known in taught) <= 0:
            return None
        common = {seed: (fmean(s.value for s in own), fmean(s.teacher or 0.0 for s in own))
                  for seed, own in self._common().items()}  # fmt: skip
        alike = all(len(scores) == len(common) for scores in self.scores)
        if alike and all(value > 0 and teacher > 0 for value, teacher in common.values()):
            ratios = [value / teacher for value, teacher in common.values()]
            least = self.example / fmean(teacher for _, teacher in common.values())
            return Summary(ratio_of(ratios, least), None, tuple(ratios))
        return self._linearised()

    def kept(self) -> Estimate | None:
        """The share of the own teachers' score; None where that is not known."""
        summary = self.retention()
        return summary.estimate if summary else None

    def _linearised(self) -> Summary:
        """The average over that of the same seeds' teachers: r = S / T, whose error is that of (s - r t) / T."""
        whole = self.average()

        def ratio(kept: Estimate | None, all_seeds: bool) -> Estimate | None:
            if kept is None:
                return None
            teacher = fmean(_counting_all([score.teacher or 0.0 for score in own if all_seeds or not score.degenerate],
                                          sum(bool(score.degenerate) for score in own) if all_seeds else 0).value
                            for own in self.scores)  # fmt: skip
            if teacher <= 0:
                return None
            # Of (s - r t) / T only the spread is wanted: its mean is near 0, and the share takes the centre's place.
            share, least = kept.value / teacher, self.example / teacher
            rest = self._summary(lambda score: (score.value - share * (score.teacher or 0.0)) / teacher, least)
            found = rest.every if all_seeds else rest.trained
            return None if found is None else replace(found, value=share)

        return Summary(ratio(whole.trained, False), ratio(whole.every, True), (), whole.degenerate)


def _counting_all(values: Sequence[float], lost: int) -> Estimate:
    """All seeds of a task, some of which guess, by a trimmed mean; the plain mean where all trained."""
    return trimmed_mean_of(values, lost) if lost else mean_of(values)


@dataclass(frozen=True, slots=True)
class Missing:
    """Tasks that no suite ran together with the others."""

    tasks: tuple[str, ...]


class ScoreBook:
    """Finds the scores of suites, each once: many claims are about the same variant and tasks."""

    def __init__(self, index: SeriesIndex) -> None:
        self.index = index
        self.chance = Chance(index.runs)
        self._seeds: dict[tuple[Series, Names], tuple[Score, ...]] = {}
        self._found: dict[tuple[Key, tuple[Entry, ...]], list[Scores] | Missing] = {}

    def of(self, key: Key, entries: tuple[Entry, ...]) -> list[Scores] | Missing:
        """Every suite that ran all tasks, the best first; or what the fullest suite lacks."""
        if (key, entries) not in self._found:
            self._found[key, entries] = self._search(key, entries)
        return self._found[key, entries]

    def _search(self, key: Key, entries: tuple[Entry, ...]) -> list[Scores] | Missing:
        found, lacking = [], []
        for suite in self.index.suites(key):
            have = [self._scored(suite, entry) for entry in entries]
            lacks = {entry.task for entry, one in zip(entries, have, strict=True) if one is None}
            lacking.append(lacks)
            if not lacks:
                found.append(self.scores(suite, entries, [one for one in have if one is not None]))
        if found:
            return sorted(found, key=lambda scores: scores.rank, reverse=True)
        fewest = min(lacking, key=lambda tasks: (len(tasks), sorted(tasks)),
                     default={entry.task for entry in entries})  # fmt: skip
        return Missing(tuple(dict.fromkeys(entry.task for entry in entries if entry.task in fewest)))

    def _scored(self, suite: Suite, entry: Entry) -> Series | None:
        """The best series of a suite on a task that has a run with every metric and split asked for."""
        names = entry.names()
        return next((series for series in suite.series.get(entry.task, ())
                     if any(_has(run, names) for run in series.runs.values())), None)  # fmt: skip

    def scores(self, suite: Suite, entries: tuple[Entry, ...], series: Sequence[Series]) -> Scores:
        """The scores of these series of a suite, one for each entry."""
        scores = tuple(self._by_seed(one, entry.names()) for one, entry in zip(series, entries, strict=True))
        worst = max(series, key=lambda one: TIERS.index(one.tier))
        at_chance = self._at_chance(entries, series)
        # Made-up data and guesses speak only where there is nothing else; then the weakest of the series decides.
        rank = (not any(one.made_up for one in series), not at_chance, min(one.rank for one in series))
        return Scores(suite, entries, tuple(series), scores, worst.tier, rank, at_chance)

    def primary(self, suite: Suite, tasks: Sequence[str]) -> Scores | None:
        """The primary scores of a suite on those of these tasks where it has one; None where it has none."""
        series = [suite.best[task] for task in tasks if task in suite.series]
        entries = tuple(entry for one in series if (entry := _primary(one)) is not None)
        if not entries:
            return None
        return self.scores(suite, entries, [suite.best[entry.task] for entry in entries])

    def telling(self, suite: Suite, tasks: Sequence[str]) -> Scores | None:
        """The same on those tasks where neither model nor teacher guesses; None where there is none."""
        found = {task: self.primary(suite, (task,)) for task in tasks}
        return self.primary(suite, [task for task, one in found.items() if one and not one.at_chance])

    def of_series(self, suite: Suite, series: Series) -> Scores | None:
        """The primary score of one series of a suite, whether it speaks or not; None where it has none."""
        entry = _primary(series)
        return None if entry is None else self.scores(suite, (entry,), (series,))

    def shown(self, key: Key, tasks: Sequence[str], scale: str = "") -> Scores | None:
        """The telling scores of the best suite that has two of these tasks or more, or else of the best with one.

        Two tasks at a large budget say more of a method than five at a small one; made-up data says least. Of one task
        the series that answers its claims speaks.
        """
        found = [self.telling(suite, tasks) for suite in self.index.suites(key) if scale in ("", suite.scale)]
        told = [one for one in found if one]
        if len(tasks) == 1:
            return max(told, default=None, key=lambda one: one.rank)
        return max(told, default=None, key=lambda one: (not one.made_up, len(one.entries) > 1, one.suite.rank))

    def beside(self, scores: Scores, papers: Container[str]) -> Scores:
        """The same scores beside those of the runs of these papers that their teachers learnt from in the end."""
        found = [tuple(replace(score, teacher=self._source_score(score.run, entry.names(), papers)) for score in own)
                 for entry, own in zip(scores.entries, scores.scores, strict=True)]  # fmt: skip
        return replace(scores, scores=tuple(found))

    def _source_score(self, run: Run, names: Names, papers: Container[str]) -> float | None:
        teacher = self.index.teacher(run)
        while teacher is not None and teacher.paper not in papers:
            teacher = self.index.teacher(teacher)
        return _mean(teacher, names) if teacher is not None and _has(teacher, names) else None

    def _by_seed(self, series: Series, names: Names) -> tuple[Score, ...]:
        """The mean over these metrics of each seed that has them all."""
        if (series, names) not in self._seeds:
            splits = sorted({split for _, split in names})
            self._seeds[series, names] = tuple(
                Score(seed, _mean(run, names), self._teacher_score(run, names), _degenerate(run, splits), run)
                for seed, run in series.runs.items()
                if _has(run, names)
            )
        return self._seeds[series, names]

    def _teacher_score(self, run: Run, names: Names) -> float | None:
        """The own teacher's mean: from its record, or else, for the primary score alone, from the link to it."""
        teacher = self.index.teacher(run)
        if teacher is not None and _has(teacher, names):
            return _mean(teacher, names)
        primary = TASK_METRICS[run.task][0], TASK_SPLITS[run.task][0]
        return run.teacher_score if names == (primary,) else None

    def _at_chance(self, entries: Sequence[Entry], series: Sequence[Series]) -> str:
        """Who guesses, where that is so on most of the tasks; an average over some guessed tasks is none by itself."""
        told: dict[str, list[str]] = {}
        guessed = 0
        for entry, one in zip(entries, series, strict=True):
            teachers = [teacher for run in one.runs.values() if (teacher := self.index.teacher(run)) is not None]
            who = {self.chance.at_chance(one, split, teachers) for split in entry.splits} - {""}
            guessed += bool(who)
            for name in sorted(who):
                told.setdefault(name, []).append(entry.task)
        if 2 * guessed <= len(entries):  # entries: an average may take two splits of one task apart
            return ""
        return "; ".join(f"the {who} on {', '.join(dict.fromkeys(tasks))}" for who, tasks in sorted(told.items()))


def _primary(series: Series) -> Entry | None:
    """The primary metric of a series' task on its first split; None where no run has it."""
    if series.task not in TASK_METRICS:
        return None
    metric = TASK_METRICS[series.task][0]
    splits = sorted({split for run in series.runs.values() for name, split in run.measured if name == metric})
    return Entry(task=series.task, metrics=(metric,), splits=(splits[0],)) if splits else None


def _has(run: Run, names: Names) -> bool:
    return all(name in run.measured for name in names)


def _mean(run: Run, names: Names) -> float:
    return math.fsum(run.measured[name].value or 0.0 for name in names) / len(names)


def _degenerate(run: Run, splits: Sequence[str]) -> str:
    """Why the run guesses on one of these splits, or empty."""
    return next((why for split in splits if (why := degenerate_run(run, split))), "")
