"""Estimates, their intervals and p values, against numbers worked by hand."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core import stats


def test_a_mean_has_students_interval() -> None:
    found = stats.mean_of([1.0, 2.0, 3.0])  # t(2) = 4.302653 over sqrt(3)
    assert (found.value, found.n) == (2.0, 3)
    assert found.interval() == pytest.approx((2.0 - 2.484138, 2.0 + 2.484138), abs=1e-6)
    assert stats.mean_of([1.0]).interval() is None and stats.mean_of([1.0]).p(9.0) == 1.0
    with pytest.raises(statistics.StatisticsError):
        stats.mean_of([])


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = random.Random(1)
    held = sum(low <= 0 <= high for low, high in (
        stats.mean_of([rng.gauss(0, 1) for _ in range(5)]).interval() or (1, 0) for _ in range(2000)))  # fmt: skip
    assert 0.93 <= held / 2000 <= 0.97


def test_p_is_below_five_percent_exactly_where_the_interval_leaves_a_value_out() -> None:
    found = stats.mean_of([1.0, 2.0, 3.0])
    low, high = found.interval() or (0, 0)
    for edge in (low, high):
        assert found.p(edge) == pytest.approx(0.05)
    # (4 - 2) / (1 / sqrt 3) = 3.4641: P(|T(2)| > 3.4641) = 1 - t / sqrt(2 + t^2) = 0.07418
    assert found.p(4.0) == pytest.approx(0.07418, abs=1e-5)
    assert found.p(2.0) == 1.0


def test_equal_values_have_the_least_width_and_no_certainty() -> None:
    found = stats.mean_of([0.5, 0.5, 0.5], least=0.01)
    assert found.interval() == pytest.approx((0.495, 0.505)) and 0 < found.p(0.51) < 0.05
    assert stats.mean_of([0.4, 0.6], least=0.01).interval() == stats.mean_of([0.4, 0.6]).interval()


def test_a_ratio_has_its_interval_on_the_logs() -> None:
    found = stats.ratio_of([2.0, 0.5, 1.0])
    low, high = found.interval() or (0, 0)
    assert found.value == pytest.approx(1.0) and low * high == pytest.approx(1.0)
    assert found.p(0.0) == 0.0 and found.p(high) == pytest.approx(0.05)
    assert stats.ratio_interval([2.0, 0.5, 1.0]) == (found.value, low, high)
    with pytest.raises(ValueError, match="no logarithm"):
        stats.ratio_of([1.0, 0.0])
    with pytest.raises(ValueError, match="two ratios"):
        stats.ratio_interval([1.0])


def test_slack_widens_both_ways_and_a_count_is_certain() -> None:
    found = stats.ratio_of([2.0, 2.0]).widened(math.log(1.1))
    assert found.interval() == pytest.approx((2.0 / 1.1, 2.2))
    assert found.p(2.1) == 1.0 and found.p(2.3) == 0.0
    counted = stats.counted(66.0)
    assert counted.interval() == (66.0, 66.0) and (counted.p(66.0), counted.p(67.0)) == (1.0, 0.0)


def test_a_trimmed_mean_is_yuens() -> None:
    # Without 0 and 9: mean of 2, 3, 4. Winsorised 2 2 3 4 4 has deviation 1; error 1 * sqrt(5) / 3; t(2).
    found = stats.trimmed_mean_of([9.0, 3.0, 0.0, 4.0, 2.0], 1)
    assert (found.value, found.freedom, found.n) == (3.0, 2, 5)
    assert found.error == pytest.approx(math.sqrt(5) / 3)
    assert stats.trimmed_mean_of([9.0, 3.0, 0.0, 4.0], 1).interval() is None
    assert stats.trimmed_mean_of([1.0, 9.0], 1).value == 5.0, "where nothing is left, the mean of all"


def test_a_mean_of_means_pools_by_welch() -> None:
    parts = [stats.mean_of([0.90, 0.91, 0.92]), stats.mean_of([0.60, 0.61])]
    found = stats.mean_of_estimates(parts)
    assert found.value == pytest.approx((0.91 + 0.605) / 2) and found.n == 2
    assert found.error == pytest.approx(math.sqrt(1e-4 / 3 + 0.5e-4 / 2) / 2)
    first, second = 1e-4 / 3, 0.5e-4 / 2
    assert found.freedom == pytest.approx((first + second) ** 2 / (first**2 / 2 + second**2))
    assert stats.mean_of_estimates([parts[0], stats.mean_of([0.6])]).error is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_the_deviation_is_the_librarys(values: list[float]) -> None:
    assert stats.deviation(values) == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-9)


def test_a_deviation_needs_two() -> None:
    with pytest.raises(ValueError, match="two values"):
        stats.deviation([1.0])
