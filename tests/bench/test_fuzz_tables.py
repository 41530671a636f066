"""Tables of every kind of column, name and damage: tests/benchmarks/fuzz_tables.py in short, with fixed draws."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FILE = Path(__file__).parents[1] / "benchmarks" / "fuzz_tables.py"


def test_tables_are_read_rightly_or_refused_in_one_line(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("fuzz_tables", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    seen = module.fuzz(150, tmp_path)
    assert seen["split read"] >= 10 and seen["corpus read"] >= 2, seen
    assert seen["split read"] + seen["split refused"] >= 150, seen
