"""Runs of which something is known to be wrong: a ledger's `[caveat]` names the setting that they lack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.claims.claim import Ledger
from bench.judge.runs import Run
from bench.judge.scores import ScoreBook
from bench.judge.series import SeriesIndex


def caveat(ledger: Ledger, run: Run) -> str:
    """What is known to be wrong with a run from before a setting came; empty for others."""
    for path, told in ledger.caveats.items():
        section, _, name = path.partition(".")
        chosen = run.settings.hyper.get(section)
        if isinstance(chosen, Mapping) and name not in chosen:
            return told
    return ""


def first_caveat(ledger: Ledger, records: Iterable[str], index: SeriesIndex) -> str:
    """The same of the first of some records that has one."""
    found = (caveat(ledger, index.by_id[name]) for name in records if name in index.by_id)
    return next(filter(None, found), "")


def without_caveats(ledger: Ledger, book: ScoreBook) -> ScoreBook:
    """The scores without such runs; the same book where there are none."""
    kept = [run for run in book.index.runs if not caveat(ledger, run)]
    return book if len(kept) == len(book.index.runs) else ScoreBook(SeriesIndex(kept))
