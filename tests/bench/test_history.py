"""`bench history`: numbers by commit, and where they stepped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_regress import NOISE, session, side, write

from bench.core.errors import SpecError
from bench.core.record import Record
from bench.judge.history import Point, history, stepped
from bench.judge.runs import runs_of
from bench.judge.series import SeriesIndex
from bench.report import history as report


def point(*values: float) -> Point:
    return Point("c", "s", values, len(values))


def test_a_step_by_hand() -> None:
    flat = stepped("quality", [point(90, 91, 92), point(90, 91, 92), point(87, 88, 89), point(87, 88, 89)])
    # 91 before, 88 after: s^2 = 6 / 7 over 9 values, t = 3 / sqrt(6 / 7 (1 / 6 + 1 / 3)) = 4.58, p 0.0025 times 3
    assert [one.step for one in flat] == [0.0, 0.0, pytest.approx(-3), 0.0]
    assert not any(one.step for one in stepped("quality", [point(90, 92, 94), point(88, 90, 92)]))
    assert not any(one.step for one in stepped("quality", [point(90), point(50)])), "nobody knows how they spread"
    assert not any(one.step for one in stepped("quality", [point(90, 90.01), point(90.5, 90.51)])), "too small"


def commits() -> list[Record]:
    made = []
    for place, (commit, score) in enumerate([("a" * 40, 0.90), ("b" * 40, 0.90), ("c" * 40, 0.87)]):
        code: dict[str, Any] = {"commit": commit, "dirty": False, "stage_hashes": {"fine_tune": str(place)}}
        runs = side("before", score + NOISE[place] / 10, range(5), code=code)
        made += [one.model_copy(update={"started": f"2026-01-0{place + 1}T00:00:00Z"}) for one in runs]
    return made


def test_numbers_go_by_commit_across_changes_of_code() -> None:
    [line] = history(SeriesIndex(runs_of(commits())), ("toy", "toy"))
    assert [one.commit[0] for one in line.points] == ["a", "b", "c"] and line.kind == "quality"
    assert [bool(one.step) for one in line.points] == [False, False, True]
    times = [session("before", place, 3.0) for place in range(2)] + [session("now", place, 2.5) for place in range(2)]
    later = [one.model_copy(update={"code": one.code.model_copy(update={"commit": "d"})}) for one in times[2:]]
    [line] = history(SeriesIndex(runs_of([*times[:2], *later])), ("toy", "toy"))
    assert line.kind == "speed" and [bool(one.step) for one in line.points] == [False, True]


def test_the_rows_and_the_figure(tmp_path: Path) -> None:
    write(tmp_path / "results", commits())
    found = report.lines(tmp_path / "results", "toy")
    rows = report.rows(found)
    assert [round(row["value"], 2) for row in rows] == [0.90, 0.90, 0.87]
    assert [report.step(row) for row in rows][:2] == ["", ""] and report.step(rows[2]).startswith("-2.9")
    path = report.write("toy", found, tmp_path / "reports")
    assert path is not None and path == tmp_path / "reports" / "history" / "toy.svg" and "points" in path.read_text()
    assert report.write("toy", report.lines(tmp_path / "results", "toy")[:0], tmp_path) is None
    with pytest.raises(SpecError, match=r"no run of this variant.*for example toy"):
        report.lines(tmp_path / "results", "toyy")
