"""Verdicts worked by hand: every branch of the rules, on records made for it.

Three values a, a + d, a - d have mean a, deviation d and t interval a +/- 2.484138 d; five values
a, a +/- d, a +/- d have deviation d and interval a +/- 1.241664 d (t(4) = 2.776445).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from worked_records import (
    average_claim,
    claim,
    field_day,
    ledger,
    number,
    one,
    ordering,
    record,
    runs,
    size_claim,
    speed_claim,
)

from bench.claims.claim import Claim
from bench.core.record import Measurement, Record, RunSpec, TeacherLink
from bench.judge.rules import counts, holm
from bench.judge.runs import runs_of
from bench.judge.scores import ScoreBook
from bench.judge.series import SeriesIndex
from bench.judge.verdict import judge
from bench.report.listing import claim_rows

# Absolute quality


@pytest.mark.parametrize(("tier", "centre", "spread", "verdict"), [
    ("exact", 0.900, 0.001, "reproduced"),      # 89.75-90.25 inside 89-91
    ("checkpoint", 0.905, 0.001, "reproduced"),
    ("exact", 0.930, 0.001, "exceeded"),        # 92.75-93.25
    ("exact", 0.850, 0.001, "not reproduced"),  # 84.75-85.25
    ("exact", 0.900, 0.010, "inconclusive"),    # 87.5-92.5
    ("exact", 0.912, 0.001, "inconclusive"),    # 90.95-91.45 crosses 91
    ("reduced", 0.900, 0.001, "not comparable: budget"),  # an absolute score of runs that are not the paper's
    ("proxy", 0.930, 0.001, "not comparable: budget"),
])  # fmt: skip
def test_quality(tier: str, centre: float, spread: float, verdict: str) -> None:
    judged = one(claim(), runs(centre, spread, tier=tier))
    assert judged.verdict == verdict
    if verdict.startswith("not comparable"):
        assert judged.measured is None and "smaller budget or other settings" in judged.why
        return
    assert judged.measured == pytest.approx(100 * centre)
    assert judged.low == pytest.approx(100 * (centre - 2.484138 * spread), abs=1e-4)
    assert judged.high == pytest.approx(100 * (centre + 2.484138 * spread), abs=1e-4)
    assert (judged.tier, judged.scale, judged.seeds, len(judged.records)) == (tier, "full", 3, 3)


def test_inconclusive_says_how_many_more_seeds() -> None:
    judged = one(claim(), runs(0.90, 0.01))
    assert re.search(r"crosses an edge of the band\. About \d+ more seeds would settle it \(80% power\)\.", judged.why)


def test_advice_counts_the_correction_for_the_other_claims_of_the_paper() -> None:
    """What sets a number apart has to stand among all: that takes more seeds than it would alone."""
    far = claim(value=88.5)  # the runs are at 90, their interval crosses 89.5
    others = [claim(id=f"toy.t1.other{place}.sst2", variant="other") for place in range(20)]
    records = [*runs(0.90, 0.003), *runs(0.90, variant="other")]
    alone, among = (next(entry for entry in judge([ledger(far, *more)], runs_of(records)) if entry.claim == far)
                    for more in ((), others))  # fmt: skip
    first, second = (
        re.search(r"About (\d+) more seeds would settle it \((.*)\)\.", entry.why) for entry in (alone, among)
    )
    assert first and second and int(second[1]) > int(first[1])
    assert first[2] == "80% power" and second[2] == "80% power, after Holm's correction over 21 claims"


def test_what_holms_correction_turns_says_how_many_seeds_would_stand() -> None:
    far = claim(value=88.5)
    others = [claim(id=f"toy.t1.other{place}.sst2", variant="other") for place in range(40)]
    records = [*runs(0.90, 0.0017), *runs(0.90, variant="other")]
    assert one(far, records).verdict == "exceeded"
    entry = next(entry for entry in judge([ledger(far, *others)], runs_of(records)) if entry.claim == far)
    assert entry.verdict == "inconclusive" and re.search(
        r"Holm's correction p is [\d.]+\. About \d+ more seeds", entry.why
    )


def test_too_few_seeds_at_a_strict_tier() -> None:
    judged = one(claim(seeds=5), runs(0.90, 0.0001))
    assert judged.verdict == "inconclusive"
    assert "3 of the 5 seeds" in judged.why and "2 more" in judged.why


def test_one_seed_has_no_interval() -> None:
    judged = one(claim(seeds=1), runs(0.90, n=1))
    assert (judged.verdict, judged.measured, judged.low, judged.high) == ("inconclusive", pytest.approx(90), None, None)


def test_the_claims_own_aggregate_is_shown_and_the_interval_is_of_the_mean() -> None:
    records = [record(value, seed) for seed, value in enumerate([0.90, 0.901, 0.93])]
    median, single = one(claim(aggregation="median of 5"), records), one(claim(aggregation="single"), records)
    assert median.measured == pytest.approx(90.1) and single.measured == pytest.approx(91.03, abs=0.01)
    assert (median.low, median.high, median.verdict) == (single.low, single.high, single.verdict)
    with pytest.raises(ValidationError):
        claim(aggregation="best of 5")  # not offered: no interval of a best of k holds what it says


def test_no_interval_is_narrower_than_one_dev_example() -> None:
    same = Measurement(metric="accuracy", split="validation", value=0.8972, unit="fraction", n=100)
    alike = [record(None, seed, same) for seed in range(3)]
    judged = one(claim(), alike)
    assert judged.low == pytest.approx(89.22) and judged.high == pytest.approx(90.22)
    assert judged.verdict == "reproduced" and judged.p is not None and 0 < judged.p < 0.05


# Runs that guess


def seeded(values: Sequence[float], majority: float = 0.5, n: int = 1000, **given: Any) -> list[Record]:
    """One run per accuracy, with the majority class's share beside it."""
    return [
        record(None, seed, *(Measurement(metric=name, split="validation", value=found, unit="fraction", n=n)
                             for name, found in (("accuracy", value), ("majority", majority))), **given)
        for seed, value in enumerate(values)
    ]  # fmt: skip


