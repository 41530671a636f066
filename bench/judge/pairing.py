"""The comparisons that two sides of one series allow: scores paired by seed, times by session or by process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from bench.claims.units import TASK_METRICS
from bench.core.conditions import of_model_alone
from bench.judge.chance import QUALITY
from bench.judge.differences import Stage, mcnemar, of_differences, of_sessions
from bench.judge.regressions import Comparison
from bench.judge.runs import SHAPE, Run
from bench.judge.series import SEARCHED, stage_code, timed_alike

TWO_STAGES = 6
"""A baseline of so many seeds is divided: the first half is for the screen, the other for a confirmation."""

POINTS = 100.0

EXAMPLE_BY_EXAMPLE = ("accuracy", "exact_match")
"""Metrics that say which share of the examples was right."""

METRICS = frozenset({*QUALITY, "speedup", "aa_ratio", "parameters", SEARCHED[0]})
"""What of a run a comparison reads, or its series."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared."""

    paper: str
    variant: str
    task: str
    scale: str
    metric: str
    split: str
    machine: str = ""
    """Of times."""
    protocol: str = ""
    """Of times."""

    @property
    def short(self) -> bool:
        """Whether it is a time that was taken by the way: it may be worse, but its silence is not counted."""
        return self.protocol in ("run", "quick")


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One comparison, and the runs of both sides."""

    subject: Subject
    comparison: Comparison
    before: tuple[Run, ...] = field(repr=False)
    now: tuple[Run, ...] = field(repr=False)
    values: tuple[float, float]
    """The mean of each side: a fraction, or how many times faster than its reference."""
    changed: tuple[str, ...] = ()
    """The stages whose code changed."""
    later: tuple[int, ...] = ()
    """The baseline's seeds that are for the confirmation."""


