"""Judges orderings and differences of variants: paired by seed, on the same data under the same budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bench.claims.claim import Claim, Entry
from bench.core.stats import mean, paired, seeds_needed
from bench.judge.series import TIERS, Evidence, Group

FEWEST = 5
"""Seeds that an ordering takes: with fewer, no paired test can tell (design: verdicts)."""


@dataclass(frozen=True, slots=True)
class Bout:
    """All variants on some tasks under one budget: the mean score over the tasks, by seed, worst variant first."""

    order: tuple[str, ...]
    tasks: tuple[str, ...]
    scores: tuple[Mapping[int, float], ...]
    tier: str
    scale: str
    seeds: int
    rank: tuple[int, int, int, int, str]
    records: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoBout:
    """Why there is none."""

    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """Two neighbours: how much better the second is, in points; `more` seeds would probably settle it (None: many)."""

    worse: str
    better: str
    value: float
    low: float
    high: float
    more: int | None


def find_bout(evidence: Evidence, claim: Claim) -> Bout | NoBout:
    """The best evidence on which all variants met; ready tasks have FEWEST common seeds or more."""
    keys = [(claim.maker, variant) for variant in claim.order]
    absent = [variant for (paper, variant) in keys
              if not any(evidence.groups((paper, variant), entry.task) for entry in claim.tasks)]  # fmt: skip
    if absent:
        return NoBout("not run", f"Not run: no finished run of {', '.join(absent)} on a task of the ordering.")
    met: dict[str, dict[Entry, list[Group]]] = {}
    made_up_only = True
    for entry in claim.tasks:
        for camp, groups in _meetings(evidence, keys, entry).items():
            met.setdefault(camp, {})[entry] = groups
        made_up_only &= all(group.made_up for key in keys for group in evidence.groups(key, entry.task))
    if made_up_only:
        return NoBout("not comparable: made-up data",
                      "All sides ran on made-up data only, where an ordering of quality says nothing.")  # fmt: skip
    if not met:
        return NoBout("not comparable: budget",
                      "The variants did not run on one task with the same seeds, data and budget.")  # fmt: skip
    return max((_bout(claim, tasks) for tasks in met.values()), key=lambda bout: bout.rank)


def _meetings(evidence: Evidence, keys: Sequence[tuple[str, str]], entry: Entry) -> dict[str, list[Group]]:
    """camp -> one group per variant with the same bout on this task, the one with the most common seeds."""
    per_variant: list[dict[str, Group]] = []
    for key in keys:
        found: dict[str, Group] = {}
        for group in evidence.groups(key, entry.task):
            runs = {seed: run for seed, run in group.runs.items()
                    if run.has_all(entry.names())}  # fmt: skip
            if runs and not group.made_up and group.bout not in found:
                found[group.bout] = replace(group, runs=runs)
        per_variant.append(found)
    best: dict[str, list[Group]] = {}
    for name in sorted(set.intersection(*(set(found) for found in per_variant))):
        groups = [found[name] for found in per_variant]
        camp = groups[0].camp
        if _common(groups) and (camp not in best or len(_common(groups)) > len(_common(best[camp]))):
            best[camp] = groups
    return best


def _common(groups: Sequence[Group]) -> list[int]:
    return sorted(set.intersection(*(set(group.runs) for group in groups)))


def _bout(claim: Claim, tasks: Mapping[Entry, list[Group]]) -> Bout:
    """Tasks with enough seeds, or else the tasks with the most; a seed counts where it ran all of them."""
    most = max(len(_common(groups)) for groups in tasks.values())
    enough = min(most, FEWEST)
    chosen = {entry: groups for entry, groups in tasks.items() if len(_common(groups)) >= enough}
    entries = list(chosen)
    seeds = sorted(set.intersection(*(set(_common(groups)) for groups in chosen.values())))
    scores = tuple(
        {
            seed: mean([chosen[entry][place].runs[seed].mean_score(entry.names()) for entry in entries])
            for seed in seeds
        }
        for place in range(len(claim.order))
    )  # fmt: skip
    members = [group for groups in chosen.values() for group in groups]
    worst = max((group.tier for group in members), key=TIERS.index)
    if len(chosen) < len(claim.tasks):
        worst = max(worst, "reduced", key=TIERS.index)  # fewer tasks than the paper's
    scale = max(members, key=lambda group: TIERS.index(group.tier)).scale
    newest = max(group.newest for group in members)
    return Bout(
        order=claim.order, tasks=tuple(dict.fromkeys(entry.task for entry in entries)), scores=scores, tier=worst,
        scale=scale, seeds=len(seeds),
        rank=(min(len(seeds), FEWEST), -TIERS.index(worst), len(chosen), len(seeds), newest),
        records=tuple(sorted({g.runs[seed].record.id for g in members for seed in seeds})),
    )  # fmt: skip


def steps(bout: Bout) -> list[Step]:
    """Each adjacent pair of the order, in points.  Raises: ValueError under two seeds."""
    found = []
    for place, (worse, better) in enumerate(pairwise(bout.order)):
        low_side, high_side = bout.scores[place], bout.scores[place + 1]
        value, low, high, _ = (100 * number for number in paired(high_side, low_side))
        more: int | None = 0
        if low <= 0 <= high:
            differences = [high_side[seed] - low_side[seed] for seed in sorted(low_side)]
            total = seeds_needed(differences, abs(mean(differences)))
            more = None if total is None else max(1, total - bout.seeds)
        found.append(Step(worse, better, value, low, high, more))
    return found


def judge_bout(bout: Bout) -> tuple[str, list[Step], str]:
    """(verdict, steps, why): every adjacent pair's 95% paired interval must exclude 0 on the right side."""
    over = f"over {', '.join(bout.tasks)} with {bout.seeds} paired seeds"
    if bout.seeds < FEWEST:
        return ("inconclusive", steps(bout) if bout.seeds > 1 else [],
                f"Only {bout.seeds} paired seeds on {', '.join(bout.tasks)}: an ordering takes {FEWEST}, "
                f"{FEWEST - bout.seeds} more.")  # fmt: skip
    found = steps(bout)
    good = bout.tier in ("exact", "checkpoint")
    wrong = [step for step in found if step.high < 0]
    open_ = [step for step in found if step.low <= 0 <= step.high]
    if wrong:
        return "not reproduced" if good else "not seen", found, f"The other way round {over}: {_told(wrong)}."
    if open_:
        most = [step.more for step in open_]
        numbers = [more for more in most if more is not None]
        need = f"about {max(numbers)} more seeds" if len(numbers) == len(most) else "more than 1000 seeds"
        alike = all(step.low == step.high == 0 for step in open_)
        hope = "they scored the same with every seed" if alike else f"{need} would settle it"
        return "inconclusive", found, f"The interval holds 0 {over}: {_told(open_)}; {hope}."
    return "reproduced" if good else "consistent", found, f"Every step is seen {over}: {_told(found)}."


def _told(found: Sequence[Step]) -> str:
    return "; ".join(f"{s.better} over {s.worse} by {s.value:.2f} points [{s.low:.2f}, {s.high:.2f}]" for s in found)
