"""The ledger as rows, for `bench claims`: each claim with its present verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from bench.claims.claim import Kind
from bench.core import store
from bench.core.errors import SpecError
from bench.judge.rules import SIDES, VERDICTS, place
from bench.judge.verdict import as_json, judge
from bench.report.build import SCALES, by_paper, load_ledgers
from bench.report.page import printed


def judged_rows(
    results: Path, papers: tuple[str, ...] = (), kind: str | None = None, verdict: str | None = None
) -> list[dict[str, Any]]:
    """One JSON-able row per claim, by paper and in ledger order; empty filters keep all.

    `verdict` may also be a side of the band: inside, above, below or across, where what was measured lies.
    Raises: SpecError for a paper without a ledger, an unknown kind or verdict.
    """
    _known("--kind", kind, get_args(Kind))
    _known("--verdict", verdict, (*VERDICTS, *SIDES))
    ledgers, _ = load_ledgers()
    known = [ledger.paper.name for ledger in ledgers]
    for name in papers:
        if name not in known:
            raise SpecError("unknown paper", found=name, expected=f"one of {', '.join(known)}", fix="see bench list")
    chosen = [ledger for ledger in ledgers if not papers or ledger.paper.name in papers]
    verdicts = by_paper(chosen, judge(chosen, store.read_records(results, SCALES)))
    entries = [entry for judged in verdicts.values() for entry in judged]
    rows = [
        row | {"printed": printed(entry), "place": _place(row)}
        for row, entry in zip(as_json(entries, chosen), entries, strict=True)
    ]
    return [row for row in rows if kind in (None, row["kind"]) and verdict in (None, row["verdict"], row["place"])]


def _place(row: dict[str, Any]) -> str | None:
    """On which side of the band the measured interval lies; None where nothing was measured or there is no band."""
    if row["band"] is None or row["measured"] is None:
        return None
    low, high = (row["measured"] if row[name] is None else row[name] for name in ("low", "high"))
    return place(low, high, tuple(row["band"]))


def _known(option: str, found: str | None, names: tuple[str, ...]) -> None:
    if found is not None and found not in names:
        raise SpecError(f"unknown {option}", found=found, expected=f"one of {', '.join(names)}")
