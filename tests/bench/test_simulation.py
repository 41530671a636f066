"""Verdicts on claims whose truth is known: tests/benchmarks/verdict_simulation.py in short, with fixed draws."""

from __future__ import annotations

import numpy as np
import pytest
import verdict_simulation

CLAIMS = 400
LUCK = 1.7
"""Points that a rate of 5% may be off by chance among 400 claims (1.6 standard errors)."""


CASES = [(kind, one) for kind in ("quality", "retention", "speed") for one in ("normal", "t3", "degenerate")
         if (kind, one) != ("speed", "degenerate")]  # no seed guesses a speed  # fmt: skip


@pytest.mark.parametrize(("kind", "distribution"), CASES)
def test_errors_stay_rare_and_intervals_hold_the_truth(kind: str, distribution: str) -> None:
    found = verdict_simulation.errors(verdict_simulation.Cell(kind, distribution, 5), CLAIMS, np.random.default_rng(1))
    for name in ("false reproduced", "false not reproduced", "false exceeded"):
        assert found[name] <= 5.0 + LUCK, (name, found)
    least, most = (90.0, 100.0) if distribution == "degenerate" else (93.0, 97.0)
    assert least - LUCK <= found["coverage"] <= most + LUCK, found
    # Where seeds guess, a second estimate has to agree, and often does not.
    assert found["reproduced where true"] > (15.0 if distribution == "degenerate" else 25.0), "it says something, too"


@pytest.mark.parametrize("distribution", ["normal", "t3", "degenerate"])
def test_many_true_claims_and_equal_variants_are_not_called_false(distribution: str) -> None:
    cell, generator = verdict_simulation.Cell("quality", distribution, 5), np.random.default_rng(2)
    assert verdict_simulation.families(cell, 40, generator) <= 5.0 + 5.5, "of 40 papers with 60 claims each"
    assert verdict_simulation.ordered(cell, CLAIMS, generator) <= 5.0 + LUCK


@pytest.mark.parametrize("distribution", ["normal", "t3", "degenerate"])
def test_following_the_advice_settles_most_claims(distribution: str) -> None:
    rate, cases = verdict_simulation.advised(
        verdict_simulation.Cell("quality", distribution, 5), 30, np.random.default_rng(3)
    )
    assert cases >= 50 and rate >= 75.0
