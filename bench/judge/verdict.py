"""Computes the verdict of every claim from records: nothing else in the suite says whether a printed number holds.

Only runs at tier `exact` or `checkpoint` may reproduce a number or fail to; `reduced` and `proxy` ones can show it
(consistent) or not (not seen). A number that was only recalled, or whose metric its source does not name, is never
`not reproduced`. Failed runs never count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bench.claims.averages import recompute
from bench.claims.claim import TEACHER, Claim, Entry, Ledger
from bench.claims.units import SPEED_AND_SIZE, UNITS
from bench.core.errors import ClaimError
from bench.core.record import Record
from bench.core.stats import aggregate, mean, ratio_interval, t_interval
from bench.judge.orderings import NoBout, find_bout, judge_bout
from bench.judge.rules import VERDICTS, Judged, settle
from bench.judge.scores import Missing, Side, Sides
from bench.judge.series import Evidence
from bench.judge.sizes import judge_physical

__all__ = ["VERDICTS", "Judged", "as_json", "counts", "judge"]


def judge(ledgers: Sequence[Ledger], records: Sequence[Record]) -> list[Judged]:
    """One verdict per claim, in ledger order.

    Raises: ClaimError where two ledgers share a claim id.
    """
    seen: dict[str, str] = {}
    for ledger in ledgers:
        for claim in ledger.claims:
            if claim.id in seen:
                raise ClaimError("a double id", where=f"{ledger.file}: claim {claim.id}: id", found=seen[claim.id],
                                 expected="an id of its own")  # fmt: skip
            seen[claim.id] = ledger.file
    evidence = Evidence(records)
    sides = Sides(evidence)
    return [
        _with_misprint(ledger, _judge(ledger, claim, evidence, sides)) for ledger in ledgers for claim in ledger.claims
    ]


def _with_misprint(ledger: Ledger, judged: Judged) -> Judged:
    """A printed average that does not recompute from its own cells says so."""
    again = recompute(ledger, judged.claim) if judged.claim.misprint else None
    if again is None:
        return judged
    told = f" The printed {again.printed:g} is {again.recomputed:.2f} by its own cells: {judged.claim.misprint}"
    return replace(judged, why=judged.why + told)


def counts(judged: Iterable[Judged]) -> dict[str, int]:
    """How many printed claims have each verdict, in the order of VERDICTS; verdicts that nobody has are left out."""
    numbers: dict[str, int] = dict.fromkeys(VERDICTS, 0)
    for entry in judged:
        numbers[entry.verdict] += entry.claim.is_printed
    return {verdict: number for verdict, number in numbers.items() if number}


def as_json(judged: Iterable[Judged], ledgers: Sequence[Ledger]) -> list[dict[str, Any]]:
    """One JSON-able row per claim with every field of claim and verdict, its band, and its recomputed average."""
    owner = {claim.id: ledger for ledger in ledgers for claim in ledger.claims}
    rows = []
    for entry in judged:
        claim, ledger = entry.claim, owner[entry.claim.id]
        again = recompute(ledger, claim)
        tolerance = None if claim.kind == "ordering" else ledger.tolerance(claim)
        rows.append({
            "paper": ledger.paper.name, **claim.model_dump(mode="json"),
            "tolerance": tolerance and tolerance.model_dump(mode="json"),
            "band": None if claim.kind == "ordering" else list(ledger.band(claim)),
            "recomputed": None if again is None else round(again.recomputed, 4),
            "verdict": entry.verdict, "measured": entry.measured, "low": entry.low, "high": entry.high,
            "tier": entry.tier, "scale": entry.scale, "seeds_run": entry.seeds, "why": entry.why,
            "records": list(entry.records),
        })  # fmt: skip
    return rows


def _judge(ledger: Ledger, claim: Claim, evidence: Evidence, sides: Sides) -> Judged:
    if claim.on_test_server:
        return Judged(claim, "not comparable: split",
                      why="The number is from the GLUE test server, whose labels are not public; "
                          "it is not compared with dev scores.")  # fmt: skip
    if claim.kind == "ordering":
        found = _order(claim, evidence)
    elif claim.kind in SPEED_AND_SIZE:
        found = judge_physical(ledger, claim, evidence)
    elif claim.derive in ("ratio_to", "percent_of"):
        found = _retention(ledger, claim, sides)
    elif claim.derive == "difference_to":
        found = _difference(ledger, claim, sides)
    else:
        found = _quality(ledger, claim, sides)
    if found.verdict == "not run" and claim.out_of_reach:
        return Judged(claim, "out of reach", why=f"It would take {claim.out_of_reach}.")
    return found


def _order(claim: Claim, evidence: Evidence) -> Judged:
    bout = find_bout(evidence, claim)
    if isinstance(bout, NoBout):
        return Judged(claim, bout.verdict, why=bout.why)
    verdict, found, why = judge_bout(bout)
    closest = min(found, key=lambda step: step.value, default=None)
    if verdict == "not reproduced" and claim.transcription == "recalled":
        verdict, why = "inconclusive", f"{why} The ordering is only recalled, which does not suffice to call it wrong."
    numbers = (closest.value, closest.low, closest.high) if closest else (None, None, None)
    return Judged(claim, verdict, *numbers, tier=bout.tier, scale=bout.scale, seeds=bout.seeds, why=why,
                  records=bout.records)  # fmt: skip


def _entries(claim: Claim) -> tuple[Entry, ...]:
    """The cells that a quality claim is about: its task list, or its one task."""
    return claim.tasks or (Entry(task=claim.task, metrics=(claim.metric,), splits=(claim.split,)),)


def _found(ledger: Ledger, claim: Claim, sides: Sides) -> list[Side] | Missing:
    """Sessions of the variant, and of the one made from its authors' checkpoint, the best evidence first."""
    entries = _entries(claim)
    own = sides.of((claim.maker, claim.variant), entries)
    released = ledger.paper.released.get(claim.variant)
    other = sides.of((claim.maker, released), entries) if released else own
    if isinstance(own, Missing):
        return other
    if isinstance(other, Missing) or other is own:
        return own
    return sorted([*own, *other], key=lambda side: side.rank, reverse=True)


