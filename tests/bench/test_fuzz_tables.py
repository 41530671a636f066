"""Tables of every kind of column, name and damage: tests/benchmarks/fuzz_tables.py in short, with fixed draws."""

from __future__ import annotations

from pathlib import Path

import fuzz_tables


def test_tables_are_read_rightly_or_refused_in_one_line(tmp_path: Path) -> None:
    seen = fuzz_tables.fuzz(150, tmp_path)
    assert seen["split read"] >= 10 and seen["corpus read"] >= 2, seen
    assert seen["split read"] + seen["split refused"] >= 150, seen
