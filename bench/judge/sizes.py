"""Judges what a model weighs and costs: parameters, bytes, FLOPs, speed, training time.

Counts are exact and need one run; absolute ones only of the paper's own shape. Times are never pooled over machines,
and on another device than the paper's they are a proxy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.claims.claim import RATIOS, Claim, Ledger
from bench.claims.units import UNITS
from bench.core.stats import median, ratio_interval
from bench.judge.rules import Bounds, Judged, settle
from bench.judge.series import SCALE_ORDER, TIERS, Evidence, Run

TRUE_SHAPE = ("full", "shape")
"""The scales whose models have the paper's own architecture."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Runs whose values belong together."""

    runs: tuple[Run, ...]
    tier: str
    scale: str
    machine: str
    records: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, int, int, str, str]:
        newest = max(run.record.started for run in self.runs)
        # Sessions at shape are all alike: of two machines the one that was measured last speaks.
        number = 0 if self.scale == "shape" else len(self.runs)
        return -TIERS.index(self.tier), -SCALE_ORDER.index(self.scale), number, newest, self.machine


def judge_physical(ledger: Ledger, claim: Claim, evidence: Evidence) -> Judged:
    """The verdict of a claim on size, FLOPs, speed or cost."""
    released = ledger.paper.released.get(claim.variant) if claim.kind != "cost" else None
    variants = [claim.variant, *([released] if released else [])]
    runs = [run for name in variants for run in evidence.holding((claim.maker, name), claim.metric, claim.split)]
    if claim.task:  # what is measured at shape belongs to no task, so it answers claims of every one
        runs = [run for run in runs if run.record.spec.task == claim.task or run.record.spec.scale == "shape"]
    known = [run for run in runs if not run.record.hyper.get("guessed")]
    if runs and not known:
        # Sizes that were chosen to meet a printed number agree with it by construction: that is no evidence.
        guessed = "; ".join(sorted({run.record.hyper["guessed"] for run in runs}))
        return Judged(claim, "out of reach", why=f"It would take the authors' own architecture: {guessed}.")
    runs = known
    timed = claim.kind in ("speed", "cost")
    absolute = claim.metric not in RATIOS
    usable = [run for run in runs if not absolute or run.record.spec.scale in TRUE_SHAPE]
    if not usable:
        why = f"Not run: no finished run of {claim.variant} has {claim.metric} at {claim.split}"
        if runs:
            why += " at the paper's own shape (scale full or shape); another size does not bear on this number"
        return Judged(claim, "not run", why=why + ".")
    pool = max(_pools(usable, claim, timed), key=lambda pool: pool.rank)
    if timed:
        return _time(ledger, claim, pool)
    newest = max(pool.runs, key=lambda run: (run.record.started, run.record.id))
    value = UNITS[claim.unit].to_print(_value(newest, claim))
    return settle(ledger, claim, [value], (value, value, value), pool, constant=True, what="runs")


def _pools(runs: Sequence[Run], claim: Claim, timed: bool) -> list[Pool]:
    """Runs by (tier, scale, size, and for times machine)."""
    found: dict[tuple[str, str, float, str], list[Run]] = defaultdict(list)
    for run in runs:
        size = run.found.get(("parameters", "all"))
        # Heads differ by task: three significant digits are one model.
        weight = 0.0 if size is None or size.value is None else float(f"{size.value:.2g}")
        machine = _machine(run.record.environment) if timed else ""
        found[_tier(run, claim, timed), run.record.spec.scale, weight if timed else 0.0, machine].append(run)
    return [
        Pool(tuple(members), tier, scale, machine, tuple(sorted(run.record.id for run in members)))
        for (tier, scale, _, machine), members in found.items()
    ]


def _tier(run: Run, claim: Claim, timed: bool) -> str:
    """A count of the paper's own shape is exact whatever trained it; a time is a proxy on any other device."""
    scale = run.record.spec.scale
    if timed:
        same = bool(claim.device) and claim.device.lower() in str(run.record.environment).lower()
        return run.record.tier if same and scale in TRUE_SHAPE else "proxy"
    if scale in TRUE_SHAPE and not run.record.overrides:
        return "exact"
    return "proxy" if scale == "smoke" else "reduced"


def _machine(environment: dict[str, Any]) -> str:
    return str(environment.get("machine", "unknown"))


def _value(run: Run, claim: Claim) -> float:
    value = run.found[claim.metric, claim.split].value
    assert value is not None, "`holding` returns only runs with a value"
    return value


def _time(ledger: Ledger, claim: Claim, pool: Pool) -> Judged:
    """A time or a speed-up on one machine: over runs, or within the one run over its rounds or sets of processes."""
    values = [_value(run, claim) for run in pool.runs]
    what = "runs"
    if len(values) == 1:
        timings = [sample for sample in pool.runs[0].found[claim.metric, claim.split].samples if sample > 0]
        if len(timings) > 1:
            values, what = timings, "timings"
    positive = [value for value in values if value > 0]
    floor = _floor(pool.runs, claim.split) if claim.metric == "speedup" else 1.0
    if not positive:
        return Judged(claim, "inconclusive", tier=pool.tier, scale=pool.scale, records=pool.records,
                      why="Every time measured is 0; one more run would give a ratio.")  # fmt: skip
    unit = UNITS[claim.unit]
    bounds: Bounds = unit.to_print(median(positive)), None, None
    if len(positive) > 1:
        centre, low, high = ratio_interval(positive)
        low, high = low / floor, high * floor
        low, high = sorted((unit.to_print(low), unit.to_print(high)))  # a falling unit turns the interval round
        bounds = unit.to_print(centre), low, high
    printed = [unit.to_print(value) for value in positive]
    judged = settle(ledger, claim, printed, bounds, pool, what=what)
    why = f"{judged.why} On machine {pool.machine}, over {len(positive)} {what}."
    if floor > 1:
        why += f" The interval is {floor - 1:.1%} wider each way: so far apart were two copies of the same model."
    return Judged(claim, judged.verdict, judged.measured, judged.low, judged.high, judged.tier, judged.scale,
                  len(pool.runs), why, judged.records)  # fmt: skip


def _floor(runs: Sequence[Run], split: str) -> float:
    """The noise floor: how many times faster one copy of the reference was than the other, at least 1.

    The largest of the sessions; 1 where none was taken (the models of a run share one process).
    """
    found = [run.found.get(("aa_ratio", split)) for run in runs]
    ratios = [entry.value for entry in found if entry is not None and entry.value]
    return max((max(ratio, 1 / ratio) for ratio in ratios), default=1.0)
