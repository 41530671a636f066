"""Damaged teacher folders: tests/benchmarks/fuzz_inputs.py in short."""

from __future__ import annotations

from pathlib import Path

import fuzz_inputs


def test_a_damaged_folder_is_refused_in_a_line_or_loaded_as_it_was(tmp_path: Path) -> None:
    outcomes = fuzz_inputs.fuzz(100, tmp_path)
    assert outcomes["refused"] > 50 and outcomes["taken"] > 5 and sum(outcomes.values()) == 100
