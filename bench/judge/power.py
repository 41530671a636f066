"""How many more seeds would probably settle a verdict, computed for 80% power.

A verdict is settled when its 95% interval holds none of the edges (of a band, or the 0 between two variants). The
centre at hand is taken for the truth, the spread is not: three seeds hardly know it, and advice that trusts theirs
settles half of the verdicts. So the power is averaged over the spreads that the seeds at hand leave possible, at fixed
points: no random numbers, the same advice each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np

from bench.core.stats import CONFIDENCE, Estimate, t_quantile

POWER = 0.8
MOST_SEEDS = 1000
"""Beyond so many seeds there is no advice."""

QUANTILES = 24
"""How many equally likely spreads are looked at."""


def more_seeds(
    estimate: Estimate, edges: Sequence[float], lost: int = 0, confidence: float = CONFIDENCE
) -> int | None:  # fmt: skip
    """How many more seeds settle between which edges the truth is; None where about MOST_SEEDS would not.

    `lost` seeds at hand did not train, beside the `estimate.n` that did: as many again in proportion are expected.
    `confidence` is that of the interval: more than 95% where the verdict has to stand among others.
    Units: `edges` on the scale of the estimate's value, not its logarithm. Source: ours.
    Raises: ValueError for an estimate without an error.
    """
    if estimate.error is None:
        raise ValueError("a single value tells nothing of the spread")
    low, high = estimate.n, estimate.n + 1  # totals: `low` is too few, `high` doubles until it is enough
    while power(estimate, edges, high, confidence) < POWER:
        if high > MOST_SEEDS:
            return None
        low, high = high, 2 * high
    while high - low > 1:  # power grows with the seeds, so the fewest are found by halving
        middle = (low + high) // 2
        low, high = (low, middle) if power(estimate, edges, middle, confidence) >= POWER else (middle, high)
    return math.ceil((high - estimate.n) * (1 + lost / estimate.n))


def power(estimate: Estimate, edges: Sequence[float], total: int, confidence: float = CONFIDENCE) -> float:
    """The chance that with `total` seeds, those at hand among them, the interval holds no edge.

    With k new seeds of deviation sigma, the mean of all is normal with deviation sigma sqrt(k) / total, and the
    interval reaches t s / sqrt(total) each way.
    Raises: AssertionError for an estimate without an error.
    """
    assert estimate.error is not None
    n, new = estimate.n, total - estimate.n
    # The seeds' deviation s. Equal values do not prove that there is none: it is at least a part of the least width.
    spread = max(estimate.error, estimate.least / 10) * math.sqrt(n)
    if estimate.logarithmic:
        centre, edges = math.log(estimate.value), [math.log(edge) for edge in edges if edge > 0]
    else:
        centre = estimate.value
    # From here on [QUANTILES]: one entry for each deviation that the truth may have, all equally likely.
    sigma = spread * _spreads(round(min(estimate.freedom, 1e6), 3))
    pooled = np.sqrt(((n - 1) * spread**2 + new * sigma**2) / (total - 1))
    # Half the width of the coming interval, whose own s pools the old seeds (spread) with the new ones (sigma).
    half = t_quantile(total - 1, confidence) * pooled / math.sqrt(total)
    reach = np.maximum(half, estimate.least / 2) + estimate.slack
    around = sigma * math.sqrt(new) / total
    chance = np.zeros(QUANTILES)
    # The interval holds no edge when it lies between two neighbours: its centre from low + reach to high - reach. Where
    # the interval is wider than the gap there is no such place, and the difference below would be negative.
    for low, high in pairwise([-math.inf, *sorted(edges), math.inf]):
        chance += np.maximum(0.0, _below((high - reach - centre) / around) - _below((low + reach - centre) / around))
    return float(chance.mean())


@cache
def _spreads(freedom: float) -> np.ndarray:
    """Equally likely values of sigma over the sample's deviation: (freedom / chi squared) ** 0.5."""
    from scipy.special import chdtri  # the quantile of chi squared for an upper tail

    # The middles of QUANTILES slices of equal probability stand for the whole distribution.
    return np.sqrt(freedom / chdtri(freedom, (np.arange(QUANTILES) + 0.5) / QUANTILES))


def _below(values: np.ndarray) -> np.ndarray:
    """The share of the standard normal distribution below each value."""
    from scipy.special import ndtr

    return ndtr(values)
