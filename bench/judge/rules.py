"""The rules that turn an estimate and a band into a verdict, and the correction for judging many claims at once.

One rule for all tiers: the 95% interval inside the band of what was printed, outside it on one side, or across an edge.
What differs is the word: runs under the paper's own conditions (`exact`, `checkpoint`) reproduce a number or fail to,
others can only be consistent with it, better, or not show it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from bench.claims.claim import Claim, Ledger
from bench.claims.units import UNITS
from bench.core.stats import CONFIDENCE, Estimate
from bench.judge.power import MOST_SEEDS, more_seeds
from bench.judge.scores import Summary

VERDICTS = (
    "reproduced", "exceeded", "not reproduced", "consistent", "better", "not seen", "inconclusive",
    "inconclusive: at chance", "not comparable: another teacher", "not comparable: split",
    "not comparable: made-up data", "not comparable: budget", "not run", "out of reach",
)  # fmt: skip
"""Every verdict there is, from settled to open."""

PLACES = ("inside", "above", "below", "across")
"""Where a measured interval lies beside the band of what was printed."""

STRICT = ("exact", "checkpoint")
"""The tiers whose runs may say that a number is not reproduced."""

SIGNIFICANT = 0.05

AGREEING = ("reproduced", "consistent")
DIFFERING = ("not reproduced", "exceeded", "not seen", "better")
"""Verdicts that set a number apart from what was printed: among many claims some would do so by luck."""


@dataclass(frozen=True, slots=True)
class Open:
    """What more seeds would have to tell: estimates, each with the edges that its interval must not hold."""

    parts: tuple[tuple[Estimate, tuple[float, ...]], ...]
    what: str = "seeds"
    """What the values vary over."""
    lost: int = 0
    """Seeds at hand that did not train."""
    agrees: bool = False
    """Whether the number is on its way to agree with what was printed, which is not corrected for other claims."""


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
    p: float | None = None
    """Of the verdict: how likely such an interval is where the truth lies on an edge of the band. None of a count."""
    p_corrected: float | None = None
    """The same after Holm's correction over the claims of one paper and kind; only what sets a claim apart has one."""
    why: str = ""
    records: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    """Of an ordering: those of its tasks that it was measured on."""
    unequal: bool = False
    """Of an ordering: whether one variant trained on far more rows than another; `why` says how many."""
    open: Open | None = field(default=None, repr=False)
    """What would settle it, where more seeds would; `correct` says how many."""

    @property
    def counted(self) -> bool:
        """Whether the number was counted once, as parameters are: it varies over nothing."""
        return self.measured is not None and self.low == self.high == self.measured


class Source(Protocol):
    """Where measured values come from: tier and scale of the runs, and the ids of their records."""

    @property
    def tier(self) -> str: ...
    @property
    def scale(self) -> str: ...
    @property
    def records(self) -> tuple[str, ...]: ...


def settle(
    ledger: Ledger, claim: Claim, summary: Summary, source: Source, *, shown: float | None = None, what: str = "seeds",
) -> Judged:  # fmt: skip
    """The verdict of a summary in the unit of records; the numbers of the answer are in the unit as printed.

    `shown` is the claim's own aggregate where that is not the estimate; `what` names what the values vary over.
    Raises: AssertionError for a summary without an estimate, ClaimError for an ordering.
    """
    estimate = summary.estimate
    assert estimate is not None, "a summary holds an estimate"
    strict = source.tier in STRICT
    verdict, told, left = _weigh(ledger, claim, summary, estimate, strict, what)
    if verdict == "not reproduced" and claim.transcription == "recalled":
        verdict, left = "inconclusive", None
        told += " The number is only recalled, which does not suffice to call it wrong; a copy of the paper would."
    elif verdict == "not reproduced" and not claim.metric_stated:
        verdict, left = "inconclusive", None
        told += f" Its source does not say which metric it printed ({claim.metric} is a reading), so it may be another."
    if source.tier == "checkpoint":
        told += " The runs start from the authors' checkpoint."
    elif not strict:
        told += f" The runs are {source.tier} ones (scale {source.scale}), which can show the claim but not refute it."
    to_print = UNITS[claim.unit].to_print
    interval = estimate.interval()
    low, high = sorted(map(to_print, interval)) if interval else (None, None)
    p = _p(estimate, ledger.band(claim)) if interval and interval[0] < interval[1] else None
    return Judged(
        claim, verdict, to_print(estimate.value if shown is None else shown), low, high, source.tier, source.scale,
        estimate.n, p, None, told, source.records, open=left,
    )  # fmt: skip


