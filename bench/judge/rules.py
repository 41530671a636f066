"""A judged claim, and the rule that turns an interval and a band into a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bench.claims.claim import Claim, Ledger
from bench.core.stats import seeds_needed

VERDICTS = (
    "reproduced", "exceeded", "not reproduced", "consistent", "not seen", "inconclusive",
    "not comparable: split", "not comparable: made-up data", "not comparable: budget", "not run", "out of reach",
)  # fmt: skip
"""Every verdict there is, from settled to open."""

SIDES = ("inside", "above", "below", "across")
"""Where a measured interval lies beside the band of what was printed."""

STRICT = ("exact", "checkpoint")
"""The tiers whose runs may say that a number is not reproduced."""

Bounds = tuple[float, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with its verdict; numbers are in the unit as printed, an ordering's are its smallest step in points."""

    claim: Claim
    verdict: str
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    tier: str = ""
    scale: str = ""
    seeds: int = 0
    why: str = ""
    records: tuple[str, ...] = ()

    def about(self, claim: Claim) -> Judged:
        """The same finding as the verdict of another claim, which depends on it."""
        return replace(self, claim=claim)


class Source(Protocol):
    """Where measured values come from."""

    @property
    def tier(self) -> str: ...
    @property
    def scale(self) -> str: ...
    @property
    def records(self) -> tuple[str, ...]: ...


def settle(
    ledger: Ledger, claim: Claim, values: Sequence[float], bounds: Bounds, source: Source, *, constant: bool = False,
    what: str = "seeds",
) -> Judged:  # fmt: skip
    """The verdict of measured values, in the unit as printed; `bounds` is (centre, low, high).

    `constant`: the value is counted, not sampled, so one of them settles it. `what` names what the values vary over.
    """
    centre, low, high = bounds
    band = ledger.band(claim)
    strict = source.tier in STRICT
    if constant:
        low = high = centre
    verdict, why = _settle(claim, values, (centre, low, high), band, strict, constant, what)
    if verdict == "not reproduced" and claim.transcription == "recalled":
        verdict = "inconclusive"
        why += " The number is only recalled, which does not suffice to call it wrong; a copy of the paper would."
    elif verdict == "not reproduced" and not claim.metric_stated:
        verdict = "inconclusive"
        why += f" Its source does not say which metric it printed ({claim.metric} is a reading), so it may be another."
    if source.tier == "checkpoint":
        why += " The runs start from the authors' checkpoint."
    elif not strict:
        why += f" The runs are {source.tier} ones (scale {source.scale}), which can show the claim but not refute it."
    return Judged(claim, verdict, centre, low, high, source.tier, source.scale, len(values), why, source.records)


def _settle(
    claim: Claim, values: Sequence[float], bounds: Bounds, band: tuple[float, float], strict: bool, constant: bool,
    what: str,
) -> tuple[str, str]:  # fmt: skip
    centre, low, high = bounds
    fewest = 1 if constant else claim.seeds if strict else 2
    printed = f"the printed {claim.number():g} {claim.unit} (band {band[0]:.4g} to {band[1]:.4g})"
    if claim.aggregation.startswith("best of "):
        fewest = max(fewest, int(claim.aggregation.rpartition(" ")[2]))
    if low is None or high is None or len(values) < fewest:
        more = max(fewest, 2) - len(values) if not constant else 1
        return "inconclusive", (f"{_measured(centre, low, high)} beside {printed}: {len(values)} {what} of the "
                                f"{max(fewest, 2)} that a verdict takes, {more} more.")  # fmt: skip
    told = f"{_measured(centre, low, high)} beside {printed}"
    side = place(low, high, band)
    if side == "inside":
        return ("reproduced" if strict else "consistent"), f"{told}: the interval lies inside the band."
    good_side = {"higher": "above", "lower": "below", "match": ""}[claim.better]
    if side == good_side:
        return ("exceeded" if strict else "consistent"), f"{told}: better than the band."
    if side in ("above", "below"):
        return ("not reproduced" if strict else "not seen"), f"{told}: the interval lies {side} the band."
    not_worse = (good_side == "above" and low >= band[0]) or (good_side == "below" and high <= band[1])
    if not strict and not_worse:
        return "consistent", f"{told}: the interval lies inside the band or better."
    return "inconclusive", f"{told}: the interval crosses an edge of the band; {_need(values, centre, band, what)}."


def place(low: float, high: float, band: tuple[float, float]) -> str:
    """Which of SIDES an interval is on."""
    # A value that was printed as the band's own edge is inside: the slack is for the last bit only.
    slack = 1e-9 * max(1.0, abs(band[0]), abs(band[1]))
    if low >= band[0] - slack and high <= band[1] + slack:
        return "inside"
    if high < band[0]:
        return "below"
    return "above" if low > band[1] else "across"


def _need(values: Sequence[float], centre: float, band: tuple[float, float], what: str) -> str:
    margin = min(abs(centre - edge) for edge in band)
    total = seeds_needed(values, margin) if len(values) > 1 else None
    if total is None:
        return f"not even 1000 {what} would settle it if they spread as these do"
    return f"about {max(1, total - len(values))} more {what} would settle it"


def _measured(centre: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"Measured {centre:.4g}"
    return f"Measured {centre:.4g}" if low == high else f"Measured {centre:.4g} [{low:.4g}, {high:.4g}]"
