"""Judges orderings of variants: paired by seed, on the same data under the same budget.

A step between two neighbours is seen when its 95% interval leaves 0 out. An ordering is shown when every step is seen;
it is contradicted when, after Holm's correction over its steps, one is seen the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.claims.claim import Claim, Entry
from bench.core.stats import Estimate, mean_of, trimmed_mean_of
from bench.judge.power import MOST_SEEDS, more_seeds
from bench.judge.rules import SIGNIFICANT, STRICT, Judged, holm
from bench.judge.scores import ScoreBook, Scores
from bench.judge.series import TIERS, Key, Rank, Series

FEWEST = 5
"""Seeds that an ordering takes: with fewer, no paired test can tell (design: verdicts)."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """All variants of an ordering on some tasks under one budget, with the seeds that ran on every side."""

    order: tuple[str, ...]
    tasks: tuple[str, ...]
    sides: tuple[Scores, ...]
    """The worst variant first."""
    seeds: tuple[int, ...]
    tier: str
    rank: Rank

    @property
    def scale(self) -> str:
        return self.sides[0].scale

    @property
    def records(self) -> tuple[str, ...]:
        return tuple(sorted({score.run.id for side in self.sides for scores in side.scores for score in scores
                             if score.seed in self.seeds}))  # fmt: skip

    @property
    def trained(self) -> tuple[int, ...]:
        """The seeds that look degenerate on no side."""
        return tuple(sorted(set(self.seeds).intersection(*(side.by_seed() for side in self.sides))))

    @property
    def at_chance(self) -> list[str]:
        """The variants that guess."""
        return [variant for variant, side in zip(self.order, self.sides, strict=True) if side.at_chance]


@dataclass(frozen=True, slots=True)
class NoMeeting:
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
        """Of the two being alike."""
        return self.points.p(0.0)


def judge_ordering(claim: Claim, book: ScoreBook) -> Judged:
    """The verdict of an ordering."""
    meeting = find_meeting(book, claim)
    if isinstance(meeting, NoMeeting):
        return Judged(claim, meeting.verdict, why=meeting.why)
    verdict, p, why = _weigh(meeting)
    if verdict == "not reproduced" and claim.transcription == "recalled":
        verdict, why = "inconclusive", f"{why} The ordering is only recalled, which does not suffice to call it wrong."
    found = steps(meeting, meeting.trained) if meeting.trained else []
    smallest = min(found, key=lambda step: step.points.value, default=None)
    low, high = (smallest and smallest.points.interval()) or (None, None)
    return Judged(claim, verdict, smallest and smallest.points.value, low, high, meeting.tier, meeting.scale,
                  len(meeting.trained), p, None, why, meeting.records)  # fmt: skip


def find_meeting(book: ScoreBook, claim: Claim) -> Meeting | NoMeeting:
    """The best evidence on which all variants met; tasks with FEWEST common seeds or more are enough."""
    keys = [(claim.maker, variant) for variant in claim.order]
    tasks = {entry.task for entry in claim.tasks}
    absent = [variant for key, variant in zip(keys, claim.order, strict=True) if not tasks & {*book.index.tasks(key)}]
    if absent:
        return NoMeeting("not run", f"Not run: no finished run of {', '.join(absent)} on a task of the ordering.")
    met: dict[tuple[object, ...], dict[Entry, list[Scores]]] = {}
    for entry in claim.tasks:
        for suites, sides in _meetings(book, keys, entry).items():
            met.setdefault(suites, {})[entry] = sides
    if not met:
        every = [one for key in keys for task in tasks for one in book.index.series(key, task)]
        if all(series.made_up for series in every):
            why = "All sides ran on made-up data only, where an ordering of quality says nothing."
            return NoMeeting("not comparable: made-up data", why)
        why = "The variants did not run on one task with the same seeds, data and budget."
        return NoMeeting("not comparable: budget", why)
    return max((_meeting(book, claim, found) for found in met.values()), key=lambda meeting: meeting.rank)


def _meetings(book: ScoreBook, keys: Sequence[Key], entry: Entry) -> dict[tuple[object, ...], list[Scores]]:
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
    for rivals in sorted(set.intersection(*(set(found) for found in per_variant)), key=repr):
        sides = [found[rivals] for found in per_variant]
        shared = sides[0].suite.rivals
        if _common(sides) and (shared not in best or _preferred(sides) > _preferred(best[shared])):
            best[shared] = sides
    return best


def _scored(series: Series, entry: Entry) -> bool:
    return any(name in run.measured for run in series.runs.values() for name in entry.names())


def _preferred(sides: Sequence[Scores]) -> Rank:
    """No side that guesses, then enough seeds, then as series are preferred: the larger budget before more seeds."""
    guess = any(side.at_chance for side in sides)
    return not guess, min(len(_common(sides)), FEWEST), min(side.series[0].rank for side in sides)


def _common(sides: Sequence[Scores]) -> list[int]:
    """The seeds that ran all tasks on every side."""
    return sorted(set.intersection(*({score.seed for score in scores} for side in sides for scores in side.scores)))


def _meeting(book: ScoreBook, claim: Claim, found: Mapping[Entry, list[Scores]]) -> Meeting:
    """Tasks on which no side guesses, if there are any; of those the ones with enough seeds, or else with the most."""
    able = {entry: sides for entry, sides in found.items() if not any(side.at_chance for side in sides)} or found
    most = max(len(_common(sides)) for sides in able.values())
    chosen = {entry: sides for entry, sides in able.items() if len(_common(sides)) >= min(most, FEWEST)}
    entries = tuple(chosen)
    sides = tuple(
        book.scores(chosen[entries[0]][place].suite, entries, [chosen[entry][place].series[0] for entry in entries])
        for place in range(len(claim.order))
    )
    worst = max((side.tier for side in sides), key=TIERS.index)
    if len(chosen) < len(claim.tasks):
        worst = max(worst, "reduced", key=TIERS.index)  # fewer tasks than the paper's
    rank = (able is not found or not any(side.at_chance for side in sides), min(len(_common(sides)), FEWEST),
            -TIERS.index(worst), len(chosen), min(side.rank for side in sides))  # fmt: skip
    tasks = tuple(dict.fromkeys(entry.task for entry in entries))
    return Meeting(claim.order, tasks, sides, tuple(_common(sides)), worst, rank)


def steps(meeting: Meeting, seeds: Sequence[int], cut: int = 0) -> list[Step]:
    """Each adjacent pair of the order, in points, paired by seed; `cut` seeds at each end are trimmed.

    Raises: ValueError without a seed.
    """
    found = []
    for (worse, low), (better, high) in pairwise(zip(meeting.order, meeting.sides, strict=True)):
        differences = [100 * (high.score_of(seed) - low.score_of(seed)) for seed in seeds]
        # Two scores that differ by less than one dev example have not been told apart.
        least = 100 * high.example
        points = trimmed_mean_of(differences, cut, least) if cut else mean_of(differences, least)
        found.append(Step(worse, better, points))
    return found


def _weigh(meeting: Meeting) -> tuple[str, float | None, str]:
    """(verdict, p, why)"""
    trained, lost = meeting.trained, len(meeting.seeds) - len(meeting.trained)
    over = f"over {', '.join(meeting.tasks)} with {_seeds(len(trained))}"
    if meeting.at_chance:
        return "inconclusive: at chance", None, (f"No better than guessing on {', '.join(meeting.tasks)}: "
                                                 f"{', '.join(meeting.at_chance)}.")  # fmt: skip
    if len(trained) < FEWEST:
        left_out = f" ({lost} more look degenerate)" if lost else ""
        told = f"Only {_seeds(len(trained))}{left_out} on {', '.join(meeting.tasks)}"
        return "inconclusive", None, f"{told}: an ordering takes {FEWEST}, {FEWEST - len(trained)} more."
    strict = meeting.tier in STRICT
    found = steps(meeting, trained)
    verdict, p, why = _verdict(found, strict, over, lost)
    if not lost:
        return verdict, p, f"{why}."
    # Seeds that guessed must not decide: with all of them counted every step keeps its direction, or nothing is said.
    every = steps(meeting, meeting.seeds, lost)
    alike = all(_sign(step) == _sign(again) for step, again in zip(found, every, strict=True))
    if verdict == "inconclusive":
        return verdict, p, f"{why} ({lost} more seeds look degenerate)."
    if alike:
        return verdict, p, f"{why}; {lost} more seeds look degenerate, and counting them changes no direction."
    return "inconclusive", p, f"{why}; but not with the {lost} more that look degenerate."


def _sign(step: Step) -> int:
    return (step.points.value > 0) - (step.points.value < 0)


def _verdict(found: Sequence[Step], strict: bool, over: str, lost: int) -> tuple[str, float, str]:
    corrected = holm({place: step.p for place, step in enumerate(found)})
    wrong = [place for place, step in enumerate(found) if step.points.value < 0 and corrected[place] <= SIGNIFICANT]
    if wrong:
        told = _told([found[place] for place in wrong])
        p = min(corrected[place] for place in wrong)
        return ("not reproduced" if strict else "not seen"), p, f"The other way round {over}: {told}"
    unseen = [step for step in found if step.p > SIGNIFICANT or step.points.value < 0]
    if unseen:
        return "inconclusive", 1.0, f"Not every step is seen {over}: {_told(unseen)}; {_hope(unseen, lost)}"
    p = max(step.p for step in found)
    return ("reproduced" if strict else "consistent"), p, f"Every step is seen {over}: {_told(found)}"


def _seeds(number: int) -> str:
    return f"{number} paired seed{'' if number == 1 else 's'}"


def _hope(steps: Sequence[Step], lost: int) -> str:
    if all(step.points.value == 0 and step.points.error == 0 for step in steps):
        return "they scored the same with every seed"
    needed = [more_seeds(step.points, (0.0,), lost) for step in steps]
    known = [more for more in needed if more is not None]
    if len(known) < len(needed):
        return f"more than {MOST_SEEDS} seeds would settle it"
    return f"about {max(known)} more seeds would settle it (80% power)"


def _told(found: Sequence[Step]) -> str:
    return "; ".join(f"{step.better} over {step.worse} by {step.points.value:.2f} points [{low:.2f}, {high:.2f}]"
                     for step in found for low, high in [step.points.interval() or (0.0, 0.0)])  # fmt: skip
