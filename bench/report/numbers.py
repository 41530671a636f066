"""Numbers for the report: means and intervals, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.stats import deviation, mean, ratio_interval, t_interval, t_quantile

DASH = "–"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95% t interval over `n` runs; no bounds where n < 2."""

    value: float
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The mean and its interval.  Raises: ValueError without values."""
        if len(values) < 2:
            return cls(mean(values), None, None, len(values))
        return cls(*t_interval(values), len(values))

    def scaled(self, factor: float) -> Interval:
        low, high = (None if bound is None else bound * factor for bound in (self.low, self.high))
        return Interval(self.value * factor, low, high, self.n)


def geometric(ratios: Sequence[float]) -> Interval:
    """The geometric mean of positive ratios; its interval is taken on the logs.  Raises: ValueError without values."""
    if len(ratios) < 2:
        return Interval(mean(ratios), None, None, len(ratios))
    return Interval(*ratio_interval(ratios), len(ratios))


def half_of_means(groups: Sequence[Sequence[float]]) -> float | None:
    """Half the 95% interval of the mean of the groups' means, the groups being independent samples.

    None where a group has fewer than two values.  Degrees of freedom after Welch and Satterthwaite, rounded down.
    """
    if any(len(group) < 2 for group in groups):
        return None
    parts = [deviation(group) ** 2 / len(group) for group in groups]
    total = math.fsum(parts)
    if total == 0:
        return 0.0
    freedom = total**2 / math.fsum(part**2 / (len(group) - 1) for part, group in zip(parts, groups, strict=True))
    return t_quantile(max(1, math.floor(freedom + 1e-9))) * math.sqrt(total) / len(groups)


def spread(values: Sequence[float]) -> float | None:
    """The sample standard deviation, None under two values."""
    return deviation(values) if len(values) > 1 else None


def show(value: float | None, digits: int = 1) -> str:
    """A number with fixed decimals; a dash where there is none; no minus zero."""
    if value is None or math.isnan(value):
        return DASH
    text = f"{value:,.{digits}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.,") else text


def significant(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent."""
    if value is None or math.isnan(value):
        return DASH
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    return show(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def percent(value: float | None) -> str:
    """A fraction shown in percent."""
    return show(None if value is None else 100 * value, 1)


def interval(entry: Interval | None, digits: int = 1, unit: str = "") -> str:
    """`86.9 [86.1, 87.6]`, or the value alone."""
    if entry is None or math.isnan(entry.value):
        return DASH
    if entry.low is None or entry.high is None:
        return f"{show(entry.value, digits)}{unit}"
    return f"{show(entry.value, digits)}{unit} [{show(entry.low, digits)}, {show(entry.high, digits)}]"