def test_degenerate_seeds_are_left_out_and_counted_and_both_must_agree() -> None:
    good = [0.900, 0.901, 0.899, 0.9005, 0.8995, 0.900, 0.901, 0.899]
    assert one(claim(), seeded(good)).verdict == "reproduced"
    judged = one(claim(), seeded([*good, 0.5]))
    assert judged.verdict == "reproduced" and "the interval lies inside the band" in judged.why
    assert "without the 1 that look degenerate; all counted, measured 89.99" in judged.why
    assert judged.measured == pytest.approx(90.0) and judged.seeds == 8 and len(judged.records) == 9
    judged = one(claim(), seeded([*good[:3], *[0.5] * 3]))  # all six trimmed by three: nothing left but their mean, 70
    assert judged.verdict == "inconclusive" and "the two do not agree" in judged.why


def test_a_model_that_guesses_is_no_evidence_either_way() -> None:
    # 51% of 1,000 rows with a majority of 50%: guessing reaches 52.6% in one of twenty tries.
    judged = one(claim(value=51.0), seeded([0.51, 0.511, 0.509]))
    assert judged.verdict == "inconclusive: at chance" and "the model on sst2" in judged.why
    assert one(claim(value=53.0), seeded([0.53, 0.531, 0.529])).verdict == "reproduced"


def test_the_majority_is_a_fact_of_the_split_that_any_run_tells() -> None:
    silent = [run.model_copy(update={"measurements": run.measurements[:1]}) for run in seeded([0.51, 0.511, 0.509])]
    assert one(claim(value=51.0), silent).verdict == "reproduced"
    teller = seeded([0.9], variant="other")
    assert one(claim(value=51.0), [*silent, *teller]).verdict == "inconclusive: at chance"


def test_a_teacher_that_guesses_is_no_evidence_either() -> None:
    kept = claim(kind="retention", derive="percent_of", reference="teacher", value=100.0, unit="% of")
    teachers = seeded([0.51, 0.511, 0.509], paper="bert", variant="bert")
    students = [run.model_copy(update={"teacher": TeacherLink(record=teachers[run.spec.seed].id)})
                for run in seeded([0.60, 0.601, 0.599])]  # fmt: skip
    judged = one(kept, [*teachers, *students])
    assert judged.verdict == "inconclusive: at chance" and "the teacher on sst2" in judged.why


