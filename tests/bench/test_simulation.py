"""Verdicts on claims whose truth is known: tests/benchmarks/verdict_simulation.py in short, with fixed draws."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "verdict_simulation.py"
CLAIMS = 400
LUCK = 1.7
"""Points that a rate of 5% may be off by chance among 400 claims (1.6 standard errors)."""


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verdict_simulation", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["quality", "retention", "speed"])
@pytest.mark.parametrize("distribution", ["normal", "t3", "degenerate"])
def test_errors_stay_rare_and_intervals_hold_the_truth(simulation: ModuleType, kind: str, distribution: str) -> None:
    found = simulation.errors(simulation.Cell(kind, distribution, 5), CLAIMS, np.random.default_rng(1))
    for name in ("false reproduced", "false not reproduced", "false exceeded"):
        assert found[name] <= 5.0 + LUCK, (name, found)
    least, most = (90.0, 100.0) if distribution == "degenerate" else (93.0, 97.0)
    assert least - LUCK <= found["coverage"] <= most + LUCK, found
    assert found["reproduced where true"] > 25.0, "it says something, too"


@pytest.mark.parametrize("distribution", ["normal", "t3", "degenerate"])
def test_many_true_claims_and_equal_variants_are_not_called_false(simulation: ModuleType, distribution: str) -> None:
    cell, generator = simulation.Cell("quality", distribution, 5), np.random.default_rng(2)
    assert simulation.families(cell, 40, generator) <= 5.0 + 5.5, "of 40 papers with 60 claims each"
    assert simulation.ordered(cell, CLAIMS, generator) <= 5.0 + LUCK


@pytest.mark.parametrize("distribution", ["normal", "t3", "degenerate"])
def test_following_the_advice_settles_most_claims(simulation: ModuleType, distribution: str) -> None:
    rate, cases = simulation.advised(simulation.Cell("quality", distribution, 5), 30, np.random.default_rng(3))
    assert cases >= 50 and rate >= 75.0
