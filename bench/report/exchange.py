"""The claims with their verdicts as data for other programs: claims.csv, claims.json and claims.tex.

Numbers are in the unit as printed, with six significant digits: more would change from machine to machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.judge.rules import Judged
from bench.report import formats
from bench.report.claims import printed, with_interval
from bench.report.page import Table

NAME = "claims"


def files(judged: Sequence[Judged]) -> dict[str, str]:
    """The files by name, a claim a row, in ledger order."""
    found = [row(entry) for entry in judged]
    return {f"{NAME}.csv": formats.frame(list(found[0]) if found else [], [list(_flat(one).values()) for one in found]),
            f"{NAME}.json": formats.objects(found), f"{NAME}.tex": formats.latex(_short(judged))}  # fmt: skip


def row(entry: Judged) -> dict[str, Any]:
    """One claim: what was printed and where, what was measured by which runs, and what that comes to."""
    claim = entry.claim
    return {
        "id": claim.id, "paper": claim.paper, "kind": claim.kind, "variant": claim.variant, "task": claim.task,
        "split": claim.split, "metric": claim.metric, "statement": claim.says, "printed": _number(claim.value),
        "order": list(claim.order), "unit": claim.unit, "source": claim.source, "transcription": claim.transcription,
        "verdict": entry.verdict, "measured": _number(entry.measured), "low": _number(entry.low),
        "high": _number(entry.high), "tier": entry.tier, "scale": entry.scale, "seeds": entry.seeds,
        "why": entry.why, "runs": list(entry.records),
    }  # fmt: skip


def _number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a table without lists: an order as text, and how many runs there are (claims.json names them)."""
    return {**found, "order": " < ".join(found["order"]), "runs": len(found["runs"])}


def _short(judged: Sequence[Judged]) -> Table:
    """What a page of a paper has room for."""
    lines = [{"id": entry.claim.id, "printed": printed(entry.claim), "source": entry.claim.source,
              "measured": with_interval(entry), "runs": str(len(entry.records)), "verdict": entry.verdict}
             for entry in judged]  # fmt: skip
    return Table.of(lines, ("id", "printed", "source", "measured", "runs", "verdict"), right=("runs",))
