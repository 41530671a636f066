"""Damaged teacher folders: tests/benchmarks/fuzz_inputs.py in short."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

FILE = Path(__file__).parents[1] / "benchmarks" / "fuzz_inputs.py"


def test_a_damaged_folder_is_refused_in_a_line_or_loaded_as_it_was(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("fuzz_inputs", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    outcomes = module.fuzz(100, tmp_path)
    assert outcomes["refused"] > 50 and outcomes["taken"] > 5 and sum(outcomes.values()) == 100
