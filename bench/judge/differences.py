"""The statistics of a regression: how sure a difference is, over two stages and many comparisons. Ours, on simulation.

A comparison is looked at in a **screen**, and once more, on numbers of which the screen knew nothing, in a
**confirmation**. Few seeds hardly know their own spread, so that it is moderated by that of other comparisons of the
same kind (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3). `tests/benchmarks/regress_simulation.py` measures how often
the whole errs, and what it finds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.core.stats import deviation

SCREEN = 0.05
"""A one-sided p value up to here passes the screen."""
DISCOVERY = 0.02
"""The rate q of false discoveries in the sense of Benjamini and Hochberg, over all comparisons of one call."""
TRIM = 0.1
"""The share of copies that is left out at each end: a stall makes one process worthless."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A sum of squares with its degrees of freedom; spreads of independent samples add up."""

    squares: float = 0.0
    freedom: float = 0.0

    @property
    def variance(self) -> float | None:
        """The variance of one value; None without degrees of freedom."""
        return self.squares / self.freedom if self.freedom > 0 else None

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.squares + other.squares, self.freedom + other.freedom)

    def __sub__(self, other: Spread) -> Spread:
        return Spread(max(0.0, self.squares - other.squares), max(0.0, self.freedom - other.freedom))


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage says of a difference: `effect` is worse below 0; its variance is weight s^2 + sessions t^2.

    s is the deviation of one value (a seed's difference, a copy), t what a session has beside that of its copies.
    """

    effect: float
    weight: float
    """1 / n for a mean of n differences."""
    spread: Spread
    """What this stage itself says of s^2."""
    n: int
    """Differences, or copies on the side that has fewer."""
    sessions: float = 0.0
    """1 / sessions of the one side and of the other, added; 0 without sessions."""
    means: Spread = Spread()
    """The means of the sessions of a side about their own mean: t^2 and a share of s^2."""
    share: float = 0.0
    """s^2 enters the sum of squares of `means` so many times."""

    def error(self, others: Spread, prior: float, least: float = 0.0, session: float = 0.0) -> tuple[float, float]:
        """(standard error, degrees of freedom) with s^2 moderated by what others spread; (inf, 0) where none tells s.

        The others count as `prior` degrees of freedom, or as the fewer that they have. `least` is the least deviation
        of one value that is believed, `session` is t.
        """
        worth = min(prior, others.freedom)
        freedom = worth + self.spread.freedom
        if freedom <= 0:
            return math.inf, 0.0
        variance = (worth * (others.variance or 0.0) + self.spread.squares) / freedom
        return math.sqrt(max(variance, least**2) * self.weight + session**2 * self.sessions), freedom


def of_differences(differences: Sequence[float]) -> Stage:
    """The stage of paired differences, one a seed.  Raises: ValueError without any."""
    if not differences:
        raise ValueError("a stage needs a difference")
    n, mean = len(differences), math.fsum(differences) / len(differences)
    squares = math.fsum((one - mean) ** 2 for one in differences)
    return Stage(mean, 1 / n, Spread(squares, n - 1), n)


def trimmed(values: Sequence[float]) -> tuple[float, Spread]:
    """The trimmed mean of the copies of a session, and their spread by the winsorised deviation.

    The spread is that of one value: over n it is the variance of the trimmed mean.
    Source: Yuen 1974, Biometrika 61. Raises: ValueError without values.
    """
    if not values:
        raise ValueError("a session needs a value")
    ordered, cut = sorted(values), int(TRIM * len(values))
    kept = ordered[cut : len(ordered) - cut]
    mean, freedom = math.fsum(kept) / len(kept), len(kept) - 1
    if not freedom:
        return mean, Spread()
    winsorised = [kept[0]] * cut + kept + [kept[-1]] * cut
    return mean, Spread(freedom * (deviation(winsorised) * len(ordered) / len(kept)) ** 2, freedom)


def of_sessions(before: Sequence[Sequence[float]], now: Sequence[Sequence[float]]) -> Stage:
    """The stage of timing sessions, each the logarithms of its copies' speed; the mean of a side is over its sessions.

    Raises: ValueError for an empty side.
    """
    effect, weight, share, spread, about = 0.0, 0.0, 0.0, Spread(), Spread()
    for side, sign in ((before, -1.0), (now, 1.0)):
        if not side:
            raise ValueError("a side needs a session")
        found = [trimmed(copies) for copies in side]
        k, mean = len(side), math.fsum(one for one, _ in found) / len(side)
        effect += sign * mean
        weight += math.fsum(1 / len(copies) for copies in side) / k**2
        spread = sum((own for _, own in found), spread)
        about += Spread(math.fsum((one - mean) ** 2 for one, _ in found), k - 1)
        share += (1 - 1 / k) * math.fsum(1 / len(copies) for copies in side)
    n = min(sum(map(len, before)), sum(map(len, now)))
    return Stage(effect, weight, spread, n, 1 / len(before) + 1 / len(now), about, share)


def session_deviation(stages: Sequence[Stage], least: float, widest: float) -> float:
    """What a session has beside the deviation of its copies, by all stages that have two sessions on a side.

    Never under `least`. Stages whose copies spread over `widest` tell nothing of it, and are passed over.
    """
    squares = freedom = 0.0
    for stage in stages:
        variance = stage.spread.variance
        if stage.means.freedom > 0 and variance is not None and variance <= widest**2:
            squares += stage.means.squares - variance * stage.share
            freedom += stage.means.freedom
    return math.sqrt(max(least**2, squares / freedom)) if freedom > 0 else least


def one_sided(effect: float, error: float, freedom: float) -> float:
    """How often Student's t with so many degrees of freedom is as low as `effect / error`."""
    from scipy.special import stdtr  # imported here: it costs a third of a second

    if error > 0:
        return float(stdtr(freedom, effect / error))
    return 0.0 if effect < 0 else 0.5 if effect == 0 else 1.0


def mcnemar(before: Sequence[np.ndarray], now: Sequence[np.ndarray]) -> tuple[int, int]:
    """(examples lost, examples won) by the same weights: whether each [N] example was right, before and now, by seed.

    An example counts once, by what most seeds say: the seeds share the examples, and are no independent ones.
    Source: McNemar 1947, Psychometrika 12; the sign of the sum over seeds is ours.
    Raises: ValueError for answers that are not of the same examples.
    """
    if not before or {len(one) for one in (*before, *now)} != {len(before[0])} or len(before) != len(now):
        raise ValueError("the answers cannot be paired")
    gained = sum(new.astype(int) - old.astype(int) for old, new in zip(before, now, strict=True))
    return int(np.sum(gained < 0)), int(np.sum(gained > 0))


def exact(lost: int, won: int) -> float:
    """The one-sided p value of so many examples lost or more, where each that changed was as likely to be won."""
    from scipy.special import bdtrc

    return float(bdtrc(lost - 1, lost + won, 0.5)) if lost else 1.0


def combined(p1: float, p2: float) -> float:
    """The p value of two independent stages, the second of which is looked at only where p1 <= SCREEN.

    The chance that p1 is within the screen and p1 p2 <= c is c (1 + ln(SCREEN / c)); what the screen stopped has 1.
    A second stage that was not made counts as p2 = 1. Source: Fisher's product, for a p1 below the screen.
    """
    if p1 > SCREEN:
        return 1.0
    c = p1 * p2
    return c * (1 + math.log(SCREEN / c)) if c > 0 else 0.0


def adjusted(ps: Sequence[float]) -> list[float]:
    """Each p value as the smallest q at which Benjamini and Hochberg's procedure takes it for a discovery.

    Source: Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57.
    """
    order = sorted(range(len(ps)), key=ps.__getitem__)
    found, least = [1.0] * len(ps), 1.0
    for rank in range(len(ps), 0, -1):
        place = order[rank - 1]
        least = found[place] = min(least, ps[place] * len(ps) / rank)
    return found
