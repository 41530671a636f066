"""Judges orderings of variants: paired by seed, on the same data under the same budget.

A step between two neighbours is seen when its 95% interval leaves 0 out. An ordering is shown when every step is seen;
it is contradicted when, after Holm's correction over its steps, one is seen the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.claims.averages import printed_on
from bench.claims.claim import Claim, Entry, Ledger
from bench.core.stats import Estimate, mean_of, trimmed_mean_of
from bench.judge.rules import SIGNIFICANT, STRICT, Judged, Open, holm
from bench.judge.scores import ScoreBook, Scores
from bench.judge.series import Key, Rank, Series
from bench.judge.standing import TIERS

FEWEST = 5
"""Seeds that an ordering takes: with fewer, no paired test can tell (design: verdicts)."""

UNEQUAL = 1.5
"""Where one variant trained on so many times as many rows as another, both numbers are told: a variant without a phase
has one budget with the others, and fewer steps."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All variants of an ordering on some tasks under one budget, with the seeds that ran all of them."""

    order: tuple[str, ...]
    tasks: tuple[str, ...]
    compared: tuple[Scores, ...]
    """The worst variant first."""
    seeds: tuple[int, ...]
    tier: str
    rank: Rank

    @property
    def scale(self) -> str:
        """The scale of all runs compared."""
        return self.compared[0].scale

    @property
    def records(self) -> tuple[str, ...]:
        """The ids of the runs compared, sorted."""
        return tuple(sorted({score.run.id for one in self.compared for scores in one.scores for score in scores
                             if score.seed in self.seeds}))  # fmt: skip

    @property
    def trained(self) -> tuple[int, ...]:
        """The seeds that look degenerate on no variant."""
        return tuple(sorted(set(self.seeds).intersection(*(one.by_seed() for one in self.compared))))

    @property
    def at_chance(self) -> list[str]:
        """The variants that guess."""
        return [variant for variant, one in zip(self.order, self.compared, strict=True) if one.at_chance]


@dataclass(frozen=True, slots=True)
class NoComparison:
    """Why there is none."""

    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """Two neighbours: how much better the second is, in points."""

    worse: str
    better: str
    points: Estimate

    @property
    def p(self) -> float:
        """The two-sided p value of the two being alike."""
        return self.points.p(0.0)


def judge_ordering(ledger: Ledger, claim: Claim, book: ScoreBook) -> Judged:
    """The verdict of an ordering; its number is the smallest step, in points.

    An order that is only recalled is never called not reproduced. One that averages over tasks is judged on a part of
    them only where the paper's own numbers have that order there, too.
    """
    comparison = find_comparison(book, claim)
    if isinstance(comparison, NoComparison):
        return Judged(claim, comparison.verdict, why=comparison.why)
    verdict, p, why, left = _weigh(comparison)
    if verdict == "not reproduced" and claim.transcription == "recalled":
        verdict, left = "inconclusive", None
        why += " The ordering is only recalled, which does not suffice to call it wrong."
    unequal = _unequal(comparison)
    why += unequal + (f" {ledger.paper.made_once}" if ledger.paper.made_once else "")
    other = _otherwise(ledger, claim, comparison)
    if other and p is not None:
        verdict, p, left, why = "inconclusive", None, None, f"{other} {why}"
    found = steps(comparison, comparison.trained) if comparison.trained else []
    smallest = min(found, key=lambda step: step.points.value, default=None)
    low, high = (smallest and smallest.points.interval()) or (None, None)
    return Judged(
        claim, verdict, smallest and smallest.points.value, low, high, tier=comparison.tier, scale=comparison.scale,
        seeds=len(comparison.trained), p=p, why=why, records=comparison.records, tasks=comparison.tasks, open=left,
        unequal=bool(unequal),
    )  # fmt: skip


def _otherwise(ledger: Ledger, claim: Claim, comparison: Comparison) -> str:
    """What the paper's own numbers say on the tasks that were compared, where these are not all and it is no such
    order; empty elsewhere."""
    entries = comparison.compared[0].entries
    printed = printed_on(ledger, claim, entries) if set(entries) < set(claim.tasks) else None
    if printed is None or all(low < high for low, high in pairwise(printed.values())):
        return ""
    told = ", ".join(f"{variant} {value:.4g}" for variant, value in printed.items())
    return (f"On {', '.join(comparison.tasks)} alone the paper's own numbers have another order ({told}), so that runs "
            "there cannot answer for the average.")  # fmt: skip


