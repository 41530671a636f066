"""What `bench claims` prints: the ledger with its verdicts, in counts and rows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from bench.claims.averages import recompute
from bench.claims.claim import Kind, Ledger
from bench.claims.ledger import load_all
from bench.core.errors import SpecError
from bench.judge.rules import PLACES, VERDICTS, Judged, place
from bench.judge.runs import read_runs
from bench.judge.scores import ScoreBook
from bench.judge.series import SeriesIndex
from bench.judge.verdict import judge
from bench.report.build import REAL
from bench.report.claims import printed

log = logging.getLogger(__name__)


def read(*results: Path) -> tuple[list[Ledger], ScoreBook, list[Judged]]:
    """The ledgers, the scores of all runs in some folders and the verdicts.

    Raises: SpecError for a folder that is not there, unless it is the usual one; RecordError as `read_runs` does.
    """
    there = [folder for folder in results if folder.exists()]
    for folder in results:
        if folder not in there and folder != Path("results"):
            raise SpecError("there is no such folder of records", where="--results", found=folder,
                            expected="a folder that bench run or bench measure wrote to")  # fmt: skip
    ledgers, broken = load_all()
    for paper, reason in broken.items():
        log.warning("left out, because broken: %s: %s", paper, reason)
    book = ScoreBook(SeriesIndex(read_runs(there, REAL) if there else []))
    return ledgers, book, judge(ledgers, book)


def judged_rows(
    results: Path, papers: tuple[str, ...] = (), kind: str | None = None, verdict: str | None = None,
    task: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """One JSON-able row per claim, by paper and in ledger order; empty filters keep all.

    `verdict` may also be a place beside the band (inside, above, below, across), where what was measured lies.
    Raises: SpecError for a paper without a ledger, an unknown kind, verdict or task.
    """
    _known("--kind", kind, get_args(Kind))
    _known("--verdict", verdict, (*VERDICTS, *PLACES))
    ledgers, _, judged = read(results)
    known = [ledger.paper.name for ledger in ledgers]
    for name in papers:
        if name not in known:
            if name in (broken := load_all()[1]):
                raise SpecError(
                    "the paper is broken", where=name, found=broken[name], fix="mend it; bench list shows it"
                )
            raise SpecError("unknown paper", found=name, expected=f"one of {', '.join(known)}", fix="see bench list")
    tasks = sorted({claim.task for ledger in ledgers for claim in ledger.claims if claim.task})
    _known("--task", task, tuple(tasks))
    chosen = [entry for entry in judged if not papers or entry.claim.paper in papers]
    found = [
        row | {"printed": printed(entry.claim), "place": _place(row)}
        for row, entry in zip(claim_rows(chosen, ledgers), chosen, strict=True)
    ]
    return [row for row in found if kind in (None, row["kind"]) and verdict in (None, row["verdict"], row["place"])
            and task in (None, row["task"])]  # fmt: skip


def claim_rows(judged: Iterable[Judged], ledgers: Sequence[Ledger]) -> list[dict[str, Any]]:
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
            "band": None if claim.kind == "ordering" else list(ledger.printed_band(claim)),
            "recomputed": None if again is None else round(again.recomputed, 4),
            "verdict": entry.verdict, "measured": entry.measured, "low": entry.low, "high": entry.high,
            "p": entry.p, "p_corrected": entry.p_corrected,
            "tier": entry.tier, "scale": entry.scale, "seeds_run": entry.seeds, "why": entry.why,
            "records": list(entry.records),
        })  # fmt: skip
    return rows


def _place(row: Mapping[str, Any]) -> str | None:
    """On which side of the band the measured interval lies; None where nothing was measured or there is no band."""
    if row["band"] is None or row["measured"] is None:
        return None
    low, high = (row["measured"] if row[name] is None else row[name] for name in ("low", "high"))
    return place(low, high, tuple(row["band"]))


def _known(option: str, found: str | None, names: tuple[str, ...]) -> None:
    if found is not None and found not in names:
        expected = f"one of {', '.join(name for name in names if name not in PLACES)}"
        if set(PLACES) <= {*names}:
            expected += f"; or where the measurement lies beside the band: {', '.join(PLACES)}"
        raise SpecError(f"unknown {option}", found=found, expected=expected,
                        fix="bench claims counts what there is")  # fmt: skip


def tally(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many claims of each paper and kind have each verdict; controls of ours are counted as none."""
    numbers: Counter[tuple[str, str, str]] = Counter()
    for row in found:
        numbers[row["paper"], row["kind"], row["verdict"]] += row["transcription"] != "ours"
    groups = sorted({key[:2] for key in numbers})
    return [
        {"paper": paper, "kind": kind, "claims": sum(numbers[paper, kind, verdict] for verdict in VERDICTS),
         "verdicts": ", ".join(f"{number} {verdict}" for verdict in VERDICTS
                               if (number := numbers[paper, kind, verdict]))}
        for paper, kind in groups
    ]  # fmt: skip
