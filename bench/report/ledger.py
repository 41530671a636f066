"""The ledger as rows, for `bench claims`: each claim with its present verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.core import store
from bench.core.errors import SpecError
from bench.core.verdict import as_json, judge
from bench.report.build import SCALES, by_paper, load_ledgers
from bench.report.page import printed


def judged_rows(
    results: Path, papers: tuple[str, ...] = (), kind: str | None = None, verdict: str | None = None
) -> list[dict[str, Any]]:
    """One JSON-able row per claim, by paper and in ledger order; empty filters keep all.

    Raises: SpecError for a paper without a ledger.
    """
    ledgers, _ = load_ledgers()
    known = [ledger.paper.name for ledger in ledgers]
    for name in papers:
        if name not in known:
            raise SpecError("unknown paper", found=name, expected=f"one of {', '.join(known)}", fix="see bench list")
    chosen = [ledger for ledger in ledgers if not papers or ledger.paper.name in papers]
    verdicts = by_paper(chosen, judge(chosen, store.read_records(results, SCALES)))
    entries = [entry for judged in verdicts.values() for entry in judged]
    rows = [row | {"printed": printed(entry)} for row, entry in zip(as_json(entries, chosen), entries, strict=True)]
    return [
        row for row in rows if (kind is None or row["kind"] == kind) and (verdict is None or row["verdict"] == verdict)
    ]