def _unequal(comparison: Comparison) -> str:
    """How many rows of the tasks each variant trained on, each pass counted, where some saw far more than others."""
    rows = {
        variant: max(sum(stage.rows for stage in score.run.stages) for own in scores.scores for score in own)
        for variant, scores in zip(comparison.order, comparison.compared, strict=True)
    }
    if max(rows.values()) <= UNEQUAL * min(rows.values()):
        return ""
    told = ", ".join(f"{variant} {number:,}" for variant, number in rows.items())
    return f" They trained on unequal numbers of rows, each pass counted: {told}."


def find_comparison(book: ScoreBook, claim: Claim) -> Comparison | NoComparison:
    """The best evidence in which all variants can be compared; tasks with FEWEST common seeds or more are enough."""
    keys = [(claim.maker, variant) for variant in claim.order]
    tasks = {entry.task for entry in claim.tasks}
    absent = [variant for key, variant in zip(keys, claim.order, strict=True) if not tasks & {*book.index.tasks(key)}]
    if absent:
        return NoComparison("not run", f"Not run: no finished run of {', '.join(absent)} on a task of the ordering.")
    # Tasks are averaged only where scale, budget, data and teacher agree: first by what suites share, then by task.
    by_suites: dict[tuple[object, ...], dict[Entry, list[Scores]]] = {}
    for entry in claim.tasks:
        for suites, compared in _comparable(book, keys, entry).items():
            by_suites.setdefault(suites, {})[entry] = compared
    if not by_suites:
        every = [one for key in keys for task in tasks for one in book.index.series(key, task)]
        if all(series.made_up for series in every):
            why = "All variants ran on made-up data only, where an ordering of quality says nothing."
            return NoComparison("not comparable: made-up data", why)
        why = "The variants did not run on one task with the same seeds, data and budget."
        return NoComparison("not comparable: budget", why)
    return max((_comparison(book, claim, found) for found in by_suites.values()), key=lambda one: one.rank)


def _comparable(book: ScoreBook, keys: Sequence[Key], entry: Entry) -> dict[tuple[object, ...], list[Scores]]:
    """What the variants' suites share -> their scores on one task, of series that may be compared."""
    per_variant: list[dict[tuple[object, ...], Scores]] = []
    for key in keys:
        found: dict[tuple[object, ...], Scores] = {}
        for suite in book.index.suites(key):
            for series in suite.series.get(entry.task, ()):
                if not series.made_up and series.rivals not in found and _scored(series, entry):
                    found[series.rivals] = book.scores(suite, (entry,), (series,))
        per_variant.append(found)
    best: dict[tuple[object, ...], list[Scores]] = {}
    # `rivals` is what series of different variants must share: only keys that every variant has can be compared.
    for rivals in sorted(set.intersection(*(set(found) for found in per_variant)), key=repr):
        compared = [found[rivals] for found in per_variant]
        shared = compared[0].suite.rivals
        if _common(compared) and (shared not in best or _preferred(compared) > _preferred(best[shared])):
            best[shared] = compared
    return best


def _scored(series: Series, entry: Entry) -> bool:
    return any(name in run.measured for run in series.runs.values() for name in entry.names())


def _preferred(compared: Sequence[Scores]) -> Rank:
    """No variant that guesses, then enough seeds, then as series are preferred."""
    guess = any(one.at_chance for one in compared)
    return not guess, min(len(_common(compared)), FEWEST), min(one.series[0].rank for one in compared)


def _common(compared: Sequence[Scores]) -> list[int]:
    """The seeds with which every variant ran all tasks."""
    return sorted(set.intersection(*({score.seed for score in scores} for one in compared for scores in one.scores)))


def _comparison(book: ScoreBook, claim: Claim, found: Mapping[Entry, list[Scores]]) -> Comparison:
    """The tasks on which no variant guesses, if there are any; of those the ones with enough seeds, or the most."""
    # A task on which somebody guesses says nothing of an order; it stays only where no task is left without.
    able = {entry: scores for entry, scores in found.items() if not any(one.at_chance for one in scores)} or found
    most = max(len(_common(scores)) for scores in able.values())
    chosen = {entry: scores for entry, scores in able.items() if len(_common(scores)) >= min(most, FEWEST)}
    entries = tuple(chosen)
    compared = tuple(
        book.scores(chosen[entries[0]][place].suite, entries, [chosen[entry][place].series[0] for entry in entries])
        for place in range(len(claim.order))
    )
    worst = max((one.tier for one in compared), key=TIERS.index)
    if len(chosen) < len(claim.tasks):
        worst = max(worst, "reduced", key=TIERS.index)  # fewer tasks than the paper's
    rank = (able is not found or not any(one.at_chance for one in compared), min(len(_common(compared)), FEWEST),
            -TIERS.index(worst), len(chosen), min(one.rank for one in compared))  # fmt: skip
    tasks = tuple(dict.fromkeys(entry.task for entry in entries))
    return Comparison(claim.order, tasks, compared, tuple(_common(compared)), worst, rank)


