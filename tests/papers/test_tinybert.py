"""TinyBERT: the students' shapes, what each variant switches, and its stages on tiny models."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from bench.core.errors import ModelError
from bench.data.tasks import get_task
from bench.models import load
from bench.train.augmentation import rows
from bench.train.augmentation.augment import Augmentation
from bench.train.recipe import EncoderFacts, State
from bench.train.tuning import classifier_config
from papers.tinybert import recipe, settings
from papers.tinybert.recipe import RECIPE
from papers.tinybert.settings import Hyper, Student
from papers.tinybert.student import (
    TinyBertForDistillation,
    TinyBertForSequenceClassification,
    check_fit,
    mapped,
    student_config,
    with_projections,
)

BASE = EncoderFacts(layers=12, hidden=768, heads=12, vocabulary=30522)
SCALES = ("smoke", "small", "full")


def teacher_config(layers: int = 4, heads: int = 2, vocabulary: int = 60) -> BertConfig:
    return BertConfig(vocab_size=vocabulary, num_hidden_layers=layers, hidden_size=16, num_attention_heads=heads,
                      intermediate_size=32, max_position_embeddings=24)  # fmt: skip


# The students


def on_meta(build: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())


def test_parameter_counts_are_the_papers() -> None:
    four, six = (student_config(BertConfig(), *shape) for shape in ((3, 312, 1200), (2, 768, 3072)))
    assert on_meta(lambda: BertModel(four)) == 14_350_248 and on_meta(lambda: BertModel(six)) == 66_955_008
    projected = on_meta(lambda: with_projections(four, 768, 1, True)) - 14_350_248
    assert projected == 312 * 768 + 768 == 240_384
    assert on_meta(lambda: with_projections(four, 768, 2, False)) - 14_350_248 == 2 * 312 * 768


def test_from_bert_base_the_published_students_come_out() -> None:
    for every, hidden, ffn, layers in ((3, 312, 1200, 4), (2, 768, 3072, 6)):
        found = student_config(BertConfig(), every, hidden, ffn)
        assert (found.num_hidden_layers, found.hidden_size, found.intermediate_size) == (layers, hidden, ffn)
        assert found.num_attention_heads == 12
    small = student_config(BertConfig(num_hidden_layers=6, hidden_size=384), 3, 312, 1200)
    assert (small.num_hidden_layers, small.hidden_size, small.intermediate_size) == (2, 156, 600)
    assert small.num_attention_heads == 12
    small = student_config(BertConfig(num_hidden_layers=6, hidden_size=384), 2, 768, 3072)
    assert (small.num_hidden_layers, small.hidden_size, small.intermediate_size) == (3, 384, 1536)


@pytest.mark.parametrize(("layers", "every"), [(12, 5), (4, 3), (2, 3), (7, 2)])
def test_layers_that_do_not_divide_are_refused(layers: int, every: int) -> None:
    with pytest.raises(ModelError) as error:
        student_config(teacher_config(layers), every, 312, 1200)
    message = str(error.value)
    assert "\n" not in message and f"found {layers} layers" in message and f"multiple of {every}" in message
    with pytest.raises(ModelError, match="do not divide"):
        mapped(5, 12, "uniform")


@pytest.mark.parametrize(
    ("change", "word"),
    [({"vocabulary": 61}, "vocabulary"), ({"heads": 4}, "heads"), ({"layers": 5}, "divide")],
)
def test_a_teacher_that_does_not_fit_is_refused(change: dict[str, int], word: str) -> None:
    student = student_config(teacher_config(), 2, 312, 1200)
    teacher = EncoderFacts(layers=4, hidden=16, heads=2, vocabulary=60)
    check_fit(student, teacher, 16)
    with pytest.raises(ModelError, match=word):
        check_fit(student, replace(teacher, **change), 16)
    with pytest.raises(ModelError, match="hidden size"):
        check_fit(student, teacher, 24)


def test_the_released_head_is_a_linear_layer_on_relu() -> None:
    torch.manual_seed(0)
    model = TinyBertForSequenceClassification(teacher_config()).eval()
    ids = torch.arange(5, 13).view(2, 4)
    pooled = model.bert(input_ids=ids).pooler_output
    torch.testing.assert_close(model(input_ids=ids).logits, model.classifier(torch.relu(pooled)))
    plain = BertForSequenceClassification(model.config).eval()
    plain.load_state_dict(model.state_dict())
    assert not torch.allclose(plain(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("count", [1, 2])
def test_a_student_comes_back_from_disk_with_its_projections(tmp_path: Path, count: int) -> None:
    student = with_projections(student_config(teacher_config(), 2, 312, 1200), 16, count, True)
    load.save(student, tmp_path / "student")
    again = load.load_saved(tmp_path / "student")
    assert isinstance(again, TinyBertForDistillation) and len(again.projections) == count
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))
    assert (again.projected_by(0) is again.projected_by(1)) is (count == 1)


# Variants and hyper-parameters


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in content.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def both(**losses: Any) -> dict[str, Any]:
    return {f"{stage}.losses.{name}": value for stage in ("general", "intermediate") for name, value in losses.items()}


SWITCHES: dict[str, dict[str, Any]] = {
    "tinybert-4": {},
    "tinybert-4-no-gd": {},
    "tinybert-4-no-td": {},
    "tinybert-4-no-da": {"augmentation.use": False},
    "tinybert-4-no-embd": both(embedding=0.0),
    "tinybert-4-no-pred": {"prediction.loss": "hard"},
    "tinybert-4-no-trm": both(attention=0.0, hidden=0.0),
    "tinybert-4-no-attn": both(attention=0.0),
    "tinybert-4-no-hidn": both(hidden=0.0),
    "tinybert-4-map-top": both(mapping="top"),
    "tinybert-4-map-bottom": both(mapping="bottom"),
    "tinybert-4-init-bert": {"augmentation.use": False},
    "tinybert-4-init-bert-td": {"augmentation.use": False},
    "tinybert-4-init-gd": {"augmentation.use": False},
    "tinybert-4-released": {},
}
SIX = {"tinybert-6", "tinybert-6-released"}


def hyper(variant: str, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The settings of a variant by its name."""
    return settings.hyper(RECIPE.variants[variant], task, scale, encoder)


