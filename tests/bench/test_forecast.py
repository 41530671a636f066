"""What a plan says that it will cost: sizes in the papers' ratios, operations by hand, memory and disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core.record import Record
from bench.data.corpus import about_bytes
from bench.measure.within import LENGTH
from bench.run import forecast, recorded
from bench.run.costs import ENCODED, SAVED, StageCosts
from bench.run.plan import Plan, make
from bench.run.plan_summary import answer, marked, warn
from bench.run.request import Request
from bench.train.settings import Training

VARIANTS = (
    "bert",
    "tinybert-4-no-attn",
    "tinybert-6",
    "distilbert-no-cos",
    "qbert-w4",
    "cnn-aug",
    "tinybert-4+qbert-w4",
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make(Request(scale="smoke", variant=VARIANTS, task=("sst2",)))


@pytest.fixture(scope="module")
def costs(plan: Plan) -> StageCosts:
    return StageCosts(plan, narrow=True)


def test_a_model_has_the_size_of_the_shape_that_it_is_a_variation_of(plan: Plan, costs: StageCosts) -> None:
    whole = costs.reference
    ratios = {job.spec.variant: costs.size(job).weights / whole.weights for job in plan.jobs}
    # 14.35 M, 66.96 M, 66.96 M of 109.5 M in the papers; the sizes of the bag of filters are ours.
    assert ratios["tinybert-4-no-attn"] == pytest.approx(0.131, abs=0.001)
    assert ratios["tinybert-6"] == pytest.approx(ratios["distilbert-no-cos"], abs=1e-4)
    assert ratios["tinybert-6"] == pytest.approx(0.612, abs=0.001)
    assert ratios["bert"] == ratios["qbert-w4"] == 1.0
    assert ratios["cnn-aug"] < 0.01 and ratios["tinybert-4+qbert-w4"] == ratios["tinybert-4-no-attn"]


def test_fine_tuning_by_hand(plan: Plan, costs: StageCosts) -> None:
    job = next(job for job in plan.jobs if job.spec.variant == "bert")
    tune: Any = job.hyper
    training: Training = tune.fine_tune
    rows, length = len(job.inputs.used(job.task, "train")), job.inputs.mean_length(job.task, job.reading, 10**9)
    encoded = job.inputs.encoded(job.task, "train", job.reading)
    assert len(encoded.tokens) == pytest.approx(rows * length), "the mean over all rows is that of what is trained on"
    found = costs.stage(job, job.stages[-1])
    each = costs._mean_length(job)  # of the first rows alone
    assert found.flops == pytest.approx(3 * costs.reference.flops * rows * each * training.epochs)
    assert found.batches == pytest.approx(training.epochs * rows / training.batch_size, abs=training.epochs)
    assert found.host_bytes == pytest.approx(ENCODED * rows * each)
    assert found.progress_bytes == 3 * SAVED * costs.reference.weights, "two are kept while the next is written"
    assert found.device_bytes > 16 * costs.reference.weights


def test_a_student_pays_for_its_teacher_and_for_new_rows(plan: Plan, costs: StageCosts) -> None:
    job = next(job for job in plan.jobs if job.spec.variant == "tinybert-6")
    stages = {stage.stage.name: costs.stage(job, stage) for stage in job.stages}
    assert stages["initialise_student"].flops == 0.0
    rows, each = len(job.inputs.used(job.task, "train")), costs._mean_length(job)
    settings: Any = job.hyper
    passes = settings.intermediate.training.epochs * (1 + settings.augmentation.augmentation)
    student, teacher = costs.size(job).flops, costs.reference.flops
    assert stages["distil_intermediate"].flops == pytest.approx((3 * student + teacher) * rows * each * passes)
    general = settings.general
    tokens = general.corpus_tokens * general.training.epochs
    assert stages["distil_general"].flops == pytest.approx((3 * student + teacher) * tokens), "no vocabulary in it"


def test_new_text_is_an_answer_to_each_row_and_the_finish_a_third_of_a_step_a_call(
    plan: Plan, costs: StageCosts
) -> None:
    job = next(job for job in plan.jobs if job.spec.variant == "tinybert-6")
    stages = {stage.stage.name: costs.stage(job, stage) for stage in job.stages}
    rows, each = len(job.inputs.used(job.task, "train")), costs._mean_length(job)
    assert stages["augment_rows"].flops == pytest.approx(rows * each * costs.reference.flops)
    assert stages["augment_rows"].batches == 0
    flops, batches = costs.finish(job)
    scored, calls, tokens = len(job.inputs.rows(job.task, "validation")), 12 + 4, 128 * 12 + 32 * 128 * 4
    own, reference = costs.size(job).flops, costs.reference.flops
    assert flops == pytest.approx(scored * each * own + tokens * (own + 2 * reference))
    assert batches == pytest.approx((scored / 32 + 3 * calls) / 3)


def test_the_states_of_a_teacher_that_are_kept_take_room() -> None:
    made = make(Request(scale="smoke", variant=("adabert",), task=("sst2",)))
    job = next(job for job in made.jobs if job.spec.variant == "adabert")
    costs = StageCosts(made, narrow=False)
    stages = {stage.stage.name: costs.stage(job, stage).kept_bytes for stage in job.stages}
    rows, facts = len(job.inputs.used(job.task, "train")), costs.facts
    states = 4 * rows * facts.layers * facts.hidden
    assert states > 1e5 and stages["train_probes"] == pytest.approx(stages["search"] + states)


def test_a_recorded_stage_is_counted_as_a_planned_one(
    plan: Plan, costs: StageCosts, make_record: Callable[..., Record]
) -> None:
    for variant, stage, field, more in (
        ("bert", "fine_tune", "fine_tune", 1), ("tinybert-6", "distil_intermediate", "intermediate", 2),
    ):  # fmt: skip
        job = next(job for job in plan.jobs if job.spec.variant == variant)
        planned = costs.stage(job, next(one for one in job.stages if one.stage.name == stage))
        settings = getattr(job.hyper, field)
        examples = len(job.inputs.used(job.task, "train")) * getattr(settings, "training", settings).epochs * more
        entry = {"name": stage, "seconds": 9.0, "steps": round(planned.batches), "examples": examples}
        sizes = {"flops": costs.size(job).flops * LENGTH}
        if job.reference is not None:
            sizes["flops_ratio"] = costs.size(job).flops / costs.reference.flops
        measured = [{"metric": name, "split": "all", "value": value, "unit": "one", "n": 1}
                    for name, value in sizes.items()]  # fmt: skip
        record = make_record(spec=job.spec.as_dict(), hyper=job.hyper.model_dump(mode="json"), stages=[entry],
                             measurements=measured)  # fmt: skip
        seen = recorded._seen(record)[0]
        assert seen.stage == stage
        flops, batches = costs.recorded(seen)
        assert flops == pytest.approx(planned.flops) and batches == pytest.approx(planned.batches, abs=1)


def test_the_totals_are_of_this_device(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # without records
    rows, total = answer(marked(forecast.costs(plan), tmp_path), lambda key: False)
    assert total["from"].startswith("a moment's training on this machine: no run of it is recorded")
    assert {row["from"] for row in rows} == {"estimated"} and total["expected_s"] > sum(r["expected_s"] for r in rows)
    assert len(rows) == total["jobs"] == len(plan.jobs) and total["device_hours"] == round(
        total["expected_s"] / 3600, 2
    )
    assert 0 < total["memory_mb"] < total["memory_free_mb"] and 0 < total["disk_mb"] < total["disk_free_mb"]
    assert total["device"].endswith(("bf16", "fp32"))


def test_what_does_not_fit_is_said_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="bench.run.plan_summary"):
        warn({"memory_mb": 9000, "memory_free_mb": 8000, "disk_mb": 1, "disk_free_mb": 2})
    (record,) = caplog.records
    assert "about 9000 MB of memory; found 8000 MB free; next: a smaller batch_size" in record.getMessage()


def test_a_small_corpus_bounds_what_is_read_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 100)
    assert about_bytes(tmp_path) == 500
