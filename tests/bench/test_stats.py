"""Intervals and aggregators against values worked by hand, and properties."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from bench.core import stats


def test_t_interval_by_hand() -> None:
    # 1, 2, 3: mean 2, deviation 1, t(2) = 4.302653, half = 4.302653 / sqrt(3) = 2.484138
    assert stats.t_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, -0.484138, 4.484138), abs=1e-6)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError):
        stats.t_interval([1.0])


def test_t_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = random.Random(0)
    covered = sum(low <= 0 <= high for _, low, high in (
        stats.t_interval([rng.gauss(0, 1) for _ in range(5)]) for _ in range(2000)
    ))  # fmt: skip
    assert 0.93 <= covered / 2000 <= 0.97


def test_paired_uses_common_seeds_only() -> None:
    value, low, high, number = stats.paired({0: 3.0, 1: 4.0, 2: 5.0, 9: 100.0}, {0: 2.0, 1: 2.0, 2: 2.0, 8: -100.0})
    assert (value, number) == (2.0, 3)
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_ratio_interval_is_symmetric_on_logs() -> None:
    centre, low, high = stats.ratio_interval([2.0, 0.5, 1.0])
    assert centre == pytest.approx(1.0)
    assert low * high == pytest.approx(1.0)
    assert math.log(high) == pytest.approx(2.484138 * math.log(2), rel=1e-6)
    with pytest.raises(ValueError):
        stats.ratio_interval([1.0, 0.0])


def test_median() -> None:
    assert (stats.median([3, 1, 2]), stats.median([4, 1, 2, 3])) == (2, 2.5)
    with pytest.raises(ValueError):
        stats.median([])


def test_best_of_is_the_mean_of_all_best() -> None:
    values = [0.3, 0.9, 0.1, 0.5]
    for k in range(1, 5):
        every = [max(chosen) for chosen in itertools.combinations(values, k)]
        assert stats.best_of(values, k) == pytest.approx(sum(every) / len(every))
    with pytest.raises(ValueError):
        stats.best_of(values, 5)


@pytest.mark.parametrize(("name", "expected"), [
    ("median of 5", 2.0), ("mean", 4.0), ("single", 4.0), ("none", 4.0), ("best of 3", 9.0),
])  # fmt: skip
def test_aggregate(name: str, expected: float) -> None:
    assert stats.aggregate(name, [9.0, 1.0, 2.0]) == pytest.approx(expected)


def test_seeds_needed_is_the_smallest_number() -> None:
    values = [0.0, 1.0, 2.0]  # deviation 1
    needed = stats.seeds_needed(values, 0.5)
    assert needed == 18  # t(17) = 2.10982, 2.10982 / sqrt(18) = 0.4973; at 17: 2.11991 / sqrt(17) = 0.5142
    assert stats.seeds_needed(values, 3.0) == 3
    assert stats.seeds_needed(values, 0.0) is None
    assert stats.seeds_needed(values, 1e-6) is None
