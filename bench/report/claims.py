"""Claims as rows: what was printed, what was measured, and why the verdict is what it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bench.claims.claim import Claim
from bench.judge.rules import Judged
from bench.report.numbers import DASH, significant
from bench.report.page import DITTO, Cell, Strong

MARKS = {
    "reproduced": "✓", "exceeded": "↑", "not reproduced": "✗", "consistent": "(✓)", "better": "(↑)", "not seen": "(✗)",
    "inconclusive": "?", "inconclusive: at chance": "?",
}  # fmt: skip
"""A verdict in one sign, in brackets where the runs cannot settle the number; what was not tested has none."""

KINDS = {"size": "size", "flops": "FLOPs", "speed": "speed", "retention": "retention", "ordering": "rankings",
         "quality": "scores", "cost": "cost"}  # fmt: skip
"""The kinds of claim in the words of the pages, in their order there."""

LEGEND = (
    "✓ holds, ↑ better than printed, ✗ does not hold, ? open; a sign in brackets: from smaller runs or another device, "
    "where (✗) refutes nothing"
)


def heading(kind: str) -> str:
    """A kind of claim as the first word of a line."""
    word = KINDS[kind]
    return word[0].upper() + word[1:]


def printed(claim: Claim) -> str:
    """The number as the paper printed it, or the order it stated."""
    if claim.value is None:
        return ("" if claim.is_printed else "not printed: ") + " < ".join(claim.order)
    number = significant(claim.value, 4) if claim.derived_from else f"{claim.value:g}"
    unit = "% of the teacher's" if claim.unit == "% of" else claim.unit
    return f"{number} {unit}" + ("" if claim.metric_stated else " (metric not stated)")


def measured(entry: Judged) -> str:
    """The measured value in the printed unit; of an ordering, its smallest gap."""
    if entry.measured is None:
        return DASH
    if entry.claim.kind == "ordering":
        return f"smallest gap {significant(entry.measured)} points"
    return f"{significant(entry.measured)} {entry.claim.unit.removesuffix(' of')}"


def measured_rows(judged: Sequence[Judged]) -> list[dict[str, Cell]]:
    """One row per claim that was measured, in ledger order."""
    return [
        _said(entry.claim) | {"measured": with_interval(entry), "runs": _runs(entry),
                              "verdict": Strong(entry.verdict), "why": entry.why}
        for entry in judged if entry.measured is not None
    ]  # fmt: skip


def open_rows(judged: Sequence[Judged]) -> list[dict[str, Cell]]:
    """One row per claim without a measurement, in ledger order; a ditto repeats the reason above."""
    rows: list[dict[str, Cell]] = []
    above = ("", "")
    for entry in judged:
        if entry.measured is None:
            now = entry.verdict, entry.why
            why = DITTO if now == above else entry.why
            rows.append(_said(entry.claim) | {"verdict": Strong(entry.verdict), "why": why})
            above = now
    return rows


def _said(claim: Claim) -> dict[str, Cell]:
    told = "" if claim.transcription == "seen" else f", {claim.transcription}"
    return {"claim": f"{claim.id}: {claim.says}", "printed": f"{printed(claim)} ({claim.source}{told})"}


def with_interval(entry: Judged) -> str:
    """`102 % faster [97.1, 108]`; without an interval where there is nothing to vary."""
    if entry.low is None or entry.high is None or entry.counted:
        return measured(entry)
    return f"{measured(entry)} [{significant(entry.low)}, {significant(entry.high)}]"


def _runs(entry: Judged) -> str:
    """`3 seeds, reduced, p 0.03 (0.2)`; of an ordering `5 seeds on mnli, reduced`; or `counted, exact`"""
    if entry.counted:
        return f"counted, {entry.tier}"
    on = f" on {', '.join(entry.tasks)}" if entry.tasks else ""
    told = f"{over(entry)}{on}, " if entry.seeds else ""
    return f"{told}{entry.tier}" + ("" if entry.p is None else f", p {p_value(entry)}")


def over(entry: Judged) -> str:
    """`3 seeds`; of times and costs `2 runs`, which may be of several tasks; empty of what was counted."""
    if entry.counted or not entry.seeds:
        return ""
    word = "run" if entry.claim.kind in ("speed", "cost") else "seed"
    return f"{entry.seeds} {word}{'' if entry.seeds == 1 else 's'}"


def p_value(entry: Judged) -> str:
    """The p value of the verdict, and in brackets the one after Holm's correction where that was made."""
    if entry.p is None:
        return DASH
    corrected = "" if entry.p_corrected is None else f" ({entry.p_corrected:.2g})"
    return f"{entry.p:.2g}{corrected}"


def folded(judged: Sequence[Judged], papers: set[str]) -> tuple[list[Judged], list[dict[str, Cell]]]:
    """The claims that a run of ours could answer; and of the others a line per printed table and reason."""
    answerable: list[Judged] = []
    other: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    for entry in judged:
        reason = _unanswerable(entry, papers)
        if reason:
            other[entry.claim.table or entry.claim.source, reason].append(entry.claim)
        else:
            answerable.append(entry)
    lines: list[dict[str, Cell]] = [
        {"table": table, "why": reason, "claims": str(len(claims)),
         "variants": ", ".join(dict.fromkeys(claim.variant for claim in claims))}
        for (table, reason), claims in other.items()
    ]  # fmt: skip
    return answerable, lines


def _unanswerable(entry: Judged, papers: set[str]) -> str:
    claim = entry.claim
    if claim.maker not in papers:
        return "another's model, which no recipe here builds"
    if entry.verdict == "not comparable: split" and not claim.headline:
        return "a score of the test server, whose labels are not public; its share of the teacher's is judged instead"
    return ""