def _weigh(
    ledger: Ledger, claim: Claim, summary: Summary, estimate: Estimate, strict: bool, what: str
) -> tuple[str, str, Open | None]:
    """(verdict, why, what more seeds would have to tell)"""
    band = ledger.band(claim)
    low, high = ledger.printed_band(claim)
    told = (f"{measured(claim, estimate)} beside the printed {claim.number():g} {claim.unit.removesuffix(' of')} "
            f"(band {low:.4g} to {high:.4g})")  # fmt: skip
    # What is counted needs one run; what is sampled two, or under the paper's conditions as many as the claim asks.
    fewest = 1 if estimate.error == 0 and not estimate.least else max(2, claim.seeds if strict else 2)
    if estimate.error is None or estimate.n < fewest:
        more = f"{fewest - estimate.n} more" if estimate.n < fewest else "more would tell their spread"
        return "inconclusive", f"{told}: {estimate.n} of the {fewest} {what} that a verdict takes, {more}.", None
    verdict, why = _verdict(claim, estimate, band, strict)
    inside = place(estimate.value, estimate.value, band) == "inside"
    left = Open(((estimate, band),), what, summary.degenerate, inside) if estimate.error else None
    if summary.every is None:
        return verdict, f"{told}: {why}.", left
    told += f", without the {summary.degenerate} that look degenerate; all counted, "
    told += measured(claim, summary.every).lower()
    # Seeds that guessed must not decide: with all of them counted the centre lies on the same side, or nothing is said.
    side = place(*(estimate.interval() or (0.0, 0.0)), band)
    if verdict != "inconclusive" and place(summary.every.value, summary.every.value, band) != side:
        return "inconclusive", f"{told}: the two do not agree.", None
    return verdict, f"{told}: {why}.", left


def _verdict(claim: Claim, estimate: Estimate, band: tuple[float, float], strict: bool) -> tuple[str, str]:
    interval = estimate.interval()
    assert interval is not None, "asked only of what has an interval"
    side = place(*interval, band)
    what = "it" if interval[0] == interval[1] else "the interval"
    if side == "across":
        return "inconclusive", f"{what} crosses an edge of the band"
    if side == "inside":
        return ("reproduced" if strict else "consistent"), f"{what} lies inside the band"
    if side == {"higher": "above", "lower": "below", "match": ""}[claim.direction]:
        return ("exceeded" if strict else "better"), f"{what} is better than the band"
    printed = _as_printed(claim, side)
    return ("not reproduced" if strict else "not seen"), f"{what} lies {printed} the band"


def _as_printed(claim: Claim, side: str) -> str:
    """A side of the band in the unit as printed, which may fall where the unit of records rises."""
    return {"above": "below", "below": "above"}[side] if UNITS[claim.unit].falling else side


def place(low: float, high: float, band: tuple[float, float]) -> str:
    """Which of PLACES an interval has beside a band in the same unit; `low` and `high` alike place a single value."""
    # A value that was printed as the band's own edge is inside: the slack is for the last bit only.
    slack = 1e-9 * max(1.0, abs(band[0]), abs(band[1]))
    if low >= band[0] - slack and high <= band[1] + slack:
        return "inside"
    if high < band[0]:
        return "below"
    return "above" if low > band[1] else "across"


def _p(estimate: Estimate, band: tuple[float, float]) -> float:
    """Inside the band, that the truth lies on its nearer edge; outside, the same of the edge that was passed."""
    return max(estimate.p(edge) for edge in band)  # the nearer edge is the likelier truth: its p is the larger