def check(variant: str, *rest: Any) -> None:
    recipe.check(RECIPE.variants[variant], *rest)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("variant", SWITCHES)
def test_a_variant_differs_in_its_own_switch_only(variant: str, scale: str) -> None:
    assert RECIPE.variants.keys() == SWITCHES.keys() | SIX and RECIPE.main_variant == "tinybert-4"
    for task in RECIPE.tasks:
        ours, theirs = (flat(hyper(v, task, scale, BASE).model_dump()) for v in ("tinybert-4", variant))
        assert {name: theirs[name] for name in ours if ours[name] != theirs[name]} == SWITCHES[variant]
    assert len(RECIPE.tasks) == 8


def test_every_row_of_the_ledger_that_is_ours_is_a_variant(root: Path) -> None:
    ledger = tomllib.loads((root / "papers" / "tinybert" / "claims.toml").read_text())
    named = {claim["variant"] for claim in ledger["claim"] if claim.get("variant", "").startswith("tinybert-")}
    assert len(named) == 15 and named <= RECIPE.variants.keys()


@pytest.mark.parametrize(
    ("task", "epochs", "length"),
    [("cola", 50, 64), ("sst2", 20, 64), ("mrpc", 20, 128), ("stsb", 20, 128), ("rte", 20, 128), ("mnli", 10, 128),
     ("qqp", 10, 128), ("qnli", 10, 128)],
)  # fmt: skip
def test_full_scale_is_the_paper(task: str, epochs: int, length: int) -> None:
    full = hyper("tinybert-4", task, "full", BASE)
    first, second = full.intermediate.training, full.prediction.training
    assert (first.epochs, first.batch_size, first.lr, first.schedule, first.warmup) == (epochs, 32, 5e-5, "constant", 0)
    assert (second.epochs, second.batch_size, second.lr, second.warmup) == (3, 32, 3e-5, 0.1)
    assert (full.max_length, full.augmentation.augmentation, full.general.max_length) == (length, 20, 128)
    assert (full.general.training.epochs, full.general.training.batch_size) == (3, 256)
    assert full.student == Student() and full.released.endswith("4L_312D")
    six = hyper("tinybert-6", task, "full", BASE)
    assert (six.student.every, six.student.hidden, six.student.ffn) == (2, 768, 3072)
    assert six.released.endswith("6L_768D") and not full.clip_per_tensor


def test_the_papers_choice_is_the_default_of_every_switch() -> None:
    found = Hyper()
    assert (found.student.projection, found.student.projection_bias) == ("separate", False)
    assert not found.general.losses.teacher_dropout and not found.intermediate.losses.teacher_dropout
    assert not found.prediction.mean_over_classes and found.prediction.temperature == 1.0
    assert (found.prediction.regression_target, found.prediction.head) == ("teacher", "bert")
    assert not found.clip_per_tensor


