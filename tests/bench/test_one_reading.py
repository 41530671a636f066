"""One reading of the committed records: whatever shows a number of a variant names the same records behind it."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from pathlib import Path
from typing import NamedTuple

from bench.claims.claim import Claim, Ledger
from bench.claims.ledger import load_all
from bench.judge.rules import Judged
from bench.judge.runs import SHAPE, read_runs
from bench.judge.scores import ScoreBook
from bench.judge.series import PAPER_SIZED, Key, SeriesIndex
from bench.judge.verdict import judge
from bench.report import tradeoff
from bench.report.build import REAL
from bench.report.choose import Bounds, choose
from bench.report.page import plain
from bench.report.rows import GLUE, Row, rows
from bench.report.screen import _speed
from bench.report.systems import SystemView, systems

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"


class Read(NamedTuple):
    """The committed records as every part of the suite sees them."""

    ledgers: list[Ledger]
    index: SeriesIndex
    book: ScoreBook
    judged: list[Judged]
    rows: list[Row]
    views: list[SystemView]


@cache
def read() -> Read:
    ledgers, broken = load_all()
    assert not broken
    index = SeriesIndex(read_runs([RESULTS], REAL))
    book = ScoreBook(index)
    judged = judge(ledgers, book)
    return Read(ledgers, index, book, judged, rows(book, {"bert"}), systems(ledgers, judged, book))


def retention_claims(judged: list[Judged], key: Key) -> list[Judged]:
    """Judged shares of the teacher's score of one variant on one task."""
    return [entry for entry in judged if entry.claim.kind == "retention" and entry.records and entry.claim.task
            and (entry.claim.maker, entry.claim.variant) == key]  # fmt: skip


def test_verdict_table_and_page_name_the_same_records_for_every_variant() -> None:
    found = read()
    keys = [key for key in found.index.keys if found.index.suites(key)]
    checked = 0
    for key in keys:
        own = [row for row in found.rows if (row.paper, row.suite.variant) == key]
        trained = [suite for suite in found.index.suites(key) if suite.scale != SHAPE]
        assert [row.suite for row in own if row.scale != SHAPE] == trained, "the table has the judge's order"
        for entry in retention_claims(found.judged, key):
            # The series that the verdict is made of is the first line of the page's scores, unless that one guesses.
            ordered = found.index.series(key, entry.claim.task)
            lines = [row.book.of_series(row.suite, series) for series in ordered
                     for row in own if series in row.suite.series.get(series.task, ())]  # fmt: skip
            first = next((one for one in lines if one and not one.at_chance), lines[0])
            assert first is not None and set(entry.records) == set(first.records), entry.claim.id
            checked += 1
    assert len(keys) >= 40 and checked >= 60, (len(keys), checked)


def test_table_first_screen_figure_and_choose_name_the_same_records_for_every_system() -> None:
    found = read()
    chosen = {one.view.key: one for one in choose([RESULTS], Bounds()).fitting}
    drawn = {point["label"]: point for point in (tradeoff.figure(found.views, "sst2") or 1 / 0).data["points"]}  # pyright: ignore
    scored = timed = 0
    for view in found.views:
        if view.scores is not None:
            row = next(row for row in found.rows if row.suite is view.scores.suite)
            widest = found.book.shown((view.key[0], view.system.scored_as or view.system.variant), GLUE)
            assert row.telling is not None and widest is not None
            assert set(row.telling.records) == set(view.scores.records) == set(widest.records)
            alone = [found.book.primary(row.suite, (entry.task,)) for entry in widest.entries]
            assert row.telling.kept() == (view.of_own_teacher or view.kept) and all(
                one and not one.at_chance for one in alone
            )
            share = view.tasks["sst2"].kept() if "sst2" in view.tasks else None
            if share is not None and not view.reference and view.speedup is not None and not view.system.scored_as:
                assert drawn[view.system.name]["measured"] == 100 * share.value
                scored += 1
        if view.system.scored_as and view.system.name in drawn:
            assert drawn[view.system.name]["measured"] is None, "no score of one network beside the speed of another"
        if view.timing is not None:
            names = {run.id for run in view.timing.runs}
            assert names <= set(chosen[view.key].records)
            key = view.timing.suite.paper, view.timing.suite.variant
            at_shape = next(
                row for row in found.rows if (row.paper, row.suite.variant) == key and row.scale in PAPER_SIZED
            )
            ratio = at_shape.speedup(view.timing.machine, view.timing.split)
            assert ratio == view.speedup and ratio is not None
            assert chosen[view.key].speedup == ratio.value
            timed += 1
    assert scored >= 5 and timed >= 9, (scored, timed)


def test_verdicts_on_speed_are_of_the_sessions_that_the_first_screen_shows() -> None:
    found = read()
    speeds = [view for view in found.views if view.speed and view.timing and view.speed.measured is not None]
    for view in speeds:
        assert view.speed and view.timing
        same = found.index.by_id[view.speed.records[0]].environment.machine == view.timing.machine
        assert view.speed_judged is (view.speed if same else None), view.system.name
        if not same:  # the number of the machine that speaks, and no sign of the other one's
            assert view.speedup and view.printed("speed")
            told = f"{view.printed('speed'):.1f} → {view.speedup.value:.1f}x"
            assert plain(_speed(view, found.index, ())) == told, view.system.name
    assert sum(view.speed_judged is not None for view in speeds) >= 3


def test_sizes_are_judged_by_the_record_that_the_table_shows() -> None:
    found = read()
    checked = 0
    for entry in found.judged:
        claim: Claim = entry.claim
        if claim.kind == "size" and claim.metric == "parameters" and entry.records:
            run = found.index.counted((claim.maker, claim.variant), "parameters", "all")[0]
            row = next(row for row in found.rows if row.paper == claim.maker and row.suite.variant == claim.variant
                       and row.scale == run.scale)  # fmt: skip
            assert entry.records == (run.id,) and row.typical("parameters", "all") == run.value("parameters", "all")
            checked += 1
    assert checked >= 15


def test_the_page_ranks_systems_as_choose_does() -> None:
    page = (ROOT / "reports" / "index.html").read_text(encoding="utf-8")
    ranks = {unescape(name): int(rank) for name, rank in re.findall(r'<tr data-name="([^"]*)" data-rank="(\d+)"', page)}
    assert len(ranks) > 5 and sorted(ranks.values()) == list(range(len(ranks)))
    best = [one.view.system.name for one in choose([RESULTS], Bounds()).fitting]
    assert [name.removesuffix(" ‡") for name in sorted(ranks, key=lambda name: ranks[name])] == best
