"""From comparisons to verdicts: what is worse, what only looks so, what nobody can tell yet.

All comparisons of one call are judged together: their spreads moderate each other, and one correction is over all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.core.collection import no_collection
from bench.judge.differences import (
    DISCOVERY,
    SCREEN,
    Spread,
    Stage,
    adjusted,
    combined,
    exact,
    one_sided,
    session_deviation,
)

Kind = Literal["quality", "speed"]

Verdict = Literal["worse", "suspect", "untold", "better", "fine", "same"]
"""`suspect`: passed the screen, and a confirmation can be had; `untold`: too wide; `same`: not one number differs."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How comparisons of one kind are judged; effects in points, or as logarithms of a ratio of times."""

    prior: float
    """Degrees of freedom that the spread of other comparisons is worth, at most."""
    screen: float
    """The least effect that a screen does not pass over."""
    alarm: float
    """The least effect that is called worse."""
    widest: float
    """The standard error of a stage above which its silence means nothing."""
    alone: float
    """The p value up to which a screen is beyond doubt by itself; 0 for times, whose copies share one session."""


SESSION = 0.01
"""The least deviation that a timing session is taken to have beside that of its copies; repeated ones show less."""

WIDEST_SEEDS, SEEDS = 1.1, 5
"""Seeds that spread more points than this settle nothing, where there are so many in a stage."""
WIDEST_COPIES, COPIES = 0.05, 10
"""The same of the copies of a session; a stage is then one session against two."""

RULES: dict[Kind, Rule] = {
    "quality": Rule(4, 0.5, 1.0, WIDEST_SEEDS / math.sqrt(SEEDS), 1e-3),
    "speed": Rule(6, math.log(1.025), math.log(1.05),
                  math.sqrt(1.5 * (WIDEST_COPIES**2 / COPIES + SESSION**2)), 0.0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides of one series as its stages say them; see `Stage` for the sign."""

    kind: Kind
    pool: tuple[object, ...]
    """Comparisons whose spreads moderate each other."""
    screen: Stage
    confirm: Stage | None
    two_stages: bool
    """Whether the baseline holds what a confirmation is compared with."""
    least: float = 0.0
    """The least deviation that is believed: one example."""
    same: bool = False
    """Whether every number is the same on both sides."""
    changed: tuple[int, int] | None = None
    """(examples lost, examples won) where the weights are the same on both sides; then nothing else is asked."""

    @property
    def stages(self) -> list[Stage]:
        """The screen, and the confirmation where one was made."""
        return [self.screen, *([self.confirm] if self.confirm else ())]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said of a comparison."""

    verdict: Verdict
    effect: float
    """Of all stages, weighted by what each knows; worse below 0."""
    error: float | None
    p: float
    """One-sided, of the direction that the effect has."""
    q: float
    """The same over all comparisons: the rate of false discoveries at which it is one."""
    widest: float
    """The standard error up to which silence means something, of as many stages as there are."""


@dataclass(frozen=True, slots=True)
class _Tested:
    effect: float
    error: float | None
    worse: float
    better: float
    passes: bool
    """Whether the screen is passed towards worse."""


def decide(comparisons: Sequence[Comparison]) -> list[Decision]:
    """The decision on each comparison, in their order."""
    with no_collection():
        pools: dict[tuple[object, ...], Spread] = defaultdict(Spread)
        stages: dict[tuple[object, ...], list[Stage]] = defaultdict(list)
        for one in comparisons:
            pools[one.pool] += _own(one)
            stages[one.pool] += one.stages
        sessions = {pool: session_deviation(found, SESSION, WIDEST_COPIES) for pool, found in stages.items()}
        tested = [_test(one, pools[one.pool] - _own(one), sessions[one.pool]) for one in comparisons]
        worse = adjusted([one.worse for one in tested])
        better = adjusted([one.better for one in tested])
        return [_decision(*each) for each in zip(comparisons, tested, worse, better, strict=True)]


def _own(one: Comparison) -> Spread:
    """What a comparison adds to its pool; identical numbers say nothing of how others spread."""
    if one.same or one.changed is not None:
        return Spread()
    return one.screen.spread + one.confirm.spread if one.confirm else one.screen.spread


def _test(one: Comparison, others: Spread, session: float) -> _Tested:
    rule, stages = RULES[one.kind], one.stages
    if one.same:
        return _Tested(0.0, 0.0, 1.0, 1.0, False)
    if one.changed is not None:
        lost, won = one.changed
        return _Tested(one.screen.effect, 0.0, exact(lost, won), exact(won, lost), False)
    known = [stage.error(others, rule.prior, one.least, session) for stage in stages]
    if not all(freedom for _, freedom in known):
        return _Tested(stages[0].effect, None, 1.0, 1.0, False)
    down = [one_sided(stage.effect, *found) for stage, found in zip(stages, known, strict=True)]
    up = [one_sided(-stage.effect, *found) for stage, found in zip(stages, known, strict=True)]
    weights = [1 / max(error, 1e-12) ** 2 for error, _ in known]
    effect = math.fsum(w * stage.effect for w, stage in zip(weights, stages, strict=True)) / math.fsum(weights)
    passes = down[0] <= SCREEN and stages[0].effect <= -rule.screen
    return _Tested(effect, math.fsum(weights) ** -0.5, _p(one, down), _p(one, up), passes)


def _p(one: Comparison, stages: Sequence[float]) -> float:
    """The p value of all stages; a confirmation that was not made is one that says nothing."""
    if len(stages) == 1 and not one.two_stages:
        return stages[0]
    return combined(stages[0], stages[1] if len(stages) == 2 else 1.0)


def _decision(one: Comparison, tested: _Tested, worse: float, better: float) -> Decision:
    rule = RULES[one.kind]
    p, q = (tested.worse, worse) if tested.effect <= 0 else (tested.better, better)
    # Where there is one stage only, or both are made, they must know together what two would.
    halved = one.two_stages and one.confirm is None
    widest = rule.widest if halved else rule.widest / math.sqrt(2)
    return Decision(_verdict(one, tested, worse, better, widest), tested.effect, tested.error, p, q, widest)


def _verdict(one: Comparison, tested: _Tested, worse: float, better: float, widest: float) -> Verdict:
    rule = RULES[one.kind]
    if one.same:
        return "same"
    sessions = one.kind == "speed"
    unconfirmed = one.confirm is None and one.changed is None and (one.two_stages or sessions)
    sure = not unconfirmed or tested.worse <= rule.alone
    if worse <= DISCOVERY and tested.effect <= -rule.alarm and sure:
        return "worse"
    if tested.passes and unconfirmed:
        return "suspect"
    if better <= DISCOVERY and tested.effect >= rule.alarm and (not unconfirmed or tested.better <= rule.alone):
        return "better"
    return "untold" if tested.error is None or tested.error > widest else "fine"
