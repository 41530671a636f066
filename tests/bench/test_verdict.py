"""Verdicts worked by hand: every branch of the rules, on records made for it.

Three values a, a + d, a - d have mean a, deviation d and t interval a +/- 2.484138 d; five values
a, a +/- d, a +/- d have deviation d and interval a +/- 1.241664 d (t(4) = 2.776445).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from bench.core.claims import Claim, Entry, Ledger, Paper, Tolerance
from bench.core.errors import ClaimError
from bench.core.record import Data, Measurement, Record, RunSpec, TeacherLink
from bench.core.verdict import VERDICTS, Judged, as_json, counts, judge

POINT = Tolerance(absolute=0.01, why="a point")
TOLERANCES = {
    "accuracy": POINT, "average": POINT, "matthews": POINT,
    "retention": Tolerance(absolute=0.02, why="two points"),
    "difference_to": Tolerance(absolute=0.005, why="half a point"),
    "parameters": Tolerance(relative=0.02, why="whole millions"),
    "parameters_ratio": Tolerance(absolute=0.02, why="whole tens"),
    "speedup": Tolerance(relative=0.1, why="a tenth"),
    "training_seconds": Tolerance(relative=0.25, why="about"),
}  # fmt: skip
SST2, RTE = (Entry(task=task, metrics=("accuracy",), splits=("validation",)) for task in ("sst2", "rte"))


def ledger(*claims: Claim, name: str = "toy", **paper: Any) -> Ledger:
    about = Paper(name=name, title="A toy", arxiv="", venue="nowhere", code="", commit="", **paper)
    return Ledger(paper=about, tolerances=TOLERANCES, averages={}, claims=claims, file="claims.toml")


def claim(**given: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "toy.c", "says": "Toy has 90%.", "kind": "quality", "variant": "toy", "task": "sst2",
        "split": "validation", "metric": "accuracy", "value": 90.0, "unit": "%", "source": "Table 1",
        "transcription": "seen", "aggregation": "mean", "seeds": 3,
    }  # fmt: skip
    return Claim.model_validate(fields | given)


def size_claim(**given: Any) -> Claim:
    fields = {"kind": "size", "task": "", "split": "all", "metric": "parameters", "value": 66, "unit": "M"}
    return claim(**(fields | given))


def speed_claim(**given: Any) -> Claim:
    fields = {"kind": "speed", "task": "", "split": "batch1-length128", "metric": "speedup", "value": 60,
              "unit": "% faster"}  # fmt: skip
    return claim(**(fields | given))


def number(metric: str, split: str, value: float | None, samples: Sequence[float] = ()) -> Measurement:
    return Measurement(metric=metric, split=split, value=value, unit="fraction", n=1, samples=list(samples))


def record(score: float | None = None, seed: int = 0, *extra: Measurement, **given: Any) -> Record:
    scale, variant, task = given.pop("scale", "full"), given.pop("variant", "toy"), given.pop("task", "sst2")
    paper, rows = given.pop("paper", "toy"), given.pop("rows", 100)
    source = given.pop("source", "synthetic" if scale == "smoke" else "hub")
    budget, teacher = given.pop("budget", {"limit": None}), given.pop("teacher", None)
    taught = given.pop("taught", None)
    name = f"{paper}-{variant}-{task}-{scale}-{rows}-{budget}-s{seed}"
    measurements = [*extra] if score is None else [number("accuracy", "validation", score), *extra]
    fields: dict[str, Any] = {
        "id": name, "status": "ok", "tier": "exact", "hyper": {"lr": 1e-4, "budget": budget}, "hash": "0" * 64,
        "code": {"commit": "c", "dirty": False}, "environment": {"machine": "m1"}, "seconds": 1.0,
        "started": "2026-01-01T00:00:00Z",
        "data": Data(source=source, revision="r", sha256="s", rows={"train": rows}, partial=False),
        "teacher": TeacherLink(record=teacher or "none", score=taught) if teacher or taught is not None else None,
    }  # fmt: skip
    spec = RunSpec(paper=paper, variant=variant, task=task, scale=scale, seed=seed)
    return Record.model_validate(fields | given | {"spec": spec, "measurements": measurements})


def runs(centre: float, spread: float = 0.001, n: int = 3, **given: Any) -> list[Record]:
    offsets = {1: [0.0], 2: [-1.0, 1.0], 3: [0.0, 1.0, -1.0], 5: [0.0, 1.0, -1.0, 1.0, -1.0]}[n]
    return [record(centre + spread * offset, seed, **given) for seed, offset in enumerate(offsets)]


def one(found: Claim, records: Sequence[Record], **paper: Any) -> Judged:
    [judged] = judge([ledger(found, **paper)], records)
    assert judged.verdict in VERDICTS
    assert judged.why.endswith(".") and len(judged.why.split()) > 4
    return judged


# Absolute quality


@pytest.mark.parametrize(("tier", "centre", "spread", "verdict"), [
    ("exact", 0.900, 0.001, "reproduced"),      # 89.75-90.25 inside 89-91
    ("checkpoint", 0.905, 0.001, "reproduced"),
    ("exact", 0.930, 0.001, "exceeded"),        # 92.75-93.25
    ("exact", 0.850, 0.001, "not reproduced"),  # 84.75-85.25
    ("exact", 0.900, 0.010, "inconclusive"),    # 87.5-92.5
    ("exact", 0.912, 0.001, "inconclusive"),    # 90.95-91.45 crosses 91
    ("reduced", 0.900, 0.001, "consistent"),
    ("proxy", 0.930, 0.001, "consistent"),
    ("reduced", 0.912, 0.001, "consistent"),    # in the band or better
    ("reduced", 0.850, 0.001, "not seen"),
    ("reduced", 0.889, 0.001, "inconclusive"),  # 88.65-89.15 crosses 89
])  # fmt: skip
def test_quality(tier: str, centre: float, spread: float, verdict: str) -> None:
    judged = one(claim(), runs(centre, spread, tier=tier))
    assert judged.verdict == verdict
    assert judged.measured == pytest.approx(100 * centre)
    assert judged.low == pytest.approx(100 * (centre - 2.484138 * spread), abs=1e-4)
    assert judged.high == pytest.approx(100 * (centre + 2.484138 * spread), abs=1e-4)
    assert (judged.tier, judged.scale, judged.seeds, len(judged.records)) == (tier, "full", 3, 3)


def test_inconclusive_says_how_many_more_seeds() -> None:
    # deviation 1 point, margin 1 point: t(6) 1 / sqrt(7) = 0.925 <= 1 < t(5) / sqrt(6) = 1.049, so 7 in all
    judged = one(claim(), runs(0.90, 0.01))
    assert "about 4 more seeds" in judged.why


def test_too_few_seeds_at_a_strict_tier() -> None:
    judged = one(claim(seeds=5), runs(0.90, 0.0001))
    assert judged.verdict == "inconclusive"
    assert "3 seeds of the 5" in judged.why and "2 more" in judged.why
    assert one(claim(seeds=5), runs(0.90, 0.0001, tier="reduced")).verdict == "consistent"


def test_one_seed_has_no_interval() -> None:
    judged = one(claim(), runs(0.90, n=1, tier="reduced"))
    assert (judged.verdict, judged.measured, judged.low, judged.high) == ("inconclusive", pytest.approx(90), None, None)


def test_aggregation_is_the_claims_own() -> None:
    records = [record(value, seed) for seed, value in enumerate([0.90, 0.901, 0.93])]
    assert one(claim(aggregation="median of 5"), records).measured == pytest.approx(90.1)
    assert one(claim(aggregation="single"), records).measured == pytest.approx(91.03, abs=0.01)
    assert one(claim(aggregation="best of 2"), records).measured == pytest.approx((90.1 + 93 + 93) / 3)
    judged = one(claim(aggregation="best of 5"), records)
    assert judged.verdict == "inconclusive" and "2 more" in judged.why


def test_nothing_ran_and_failed_runs_never_count() -> None:
    assert one(claim(), []).verdict == "not run"
    assert one(claim(), runs(0.90, status="failed", reason="it broke")).verdict == "not run"
    assert one(claim(), runs(0.90, variant="other")).verdict == "not run"
    assert one(claim(), runs(0.90, paper="other")).verdict == "not run"
    mixed = [*runs(0.90), record(0.1, 7, status="failed", reason="it broke")]
    assert (one(claim(), mixed).verdict, one(claim(), mixed).seeds) == ("reproduced", 3)


def test_out_of_reach_says_what_it_would_take() -> None:
    judged = one(claim(out_of_reach="8 V100 for 90 hours"), [])
    assert (judged.verdict, judged.why) == ("out of reach", "It would take 8 V100 for 90 hours.")
    assert one(claim(out_of_reach="8 V100 for 90 hours"), runs(0.90)).verdict == "reproduced"


def test_test_server_numbers_are_not_compared() -> None:
    assert one(claim(split="test-server"), runs(0.90)).verdict == "not comparable: split"
    assert one(claim(task="mnli", split="test-server_matched"), []).verdict == "not comparable: split"


def test_made_up_data_never_judges_an_absolute_score() -> None:
    cases: list[dict[str, Any]] = [
        {"scale": "smoke", "tier": "proxy"}, {"scale": "small", "source": "synthetic", "tier": "reduced"},
    ]  # fmt: skip
    for given in cases:
        judged = one(claim(), runs(0.90, **given))
        assert (judged.verdict, judged.measured) == ("not comparable: made-up data", None)


def test_real_data_goes_before_made_up_data() -> None:
    records = [*runs(0.90, tier="proxy", scale="smoke", n=5), *runs(0.90, tier="proxy", scale="small")]
    assert one(claim(), records).scale == "small"


def test_recalled_is_never_not_reproduced() -> None:
    judged = one(claim(transcription="recalled"), runs(0.85))
    assert judged.verdict == "inconclusive" and "recalled" in judged.why
    assert one(claim(transcription="recalled"), runs(0.90)).verdict == "reproduced"
    assert one(claim(transcription="second-hand"), runs(0.85)).verdict == "not reproduced"


def test_an_unstated_metric_is_never_not_reproduced() -> None:
    judged = one(claim(metric_stated=False), runs(0.85))
    assert judged.verdict == "inconclusive" and "which metric" in judged.why


def test_an_undefined_score_counts_as_zero() -> None:
    found = claim(task="cola", metric="matthews", unit="x100", value=0.0)
    records = [record(None, seed, number("matthews", "validation", None), task="cola") for seed in range(3)]
    assert (one(found, records).measured, one(found, records).verdict) == (0.0, "reproduced")


def test_the_closest_tier_answers_and_settings_are_not_pooled() -> None:
    reduced = runs(0.80, n=5, tier="reduced", scale="small")
    assert one(claim(), [*reduced, *runs(0.90)]).tier == "exact"
    other = [record(0.5, seed, rows=7, started="2027-01-01T00:00:00Z") for seed in range(2)]
    judged = one(claim(), [*runs(0.90), *other])
    assert (judged.seeds, judged.measured) == (3, pytest.approx(90))


def test_a_repeated_seed_counts_once_with_its_newest_run() -> None:
    again = record(0.93, 0, started="2026-02-01T00:00:00Z").model_copy(update={"id": "again"})
    judged = one(claim(), [*runs(0.90), again])
    assert judged.seeds == 3 and "again" in judged.records
    assert judged.measured == pytest.approx(91)


def test_models_of_another_size_are_not_pooled() -> None:
    big = [record(0.90, seed, number("parameters", "all", 66e6)) for seed in range(3)]
    small = [record(0.50, seed, number("parameters", "all", 4e6)) for seed in range(3, 5)]
    assert one(claim(), big + small).measured == pytest.approx(90)


def test_the_released_checkpoint_answers_for_the_variant() -> None:
    released = runs(0.90, variant="toy-released", tier="checkpoint")
    assert one(claim(), released).verdict == "not run"
    judged = one(claim(), [*released, *runs(0.80, tier="reduced")], released={"toy": "toy-released"})
    assert (judged.verdict, judged.tier) == ("reproduced", "checkpoint")
    assert "authors' checkpoint" in judged.why


# Averages, retention, differences


def average_claim(**given: Any) -> Claim:
    return claim(**{"task": "", "metric": "average", "tasks": (SST2, RTE), "value": 75.0, **given})


def test_an_average_takes_all_its_tasks() -> None:
    sst2, rte = runs(0.90), runs(0.60, task="rte")
    judged = one(average_claim(), [*sst2, *rte])
    assert (judged.verdict, judged.measured, len(judged.records)) == ("reproduced", pytest.approx(75), 6)
    judged = one(average_claim(), sst2)
    assert judged.verdict == "not run" and "missing rte of the 2 tasks" in judged.why
    assert one(average_claim(value=None, kind="ordering", order=("a", "b"), unit=""), sst2).verdict == "not run"


def test_an_average_stays_within_one_session_but_may_limit_one_task() -> None:
    sst2 = runs(0.90, budget={"limit": 50})
    assert one(average_claim(), [*sst2, *runs(0.60, task="rte")]).verdict == "reproduced"
    assert one(average_claim(), [*sst2, *runs(0.60, task="rte", budget={"corpus": 9})]).verdict == "not run"


def test_heads_of_other_sizes_are_one_session() -> None:
    sst2 = [record(0.90, seed, number("parameters", "all", 4_450_100)) for seed in range(3)]
    rte = [record(0.60, seed, number("parameters", "all", 4_449_900), task="rte") for seed in range(3)]
    assert one(average_claim(), sst2 + rte).verdict == "reproduced"
    other = [record(0.60, seed, number("parameters", "all", 11e6), task="rte") for seed in range(3)]
    assert one(average_claim(), sst2 + other).verdict == "not run"


def kept(**given: Any) -> Claim:
    fields = {"kind": "retention", "derive": "percent_of", "reference": "toy.t", "value": 97.0, "unit": "% of"}
    return claim(**(fields | given))


def taught(ratios: Sequence[float], teacher: float = 0.5, **given: Any) -> list[Record]:
    return [record(teacher * ratio, seed, taught=teacher, **given) for seed, ratio in enumerate(ratios)]


@pytest.mark.parametrize(("ratios", "tier", "verdict"), [
    ((0.97, 0.971, 0.969), "exact", "reproduced"),
    ((1.02, 1.021, 1.019), "exact", "exceeded"),
    ((0.90, 0.901, 0.899), "exact", "not reproduced"),
    ((0.90, 0.901, 0.899), "reduced", "not seen"),
    ((1.02, 1.021, 1.019), "reduced", "consistent"),
    ((0.97, 1.07, 0.87), "reduced", "inconclusive"),
    ((0.97,), "reduced", "inconclusive"),
])  # fmt: skip
def test_retention_is_paired_with_the_own_teacher(ratios: tuple[float, ...], tier: str, verdict: str) -> None:
    judged = one(kept(), taught(ratios, tier=tier))
    assert judged.verdict == verdict
    assert judged.measured == pytest.approx(100 * ratios[0], rel=0.01)


def test_retention_needs_the_teacher_and_prefers_its_record() -> None:
    assert one(kept(), runs(0.90)).verdict == "inconclusive"
    teachers = [record(0.8, seed, paper="bert", variant="bert") for seed in range(2)]
    students = [record(0.776, seed, teacher=teachers[seed].id, taught=0.1) for seed in range(2)]
    judged = one(kept(seeds=2), [*teachers, *students])
    assert (judged.verdict, judged.measured) == ("reproduced", pytest.approx(97))


def test_the_link_to_a_teacher_holds_its_score_on_the_first_split_only() -> None:
    found = kept(task="mnli", split="validation_mismatched")
    both = [number("accuracy", f"validation_{name}", 0.776) for name in ("matched", "mismatched")]
    students = [record(None, seed, *both, task="mnli", taught=0.8) for seed in range(3)]
    assert one(found, students).verdict == "inconclusive"
    assert one(kept(task="mnli", split="validation_matched"), students).verdict == "reproduced"


def test_a_teacher_of_zero_gives_no_ratio() -> None:
    judged = one(kept(), [record(0.5, seed, taught=0.0) for seed in range(3)])
    assert judged.verdict == "inconclusive" and "0 or less" in judged.why


def test_retention_on_made_up_data_is_a_proxy() -> None:
    judged = one(kept(), taught((0.97, 0.971), scale="smoke", tier="proxy"))
    assert (judged.verdict, judged.tier) == ("consistent", "proxy")


def test_retention_of_an_average_lists_what_is_missing() -> None:
    found = kept(task="", metric="average", tasks=(SST2, RTE))
    judged = one(found, taught((0.97, 0.98)))
    assert judged.verdict == "not run" and "Not run: missing rte" in judged.why
    both = [*taught((0.96, 0.96, 0.96)), *taught((0.98, 0.98, 0.98), task="rte")]
    assert one(found, both).measured == pytest.approx(97)


def test_a_difference_is_paired_under_one_budget() -> None:
    full = claim(id="toy.full")
    less = claim(id="toy.less", variant="toy-less", value=-3.0, unit="points", derive="difference_to",
                 reference="toy.full")  # fmt: skip
    noise = (0.0, 0.05, -0.05)  # shared by both sides, so it cancels
    base = [record(0.90 + e, seed) for seed, e in enumerate(noise)]
    lost = (0.03, 0.031, 0.029)
    cut = [record(0.90 + noise[seed] - lost[seed], seed, variant="toy-less") for seed in range(3)]

    def verdict(records: list[Record]) -> Judged:
        return judge([ledger(full, less)], records)[1]

    judged = verdict(base + cut)
    assert (judged.verdict, judged.measured) == ("reproduced", pytest.approx(-3))
    assert verdict(base).verdict == "not run"
    assert verdict(cut).verdict == "not run"
    other = [entry.model_copy(update={"hyper": {"lr": 1e-4, "budget": {"limit": 9}}}) for entry in cut]
    assert verdict(base + other).verdict == "not comparable: budget"
    smoke = [record(0.9, s, scale="smoke", tier="proxy", variant=v) for s in range(3) for v in ("toy", "toy-less")]
    assert verdict(smoke).verdict == "not comparable: made-up data"
    shown = [entry.model_copy(update={"tier": "reduced"}) for entry in base + cut]
    assert verdict(shown).verdict == "consistent"


def test_a_difference_to_the_teacher_uses_the_own_teacher() -> None:
    teacher = claim(id="toy.teacher", variant="bert", made_by="bert")
    gap = claim(id="toy.gap", value=-1.0, unit="points", derive="difference_to", reference="toy.teacher")
    teachers = [record(0.9 + 0.01 * s, s, paper="bert", variant="bert") for s in range(3)]
    students = [record(0.89 + 0.01 * s, s, teacher=teachers[s].id) for s in range(3)]
    assert judge([ledger(teacher, gap)], [*teachers, *students])[1].verdict == "reproduced"


# Size, speed, cost


@pytest.mark.parametrize(("millions", "scale", "tier", "verdict"), [
    (66.36, "shape", "exact", "reproduced"),
    (66.95, "full", "reduced", "reproduced"),  # a count does not depend on training
    (60.0, "shape", "exact", "not reproduced"),
    (70.0, "shape", "exact", "not reproduced"),
    (66.36, "small", "reduced", "not run"),
    (66.36, "smoke", "proxy", "not run"),
])  # fmt: skip
def test_absolute_sizes_need_the_real_shape(millions: float, scale: str, tier: str, verdict: str) -> None:
    judged = one(size_claim(), [record(0.9, 0, number("parameters", "all", millions * 1e6), scale=scale, tier=tier)])
    assert judged.verdict == verdict
    assert judged.measured == (None if verdict == "not run" else pytest.approx(millions))
    assert ("shape" in judged.why) or verdict != "not run"


def test_the_released_model_has_the_variants_size() -> None:
    records = [record(0.9, 0, number("parameters", "all", 66.4e6), variant="toy-released", tier="checkpoint")]
    assert one(size_claim(), records, released={"toy": "toy-released"}).verdict == "reproduced"


@pytest.mark.parametrize(("ratio", "scale", "verdict", "tier"), [
    (0.606, "shape", "reproduced", "exact"),
    (0.50, "shape", "exceeded", "exact"),
    (0.70, "full", "not reproduced", "exact"),
    (0.606, "small", "consistent", "reduced"),
    (0.50, "small", "consistent", "reduced"),
    (0.70, "small", "not seen", "reduced"),
    (0.606, "smoke", "consistent", "proxy"),
])  # fmt: skip
def test_forty_percent_fewer(ratio: float, scale: str, verdict: str, tier: str) -> None:
    found = size_claim(metric="parameters_ratio", split="teacher", value=40, unit="% fewer")
    judged = one(found, [record(0.9, 0, number("parameters_ratio", "teacher", ratio), scale=scale)])
    assert (judged.verdict, judged.tier) == (verdict, tier)
    assert judged.measured == pytest.approx(100 * (1 - ratio))


def test_a_speedup_on_another_device_is_a_proxy() -> None:
    values = (1.6, 1.61, 1.59)
    records = [record(0.9, s, number("speedup", "batch1-length128", v), scale="shape") for s, v in enumerate(values)]
    judged = one(speed_claim(device="E5-2690 v3"), records)
    assert (judged.verdict, judged.tier, judged.seeds) == ("consistent", "proxy", 3)
    assert judged.measured == pytest.approx(60, abs=0.1) and "machine m1" in judged.why
    device = {"machine": "x", "cpu": "Intel(R) Xeon(R) CPU E5-2690 v3"}
    same = [entry.model_copy(update={"environment": device}) for entry in records]
    assert one(speed_claim(device="E5-2690 v3"), same).verdict == "reproduced"


def test_a_single_run_is_judged_by_its_rounds_and_slow_is_not_seen() -> None:
    fast = number("speedup", "batch1-length128", 2.5, [2.5, 2.51, 2.49])
    assert one(speed_claim(), [record(0.9, 0, fast, scale="smoke", tier="proxy")]).verdict == "consistent"
    slow = number("speedup", "batch1-length128", 1.2, [1.2, 1.21, 1.19])
    assert one(speed_claim(), [record(0.9, 0, slow, scale="small", tier="reduced")]).verdict == "not seen"
    noisy = number("speedup", "batch1-length128", 1.5, [1.0, 2.0, 1.6])
    judged = one(speed_claim(), [record(0.9, 0, noisy)])
    assert judged.verdict == "inconclusive" and "more rounds" in judged.why


def test_times_of_two_machines_are_not_pooled() -> None:
    def timed(seed: int, value: float, machine: str) -> Record:
        return record(0.9, seed, number("speedup", "batch1-length128", value), environment={"machine": machine})

    judged = one(speed_claim(), [timed(0, 1.6, "a"), timed(1, 1.61, "a"), timed(2, 9.0, "b")])
    assert judged.measured == pytest.approx(60.5, abs=0.1) and "machine a" in judged.why


def test_cost_is_out_of_reach_without_a_full_run() -> None:
    found = claim(kind="cost", task="", split="all", metric="training_seconds", value=90, unit="hours",
                  out_of_reach="720 device-hours")  # fmt: skip
    cheap = [record(0.9, 0, number("training_seconds", "all", 60.0), scale="small")]
    assert one(found, cheap).verdict == "out of reach"


# Orderings

CHAIN = ("toy-random", "toy-cut", "toy")


def ordering(**given: Any) -> Claim:
    fields = {"kind": "ordering", "task": "", "metric": "average", "tasks": (SST2, RTE), "order": CHAIN, "value": None,
              "unit": "", "seeds": 5}  # fmt: skip
    return claim(**(fields | given))


def field_day(means: dict[str, float], spread: float = 0.002, n: int = 5, **given: Any) -> list[Record]:
    """Both tasks; the spread is of the differences, a far larger noise is shared by all variants."""
    shared = [0.0, 0.1, -0.1, 0.05, -0.05]
    own = {"toy-random": [0, 1, -1, 1, -1], "toy-cut": [0, 0, 0, 0, 0], "toy": [0, -1, 1, 1, -1]}
    return [
        record(centre + shared[seed] + spread * own[variant][seed], seed, variant=variant, task=task, **given)
        for variant, centre in means.items()
        for task in ("sst2", "rte")
        for seed in range(n)
    ]


def test_an_ordering_is_seen_pair_by_pair() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}
    judged = one(ordering(), field_day(good, tier="reduced", scale="small"))
    assert (judged.verdict, judged.tier, judged.seeds, len(judged.records)) == ("consistent", "reduced", 5, 30)
    assert judged.measured == pytest.approx(2.0)  # the smallest step, in points
    assert judged.low == pytest.approx(2.0 - 1.241664 * 0.2, abs=1e-4)
    assert one(ordering(), field_day(good)).verdict == "reproduced"


def test_an_ordering_the_other_way_round() -> None:
    bad = {"toy-random": 0.60, "toy-cut": 0.65, "toy": 0.62}
    judged = one(ordering(), field_day(bad, tier="reduced", scale="small"))
    assert judged.verdict == "not seen" and "toy over toy-cut by -3.00" in judged.why
    assert one(ordering(), field_day(bad)).verdict == "not reproduced"
    assert one(ordering(transcription="recalled"), field_day(bad)).verdict == "inconclusive"


def test_an_ordering_within_noise_says_how_many_more_seeds() -> None:
    close = {"toy-random": 0.60, "toy-cut": 0.601, "toy": 0.65}
    judged = one(ordering(), field_day(close))
    # deviation 0.2, difference 0.1 points: t(n-1) 0.2 / sqrt(n) <= 0.1 first at n = 18, 13 more
    assert judged.verdict == "inconclusive" and "about 13 more seeds" in judged.why


def test_an_ordering_takes_five_seeds() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}
    judged = one(ordering(), field_day(good, n=3))
    assert judged.verdict == "inconclusive" and "takes 5, 2 more" in judged.why
    assert one(ordering(), field_day(good, n=1)).measured is None


def test_an_ordering_over_fewer_tasks_is_reduced() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}
    only = [entry for entry in field_day(good) if entry.spec.task == "sst2"]
    judged = one(ordering(), only)
    assert (judged.verdict, judged.tier) == ("consistent", "reduced") and "over sst2 with" in judged.why


def test_an_ordering_needs_every_side_one_budget_and_real_data() -> None:
    good = {"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}
    records = field_day(good)
    judged = one(ordering(), [r for r in records if r.spec.variant != "toy-cut"])
    assert judged.verdict == "not run" and "toy-cut" in judged.why
    less = {"hyper": {"budget": {"limit": 5}}}
    limited = [entry.model_copy(update=less if entry.spec.variant == "toy" else {}) for entry in records]
    assert one(ordering(), limited).verdict == "not comparable: budget"
    fewer = field_day({"toy": 0.65}, rows=50) + field_day({"toy-random": 0.6, "toy-cut": 0.62})
    assert one(ordering(), fewer).verdict == "not comparable: budget"
    smoke = field_day(good, scale="smoke", tier="proxy")
    assert one(ordering(), smoke).verdict == "not comparable: made-up data"


def test_variants_may_differ_in_their_settings_but_not_in_their_budget() -> None:
    records = field_day({"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65})
    tuned = [r.model_copy(update={"hyper": {**r.hyper, "weight_ce": r.spec.variant}}) for r in records]
    assert one(ordering(), tuned).verdict == "reproduced"


# The whole


def test_counts_and_rows() -> None:
    book = ledger(claim(), claim(id="toy.d", split="test-server"), ordering(id="toy.o"))
    judged = judge([book], runs(0.90))
    assert counts(judged) == {"reproduced": 1, "not comparable: split": 1, "not run": 1}
    rows = as_json(judged, [book])
    assert [row["id"] for row in rows] == ["toy.c", "toy.d", "toy.o"]
    assert set(Claim.model_fields) <= rows[0].keys()
    assert rows[0]["band"] == pytest.approx([89, 91]) and rows[2]["band"] is None
    assert rows[0]["tolerance"] == {"absolute": 0.01, "relative": 0.0, "why": "a point"}


def test_a_misprint_is_told_and_two_ledgers_share_no_id() -> None:
    cells = [claim(id="toy.r.sst2"), claim(id="toy.r.rte", task="rte", value=60.0)]
    book = ledger(*cells, average_claim(id="toy.r.score", value=76.0, misprint="A digit is wrong."))
    judged = judge([book], [])
    assert "76 is 75.00 by its own cells: A digit is wrong." in judged[2].why
    assert as_json(judged, [book])[2]["recomputed"] == 75.0
    with pytest.raises(ClaimError, match="double id"):
        judge([book, book], [])


def test_order_of_records_does_not_matter() -> None:
    records = [*runs(0.90), *field_day({"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}, rows=9)]
    book = ledger(claim(), ordering(id="toy.o"))
    assert judge([book], records) == judge([book], records[::-1])


def test_twenty_thousand_records_and_eight_hundred_claims_in_two_seconds() -> None:
    tasks = ("sst2", "rte", "wnli", "qnli")
    found = [claim(id=f"toy.c{i}", variant=f"v{i % 20}", task=tasks[i % 4], value=50 + i % 40) for i in range(760)]
    found += [ordering(id=f"toy.o{i}", variant="v2", order=("v0", "v1", "v2")) for i in range(20)]
    found += [speed_claim(id=f"toy.s{i}", variant=f"v{i}") for i in range(20)]
    noise = [number(f"m{i}", "all", 1.0) for i in range(20)] + [number("speedup", "batch1-length128", 1.6)]
    scores = [number("accuracy", "validation", 0.5 + seed / 1000) for seed in range(250)]
    first = record(0.5)
    records = [  # copies, because building so many from scratch takes longer than judging them
        first.model_copy(update={
            "id": f"{variant}-{task}-{seed}", "measurements": [*noise, scores[seed]], "hyper": dict(first.hyper),
            "spec": RunSpec(paper="toy", variant=variant, task=task, scale="full", seed=seed),
        })
        for variant in (f"v{i}" for i in range(20)) for task in tasks for seed in range(250)
    ]  # fmt: skip
    assert (len(found), len(records)) == (800, 20_000)
    judge([ledger(claim())], records[:10])  # scipy is imported once
    start = time.process_time()
    judged = judge([ledger(*found)], records)
    assert time.process_time() - start < 2.0
    assert len(judged) == 800 and not any(entry.verdict == "not run" for entry in judged)
