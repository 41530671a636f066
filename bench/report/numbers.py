"""How numbers are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.core.stats import Estimate, mean_of, ratio_of  # for the sections that papers bring

__all__ = [
    "DASH",
    "Estimate",
    "interval",
    "mean_of",
    "millions",
    "percent",
    "percent_of",
    "ratio_of",
    "show",
    "significant",
]

DASH = "–"


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


def millions(number: float | None) -> str:
    """A count shown in millions."""
    return show(number and number / 1e6, 2 if number and number < 1e7 else 1)


def percent_of(values: Sequence[float]) -> str:
    """The mean of fractions in percent, with its interval; a dash for none."""
    return interval(mean_of(values), factor=100) if values else DASH


def interval(entry: Estimate | None, digits: int = 1, unit: str = "", factor: float = 1.0) -> str:
    """`86.9 [86.1, 87.6]`, or the value alone; `factor` turns fractions into percent."""
    if entry is None:
        return DASH
    value = f"{show(factor * entry.value, digits)}{unit}"
    bounds = entry.interval()
    if bounds is None:
        return value
    low, high = (show(factor * bound, digits) for bound in bounds)
    return f"{value} [{low}, {high}]"