def steps(comparison: Comparison, seeds: Sequence[int], cut: int = 0) -> list[Step]:
    """Each adjacent pair of the order, in points, paired by seed; `cut` seeds at each end are trimmed.

    Raises: ValueError without a seed.
    """
    found = []
    for (worse, low), (better, high) in pairwise(zip(comparison.order, comparison.compared, strict=True)):
        below, above = low.every_seed(), high.every_seed()
        differences = [100 * (above[seed] - below[seed]) for seed in seeds]
        # Two scores that differ by less than one dev example have not been told apart.
        least = 100 * high.example
        points = trimmed_mean_of(differences, cut, least) if cut else mean_of(differences, least)
        found.append(Step(worse, better, points))
    return found


def _weigh(comparison: Comparison) -> tuple[str, float | None, str, Open | None]:
    """(verdict, p, why, what more seeds would have to tell)"""
    trained, lost = comparison.trained, len(comparison.seeds) - len(comparison.trained)
    over = f"over {', '.join(comparison.tasks)} with {_seeds(len(trained))}"
    if comparison.at_chance:
        return "inconclusive: at chance", None, (f"No better than guessing on {', '.join(comparison.tasks)}: "
                                                 f"{', '.join(comparison.at_chance)}."), None  # fmt: skip
    if len(trained) < FEWEST:
        left_out = f" ({lost} more look degenerate)" if lost else ""
        told = f"Only {_seeds(len(trained))}{left_out} on {', '.join(comparison.tasks)}"
        return "inconclusive", None, f"{told}; an ordering needs {FEWEST}, so {FEWEST - len(trained)} more.", None
    strict = comparison.tier in STRICT
    found = steps(comparison, trained)
    verdict, p, why, decisive = _verdict(found, strict, over)
    left = Open(tuple((step.points, (0.0,)) for step in decisive), lost=lost) if any(map(_varies, decisive)) else None
    if not lost:
        return verdict, p, f"{why}.", left
    # Seeds that guessed must not decide: with all of them counted every step keeps its direction, or nothing is said.
    every = steps(comparison, comparison.seeds, lost)
    alike = all(_sign(step) == _sign(again) for step, again in zip(found, every, strict=True))
    if verdict == "inconclusive":
        return verdict, p, f"{why} ({lost} more seeds look degenerate).", left
    if alike:
        return verdict, p, f"{why}; {lost} more seeds look degenerate, and counting them changes no direction.", left
    return "inconclusive", p, f"{why}; but not with the {lost} more that look degenerate.", None


def _sign(step: Step) -> int:
    return (step.points.value > 0) - (step.points.value < 0)


def _varies(step: Step) -> bool:
    return step.points.value != 0 or step.points.error != 0


def _verdict(found: Sequence[Step], strict: bool, over: str) -> tuple[str, float, str, Sequence[Step]]:
    """(verdict, p, why, the steps that decide)"""
    # To contradict, one step the other way is enough, so luck has a chance at each: hence the correction.
    corrected = holm({place: step.p for place, step in enumerate(found)})
    wrong = [place for place, step in enumerate(found) if step.points.value < 0 and corrected[place] <= SIGNIFICANT]
    if wrong:
        against = [found[place] for place in wrong]
        p = min(corrected[place] for place in wrong)
        return ("not reproduced" if strict else "not seen"), p, f"The other way round {over}: {_told(against)}", against
    unseen = [step for step in found if step.p > SIGNIFICANT or step.points.value < 0]
    if unseen:
        alike = "" if any(map(_varies, unseen)) else "; they scored the same with every seed"
        return "inconclusive", 1.0, f"Not every gap is seen {over}: {_told(unseen)}{alike}", unseen
    # To show the order, all steps have to be seen: the largest p is that of the whole, without a correction.
    p = max(step.p for step in found)
    return ("reproduced" if strict else "consistent"), p, f"Every gap is seen {over}: {_told(found)}", found


def _seeds(number: int) -> str:
    return f"{number} paired seed{'' if number == 1 else 's'}"


def _told(found: Sequence[Step]) -> str:
    """`tinybert-4 above tinybert-4-no-td by 3.89 points [2.56, 5.22]`; `below` where it is the other way round."""
    return "; ".join(map(_one, found))


def _one(step: Step) -> str:
    low, high = step.points.interval() or (0.0, 0.0)
    points, where = step.points.value, "above"
    if points < 0:
        points, where, low, high = -points, "below", -high, -low
    return f"{step.better} {where} {step.worse} by {points:.2f} points [{low:.2f}, {high:.2f}]"