def _not_run(claim: Claim, missing: Missing) -> Judged:
    if len(claim.tasks) > 1:
        lacking = ", ".join(missing.tasks)
        why = (f"Not run: missing {lacking} of the {len(claim.tasks)} tasks of the average; "
               "no session has finished them all.")  # fmt: skip
    else:
        why = f"Not run: no finished run of {claim.variant} on {_entries(claim)[0].task} has this score."
    return Judged(claim, "not run", why=why)


def _quality(ledger: Ledger, claim: Claim, sides: Sides) -> Judged:
    found = _found(ledger, claim, sides)
    if isinstance(found, Missing):
        return _not_run(claim, found)
    real = [side for side in found if not side.made_up]
    if not real:
        return _made_up(claim, found[0])
    side = real[0]
    unit = UNITS[claim.unit]
    values = [unit.to_print(score) for score in side.scores.values()]
    if not values:
        return _no_seed(claim, side)
    return settle(ledger, claim, values, _interval(claim, values), side)


def _interval(claim: Claim, values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The claim's own aggregate with the 95% t interval of the mean, moved to be around it."""
    k = int(claim.aggregation.rpartition(" ")[2]) if claim.aggregation.startswith("best of ") else 1
    if k > len(values):
        return max(values), None, None
    centre = aggregate(claim.aggregation, values)
    if len(values) < 2:
        return centre, None, None
    middle, low, high = t_interval(values)
    return centre, centre - (middle - low), centre + (high - middle)


def _made_up(claim: Claim, side: Side) -> Judged:
    why = "The variant ran on made-up data only, whose scores are not the paper's."
    return _open(claim, "not comparable: made-up data", why, side)


def _no_seed(claim: Claim, side: Side) -> Judged:
    why = "No seed finished every task of the number; one more seed that does would give a first value."
    return _open(claim, "inconclusive", why, side)


def _open(claim: Claim, verdict: str, why: str, side: Side) -> Judged:
    """A verdict without a number."""
    return Judged(claim, verdict, tier=side.tier, scale=side.scale, seeds=len(side.scores), records=side.records,
                  why=why)  # fmt: skip


def _retention(ledger: Ledger, claim: Claim, sides: Sides) -> Judged:
    """The share of the own teacher's score, paired by seed; the interval is on the logs of the ratios."""
    found = _found(ledger, claim, sides)
    if isinstance(found, Missing):
        return _not_run(claim, found)
    real = sorted(found, key=lambda side: side.made_up)  # stable: made-up data only where there is nothing else
    side = next((side for side in real if side.teachers), real[0])
    if not side.teachers:
        why = "No run knows its own teacher's score on the same split; one run beside its teacher would."
        return _open(claim, "inconclusive", why, side)
    unit = UNITS[claim.unit]
    ratios = [side.scores[seed] / taught for seed, taught in side.teachers.items() if taught > 0]
    if not ratios:
        why = "The own teacher scored 0 or less, so there is no ratio to it; a better teacher would give one."
        return _open(claim, "inconclusive", why, side)
    if len(ratios) < 2:
        interval = ratios[0], None, None
    elif min(ratios) > 0:
        interval = ratio_interval(ratios)
    else:
        interval = t_interval(ratios)
    low, high = (None if bound is None else unit.to_print(bound) for bound in interval[1:])
    values = [unit.to_print(ratio) for ratio in ratios]
    return settle(ledger, claim, values, (unit.to_print(interval[0]), low, high), side)


def _difference(ledger: Ledger, claim: Claim, sides: Sides) -> Judged:
    """The difference to the reference's variant in points, paired by seed under one budget."""
    reference = claim if claim.reference == TEACHER else ledger.by_id[claim.reference]
    own = sides.of((claim.maker, claim.variant), _entries(claim))
    if isinstance(own, Missing):
        return _not_run(claim, own)
    other = sides.of((reference.maker, reference.variant), _entries(reference))
    if isinstance(other, Missing):
        return _not_run(reference, other).about(claim)
    real = [side for side in own if not side.made_up]
    if not real:
        return _made_up(claim, own[0])
    # Where the reference is the teacher, each run knows its own teacher's score.
    if reference is claim or reference.maker != claim.maker:
        pairs = [(side, {seed: (side.scores[seed], side.teachers[seed]) for seed in side.teachers}) for side in real]
    else:
        pairs = [
            (side, {seed: (side.scores[seed], ref.scores[seed]) for seed in side.scores.keys() & ref.scores.keys()})
            for side in real
            for ref in other
            if side.bouts == ref.bouts
        ]
    pairs = [(side, by_seed) for side, by_seed in pairs if by_seed]
    if not pairs:
        name = "its teacher" if reference is claim else reference.variant
        why = f"{claim.variant} and {name} did not run with the same seeds, data and budget."
        return _open(claim, "not comparable: budget", why, real[0])
    side, by_seed = pairs[0]
    values = [100 * (mine - theirs) for mine, theirs in (by_seed[seed] for seed in sorted(by_seed))]
    interval = t_interval(values) if len(values) > 1 else (mean(values), None, None)
    return settle(ledger, claim, values, interval, side)
