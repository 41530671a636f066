"""How the numbers of one variant went from commit to commit, and where they stepped."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.core.stats import deviation
from bench.judge.differences import one_sided
from bench.judge.pairing import POINTS, copies, scores, speeds
from bench.judge.regressions import RULES, SESSION, Kind
from bench.judge.runs import SHAPE, Run
from bench.judge.series import Key, SeriesIndex, age

STEP = 0.05
"""The two-sided p value of a step, over all commits of a line together."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one commit says: scores in points, one a seed, or logarithms of the speed of each process."""

    commit: str
    started: str
    values: tuple[float, ...]
    sessions: int
    least: float = 0.0
    """What one dev example moves a score by: less than that has not been told apart."""
    step: float = 0.0
    """How far it is from all since the step before, where that is a step; else 0."""

    @property
    def mean(self) -> float:
        """In the unit of the values."""
        return fmean(self.values)


@dataclass(frozen=True, slots=True)
class Line:
    """One number of one series, by commit."""

    kind: Kind
    name: str
    points: tuple[Point, ...]


def history(index: SeriesIndex, key: Key) -> list[Line]:
    """The lines of a variant, those with most commits first. Changes of the stages' code are what they are about."""
    groups: dict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in sorted(index.runs, key=age):
        if run.ok and run.key == key:
            groups[index.comparable(run)].append(run)
    made = [(line, _facts(runs[-1])) for runs in groups.values() for line in _lines(runs)]
    found = [replace(line, name=_apart(line.name, facts, [other for one, other in made if one.name == line.name]))
             for line, facts in made]  # fmt: skip
    return sorted(found, key=lambda line: (-len(line.points), line.name, line.points[-1].started))


def _facts(run: Run) -> dict[str, str]:
    """What may tell comparable runs from others of one variant: budget, changes, inputs."""
    found = {**run.settings.budget, **run.settings.changes}
    if run.data is not None:
        found |= {"rows": run.data.rows.get("train"), "data": run.data.origin, "text": run.data.corpus[:8],
                  "encoder": run.data.encoder[:8]}  # fmt: skip
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def _apart(name: str, facts: Mapping[str, str], alike: Sequence[Mapping[str, str]]) -> str:
    """The name of a line with what tells it from the others of that name."""
    differ = [key for key in sorted(facts) if any(other.get(key) != facts[key] for other in alike)]
    told = ", ".join(f"{key}={facts[key]}" for key in differ)
    return f"{name} [{told}]" if told else name


def _lines(runs: Sequence[Run]) -> Iterable[Line]:
    """The lines of runs that are comparable, which come by age."""
    if runs[0].scale == SHAPE:
        where = f"{runs[0].environment.machine}, {runs[0].protocol}"
        for split in dict.fromkeys(split for run in runs for split in speeds(run)):
            title = f"speed-up over the reference and its twin at {split} on {where}"
            yield _line("speed", title, runs, ("speedup", split))
        return
    for metric, split in scores(runs[-1]):
        yield _line("quality", f"{metric} on {runs[0].task}, {split} ({runs[0].scale})", runs, (metric, split))


def _line(kind: Kind, title: str, runs: Sequence[Run], name: tuple[str, str]) -> Line:
    """One measurement by commit, in the order in which each first ran; of two scores of one seed the newer counts."""
    commits: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if name in run.measured:
            commits[run.code.commit + "+" * run.code.dirty].append(run)
    points = []
    for commit, own in commits.items():
        if kind == "speed":
            kept, least = own, 0.0
            values = [value for run in own for value in copies(run, name[1])]
        else:
            kept = list({run.seed: run for run in own}.values())
            least = POINTS / max(1, min(run.measured[name].n for run in own))
            values = [POINTS * (run.value(*name) or 0.0) for run in kept]
        if values:
            points.append(Point(commit, own[0].started, tuple(values), len(kept), least))
    return Line(kind, title, tuple(stepped(kind, points)))


def stepped(kind: Kind, points: Sequence[Point]) -> list[Point]:
    """The points, those at which the line steps marked.

    A step is sure (t over all values since the step before, corrected for the number of commits) and large enough to
    be an alarm of `bench regress`. Where neither side has two values, nothing is.
    """
    out: list[Point] = []
    since: list[Point] = []
    for point in points:
        step = _step(kind, since, point, len(points) - 1) if since else 0.0
        since = [point] if step else [*since, point]
        out.append(replace(point, step=step))
    return out


def _step(kind: Kind, since: Sequence[Point], point: Point, tests: int) -> float:
    before = [value for one in since for value in one.values]
    freedom = len(before) + len(point.values) - 2
    effect = point.mean - fmean(before)
    if freedom < 1 or abs(effect) < RULES[kind].alarm:
        return 0.0
    squares = math.fsum((len(side) - 1) * deviation(side) ** 2 for side in (before, point.values) if len(side) > 1)
    variance = max(squares / freedom, point.least**2) * (1 / len(before) + 1 / len(point.values))
    if kind == "speed":
        variance += SESSION**2 * (1 / sum(one.sessions for one in since) + 1 / point.sessions)
    p = 2 * one_sided(-abs(effect), math.sqrt(variance), freedom)
    return effect if p * max(1, tests) <= STEP else 0.0