DISTIL = ["distil_intermediate", "distil_prediction"]
GENERAL = ["initialise_student", "distil_general"]


@pytest.mark.parametrize(
    ("variant", "names"),
    [
        ("tinybert-4", [*GENERAL, "augment_rows", *DISTIL]),
        ("tinybert-6", [*GENERAL, "augment_rows", *DISTIL]),
        ("tinybert-4-no-da", [*GENERAL, *DISTIL]),
        ("tinybert-4-no-gd", ["initialise_student", "augment_rows", *DISTIL]),
        ("tinybert-4-no-td", [*GENERAL, "augment_rows", "fine_tune"]),
        ("tinybert-4-no-pred", [*GENERAL, "augment_rows", *DISTIL]),
        ("tinybert-4-init-bert", ["initialise_student", "pretrain_student", "fine_tune"]),
        ("tinybert-4-init-bert-td", ["initialise_student", "pretrain_student", *DISTIL]),
        ("tinybert-4-init-gd", [*GENERAL, "fine_tune"]),
        ("tinybert-4-released", ["load_released", "augment_rows", *DISTIL]),
        ("tinybert-6-released", ["load_released", "augment_rows", *DISTIL]),
    ],
)
def test_stages(variant: str, names: list[str]) -> None:
    stages = RECIPE.variants[variant].stages
    assert [stage.name for stage in stages] == ["prepare_words", *names]
    assert {name for stage in stages for name in stage.uses} <= set(Hyper.model_fields)
    free = [stage.task_free for stage in stages]
    assert free == sorted(free, reverse=True) and not free[-1]
    assert all((stage.asks == ("fine_tuned",)) is (stage.name in DISTIL) for stage in stages)
    assert bool(RECIPE.variants[variant].released) is variant.endswith("-released")


def test_a_given_teacher_is_checked_before_anything_runs(tmp_path: Path) -> None:
    check("tinybert-4", hyper("tinybert-4", "rte", "full", BASE), BASE, None)
    check("tinybert-4", hyper("tinybert-4", "rte", "smoke", None), None, None)
    with pytest.raises(ModelError, match="do not divide"):
        check("tinybert-4", hyper("tinybert-4", "rte", "small", BASE), EncoderFacts(4, 16, 2, 60), None)
    small = student_config(BertConfig(), 3, 312, 1200)
    load.save(BertModel(small), tmp_path)
    released = load.Checkpoint(tmp_path, small, "BertModel")
    chosen = hyper("tinybert-4-released", "rte", "full", BASE)
    check("tinybert-4-released", chosen, BASE, released)
    for facts, word in (
        (EncoderFacts(12, 768, 12, 28996), "vocabulary"), (EncoderFacts(12, 768, 6, 30522), "heads"),
        (EncoderFacts(12, 300, 12, 30522), "hidden size"), (EncoderFacts(6, 768, 12, 30522), "divide"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=word):
            check("tinybert-4-released", chosen, facts, released)


# Stages on tiny models


def tiny_hyper(**changes: Any) -> Hyper:
    training = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "precision": "fp32"}
    content = {
        "student": {"every": 2}, "general": {"corpus_tokens": 700, "max_length": 16, "training": training},
        "pretrain": {"corpus_tokens": 700, "max_length": 16, "training": training},
        "intermediate": {"training": training}, "prediction": {"training": training}, "fine_tune": training,
        "max_length": 16, "augmentation": {"use": False},
    }  # fmt: skip
    return Hyper.model_validate(content).model_copy(update=changes)


def tuned(task: str) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config: Any = classifier_config(teacher_config(), get_task(task))
    return BertForSequenceClassification(config)


