"""DistilBERT: the student's shape and start, what each variant switches, and its stages on a tiny teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertModel,
)

from bench.core.errors import ModelError, SpecError
from bench.data.tasks import get_task
from bench.models.outputs import forward
from bench.train import mlm
from bench.train.mlm import HeadTraining, masked_accuracy, with_lm_head
from bench.train.recipe import EncoderFacts, State
from bench.train.tuning import classifier_config
from papers.distilbert import recipe
from papers.distilbert.positions import Attended
from papers.distilbert.recipe import RECIPE, Distillation, Hyper
from papers.distilbert.student import config, copy_layers, teacher_layers

VOCABULARY = 60
SCALES = ("smoke", "small", "full")
Pair = Callable[..., tuple[DistilBertForMaskedLM, BertForMaskedLM]]


def teacher_config(layers: int = 4) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=layers, hidden_size=16, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip


# The student


def on_meta(build: Callable[[], nn.Module]) -> int:
    """Parameters, tied ones once, without allocating them."""
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())


def test_parameter_counts_are_the_papers() -> None:
    published = config(BertConfig())
    assert on_meta(lambda: DistilBertModel(published)) == 66_362_880
    assert on_meta(lambda: DistilBertForMaskedLM(published)) == 66_985_530
    two_way: Any = classifier_config(published, get_task("sst2"))
    assert on_meta(lambda: DistilBertForSequenceClassification(two_way)) == 66_955_010
    assert 1 - 66_362_880 / on_meta(lambda: BertModel(BertConfig())) == pytest.approx(0.40, abs=0.01)


def test_the_published_config() -> None:
    published = config(BertConfig())
    assert (published.n_layers, published.dim, published.n_heads, published.hidden_dim) == (6, 768, 12, 3072)
    assert (published.vocab_size, published.max_position_embeddings, published.activation) == (30522, 512, "gelu")
    assert (published.dropout, published.attention_dropout, published.seq_classif_dropout) == (0.1, 0.1, 0.2)
    assert published.pad_token_id == 0 and published.tie_word_embeddings
    assert classifier_config(published, get_task("mnli")).seq_classif_dropout == 0.2


@pytest.mark.parametrize(
    ("layers", "taken"),
    [(12, (0, 2, 4, 7, 9, 11)), (6, (0, 2, 4)), (4, (0, 2)), (2, (0,)), (24, tuple(range(0, 24, 2)))],
)
def test_which_teacher_layers_are_taken(layers: int, taken: tuple[int, ...]) -> None:
    assert teacher_layers(layers) == taken
    assert config(teacher_config(layers)).n_layers == len(taken) == layers // 2


@pytest.mark.parametrize("layers", [0, 1, 3, 5, 11, -2])
def test_layers_that_cannot_be_halved_are_refused(layers: int) -> None:
    with pytest.raises(ModelError) as error:
        teacher_layers(layers)
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in (f"found {layers} layers", "expected an even number", "next:"))


def test_the_student_has_no_token_types_and_no_pooler(pair: Pair) -> None:
    student, _ = pair()
    names = [name for name, _ in student.named_modules()]
    assert len(names) > 20 and not [name for name in names if "token_type" in name or "pooler" in name]


def test_hidden_shapes(pair: Pair) -> None:
    student, teacher = pair(layers=6)
    ids = torch.arange(5, 19).view(2, 7)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    ours, theirs = forward(student, batch, hidden=True), forward(teacher, batch, hidden=True)
    assert len(ours.hidden) == 3 + 1 and len(theirs.hidden) == 6 + 1
    assert {state.shape for state in (*ours.hidden, *theirs.hidden)} == {(2, 7, 16)}
    assert ours.logits.shape == theirs.logits.shape == (2, 7, VOCABULARY)


# Its start

EMBEDDINGS = ("word_embeddings.weight", "position_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias")
LAYER = (
    ("attention.self.query", "attention.q_lin"), ("attention.self.key", "attention.k_lin"),
    ("attention.self.value", "attention.v_lin"), ("attention.output.dense", "attention.out_lin"),
    ("attention.output.LayerNorm", "sa_layer_norm"), ("intermediate.dense", "ffn.lin1"),
    ("output.dense", "ffn.lin2"), ("output.LayerNorm", "output_layer_norm"),
)  # fmt: skip
TRANSFORM = (("transform.dense", "vocab_transform"), ("transform.LayerNorm", "vocab_layer_norm"))


@pytest.mark.parametrize("layers", [4, 6, 12])
@pytest.mark.parametrize("copy_transform", [True, False])
def test_every_mapped_tensor_is_copied_and_nothing_else(pair: Pair, layers: int, copy_transform: bool) -> None:
    student, teacher = pair(layers)
    untouched = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    source = teacher.state_dict()
    before = {name: tensor.clone() for name, tensor in source.items()}
    copy_layers(student, teacher, copy_transform)
    want = {f"distilbert.embeddings.{name}": source[f"bert.embeddings.{name}"] for name in EMBEDDINGS}
    for layer, taken in enumerate(teacher_layers(layers)):
        for theirs, ours in LAYER:
            for kind in ("weight", "bias"):
                want[f"distilbert.transformer.layer.{layer}.{ours}.{kind}"] = source[
                    f"bert.encoder.layer.{taken}.{theirs}.{kind}"
                ]
    want["vocab_projector.weight"] = source["bert.embeddings.word_embeddings.weight"]
    want["vocab_projector.bias"] = source["cls.predictions.bias"]
    for theirs, ours in TRANSFORM:
        for kind in ("weight", "bias"):
            kept = untouched[f"{ours}.{kind}"]
            want[f"{ours}.{kind}"] = source[f"cls.predictions.{theirs}.{kind}"] if copy_transform else kept
    got = student.state_dict()
    assert want.keys() == got.keys() and len(want) == 4 + 16 * (layers // 2) + 2 + 4
    assert not [name for name in want if not torch.equal(got[name], want[name])]
    assert not [name for name in before if not torch.equal(source[name], before[name])], "the teacher changed"
    changed = [name for name in want if not torch.equal(got[name], untouched[name])]
    assert len(changed) == len(want) - (0 if copy_transform else 4)


def test_the_student_shares_no_memory_with_the_teacher_and_stays_tied(pair: Pair) -> None:
    student, teacher = pair()
    copy_layers(student, teacher)
    held = {p.data_ptr() for p in teacher.parameters()}
    assert len(held) > 40 and not held & {p.data_ptr() for p in student.parameters()}
    assert student.vocab_projector.weight is student.distilbert.embeddings.word_embeddings.weight


# Variants and hyper-parameters


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in content.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


SWITCHES: dict[str, dict[str, Any]] = {
    "distilbert": {},
    "distilbert-no-ce": {"general.weight_ce": 0.0},
    "distilbert-no-cos": {"general.weight_cos": 0.0},
    "distilbert-no-mlm": {"general.weight_mlm": 0.0},
    "distilbert-random-init": {"initialisation": "random"},
    "distilbert-released": {},
}


def hyper(variant: str, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The settings of a variant by its name."""
    return recipe.hyper(RECIPE.variants[variant], task, scale, encoder)


