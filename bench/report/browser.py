"""Claims as data for a program that lets people search them: each from its source to the records behind its verdict.

JSON-able; a text that many claims share is held once, and a key whose value would be empty is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.claims.averages import recompute
from bench.claims.claim import Claim, Ledger
from bench.core.markup import target
from bench.judge.rules import VERDICTS, Judged
from bench.judge.runs import Run
from bench.judge.series import SeriesIndex
from bench.report.claims import MARKS, measured, over, p_value, printed
from bench.report.headlines import fine_print
from bench.report.numbers import significant
from bench.report.page import Link
from bench.report.paper import link

MOST_RECORDS = 60
"""So many records of a claim are named; the others stand beside them in the same folders."""

SHARED = (
    "kind", "variant", "maker", "task", "split", "metric", "source", "known", "conditions", "device", "aggregation",
    "band", "tolerance", "why", "tier", "scale",
)  # fmt: skip
"""Of a claim, the texts that others have, too: of each its number stands there."""

GROUPS = {
    "reproduced": "holds", "exceeded": "holds", "not reproduced": "fails", "consistent": "agrees", "better": "agrees",
    "not seen": "differs", "inconclusive": "open", "inconclusive: at chance": "open",
}  # fmt: skip
"""Verdict -> what it comes to; every other verdict says that nothing here tested the number."""

WORDS = {
    "holds": ("✓", "hold"), "fails": ("✗", "do not hold"), "agrees": ("(✓)", "agree, by proxy"),
    "differs": ("(✗)", "not seen, by proxy"), "open": ("?", "open"), "untested": ("", "not tested"),
}  # fmt: skip
"""What a verdict comes to -> its sign, and what one says of the claims that have it."""

UNTESTED = {
    "not comparable: another teacher": "run, but not comparable", "not comparable: made-up data":
    "run, but not comparable", "not comparable: budget": "run, but not comparable", "not run": "not run yet",
    "not comparable: split": "cannot be tested here", "out of reach": "cannot be tested here",
}  # fmt: skip
"""Verdict of what was not tested -> why, in a word."""


def group(verdict: str) -> str:
    """What a verdict comes to: a key of WORDS."""
    return GROUPS.get(verdict, "untested")


def claims(ledgers: Sequence[Ledger], judged: Sequence[Judged], index: SeriesIndex, results: Path, reports: Path
           ) -> dict[str, Any]:  # fmt: skip
    """Every claim with its verdict, in the order of `judged`; records as relative links from the folder of reports."""
    own = {ledger.paper.name: ledger for ledger in ledgers}
    shared = _Shared()
    rows = [_claim(own[entry.claim.paper], entry, index, shared) for entry in judged]
    folder = link("", results, reports)
    return {
        "papers": {name: _paper(ledger) for name, ledger in own.items()},
        "verdicts": [[name, MARKS.get(name, ""), group(name)] for name in VERDICTS],
        "groups": WORDS,
        "results": target(folder.target) if isinstance(folder, Link) else None,
        "shared": SHARED,
        "texts": list(shared.texts),
        "runs": [_run(index.by_id[name]) for name in shared.runs],
        "claims": rows,
    }  # fmt: skip


class _Shared:
    """Numbers for texts and records that several claims name."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.runs: dict[str, int] = {}

    def text(self, text: str) -> int:
        """The number of a text."""
        return self.texts.setdefault(text, len(self.texts))

    def run(self, name: str) -> int:
        """The number of a record."""
        return self.runs.setdefault(name, len(self.runs))


def _paper(ledger: Ledger) -> dict[str, Any]:
    paper = ledger.paper
    return {"label": paper.label, "title": paper.title, "venue": paper.venue, "arxiv": paper.arxiv,
            "code": target(paper.code), "commit": paper.commit}  # fmt: skip


def _run(run: Run) -> list[Any]:
    """[id, scale, paper, variant, task, seed]: all but the last are parts of the path of its record."""
    return [run.id, run.scale, run.paper, run.variant, run.task, run.seed]


def _claim(ledger: Ledger, entry: Judged, index: SeriesIndex, shared: _Shared) -> dict[str, Any]:
    claim = entry.claim
    records = [name for name in entry.records if name in index.by_id]
    again = recompute(ledger, claim)
    found = {
        "id": claim.id, "says": claim.says, "kind": claim.kind, "variant": claim.variant, "maker": claim.made_by,
        "task": claim.task, "split": claim.split, "metric": claim.metric, "printed": printed(claim),
        "source": claim.source, "known": "" if claim.transcription == "seen" else claim.transcription,
        "conditions": claim.conditions, "device": claim.device,
        "aggregation": "" if claim.aggregation in ("none", "single") else claim.aggregation,
        "of": list(claim.derived_from), "recomputed": again and f"{again.recomputed:.2f}",
        "fits": bool(again and again.fits), "headline": claim.headline,
        "fine": fine_print(ledger, claim) if claim.fine_print else "",
        "verdict": VERDICTS.index(entry.verdict), "why": entry.why, "tier": entry.tier,
        "scale": entry.scale, "over": over(entry),
        "p": "" if entry.p is None else p_value(entry),
        "runs": [shared.run(name) for name in records[:MOST_RECORDS]],
        "more": max(0, len(records) - MOST_RECORDS) or None, **_numbers(ledger, entry),
    }  # fmt: skip
    told = {name: value for name, value in found.items() if _told(value)}
    return {name: shared.text(value) if name in SHARED else value for name, value in told.items()}


def _told(value: object) -> bool:
    """Whether a value says anything; 0 is the number of a text, a record or a verdict, or a measured value."""
    return value is not None and value is not False and value != "" and value != []


def _numbers(ledger: Ledger, entry: Judged) -> Mapping[str, Any]:
    """What was measured as text; and beside the band: 0 is the printed number, 1 an edge of the band."""
    claim = entry.claim
    found: dict[str, Any] = {}
    if entry.measured is not None:
        found["measured"] = measured(entry)
    ends = [significant(end) for end in (entry.low, entry.high) if end is not None]
    if len(set(ends)) == 2:  # what is counted has no spread
        found["interval"] = f"[{ends[0]}, {ends[1]}]"
    tolerance = ledger.tolerance(claim)
    if claim.kind == "ordering" or tolerance is None:
        return found
    low, high = ledger.printed_band(claim)
    found["band"] = f"{low:.4g} to {high:.4g} {claim.unit}".removesuffix(" of")
    found["tolerance"] = tolerance.why
    if entry.measured is not None:
        found["place"] = [_place(claim, value, low, high) for value in
                          (entry.measured, entry.low, entry.high) if value is not None]  # fmt: skip
    return found


def _place(claim: Claim, value: float, low: float, high: float) -> float | None:
    """How far a number is from the printed one, in widths of the band on that side; None for a band without width."""
    side = high - claim.number() if value >= claim.number() else claim.number() - low
    return round((value - claim.number()) / side, 2) if side > 0 else None