def advice(left: Open, claims: int) -> str:
    """How many more seeds would settle all that is left of a claim among so many, as a sentence."""
    alone = left.agrees or claims == 1
    confidence = CONFIDENCE if alone else 1 - SIGNIFICANT / claims
    needed = [more_seeds(estimate, edges, left.lost, confidence) for estimate, edges in left.parts]
    known = [more for more in needed if more is not None]
    if len(known) < len(needed):
        return f"Not even {MOST_SEEDS} {left.what} would settle it if they spread as these do."
    among = "80% power" if alone else f"80% power, after Holm's correction over {claims} claims"
    return f"About {max(known)} more {left.what} would settle it ({among})."


def measured(claim: Claim, estimate: Estimate) -> str:
    """`Measured 89.9 [89.1, 90.7]`, `Counted 67.0` or `Computed 63.3`, in the unit as printed."""
    to_print = UNITS[claim.unit].to_print
    value, interval = f"{to_print(estimate.value):.4g}", estimate.interval()
    if claim.by_arithmetic:
        return f"Computed {value}"
    if interval is None:
        return f"Measured {value}"
    if interval[0] == interval[1]:
        return f"Counted {value}"
    low, high = sorted(map(to_print, interval))
    return f"Measured {value} [{low:.4g}, {high:.4g}]"


def correct(judged: Sequence[Judged]) -> list[Judged]:
    """Verdicts that set a claim apart from what was printed, kept only where they stand after Holm's correction.

    A family is the claims of one paper and kind that were weighed; orderings are tests in both directions. Agreement
    (`reproduced`, `consistent`) of a number is not corrected: it is bounded claim by claim, by a test of equivalence.
    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    families: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, entry in enumerate(judged):
        if entry.p is not None:
            families[entry.claim.paper, entry.claim.kind].append(number)
    found = list(judged)
    for number, entry in enumerate(judged):
        if entry.verdict == "inconclusive" and entry.open is not None:
            claims = max(1, len(families[entry.claim.paper, entry.claim.kind]))
            found[number] = replace(entry, why=f"{entry.why} {advice(entry.open, claims)}")
    for members in families.values():
        # Agreement enters with p = 1: it counts in the size of the family, and takes no rank from those set apart.
        apart = {number: judged[number].p if _apart(judged[number]) else 1.0 for number in members}
        corrected = holm({number: p for number, p in apart.items() if p is not None})
        for number in members:
            if _apart(judged[number]):
                found[number] = _corrected(judged[number], corrected[number], len(members))
    return found


def _apart(entry: Judged) -> bool:
    """Whether a verdict is of the kind that luck gives to some of many claims."""
    return entry.verdict in DIFFERING or (entry.claim.kind == "ordering" and entry.verdict in AGREEING)


def _corrected(entry: Judged, p: float, claims: int) -> Judged:
    if p <= SIGNIFICANT:
        return replace(entry, p_corrected=p)
    luck = f"of {claims} claims of this kind some look so by luck: after Holm's correction p is {p:.2g}."
    why = f"{entry.why} Alone that would settle it (p {entry.p:.2g}). But {luck}"
    more = f" {advice(entry.open, claims)}" if entry.open is not None else ""
    return replace(entry, verdict="inconclusive", p_corrected=p, why=f"{why}{more}")


def holm(values: dict[int, float]) -> dict[int, float]:
    """p values after Holm's step-down correction, by the same keys.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    corrected: dict[int, float] = {}
    largest = 0.0
    for rank, key in enumerate(sorted(values, key=lambda key: (values[key], key))):
        # The smallest p is multiplied by their number, the next by one less; none falls below the one before it.
        largest = max(largest, min(1.0, (len(values) - rank) * values[key]))
        corrected[key] = largest
    return corrected


def counts(judged: Iterable[Judged]) -> dict[str, int]:
    """How many printed claims have each verdict, in the order of VERDICTS; verdicts that nobody has are left out."""
    numbers: dict[str, int] = dict.fromkeys(VERDICTS, 0)
    for entry in judged:
        numbers[entry.verdict] += entry.claim.is_printed
    return {verdict: number for verdict, number in numbers.items() if number}
