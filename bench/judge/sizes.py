"""Judges what a model weighs and costs: parameters, bytes, FLOPs, speed, training time.

Counts are exact and need one run; absolute ones only of the paper's own shape. Times are of one machine and protocol,
and on another device than the paper's, or of an architecture that is partly ours, they are a proxy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.claims.claim import RATIOS, Claim, Ledger
from bench.core.conditions import of_model_alone
from bench.core.stats import Estimate, counted, ratio_of
from bench.judge.rules import Judged, settle
from bench.judge.runs import Run
from bench.judge.scores import Summary
from bench.judge.series import PAPER_SIZED, SeriesIndex, Timing
from bench.judge.standing import TIERS, own_method


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a size or time comes from."""

    tier: str
    scale: str
    records: tuple[str, ...]


def judge_physical(ledger: Ledger, claim: Claim, index: SeriesIndex) -> Judged:
    """The verdict of a claim on size, FLOPs, speed or cost.

    A count takes the run of the closest tier, a time the best timing; both in the unit as printed.
    """
    released = ledger.paper.released.get(claim.variant) if claim.kind != "cost" else None
    keys = [(claim.maker, variant) for variant in (claim.variant, released) if variant]
    runs = [run for key in keys for run in index.counted(key, claim.metric, claim.split, claim.task)]
    # Sizes that were chosen to meet a printed number agree with it by construction: that is no evidence, nor are small
    # runs of the same stand-in. A speed is chosen by nobody, so that a stand-in may show one, though never refute it.
    guessed = sorted({run.guessed for run in runs} - {""})
    if guessed and claim.kind != "speed":
        runs = [run for run in runs if run.scale in PAPER_SIZED and not run.guessed]
        if not runs:
            why = f"It would take the authors' own architecture: {'; '.join(guessed)}."
            return Judged(claim, "out of reach", why=why)
    absolute = claim.metric not in RATIOS

    def bears(run: Run) -> bool:
        """Absolute numbers: of the paper's shape. Ratios: to the reference, not to a teacher of the paper's own."""
        teacher = index.teacher(run)
        return run.scale in PAPER_SIZED if absolute else teacher is None or teacher.paper != run.paper

    usable = [run for run in runs if bears(run)]
    if not usable:
        why = f"Not run: no finished run of {claim.variant} has {claim.metric} at {claim.split}"
        if runs and absolute:
            why += " at the paper's own shape (scale full or shape); another size does not bear on this number"
        elif runs:
            why += " beside the reference: those that exist stand beside a teacher of the paper's own"
        return Judged(claim, "not run", why=why + ".")
    if claim.kind in ("speed", "cost"):
        timings = [t for key in keys for t in index.timings(key, claim.metric, claim.split, claim.task)
                   if all(bears(run) for run in t.runs)]  # fmt: skip
        timings.sort(key=index.preference, reverse=True)
        if timings:
            return _time(ledger, claim, timings)
        return Judged(claim, "not run", why=f"Not run: the runs of {claim.variant} that speak do not hold this time.")
    best = min(usable, key=lambda run: TIERS.index(_tier(run)))  # of equals the first, which speaks first
    value = best.value(claim.metric, claim.split)
    assert value is not None, "`counted` gives only runs with a value"
    source = _Source(_tier(best), best.scale, (best.id,))
    return settle(ledger, claim, Summary(counted(value), None, ()), source, what="runs")


def _tier(run: Run) -> str:
    """A count of the paper's own shape is exact whatever trained it."""
    if run.scale in PAPER_SIZED and own_method(run.settings):
        return "exact"
    return "proxy" if run.scale == "smoke" else "reduced"


def _time(ledger: Ledger, claim: Claim, timings: Sequence[Timing]) -> Judged:
    """A time or a speed-up on one machine; a stand-in's where the paper's own architecture has none at its size."""

    def rank(timing: Timing) -> tuple[int, bool, bool]:
        tier = -TIERS.index(_timed_tier(timing, claim))
        return tier, timing.suite.scale in PAPER_SIZED, not timing.runs[0].guessed

    best = max(timings, key=rank)  # of equals the first, which is preferred
    source = _Source(_timed_tier(best, claim), best.suite.scale, tuple(sorted(run.id for run in best.runs)))
    found, guessed = estimate(best), best.runs[0].guessed
    if found is None:
        return Judged(claim, "inconclusive", tier=source.tier, scale=source.scale, records=source.records,
                      why="Every time measured is 0; one more run would give a ratio.")  # fmt: skip
    what = "runs" if len(best.runs) > 1 else "timings"
    judged = settle(ledger, claim, Summary(found, None, ()), source, what=what)
    session = {"full": "in a full session", "quick": "in a quick session", "run": "within the run"}[best.protocol]
    why = f"{judged.why} On machine {best.machine}, {session}, over {found.n} {what}."
    if found.slack:
        why += (
            f" The interval is {math.expm1(found.slack):.1%} wider each way: so much did two copies of a model differ."
        )
    if guessed:
        why += f" The architecture is a stand-in: {guessed}."
    return replace(judged, seeds=len(best.runs), why=why)


def _timed_tier(timing: Timing, claim: Claim) -> str:
    """A time is a proxy on any other device than the paper's, and of a stand-in."""
    run = timing.runs[0]
    if run.guessed:
        return "proxy"
    facts = run.environment.facts
    used = facts.get("gpus") if facts.get("device") == "cuda" else facts.get("cpu")  # what else the machine has is idle
    same = bool(claim.device) and claim.device.lower() in str(used).lower()
    return run.tier if same and run.scale in PAPER_SIZED else "proxy"


def estimate(timing: Timing) -> Estimate | None:
    """The time or speed-up of a timing, its interval on the logs; None where nothing is positive.

    Over the runs, or within the only run over its rounds or sets of processes. A speed-up of a session is widened by
    the noise floor of that session: how far apart two copies of one model were. Units: seconds, or a ratio.
    """
    values: Sequence[float] = timing.values
    if len(values) == 1:
        values = timing.runs[0].measured[timing.metric, timing.split].samples or values
    positive = [value for value in values if value > 0]
    if not positive:
        return None
    found = ratio_of(positive)
    return found.widened(math.log(_floor(timing))) if timing.metric.startswith("speedup") else found


def _floor(timing: Timing) -> float:
    """How many times faster one copy of the reference was than the other, at least 1; 1 where that was not measured.

    Over several sessions the mean of the logs. Two copies differ in their passes, not in how they read text.
    """
    pairs = [run.value("aa_ratio", of_model_alone(timing.split)) for run in timing.runs]
    logs = [abs(math.log(ratio)) for ratio in pairs if ratio]
    return math.exp(fmean(logs)) if logs else 1.0