def changed_stages(old: Iterable[tuple[str, str]], new: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The names of stages whose code differs."""
    return tuple(sorted({name for name, _ in set(old) ^ set(new)}))


def pairs(old: Sequence[Run], new: Sequence[Run], across_code: bool = False) -> Iterator[Pair]:
    """All comparisons of two sides of one series, which come by age.

    Times of runs are compared where the same code took them, or `across_code`.
    """
    changed = changed_stages(stage_code(old[0]), stage_code(new[0]))
    if new[0].scale == SHAPE:
        yield from _sessions(old, new, changed)
        return
    was, now = {run.seed: run for run in old}, {run.seed: run for run in new}  # of two the newer
    for metric, split in scores(new[0]):
        found = _quality(metric, split, was, now, changed)
        if found:
            yield found
    before, after = ([run for run in side.values() if across_code or timed_alike(run, new[-1])] for side in (was, now))
    yield from _by_the_way(before, after, changed)


def scores(run: Run) -> list[tuple[str, str]]:
    """The primary metric of a run's task on each split where it was taken."""
    for metric in TASK_METRICS.get(run.task, QUALITY):
        found = [name for name in run.measured if name[0] == metric]
        if found:
            return found
    return []


def halves(seeds: Iterable[int]) -> tuple[list[int], list[int]]:
    """The seeds of a baseline that are for the screen, and those for a confirmation."""
    ordered = sorted(seeds)
    middle = (len(ordered) + 1) // 2 if len(ordered) >= TWO_STAGES else len(ordered)
    return ordered[:middle], ordered[middle:]


def _quality(
    metric: str, split: str, was: Mapping[int, Run], now: Mapping[int, Run], changed: tuple[str, ...]
) -> Pair | None:
    """The same-seed differences of a score; None without a seed in common."""
    name = metric, split
    was = {seed: run for seed, run in was.items() if name in run.measured}
    both = sorted(seed for seed in was if seed in now and name in now[seed].measured)
    if not both:
        return None
    old, new = ([runs[seed].value(*name) or 0.0 for seed in both] for runs in (was, now))  # undefined counts as 0
    difference = {seed: POINTS * (b - a) for seed, a, b in zip(both, old, new, strict=True)}
    first, second = halves(was)
    screen = [difference[seed] for seed in first if seed in difference]
    confirm = [difference[seed] for seed in second if seed in difference]
    if not screen:
        screen, confirm, second = confirm, [], []
    pairs = [(was[seed], now[seed]) for seed in both]
    comparison = Comparison(
        "quality", ("quality", was[both[0]].task, metric), of_differences(screen),
        of_differences(confirm) if confirm else None, bool(second),
        POINTS / max(1, min(was[seed].measured[name].n for seed in both)),
        not any(difference.values()), _same_weights(pairs, metric, split),
    )  # fmt: skip
    run = now[both[0]]
    subject = Subject(run.paper, run.variant, run.task, run.scale, metric, split)
    return Pair(subject, comparison, tuple(a for a, _ in pairs), tuple(b for _, b in pairs),
                (fmean(old), fmean(new)), changed, tuple(second))  # fmt: skip


def _same_weights(pairs: Sequence[tuple[Run, Run]], metric: str, split: str) -> tuple[int, int] | None:
    """(examples lost, examples won) where both runs of each pair hold answers of the very same weights; else None.

    Only of metrics that are a mean over examples, and where all answered the same rows.
    """
    if metric not in EXAMPLE_BY_EXAMPLE:
        return None
    before, now = [], []
    for old, new in pairs:
        mine, theirs = old.answers.get(split), new.answers.get(split)
        if not old.weights or old.weights != new.weights or mine is None or theirs is None:
            return None
        before.append(mine)
        now.append(theirs)
    if len({(one.rows, one.n) for one in (*before, *now)}) != 1:
        return None
    return mcnemar([one.right() for one in before], [one.right() for one in now])


def speeds(run: Run) -> Iterator[str]:
    """The conditions under which a run was timed against its reference."""
    return (split for metric, split in run.measured if metric == "speedup")


def copies(run: Run, split: str) -> list[float]:
    """The logarithm of a model's speed in each fresh process, against the reference and its twin together.

    That is sqrt(reference x twin) / model, of which the A/A ratio reference / twin makes the first factor. A session
    with one set of processes, and a run, are one value.
    """
    ratio, floor = run.measured["speedup", split], run.measured.get(("aa_ratio", of_model_alone(split)))
    effort = run.settings.hyper.get("effort") or {}
    fresh = run.scale == SHAPE and effort.get("copies", 1) > 1 and len(ratio.samples) > 1
    if fresh and all(sample > 0 for sample in ratio.samples):
        twins: Sequence[float] = floor.samples if floor else ()
        if len(twins) != len(ratio.samples) or not all(sample > 0 for sample in twins):
            twins = [1.0] * len(ratio.samples)
        return [math.log(a) - math.log(b) / 2 for a, b in zip(ratio.samples, twins, strict=True)]
    if not ratio.value:
        return []
    return [math.log(ratio.value) - (math.log(floor.value) / 2 if floor and floor.value else 0.0)]


def _sessions(old: Sequence[Run], new: Sequence[Run], changed: tuple[str, ...]) -> Iterator[Pair]:
    """The times of a shape: of the baseline's sessions the first half is for the screen; of the new ones the first."""
    for split in dict.fromkeys(split for run in new for split in speeds(run)):
        was, now = ([run for run in side if ("speedup", split) in run.measured] for side in (old, new))
        a, b = ([found for run in side if (found := copies(run, split))] for side in (was, now))
        if not a or not b:
            continue
        middle = (len(a) + 1) // 2
        second = of_sessions(a[middle:], b[1:]) if len(a) > 1 and len(b) > 1 else None
        found = Comparison("speed", _pool(new[0]), of_sessions(a[:middle], b[:1]), second, len(a) > 1)
        yield Pair(_timed(new[0], split), found, tuple(was), tuple(now), (_typical(a), _typical(b)), changed)


def _by_the_way(old: Sequence[Run], new: Sequence[Run], changed: tuple[str, ...]) -> Iterator[Pair]:
    """The times of runs, within each machine: every seed is one process, and all of a stage are one session."""
    machines = dict.fromkeys(run.environment.machine for run in new)
    for machine in machines:
        mine = [[run for run in side if run.environment.machine == machine] for side in (old, new)]
        for split in dict.fromkeys(split for run in mine[1] for split in speeds(run)):
            was, now = ({run.seed: one[0] for run in side if ("speedup", split) in run.measured
                         and (one := copies(run, split))} for side in mine)  # fmt: skip
            second = set(halves(was)[1])
            screen = _one_session(was, now, lambda seed, later=second: seed not in later)
            if screen is None:
                continue
            confirm = _one_session(was, now, second.__contains__)
            found = Comparison("speed", _pool(mine[1][0]), screen, confirm, bool(second))
            typical = _typical([list(was.values())]), _typical([list(now.values())])
            sides = tuple(mine[0]), tuple(mine[1])
            yield Pair(_timed(mine[1][0], split), found, *sides, typical, changed, tuple(sorted(second)))


def _one_session(
    was: Mapping[int, float], now: Mapping[int, float], of: Callable[[int], bool]
) -> Stage | None:  # fmt: skip
    """The values of some seeds as a session on each side; None where a side has none of them."""
    sides = [[value for seed, value in sorted(side.items()) if of(seed)] for side in (was, now)]
    return of_sessions(sides[:1], sides[1:]) if all(sides) else None


def _pool(run: Run) -> tuple[object, ...]:
    return "speed", run.environment.machine, run.protocol


def _timed(run: Run, split: str) -> Subject:
    return Subject(run.paper, run.variant, run.task, run.scale, "speedup", split, run.environment.machine, run.protocol)


def _typical(sessions: Sequence[Sequence[float]]) -> float:
    """How many times faster than its reference, by all copies of a side."""
    return math.exp(fmean(value for session in sessions for value in session))