# Many claims


def test_among_many_claims_luck_is_corrected_for() -> None:
    """Ten claims; one lies under its band with p = 0.02, which one of fifty true ones does by luck."""
    found = [claim(id=f"toy.c{i}", variant=f"v{i}") for i in range(10)]
    others = [entry for i in range(9) for entry in runs(0.90, variant=f"v{i}")]
    apart = runs(0.87794, 0.003, variant="v9")  # (89 - 87.794) / (0.3 / sqrt 3) = 6.96, the t(2) of 0.02
    alone = judge([ledger(found[9])], runs_of(apart))[0]
    assert (alone.verdict, alone.p, alone.p_corrected) == ("not reproduced", pytest.approx(0.02, rel=0.01), alone.p)
    judged = judge([ledger(*found)], runs_of([*others, *apart]))
    assert [entry.verdict for entry in judged] == ["reproduced"] * 9 + ["inconclusive"]
    assert judged[9].p == alone.p and judged[9].p_corrected == pytest.approx(10 * (alone.p or 0))
    assert "(p 0.02)" in judged[9].why and "after Holm's correction p is 0.2." in judged[9].why
    assert all(entry.p_corrected is None for entry in judged[:9])


def test_holm_steps_down() -> None:
    # 3 x 0.01, 2 x 0.02, then 1 x 0.5; never below the one before.
    assert holm({1: 0.5, 2: 0.01, 3: 0.02}) == pytest.approx({2: 0.03, 3: 0.04, 1: 0.5})
    assert holm({1: 0.02, 2: 0.0201}) == pytest.approx({1: 0.04, 2: 0.04})
    assert holm({}) == {}


# Which records


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
    smaller = one(claim(out_of_reach="8 V100 for 90 hours"), runs(0.90, tier="reduced"))
    assert smaller.verdict == "out of reach" and smaller.measured is None
    assert one(claim(out_of_reach="8 V100 for 90 hours"), runs(0.90)).verdict == "reproduced"


@pytest.mark.parametrize("name", ["toy", "toy/sst2"])
def test_what_no_recipe_makes_is_out_of_reach_until_somebody_ran_it(name: str) -> None:
    lacking = ledger(claim()).model_copy(update={"unmade": {name: "a recipe", "toy/rte": "another"}})
    [judged] = judge([lacking], [])
    assert (judged.verdict, judged.why) == ("out of reach", "It would take a recipe.")
    assert judge([lacking], runs_of(runs(0.90)))[0].verdict == "reproduced"
    size = size_claim()
    assert judge([lacking.model_copy(update={"claims": (size,)})], [])[0].verdict == "not run", "no recipe is needed"


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


def test_an_undefined_score_is_a_guess() -> None:
    found = claim(task="cola", metric="matthews", unit="x100", value=0.0)
    records = [record(None, seed, number("matthews", "validation", None), task="cola") for seed in range(3)]
    assert one(found, records).verdict == "inconclusive: at chance"


def test_the_closest_tier_answers_and_settings_are_not_pooled() -> None:
    reduced = runs(0.80, n=5, tier="reduced", scale="small")
    assert one(claim(), [*reduced, *runs(0.90)]).tier == "exact"
    other = [record(0.5, seed, rows=7, started="2027-01-01T00:00:00Z") for seed in range(2)]
    judged = one(claim(), [*runs(0.90), *other])
    assert (judged.seeds, judged.measured) == (3, pytest.approx(90))


@pytest.mark.parametrize(("change", "speaks"), [("fine_tune.lr", "large"), ("general.weight_ce", "small")])
def test_a_larger_budget_speaks_with_rates_tuned_to_it_but_not_with_another_method(change: str, speaks: str) -> None:
    hyper = {"fine_tune": {"lr": 1}, "general": {"weight_ce": 1}}
    small = runs(0.80, hyper=hyper | {"budget": {"corpus_tokens": 10}})
    changed = {"hyper": hyper | {"budget": {"corpus_tokens": 1000}}, "overrides": {change: "1"}}
    large = [record(0.90, seed, **changed).model_copy(update={"id": f"large-{seed}"}) for seed in range(3)]
    assert one(claim(), [*small, *large]).measured == pytest.approx({"large": 90, "small": 80}[speaks])
    alike = [record(0.80, seed, hyper=hyper | {"budget": {"corpus_tokens": 1000}}) for seed in range(2)]
    assert one(claim(), [*alike, *large]).measured == pytest.approx(80), "at the same budget the recipe's own rates do"


