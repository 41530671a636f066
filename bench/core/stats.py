"""Estimates with their intervals: Student's t over seeds, trimmed means, ratios on the log scale.

A t interval keeps its promise at three to ten seeds, where a percentile bootstrap does not (71% at n = 3, not 95%).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean

CONFIDENCE = 0.95


@cache
def t_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t."""
    from scipy.special import stdtrit  # imported here: it costs a third of a second

    return float(stdtrit(freedom, (1 + confidence) / 2))


def two_sided_p(t: float, freedom: float) -> float:
    """How often |T| is at least `t` for Student's t with so many degrees of freedom."""
    from scipy.special import stdtr

    return min(1.0, 2.0 * float(stdtr(freedom, -abs(t))))


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation; `statistics.stdev` gives the same by exact fractions, forty times slower.

    Raises: ValueError under two values.
    """
    if len(values) < 2:
        raise ValueError("a deviation needs two values")
    centre = fmean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A centre, and what its 95% interval and its p values are made of."""

    value: float
    n: int
    """Seeds, runs or sessions behind it; of several tasks, the fewest of any."""
    error: float | None
    """Standard error on the working scale; None where there are too few values for one, 0 for what is counted."""
    freedom: float = math.inf
    logarithmic: bool = False
    """Whether the working scale is the logarithm: 2x and 0.5x are equally far from 1."""
    least: float = 0.0
    """The least width of the 95% interval on the working scale: equal values do not prove that there is no spread."""
    slack: float = 0.0
    """What the interval is widened by each way on the working scale, for an uncertainty that is not of the values."""

    def interval(self) -> tuple[float, float] | None:
        """The 95% interval; None without a standard error."""
        if self.error is None:
            return None
        error = self._error()
        half = (error * t_quantile(self.freedom) if error else 0.0) + self.slack
        if self.logarithmic:
            return self.value * math.exp(-half), self.value * math.exp(half)
        return self.value - half, self.value + half

    def p(self, edge: float) -> float:
        """The two-sided p value of the truth being `edge`; below 0.05 exactly where the 95% interval leaves it out."""
        if self.error is None:
            return 1.0
        if self.logarithmic and edge <= 0:
            return 0.0
        distance = abs(math.log(edge / self.value)) if self.logarithmic else abs(edge - self.value)
        distance -= self.slack
        if distance <= 0:
            return 1.0
        error = self._error()
        return two_sided_p(distance / error, self.freedom) if error > 0 else 0.0

    def _error(self) -> float:
        """The standard error, or the one that gives the least width."""
        assert self.error is not None
        return max(self.error, self.least / 2 / t_quantile(self.freedom)) if self.least else self.error

    def widened(self, slack: float) -> Estimate:
        """The same with more slack each way, on the working scale."""
        return replace(self, slack=self.slack + slack)


def counted(value: float, n: int = 1) -> Estimate:
    """A value that is counted, not sampled: its interval is itself."""
    return Estimate(value, n, 0.0)


def mean_of(values: Sequence[float], least: float = 0.0) -> Estimate:
    """The mean with its t interval.  Raises: ValueError without values."""
    if len(values) < 2:
        return Estimate(fmean(values), len(values), None, least=least)
    return Estimate(fmean(values), len(values), deviation(values) / math.sqrt(len(values)), len(values) - 1,
                    least=least)  # fmt: skip


def trimmed_mean_of(values: Sequence[float], cut: int, least: float = 0.0) -> Estimate:
    """The mean without the `cut` lowest and highest values, its error by the winsorised deviation.

    Without an error where fewer than three values are left.
    Source: Yuen 1974, Biometrika 61, for one sample (Tukey and McLaughlin 1963).
    Raises: ValueError where nothing is left.
    """
    ordered = sorted(values)
    kept = ordered[cut : len(ordered) - cut]
    if len(kept) < 3:
        return Estimate(fmean(kept or ordered), len(values), None, least=least)
    winsorised = [kept[0]] * cut + kept + [kept[-1]] * cut
    # s_w / ((1 - 2 cut / n) sqrt n), with as many degrees of freedom as values are left, minus one.
    error = deviation(winsorised) * math.sqrt(len(values)) / len(kept)
    return Estimate(fmean(kept), len(values), error, len(kept) - 1, least=least)


def ratio_of(ratios: Sequence[float], least: float = 0.0) -> Estimate:
    """The geometric mean of ratios; its t interval is taken on the logs.

    Raises: ValueError without values, or where one is not positive.
    """
    if any(ratio <= 0 for ratio in ratios):
        raise ValueError("a ratio that is not positive has no logarithm")
    logs = mean_of([math.log(ratio) for ratio in ratios], least)
    return replace(logs, value=math.exp(logs.value), logarithmic=True)


def mean_of_estimates(parts: Sequence[Estimate], least: float = 0.0) -> Estimate:
    """The mean of the means of independent samples.

    Degrees of freedom after Welch and Satterthwaite. Without an error where a part has none.
    """
    value, n = fmean(part.value for part in parts), min(part.n for part in parts)
    errors = [part.error for part in parts if part.error is not None]
    if len(errors) < len(parts):
        return Estimate(value, n, None, least=least)
    total = math.fsum(error**2 for error in errors)
    if total == 0:
        return Estimate(value, n, 0.0, min(part.freedom for part in parts), least=least)
    freedom = total**2 / math.fsum(e**4 / part.freedom for e, part in zip(errors, parts, strict=True) if e > 0)
    return Estimate(value, n, math.sqrt(total) / len(parts), freedom, least=least)


def ratio_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """(centre, low, high) of `ratio_of`.  Raises: ValueError under two ratios, or where one is not positive."""
    found = ratio_of(ratios)
    interval = found.interval()
    if interval is None:
        raise ValueError("an interval needs two ratios")
    return found.value, *interval
