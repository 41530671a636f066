"""Advice on seeds: what it promises, and that it is the same each time."""

from __future__ import annotations

import math
import random

import pytest

from bench.core.stats import mean_of, ratio_of
from bench.judge.power import MOST_SEEDS, POWER, more_seeds, power


def test_the_advised_number_is_the_fewest_with_the_power() -> None:
    found = mean_of([0.0, 1.0, -1.0, 0.5, -0.5])
    more = more_seeds(found, (-1.0, 1.0))
    assert more is not None and more == more_seeds(found, (-1.0, 1.0))
    assert power(found, (-1.0, 1.0), 5 + more) >= POWER > power(found, (-1.0, 1.0), 4 + more)


def test_power_of_a_known_spread_is_the_textbooks() -> None:
    """With 400 seeds the spread is known: to tell a mean of 0.1 deviations from 0 takes about 785 in all."""
    rng = random.Random(3)
    values = [rng.gauss(0, 1) for _ in range(400)]
    centre = sum(values) / 400
    found = mean_of([0.1 + (value - centre) for value in values])
    spread = (found.error or 0) * 20
    # (1.96 + 0.8416)^2 sigma^2 / 0.1^2 for seeds all new; those at hand already show the centre, so somewhat fewer.
    assert 384 * spread**2 < 400 + (more_seeds(found, (0.0,)) or 0) < 785 * spread**2 * 1.05


def test_no_advice_where_the_truth_seems_to_be_an_edge() -> None:
    assert more_seeds(mean_of([0.9, 1.0, 1.1]), (0.0, 1.0)) is None
    assert MOST_SEEDS == 1000


def test_seeds_that_do_not_train_are_counted_in() -> None:
    found = mean_of([0.0, 1.0, -1.0, 0.5, -0.5])
    plain, lossy = more_seeds(found, (-1.0, 1.0)), more_seeds(found, (-1.0, 1.0), lost=1)
    assert plain is not None and lossy == math.ceil(plain * 1.2)


def test_ratios_are_weighed_on_their_logs_and_one_value_gives_no_advice() -> None:
    up, down = ratio_of([2.0, 2.4, 2.2]), ratio_of([1 / 2.0, 1 / 2.4, 1 / 2.2])
    assert more_seeds(up, (2.0,)) == more_seeds(down, (0.5,))
    with pytest.raises(ValueError, match="nothing of the spread"):
        more_seeds(mean_of([1.0]), (0.0,))