@pytest.mark.parametrize("task", ["rte", "mnli", "stsb"])
def test_the_stages_in_a_row(context: Callable[..., Any], task: str) -> None:
    settings, teacher = tiny_hyper(), tuned(task)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    ctx = context(task, given=teacher)
    state = recipe.initialise_student(State(), settings, ctx)
    student = state.model
    assert isinstance(student, TinyBertForDistillation) and student.config.num_hidden_layers == 2
    state = recipe.distil_general(state, settings, ctx)
    assert ("sentence_pairs", 700, 16, 0.1) in ctx.asked
    state = recipe.distil_intermediate(state, settings, ctx)
    assert state.model is student
    state = recipe.distil_prediction(state, settings, ctx)
    model = state.model
    assert type(model) is BertForSequenceClassification and model.config.num_labels == teacher.config.num_labels
    assert not hasattr(model.config, "projected_size"), "what is scored has no projection"
    assert ctx.asked.count(("teacher_logits", 12)) == 1, "once per example, whatever the epochs"
    assert [log.last_loss < log.first_loss for log in ctx.logs[:2]] == [True, True] and len(ctx.logs) == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_bert_tiny_is_pretrained_without_a_teacher(context: Callable[..., Any]) -> None:
    settings, ctx = tiny_hyper(), context(given=tuned("rte"))
    state = recipe.initialise_student(State(), settings, ctx)
    begun = state.model.base_model.embeddings.word_embeddings.weight.clone()  # pyright: ignore
    state = recipe.pretrain_student(state, settings, ctx)
    assert ("corpus", 700, 16, 1) in ctx.asked and len(ctx.logs) == 1
    assert not torch.equal(begun, state.model.base_model.embeddings.word_embeddings.weight)  # pyright: ignore
    model = recipe.fine_tune(state, settings, ctx).model
    assert isinstance(model, BertForSequenceClassification) and ("train_rows", 16) in ctx.asked


def test_hard_predictions_and_the_relu_head(context: Callable[..., Any]) -> None:
    ctx = context(given=tuned("rte"), trains=False)
    state = recipe.initialise_student(State(), tiny_hyper(), ctx)
    prediction = tiny_hyper().prediction.model_copy(update={"loss": "hard", "head": "relu"})
    model = recipe.distil_prediction(state, tiny_hyper(prediction=prediction, augmentation=Augmentation()), ctx).model
    assert isinstance(model, TinyBertForSequenceClassification)
    assert not [asked for asked in ctx.asked if asked[0] == "teacher_logits"], "labels of the original rows"


def test_clipping_per_tensor_is_a_switch(context: Callable[..., Any]) -> None:
    ctx = context(given=tuned("rte"), trains=False)
    state = recipe.initialise_student(State(), tiny_hyper(), ctx)
    recipe.distil_intermediate(state, tiny_hyper(clip_per_tensor=True), ctx)
    recipe.distil_intermediate(state, tiny_hyper(), ctx)
    assert [(fitted[3].clip, fitted[3].clip_each) for fitted in ctx.fitted] == [(1.0, True), (1.0, None)]


def test_a_raw_teacher_teaches_no_task(context: Callable[..., Any]) -> None:
    ctx = context(given=BertModel(teacher_config()), trains=False)
    state = recipe.initialise_student(State(), tiny_hyper(), ctx)
    for stage in (recipe.distil_intermediate, recipe.distil_prediction):
        with pytest.raises(ModelError, match="not fine-tuned") as error:
            stage(state, tiny_hyper(), ctx)
        assert "\n" not in str(error.value) and error.value.exit_code == 2


def lm_teacher() -> BertForMaskedLM:
    torch.manual_seed(0)
    return BertForMaskedLM(teacher_config())


def test_augmented_rows_are_made_once_and_both_phases_read_them(context: Callable[..., Any]) -> None:
    settings, ctx = (
        tiny_hyper(augmentation=Augmentation(augmentation=3, letters_only=False)),
        context(given=lm_teacher()),
    )
    state = rows.prepare_words(State(), settings, ctx)
    state = recipe.initialise_student(state, settings, ctx)
    state = rows.augment_rows(state, settings, ctx)
    assert set(state.models) == {"words", "model"} and state.facts["rows"] == 12
    made = rows.rows(state, settings, ctx)
    assert len(made) == state.facts["augmented_rows"] > 12 and ("encode", 16) in ctx.asked
    assert set(made.labels.tolist()) == {0, 1}, "labels are copied"
    assert len(list(ctx.kept("augmented").rglob("manifest.json"))) == 1
    assert len(rows.rows(state, tiny_hyper(), ctx)) == 12, "the task's own rows where augmentation is off"


def test_rows_without_augmentation_have_the_same_budget() -> None:
    without = [name for name, changes in SWITCHES.items() if "augmentation.use" in changes]
    found = {v: hyper(v, "rte", "full", BASE) for v in (*without, "tinybert-4")}
    assert [h.augmentation.use for h in found.values()] == [False] * 4 + [True]
    assert len({json.dumps(h.budget(), sort_keys=True) for h in found.values()}) == 1
    for variant in without:
        assert "augment_rows" not in [stage.name for stage in RECIPE.variants[variant].stages]
