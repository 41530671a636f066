"""The statistics of regressions: values worked by hand, properties, and the simulation in short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import regress_simulation
from hypothesis import given
from hypothesis import strategies as st

from bench.judge.differences import (
    Spread,
    Stage,
    adjusted,
    combined,
    exact,
    mcnemar,
    of_differences,
    of_sessions,
    one_sided,
    session_deviation,
    trimmed,
)
from bench.judge.regressions import RULES, Comparison, decide

EFFECTS = st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=2, max_size=8)


def test_a_paired_stage_by_hand() -> None:
    stage = of_differences([-1.0, -2.0, -3.0])
    assert (stage.effect, stage.weight, stage.n, stage.spread) == (-2.0, 1 / 3, 3, Spread(2.0, 2))
    # s^2 = 1, standard error sqrt(1/3), t = -3.4641; T with 2 degrees: 1/2 + t / (2 sqrt(2 + t^2)), t^2 = 12
    error, freedom = stage.error(Spread(), 4)
    assert error == pytest.approx(math.sqrt(1 / 3)) and freedom == 2
    assert one_sided(stage.effect, error, freedom) == pytest.approx(0.5 - math.sqrt(12 / 14) / 2)


def test_few_seeds_borrow_from_the_spread_of_others() -> None:
    stage = of_differences([-1.0, -2.0, -3.0])
    # others say s^2 = 2 with 8 degrees, which count as 4: (4 * 2 + 2) / 6
    error, freedom = stage.error(Spread(16.0, 8), 4)
    assert error == pytest.approx(math.sqrt(10 / 6 / 3)) and freedom == 6
    # with 2 degrees they count as these: (2 * 2 + 2) / 4
    error, freedom = stage.error(Spread(4.0, 2), 4)
    assert error == pytest.approx(math.sqrt(1.5 / 3)) and freedom == 4
    # a single seed has but what others know; alone it knows nothing
    assert of_differences([-1.0]).error(Spread(16.0, 8), 4) == (pytest.approx(math.sqrt(2)), 4)
    assert of_differences([-1.0]).error(Spread(), 4) == (math.inf, 0.0)


def test_equal_differences_do_not_prove_that_there_is_no_spread() -> None:
    error, _ = of_differences([-1.0, -1.0, -1.0, -1.0]).error(Spread(), 4, least=0.36)
    assert error == pytest.approx(0.18)
    assert (one_sided(-1, 0, 3), one_sided(0, 0, 3), one_sided(1, 0, 3)) == (0.0, 0.5, 1.0)


def test_a_trimmed_session_by_hand() -> None:
    mean, spread = trimmed([10, 2, 3, 4, 5, 6, 7, 8, 9, 1])
    # 2 ... 9 are left; winsorised 2 2 3 ... 8 9 9 has squares of 66.5, a deviation of sqrt(66.5 / 9), times 10 / 8
    assert mean == 5.5 and spread.freedom == 7
    assert spread.variance == pytest.approx(66.5 / 9 * (10 / 8) ** 2)
    assert trimmed([3.0]) == (3.0, Spread())
    mean, spread = trimmed([1.0, 3.0])
    assert mean == 2.0 and spread.variance == pytest.approx(2.0)


def test_sessions_by_hand() -> None:
    stage = of_sessions([[0.0, 0.2], [0.1, 0.3]], [[-0.1, 0.1]])
    # means 0.1 and 0.2 before, 0 now; copies: 3 sessions of 2 x 0.1^2
    assert stage.effect == pytest.approx(-0.15) and stage.n == 2
    assert stage.weight == pytest.approx((1 / 2 + 1 / 2) / 4 + 1 / 2)
    assert stage.spread.squares == pytest.approx(0.06) and stage.spread.freedom == 3
    assert stage.sessions == 1.5 and stage.means.squares == pytest.approx(0.005) and stage.means.freedom == 1
    assert stage.share == pytest.approx(0.5)
    # s^2 = 0.02, t = 0.1: 0.02 * 0.75 + 0.01 * 1.5
    assert stage.error(Spread(), 6, session=0.1) == (pytest.approx(math.sqrt(0.03)), 3)


def test_the_deviation_of_sessions_by_hand() -> None:
    stage = of_sessions([[0.0, 0.0], [0.04, 0.04]], [[0.0, 0.0]])
    assert session_deviation([stage], 0.01, 0.05) == pytest.approx(math.sqrt(0.0008))
    assert session_deviation([stage], 0.1, 0.05) == 0.1, "never under the least"
    wide = of_sessions([[0.0, 1.0], [4.0, 5.0]], [[0.0, 1.0]])
    assert session_deviation([wide], 0.01, 0.05) == 0.01, "wide copies tell nothing of sessions"
    # s^2 = 0.0002, which enters the squares of the means half: (0.0008 - 0.0001) / 1
    copies = of_sessions([[-0.01, 0.01], [0.03, 0.05]], [[-0.01, 0.01]])
    assert session_deviation([copies], 0.001, 0.05) == pytest.approx(math.sqrt(0.0007))


def test_two_stages_by_hand() -> None:
    assert combined(0.01, 0.02) == pytest.approx(2e-4 * (1 + math.log(250)))
    assert combined(0.05, 1.0) == pytest.approx(0.05)
    assert combined(0.0501, 0.0) == 1.0 and combined(0.01, 0.0) == 0.0
    # of a million pairs of even p values, so many are called at 0.1%
    p = np.random.default_rng(0).random((200_000, 2))
    share = np.mean([combined(a, b) <= 0.001 for a, b in p])
    assert share == pytest.approx(0.001, abs=3 * math.sqrt(0.001 / len(p)))


def test_false_discoveries_by_hand() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert adjusted([]) == [] and adjusted([0.5, 1.0]) == [1.0, 1.0]


def test_examples_lost_by_the_same_weights_by_hand() -> None:
    right = np.array([True, True, True, False, False])
    now = np.array([False, False, True, True, False])
    assert mcnemar([right], [now]) == (2, 1)
    # the second seed wins back the first example: it counts for neither
    assert mcnemar([right, ~right], [now, np.array([True, False, False, True, True])]) == (1, 1)
    assert exact(3, 0) == 1 / 8 and exact(4, 1) == pytest.approx(6 / 32) and exact(0, 5) == 1.0
    with pytest.raises(ValueError, match="paired"):
        mcnemar([right], [now[:4]])


def quality(screen: Sequence[float], confirm: Sequence[float] = (), **given: object) -> Comparison:
    two = of_differences(confirm) if confirm else None
    made = Comparison("quality", ("quality", "t"), of_differences(screen), two, bool(confirm))
    return replace(made, **given)  # pyright: ignore[reportArgumentType]


def test_what_is_said_of_scores() -> None:
    quiet = [quality([0.1, -0.1, 0.2, -0.2, 0.0], [0.1, 0.0, -0.1, 0.1, -0.1])] * 10
    lost, noise = [-2.1, -1.9, -2.0, -2.2, -1.8], [4.0, -4.0, 3.0, -3.0, 0.0]
    cases = {
        "worse": quality(lost, lost), "suspect": quality([-0.6, -0.5, -0.7, -0.5, -0.6], two_stages=True),
        "untold": quality(noise, pool=("other",)), "better": quality([-one for one in lost], [-one for one in lost]),
        "same": quality([0.0] * 5, same=True),
    }  # fmt: skip
    found = decide([*quiet, *cases.values()])
    assert [one.verdict for one in found] == ["fine"] * 10 + list(cases)
    # beyond doubt by its screen alone; a time never is
    assert decide([*quiet, quality(lost, two_stages=True)])[-1].verdict == "worse"
    # sure, and too small to be an alarm
    small = [-0.7, -0.71, -0.69, -0.7, -0.7]
    assert decide([quality(small, small)])[0].verdict == "fine"
    assert decide([quality([-3.0])])[0].verdict == "untold", "one seed knows no spread"


def test_what_is_said_of_times() -> None:
    def session(shift: float, spread: float = 0.01) -> list[float]:
        return [shift + spread * (copy - 4.5) / 3 for copy in range(10)]

    def speed(slower: float, confirmed: bool, spread: float = 0.01) -> Comparison:
        stage = of_sessions([session(1, spread)] * 2, [session(1 - math.log1p(slower), spread)])
        return Comparison("speed", ("speed", "m"), stage, stage if confirmed else None, True)

    calm = [speed(0.0, False)] * 10
    verdicts = [decide([*calm, one])[-1].verdict for one in (
        speed(0.1, True), speed(0.1, False), speed(0.5, False), speed(0.04, True), speed(0.0, False, 0.3),
        speed(-0.1, True))]  # fmt: skip
    assert verdicts == ["worse", "suspect", "suspect", "fine", "untold", "better"]


def test_the_same_weights_are_judged_by_their_examples() -> None:
    lost = quality([-1.5], changed=(15, 2))
    found = decide([lost])[0]
    assert found.verdict == "worse" and found.p == pytest.approx(exact(15, 2))
    assert decide([quality([-0.2], changed=(3, 1))])[0].verdict == "fine"


@given(st.lists(EFFECTS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_comparisons_changes_nothing(effects: list[list[float]], chance) -> None:
    places = list(range(len(effects)))
    chance.shuffle(places)
    straight = decide([quality(one) for one in effects])
    mixed = decide([quality(effects[place]) for place in places])
    for at, place in enumerate(places):
        assert mixed[at].verdict == straight[place].verdict
        assert mixed[at].p == pytest.approx(straight[place].p, rel=1e-6, abs=1e-12)


@given(st.lists(EFFECTS, min_size=1, max_size=6))
def test_swapping_the_sides_flips_the_sign(effects: list[list[float]]) -> None:
    there = decide([quality(one) for one in effects])
    back = decide([quality([-value for value in one]) for one in effects])
    for one, other in zip(there, back, strict=True):
        assert other.effect == pytest.approx(-one.effect, abs=1e-12)
        assert (one.verdict == "worse") == (other.verdict == "better")
        assert one.error == other.error


@given(st.lists(st.integers(2, 8), min_size=1, max_size=5))
def test_equal_numbers_give_no_finding(seeds: list[int]) -> None:
    assert {one.verdict for one in decide([quality([0.0] * n, same=True) for n in seeds])} == {"same"}


def test_stages_are_divided_in_half_at_the_widest() -> None:
    wide = [RULES["quality"].widest * math.sqrt(5) * one for one in (-1.0, 1.0, -1.0, 1.0, 0.0)]
    two, one = decide([quality(wide, two_stages=True)])[0], decide([quality(wide)])[0]
    assert two.widest == pytest.approx(math.sqrt(2) * one.widest)
    assert (two.verdict, one.verdict) == ("fine", "untold")


def test_it_does_not_cry_wolf_and_finds_what_changed() -> None:
    """At most 1% of suites with a false alarm: of 150, five would be seen once in two hundred times."""
    generator = np.random.default_rng(1)
    usual = regress_simulation.World()
    assert regress_simulation.alarms(usual, 150, generator) <= 100 * 4 / 150
    assert regress_simulation.found_slower(usual, 50, generator) >= 90
    assert regress_simulation.found_lost(usual, 50, generator) >= 90


def test_a_stage_needs_something() -> None:
    for made in (lambda: of_differences([]), lambda: of_sessions([], [[1.0]]), lambda: trimmed([])):
        with pytest.raises(ValueError, match="needs"):
            made()
    assert Stage(0.0, 1.0, Spread(), 1).sessions == 0
