"""Verdicts worked by hand on averages, ratios, sizes, speeds and orderings; see test_verdict for the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from worked_records import (
    RTE,
    SST2,
    average_claim,
    claim,
    ledger,
    number,
    one,
    record,
    runs,
    size_claim,
    speed_claim,
)

from bench.claims.claim import Claim
from bench.core.record import Record
from bench.judge.rules import Judged
from bench.judge.runs import runs_of
from bench.judge.series import SeriesIndex
from bench.judge.verdict import judge

# Averages, retention, differences


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
    ((0.97, 0.971, 0.969), "reduced", "consistent"),
    ((1.02, 1.021, 1.019), "reduced", "better"),
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


def test_retention_is_beside_the_teacher_that_was_printed() -> None:
    printed = [claim(id="toy.t", variant="bert", value=80.0), kept()]
    verdicts = []
    for variant in ("bert", "another"):
        teachers = [record(0.8, seed, paper="bert", variant=variant) for seed in range(3)]
        students = [record(0.776 + 0.0001 * seed, seed, teacher=teachers[seed].id) for seed in range(3)]
        judged = judge([ledger(*printed)], runs_of([*teachers, *students]))
        verdicts.append(judged[-1].verdict)
    assert verdicts == ["reproduced", "not comparable: another teacher"] and "learn from another" in judged[-1].why


def test_the_link_to_a_teacher_holds_its_score_on_the_first_split_only() -> None:
    found = kept(task="mnli", split="validation_mismatched")
    both = [number("accuracy", f"validation_{name}", 0.776) for name in ("matched", "mismatched")]
    students = [record(None, seed, *both, task="mnli", taught=0.8) for seed in range(3)]
    assert one(found, students).verdict == "inconclusive"
    assert one(kept(task="mnli", split="validation_matched"), students).verdict == "reproduced"


def test_a_teacher_of_zero_gives_no_ratio() -> None:
    judged = one(kept(), [record(0.5, seed, taught=0.0) for seed in range(3)])
    assert judged.verdict == "inconclusive" and "score above 0 of its own teacher" in judged.why


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
        return judge([ledger(full, less)], runs_of(records))[1]

    judged = verdict(base + cut)
    assert (judged.verdict, judged.measured) == ("reproduced", pytest.approx(-3))
    assert verdict(base).verdict == "not run"
    assert verdict(cut).verdict == "not run"
    other = [entry.model_copy(update={"hyper": {"lr": 1e-4, "budget": {"limit": 9}}}) for entry in cut]
    assert verdict(base + other).verdict == "not comparable: budget"
    smoke = [record(0.9, s, scale="smoke", tier="proxy", variant=v) for s in range(3) for v in ("toy", "toy-less")]
    assert verdict(smoke).verdict == "not comparable: made-up data"
    shown = [entry.model_copy(update={"tier": "reduced"}) for entry in base + cut]
    assert verdict(shown).verdict == "not comparable: budget"


def test_a_difference_to_the_teacher_uses_the_own_teacher() -> None:
    teacher = claim(id="toy.teacher", variant="bert", made_by="bert")
    gap = claim(id="toy.gap", value=-1.0, unit="points", derive="difference_to", reference="toy.teacher")
    teachers = [record(0.9 + 0.01 * s, s, paper="bert", variant="bert") for s in range(3)]
    students = [record(0.89 + 0.01 * s, s, teacher=teachers[s].id) for s in range(3)]
    assert judge([ledger(teacher, gap)], runs_of([*teachers, *students]))[1].verdict == "reproduced"


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


def test_a_guessed_architecture_is_no_evidence_but_a_known_one_beside_it_is() -> None:
    size = number("parameters", "all", 66.36e6)
    guessed = record(0.9, 0, size, scale="shape", hyper={"guessed": "its width was chosen to meet the total"})
    judged = one(size_claim(), [guessed])
    assert judged.verdict == "out of reach" and "chosen to meet the total" in judged.why and judged.measured is None
    assert one(size_claim(), [guessed, record(0.9, 1, size, scale="small")]).verdict == "out of reach"
    assert one(size_claim(), [guessed, record(0.9, 1, size, scale="shape")]).verdict == "reproduced"


def test_the_released_model_has_the_variants_size() -> None:
    records = [record(0.9, 0, number("parameters", "all", 66.4e6), variant="toy-released", tier="checkpoint")]
    assert one(size_claim(), records, released={"toy": "toy-released"}).verdict == "reproduced"


@pytest.mark.parametrize(("ratio", "scale", "verdict", "tier"), [
    (0.606, "shape", "reproduced", "exact"),
    (0.50, "shape", "exceeded", "exact"),
    (0.70, "full", "not reproduced", "exact"),
    (0.606, "small", "consistent", "reduced"),
    (0.50, "small", "better", "reduced"),
    (0.70, "small", "not seen", "reduced"),
    (0.606, "smoke", "consistent", "proxy"),
])  # fmt: skip
def test_forty_percent_fewer(ratio: float, scale: str, verdict: str, tier: str) -> None:
    found = size_claim(metric="parameters_ratio", split="teacher", value=40, unit="% fewer")
    judged = one(found, [record(0.9, 0, number("parameters_ratio", "teacher", ratio), scale=scale)])
    assert (judged.verdict, judged.tier) == (verdict, tier)
    assert judged.measured == pytest.approx(100 * (1 - ratio))


def test_a_ratio_to_a_teacher_of_the_papers_own_says_nothing_of_the_reference() -> None:
    found = size_claim(metric="parameters_ratio", split="teacher", value=40, unit="% fewer")
    ratio = number("parameters_ratio", "teacher", 0.606)
    for paper, verdict in (("bert", "consistent"), ("toy", "not run")):
        teacher = record(0.9, 0, paper=paper, variant="large", scale="small")
        student = record(0.9, 0, ratio, teacher=teacher.id, scale="small")
        judged = one(found, [teacher, student])
        assert judged.verdict == verdict
    assert "beside a teacher of the paper's own" in judged.why


def timed(value: float, spread: float = 0.01, **given: Any) -> Record:
    """A session at shape with three timings."""
    entry = number("speedup", "batch1-length128", value, [value, value + spread, value - spread])
    return record(None, 0, entry, **{"scale": "shape", "task": "shape", **given})


def test_a_speedup_on_another_device_is_a_proxy() -> None:
    session = timed(1.6)
    judged = one(speed_claim(device="E5-2690 v3"), [session])
    assert (judged.verdict, judged.tier, judged.seeds) == ("consistent", "proxy", 1)
    assert judged.measured == pytest.approx(60, abs=0.1) and "machine m1" in judged.why
    device = {"machine": "x", "cpu": "Intel(R) Xeon(R) CPU E5-2690 v3"}
    same = session.model_copy(update={"environment": device})
    assert one(speed_claim(device="E5-2690 v3", seeds=3), [same]).verdict == "reproduced"


def test_a_single_run_is_judged_by_its_rounds_and_slow_is_not_seen() -> None:
    fast = number("speedup", "batch1-length128", 2.5, [2.5, 2.51, 2.49])
    assert one(speed_claim(), [record(0.9, 0, fast, scale="smoke", tier="proxy")]).verdict == "better"
    slow = number("speedup", "batch1-length128", 1.2, [1.2, 1.21, 1.19])
    assert one(speed_claim(), [record(0.9, 0, slow, scale="small", tier="reduced")]).verdict == "not seen"
    noisy = number("speedup", "batch1-length128", 1.6, [1.5, 1.7, 1.6])
    judged = one(speed_claim(), [record(0.9, 0, noisy)])
    assert judged.verdict == "inconclusive" and "more timings" in judged.why


def test_the_noise_floor_widens_the_interval_both_ways() -> None:
    ratio = number("speedup", "batch1-length128", 1.6, [1.6, 1.61, 1.59])

    def judged(floor: float) -> Judged:
        pair = number("aa_ratio", "batch1-length128", floor)
        return one(speed_claim(), [record(0.9, 0, ratio, pair, scale="shape")])

    quiet, noisy = judged(1.0), judged(1 / 1.25)
    assert quiet.verdict == "consistent" and "wider" not in quiet.why
    assert quiet.low is not None and quiet.high is not None and noisy.low is not None and noisy.high is not None
    assert 1 + noisy.low / 100 == pytest.approx((1 + quiet.low / 100) / 1.25)
    assert 1 + noisy.high / 100 == pytest.approx((1 + quiet.high / 100) * 1.25)
    assert noisy.verdict == "inconclusive" and "25.0% wider each way" in noisy.why


def session(value: float, day: int, machine: str = "a", **given: Any) -> Record:
    environment = {"machine": machine, **given.pop("environment", {})}
    return timed(value, started=f"2026-01-{day:02d}T00:00:00Z", environment=environment, **given)


def test_the_newest_full_session_speaks_and_a_quick_one_never_for_it() -> None:
    full, later, quick = session(1.6, 1), session(1.7, 2), session(9.0, 3, tier="reduced")
    records = [entry.model_copy(update={"id": f"r{i}"}) for i, entry in enumerate((full, later, quick))]
    judged = one(speed_claim(), records)
    assert judged.measured == pytest.approx(70, abs=0.1) and judged.records == ("r1",)
    assert "in a full session" in judged.why
    judged = one(speed_claim(), records[2:])
    assert judged.measured == pytest.approx(800, abs=1) and "in a quick session" in judged.why


def test_a_machine_run_on_its_processor_is_another_one() -> None:
    gpu = {"gpus": ["H100"], "device": "cuda"}
    records = [session(2.0, 1, environment=gpu), session(2.02, 2, environment=gpu),
               session(6.1, 3, environment=gpu | {"device": "cpu"})]  # fmt: skip
    index = SeriesIndex(runs_of([entry.model_copy(update={"id": f"r{i}"}) for i, entry in enumerate(records)]))
    found = index.timings(("toy", "toy"), "speedup", "batch1-length128")
    assert [(timing.machine, [run.id for run in timing.runs]) for timing in found] == [
        ("a-on-cpu", ["r2"]), ("a", ["r1"])]  # fmt: skip


def test_the_machine_with_most_models_measured_speaks_for_all() -> None:
    records = [session(1.6, 1, "wide"), session(1.6, 1, "wide", variant="other"), session(3.0, 9, "narrow")]
    judged = one(speed_claim(), [entry.model_copy(update={"id": f"r{i}"}) for i, entry in enumerate(records)])
    assert "machine wide" in judged.why


def test_what_is_measured_at_shape_answers_claims_of_any_task() -> None:
    size = number("parameters", "packed", 66e6)
    packed = size_claim(task="sst2", split="packed")
    at_shape = record(0.9, 0, size, scale="shape", task="shape", tier="exact")
    assert one(packed, [at_shape]).verdict == "reproduced"
    assert one(packed, [record(0.9, 0, size, scale="full", task="mrpc")]).verdict == "not run"


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