TEACHERS = [None, EncoderFacts(layers=12, hidden=768, heads=12, vocabulary=30522)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("variant", SWITCHES)
@pytest.mark.parametrize("teacher", TEACHERS, ids=["own teacher", "given teacher"])
def test_a_variant_differs_in_its_own_switch_only(variant: str, scale: str, teacher: EncoderFacts | None) -> None:
    assert RECIPE.variants.keys() == {*SWITCHES, "distilbert-d"} and RECIPE.main_variant == "distilbert"
    seen = 0
    for task in RECIPE.tasks:
        main, other = hyper("distilbert", task, scale, teacher), hyper(variant, task, scale, teacher)
        ours, theirs = flat(main.model_dump()), flat(other.model_dump())
        assert {name: theirs[name] for name in ours if ours[name] != theirs[name]} == SWITCHES[variant]
        assert ours.keys() == theirs.keys() and main.budget() == other.budget()
        seen += 1
    assert seen == 11


@pytest.mark.parametrize("scale", SCALES)
def test_the_second_distillation_is_of_squad_alone(scale: str) -> None:
    plain, second = (hyper(variant, "squad", scale, None) for variant in ("distilbert", "distilbert-d"))
    assert plain.second is None and second.second is not None
    assert second.model_copy(update={"second": None}) == plain
    found, training = second.second, second.second.training
    assert (found.weight_ce, found.weight_span, found.temperature) == (0.5, 0.5, 2.0)
    if scale == "full":
        assert (training.batch_size, training.lr, training.epochs, training.warmup) == (8, 5e-5, 3, 0.0)
    else:
        assert training == plain.fine_tune, "only the loss differs"
    with pytest.raises(SpecError, match=r"the second distillation is of SQuAD; in distilled a second time.*found rte"):
        hyper("distilbert-d", "rte", scale, None)


def test_full_scale_is_the_official_command() -> None:
    full = hyper("distilbert", "sst2", "full", None)
    general, training = full.general, full.general.training
    assert (general.weight_ce, general.weight_mlm, general.weight_cos, general.temperature) == (5.0, 2.0, 1.0, 2.0)
    assert (general.positions, general.mask_probability, general.smoothing) == ("attended", 0.15, 0.7)
    assert (general.max_length, general.min_length, training.epochs) == (512, 12, 3)
    assert (training.batch_size, training.batch_tokens, training.accumulation) == (5, None, 800)
    assert (training.lr, training.betas, training.eps, training.weight_decay) == (5e-4, (0.9, 0.98), 1e-6, 0.0)
    assert (training.warmup, training.schedule, training.clip) == (0.05, "linear", 5.0)
    assert full.copy_transform and full.initialisation == "teacher"
    tune = full.fine_tune
    assert (full.max_length, tune.epochs, tune.batch_size, tune.lr, tune.warmup) == (128, 3, 32, 5e-5, 0.1)
    assert full == Hyper.model_validate({})
    assert hyper("distilbert", "imdb", "full", None).max_length == 256


def test_smaller_scales_are_smaller_everywhere() -> None:
    budgets = [hyper("distilbert", "rte", scale, None).budget() for scale in SCALES]
    assert len(budgets[0]) == 5 and budgets[0].keys() == budgets[2].keys()
    assert budgets[1].keys() - budgets[0].keys() == {"general.ce_share"}, "which is only named where it is less than 1"
    smoke, small, full = (b["general.corpus_tokens"] * b["general.training.epochs"] for b in budgets)
    assert full == 9_900_000_000 and 0 < 1000 * max(smoke, small) < full, "small is a declared fraction of the paper's"


@pytest.mark.parametrize("variant", [*SWITCHES, "distilbert-d"])
def test_stages(variant: str) -> None:
    stages = RECIPE.variants[variant].stages
    names = [stage.name for stage in stages]
    used = [name for stage in stages for name in stage.uses]
    assert len(used) == len(set(used)) and set(used) <= set(Hyper.model_fields)
    if variant == "distilbert-released":
        assert names == ["load_released", "fine_tune"]
        assert set(used) == {"released", "max_length", "windows", "fine_tune"} and not [s for s in stages if s.asks]
        assert RECIPE.variants[variant].released == "released"
    else:
        last, other, asked = ("fine_tune", "second", ())
        if variant == "distilbert-d":
            last, other, asked = ("distil_second", "fine_tune", ("fine_tuned",))
        assert names == ["prepare_teacher", "initialise_student", "distil_general", last]
        assert set(used) == set(Hyper.model_fields) - {"released", other}, "a field that no stage uses does nothing"
        assert [stage.asks for stage in stages] == [("pretrained",), (), (), asked]
        assert [stage.needs for stage in stages] == ["lm_head", None, "corpus", "task"]
    assert [stage.task_free for stage in stages] == [True] * (len(stages) - 1) + [False]


# Stages on a tiny teacher


def head_settings() -> HeadTraining:
    training = {"epochs": 9, "batch_size": 8, "lr": 3e-3, "weight_decay": 0.0, "precision": "fp32"}
    return HeadTraining.model_validate({"corpus_tokens": 500, "max_length": 16, "training": training})


def test_only_the_head_is_trained(context: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    encoder = BertModel(teacher_config())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    ctx = context()
    torch.manual_seed(1)
    model, facts = with_lm_head(encoder, head_settings(), ctx)
    assert isinstance(model, BertForMaskedLM) and ctx.asked == [("corpus", 500, 16, 1)] and len(ctx.fitted) == 1
    kept = model.bert.state_dict()
    assert kept.keys() == {name for name in before if not name.startswith("pooler.")} and len(kept) == 5 + 16 * 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    head = model.cls.predictions
    assert head.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert head.decoder.bias is head.bias
    trained = ctx.fitted[0][0]
    assert {name for name, p in trained.named_parameters() if p.requires_grad} == {
        "predictions.bias", "predictions.transform.dense.weight", "predictions.transform.dense.bias",
        "predictions.transform.LayerNorm.weight", "predictions.transform.LayerNorm.bias",
    }  # fmt: skip
    torch.manual_seed(1)
    fresh = BertForMaskedLM(encoder.config).cls.predictions.state_dict()
    moved = [name for name, tensor in head.state_dict().items() if not torch.equal(tensor, fresh[name])]
    assert {"bias", "transform.dense.weight", "transform.LayerNorm.weight"} <= set(moved)
    assert ctx.logs[0].last_loss < ctx.logs[0].first_loss
    rows = ctx.corpus(500, 16)
    held = max(1, int(0.02 * len(rows)))
    wanted = masked_accuracy(model, rows.between(len(rows) - held, len(rows)), ctx)
    assert facts == {"masked_lm_accuracy": {split: [value] for split, value in wanted.items()}}


def test_a_head_that_knows_no_more_than_the_commonest_word_is_told(
    context: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for accuracy, told in ((0.119, True), (0.121, False)):
        caplog.clear()
        monkeypatch.setattr(mlm, "masked_accuracy", lambda *_, a=accuracy: {"held_out": a, "commonest": 0.1})
        with_lm_head(BertModel(teacher_config()), head_settings(), context())
        assert any("hardly more" in text for text in caplog.messages) == told


def test_a_single_sequence_trains_the_head_and_measures_nothing(
    context: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context()
    one = ctx.corpus(500, 16).between(0, 1)
    monkeypatch.setattr(ctx, "corpus", lambda *_: one)
    model, facts = with_lm_head(BertModel(teacher_config()), head_settings(), ctx)
    assert isinstance(model, BertForMaskedLM) and facts == {} and len(ctx.fitted) == 1


def test_a_teacher_with_a_head_is_left_as_it_is(pair: Pair, context: Callable[..., Any]) -> None:
    _, teacher = pair()
    ctx = context(given=teacher)
    assert with_lm_head(teacher, head_settings(), ctx) == (teacher, {})
    assert recipe.prepare_teacher(State(), Hyper.model_validate({}), ctx).models["teacher"] is teacher
    assert not ctx.asked and not ctx.fitted


def tiny_hyper(**changes: Any) -> Hyper:
    training = head_settings().training.model_copy(update={"lr": 1e-3})
    general = Distillation.model_validate(
        {"corpus_tokens": 700, "max_length": 16, "min_length": 2, "training": training}
    )
    tune = head_settings().training.model_copy(update={"epochs": 1})
    update = {"head": head_settings(), "general": general, "fine_tune": tune, "max_length": 16}
    return Hyper.model_validate({}).model_copy(update=update | changes)


@pytest.mark.parametrize("start", ["teacher", "random"])
def test_the_stages_in_a_row(pair: Pair, context: Callable[..., Any], start: str) -> None:
    _, teacher = pair()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    settings, ctx = tiny_hyper(initialisation=start), context(given=teacher)
    state = recipe.prepare_teacher(State(), settings, ctx)
    state = recipe.initialise_student(state, settings, ctx)
    student = state.model
    assert isinstance(student, DistilBertForMaskedLM)
    words = student.distilbert.embeddings.word_embeddings.weight
    assert torch.equal(words, teacher.bert.embeddings.word_embeddings.weight) is (start == "teacher")
    begun = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    state = recipe.distil_general(state, settings, ctx)
    assert state.model is student and "teacher" not in state.models
    assert ctx.asked == [("corpus", 700, 16, 2)]
    assert ctx.logs[0].last_loss < ctx.logs[0].first_loss
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    still = [n for n, t in student.state_dict().items() if torch.equal(t, begun[n])]
    assert not still, "the student learns everywhere"
    masking, attended = ctx.fitted[0][2].transform.transforms
    assert (
        attended == Attended() and masking.weights is not None and masking.mask_id == 4 and masking.probability == 0.15
    )
    assert not masking.weights[list(range(5))].any() and (masking.weights[5:] > 0).all()


@pytest.mark.parametrize(("task", "outputs"), [("rte", 2), ("mnli", 3), ("stsb", 1)])
def test_fine_tuning_starts_from_the_student(pair: Pair, context: Callable[..., Any], task: str, outputs: int) -> None:
    student, _ = pair()
    settings, ctx = tiny_hyper(), context(task, trains=False)
    model = recipe.fine_tune(State({"model": student}), settings, ctx).model
    assert isinstance(model, DistilBertForSequenceClassification)
    copied = model.distilbert.state_dict()
    assert len(copied) == 4 + 16 * 2
    assert all(torch.equal(tensor, copied[name]) for name, tensor in student.distilbert.state_dict().items())
    assert model.classifier.out_features == outputs and model.config.seq_classif_dropout == 0.2
    names = get_task(task).labels or ("score",)
    assert model.config.id2label == dict(enumerate(names)) and len(names) == outputs
    assert ctx.asked == [("train_rows", 16)] and ctx.fitted[0][3] == settings.fine_tune