def test_runs_on_few_labels_speak_after_those_on_all_of_fewer_rows() -> None:
    few = runs(0.80, budget={"labels": 1000, "limit": None, "epochs": 20})
    assert one(claim(), [*few, *runs(0.90, budget={"limit": 4000, "epochs": 3})]).measured == pytest.approx(90)


def test_two_tasks_at_a_large_budget_are_shown_before_three_at_a_small_one() -> None:
    def made(budget: int, *tasks: str) -> list[Record]:
        return [one for task in tasks for one in runs(0.80, task=task, budget={"corpus_tokens": budget})]

    def shown(records: list[Record]) -> list[str]:
        book = ScoreBook(SeriesIndex(runs_of(records)))
        found = book.shown(("toy", "toy"), ("cola", "rte", "sst2", "qnli"))
        assert found is not None
        return [entry.task for entry in found.entries]

    small = made(10, "rte", "sst2", "qnli")
    assert shown([*small, *made(1000, "rte", "sst2")]) == ["rte", "sst2"]
    one_task = made(1000, "sst2")
    assert shown([*small, *one_task]) == ["rte", "sst2", "qnli"], "one task alone is no average"
    assert shown(one_task) == ["sst2"]
    begun = record(0.80, 0, task="qnli", budget={"corpus_tokens": 1000})
    assert shown([*small, *made(1000, "rte", "sst2"), begun]) == ["rte", "sst2", "qnli"], "one seed more"
    longer = runs(0.80, task="sst2", budget={"corpus_tokens": 10, "epochs": 50})
    assert shown([*small, *longer]) == ["rte", "sst2", "qnli"], "epochs are a matter of one task"


def test_a_small_run_answers_no_difference_in_points() -> None:
    about = claim(derive="difference_to", reference="teacher", value=-1.0, unit="points")
    strict = runs(0.90)  # of teachers that nobody knows
    small = runs(0.70, scale="small", tier="reduced", taught=0.80)
    assert one(about, [*strict, *small]).verdict == "not comparable: budget"
    assert one(about, small).verdict == "not comparable: another teacher"


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


# The whole


def test_counts_and_rows() -> None:
    book = ledger(claim(), claim(id="toy.d", split="test-server"), ordering(id="toy.o"))
    judged = judge([book], runs_of(runs(0.90)))
    assert counts(judged) == {"reproduced": 1, "not comparable: split": 1, "not run": 1}
    rows = claim_rows(judged, [book])
    assert [row["id"] for row in rows] == ["toy.c", "toy.d", "toy.o"]
    assert set(Claim.model_fields) <= rows[0].keys()
    assert rows[0]["band"] == pytest.approx([89, 91]) and rows[2]["band"] is None
    assert rows[0]["tolerance"] == {"absolute": 0.01, "relative": 0.0, "why": "a point"}


def test_a_misprint_is_told() -> None:
    cells = [claim(id="toy.r.sst2"), claim(id="toy.r.rte", task="rte", value=60.0)]
    book = ledger(*cells, average_claim(id="toy.r.score", value=76.0, misprint="A digit is wrong."))
    judged = judge([book], runs_of([]))
    assert "76 is 75.00 by its own cells: A digit is wrong." in judged[2].why
    assert claim_rows(judged, [book])[2]["recomputed"] == 75.0


def test_order_of_records_does_not_matter() -> None:
    records = [*runs(0.90), *field_day({"toy-random": 0.60, "toy-cut": 0.62, "toy": 0.65}, rows=9)]
    book = ledger(claim(), ordering(id="toy.o"))
    assert judge([book], runs_of(records)) == judge([book], runs_of(records[::-1]))


def test_twenty_thousand_records_and_eight_hundred_claims() -> None:
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
    judged = judge([ledger(*found)], runs_of(records))
    assert len(judged) == 800 and not any(entry.verdict == "not run" for entry in judged)
