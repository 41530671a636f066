"""One side of a quality claim: a variant's score, or mean of scores, seed by seed, in the unit of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.claims.claim import Entry
from bench.claims.units import TASK_METRICS, TASK_SPLITS
from bench.core.stats import mean
from bench.judge.series import TIERS, Evidence, Group, Key


@dataclass(frozen=True, slots=True)
class Side:
    """Scores of one variant by seed, over one task list, from runs that may be pooled."""

    scores: dict[int, float]
    teachers: dict[int, float]
    """The own teacher's score on the same cells; only the seeds that have it."""
    tier: str
    scale: str
    made_up: bool
    session: str
    rank: tuple[int, int, bool, int, str]
    records: tuple[str, ...]
    bouts: tuple[str, ...]
    """Per task, what a side to be paired with this one must share."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Tasks that no session ran together with the others."""

    tasks: tuple[str, ...]


class Sides:
    """Finds sides, each once: many claims are about the same variant and tasks."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._found: dict[tuple[Key, tuple[Entry, ...]], list[Side] | Missing] = {}

    def of(self, key: Key, entries: tuple[Entry, ...]) -> list[Side] | Missing:
        """Every session that ran all tasks, the best evidence first; or what the fullest session lacks."""
        if (key, entries) not in self._found:
            self._found[key, entries] = _sides(self._evidence, key, entries)
        return self._found[key, entries]


def _sides(evidence: Evidence, key: Key, entries: Sequence[Entry]) -> list[Side] | Missing:
    by_session: dict[str, list[Group]] = {}
    per_task: list[dict[str, Group]] = []
    for entry in entries:
        found: dict[str, Group] = {}
        names = entry.names()
        for group in evidence.groups(key, entry.task):
            kept = {seed: run for seed, run in group.runs.items() if run.has_all(names)}
            if kept and group.session not in found:  # groups come best first
                found[group.session] = replace(group, runs=kept)
        per_task.append(found)
    sessions = {name for found in per_task for name in found}
    for name in sessions:
        members = [found[name] for found in per_task if name in found]
        if len(members) == len(entries):
            by_session[name] = members
    if not by_session:
        lacking = [{entry.task for entry, found in zip(entries, per_task, strict=True) if name not in found}
                   for name in sessions] or [{entry.task for entry in entries}]  # fmt: skip
        fewest = min(lacking, key=lambda tasks: (len(tasks), sorted(tasks)))
        return Missing(tuple(dict.fromkeys(entry.task for entry in entries if entry.task in fewest)))
    whole = [_side(entries, members) for members in by_session.values()]
    return sorted(whole, key=lambda side: side.rank, reverse=True)


def _side(entries: Sequence[Entry], groups: Sequence[Group]) -> Side:
    seeds = sorted(set.intersection(*(set(group.runs) for group in groups)))
    scores: dict[int, float] = {}
    teachers: dict[int, float] = {}
    cells = [(group, entry.names(), _primary(entry.task)) for group, entry in zip(groups, entries, strict=True)]
    for seed in seeds:
        scores[seed] = mean([group.runs[seed].mean_score(names) for group, names, _ in cells])
        taught = [group.runs[seed].mean_teacher_score(names, primary) for group, names, primary in cells]
        known = [score for score in taught if score is not None]
        if len(known) == len(taught):
            teachers[seed] = mean(known)
    worst = max(groups, key=lambda group: TIERS.index(group.tier))
    scale = worst.rank[1]
    newest = max(group.newest for group in groups)
    return Side(
        scores=scores, teachers=teachers, tier=worst.tier, scale=worst.scale,
        made_up=any(group.made_up for group in groups), session=worst.session,
        rank=(-TIERS.index(worst.tier), scale, all(group.whole for group in groups), len(seeds), newest),
        records=tuple(sorted({group.runs[seed].record.id for group in groups for seed in seeds})),
        bouts=tuple(group.bout for group in groups),
    )  # fmt: skip


def _primary(task: str) -> tuple[str, str]:
    """The (metric, split) of the score that a record's link to its teacher holds."""
    return TASK_METRICS[task][0], TASK_SPLITS[task][0]
