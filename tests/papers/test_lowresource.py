"""Low-resource distillation: its loss, its students, its variants, and what each stage asks for and trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import WORDS, FakeContext, scatter
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import SpecError
from bench.data.batches import WithLogits
from bench.data.rows import Texts
from bench.data.tasks import get_task
from bench.models.shape import Shape
from bench.models.size import parameters
from bench.train.recipe import State
from papers.lowresource.losses import logit_mse
from papers.lowresource.recipe import MODELS, RECIPE, check
from papers.lowresource.settings import BiLstm, CbowFfn, Cnn, Hyper, passes
from papers.lowresource.shapes import SHAPES

KINDS = ("bilstm", "cbow-ffn", "cnn")
QUICK = {"training.epochs": 2, "training.batch_size": 8, "least_steps": 1, "student.vocabulary": 70,
         "augment.augmentation": 2}  # fmt: skip


@pytest.fixture
def make(context: Callable[..., FakeContext]) -> Callable[..., FakeContext]:
    """A context whose teacher is a tiny BERT classifier of the task."""

    def made(task: str = "sst2", **fields: Any) -> FakeContext:
        torch.manual_seed(0)
        shape = BertConfig(
            vocab_size=WORDS, num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=24, num_labels=max(1, len(get_task(task).labels)),
        )  # fmt: skip
        teacher = BertForSequenceClassification(shape)
        scatter(teacher, 1)
        return context(task, given=teacher, **fields)

    return made


def run(name: str, ctx: Any, **changes: Any) -> State:
    """All stages of a variant, each of which sees only the settings that it says it uses."""
    variant = RECIPE.variants[name]
    chosen = RECIPE.hyper(variant, ctx.task.name, "smoke", None).changed({**QUICK, **changes})
    check(variant, chosen, None, None)
    torch.manual_seed(ctx.seed)
    state = State()
    for stage in variant.stages:
        state = stage.run(state, chosen.only(*stage.uses), ctx)
    return state


def weights(state: State) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


# Loss and students


def test_the_loss_by_hand() -> None:
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[3.0, 2.0], [1.0, 1.0]])
    assert logit_mse(student, teacher).item() == pytest.approx((4 + 0 + 1 + 4) / 4)
    assert logit_mse(student, student).item() == 0.0
    # No softmax: a constant on all classes counts.
    assert logit_mse(student + 2.0, student).item() == pytest.approx(4.0)
    assert logit_mse(torch.tensor([[1.5]]), torch.tensor([[4.5]], dtype=torch.float64)).item() == pytest.approx(9.0)


def test_logits_follow_their_examples() -> None:
    logits = np.arange(8, dtype=np.float32).reshape(4, 2)
    batch = WithLogits(logits)({"example_id": torch.tensor([3, 0])}, np.random.default_rng(0))
    assert batch["teacher_logits"].tolist() == [[6.0, 7.0], [0.0, 1.0]]


def test_sizes_are_those_that_the_shapes_and_the_printed_totals_have() -> None:
    found = {}
    for kind, student in zip(KINDS, (BiLstm(), CbowFfn(), Cnn()), strict=True):
        model, shape = MODELS[kind](student.config()), SHAPES[kind]
        assert isinstance(shape, Shape) and shape.build is not None
        found[kind] = parameters(model)
        assert found[kind] == parameters(shape.build()) and student.kind == kind
    assert round(found["bilstm"] / 1e6, 2) == 0.66 and found["cbow-ffn"] == pytest.approx(80_000, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind: str) -> None:
    student = {"bilstm": BiLstm(), "cbow-ffn": CbowFfn(), "cnn": Cnn()}[kind]
    torch.manual_seed(0)
    model = MODELS[kind](student.config()).train()
    ids = torch.randint(5, 5000, (16, 9))
    logits = model(ids, (torch.arange(9) < torch.arange(16)[:, None] % 9 + 1).long()).logits
    logit_mse(logits, torch.randn(16, 2)).backward()
    missed = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missed and len(list(model.parameters())) >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_logit(kind: str) -> None:
    student = {"bilstm": BiLstm(), "cbow-ffn": CbowFfn(), "cnn": Cnn()}[kind]
    torch.manual_seed(0)
    model = MODELS[kind](student.config()).eval()
    ids, mask = torch.randint(5, 5000, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    wide = torch.cat([ids, torch.randint(0, 5000, (3, 6))], 1)
    padded = model(wide, torch.cat([mask, torch.zeros(3, 6, dtype=torch.long)], 1)).logits
    torch.testing.assert_close(model(ids, mask).logits, padded)
    torch.testing.assert_close(model(ids).logits, padded)


def test_both_ways_to_read_rows_of_several_lengths_are_one() -> None:
    torch.manual_seed(0)
    model: Any = MODELS["bilstm"](BiLstm(embedding=6, hidden=5, layers=3).config()).eval()
    x, mask = torch.randn(5, 9, 6), (torch.arange(9) < torch.tensor([[9], [1], [4], [9], [6]])).long()
    ours, theirs = model.read_by_direction(x, mask), model.read_packed(x, mask)
    torch.testing.assert_close(ours, theirs)
    wanted = [torch.autograd.grad(states.amax(1).square().sum(), list(model.lstm.parameters()))
              for states in (ours, theirs)]  # fmt: skip
    torch.testing.assert_close(wanted[0], wanted[1])
    for read in (model.read_by_direction, model.read_packed):
        with pytest.raises(RuntimeError):
            read(x, mask * 0)


# Variants


def test_variants_are_three_students_in_three_ways() -> None:
    assert list(RECIPE.variants) == [kind + way for kind in KINDS for way in ("", "-aug", "-supervised")]
    assert RECIPE.main_variant == "bilstm" and RECIPE.base is None and RECIPE.teachers == ("bert",)
    assert set(SHAPES) <= set(RECIPE.variants)


@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
@pytest.mark.parametrize("name", RECIPE.variants)
def test_settings_are_the_main_ones_with_the_changes_that_a_variant_names(name: str, scale: str) -> None:
    variant = RECIPE.variants[name]
    main = RECIPE.hyper(RECIPE.variants["bilstm"], "sst2", scale, None)
    chosen = RECIPE.hyper(variant, "sst2", scale, None)
    assert chosen == main.changed(variant.changes) and chosen.budget() == main.budget()
    assert name.startswith(chosen.student.kind)
    assert chosen.augment.use == name.endswith("-aug") and (chosen.target == "labels") == name.endswith("-supervised")
    asked = [ask for stage in variant.stages for ask in stage.asks]
    assert asked == ([] if name.endswith("-supervised") else ["fine_tuned"])
    assert not any(stage.task_free for stage in variant.stages)
    check(variant, chosen, None, None)


def test_reviews_are_read_farther() -> None:
    variant = RECIPE.variants["bilstm"]
    lengths = [RECIPE.hyper(variant, task, "full", None).max_length for task in ("imdb", "sst2")]
    assert lengths == [256, 128]


def test_what_no_stage_would_heed_is_refused() -> None:
    for name, changes in (("bilstm", {"target": "labels"}), ("bilstm-supervised", {"target": "logits"}),
                          ("cnn-supervised", {"augment.use": True})):  # fmt: skip
        variant = RECIPE.variants[name]
        with pytest.raises(SpecError, match=r"-aug|-supervised"):
            check(variant, RECIPE.hyper(variant, "sst2", "smoke", None).changed(changes), None, None)


@pytest.mark.parametrize(("batches", "epochs"), [(1, 50), (7, 8), (25, 3), (1000, 3)])
def test_few_rows_are_passed_more_often(batches: int, epochs: int) -> None:
    training = Hyper().training.model_copy(update={"epochs": 3})
    assert passes(training, batches, 50).epochs == epochs
    assert passes(training.model_copy(update={"accumulation": 2}), 10, 50).epochs == 10


# Stages


@pytest.mark.parametrize("task", ["sst2", "stsb", "mnli"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns_from_the_teacher_with_all_texts(kind: str, task: str, make: Callable) -> None:
    ctx = make(task)
    state = run(kind, ctx, **{"training.epochs": 60, "training.lr": 1e-2})
    assert state.tokenizer is not None and state.tokenizer.pad_token_id == 0
    ((model, _, batches, _),) = ctx.fitted
    assert model is state.model and len(batches.encoded) == 24 and ("teacher_logits", 24) in ctx.asked
    assert model.config.num_labels == max(1, len(ctx.task.labels))
    assert tuple(model.config.id2label.values()) == (ctx.task.labels or ("score",))
    assert ctx.logs[0].last_loss < 0.5 * ctx.logs[0].first_loss


def test_augmentation_asks_the_teacher_about_new_text(make: Callable) -> None:
    ctx = make()
    run("cbow-ffn-aug", ctx)
    ((_, _, batches, _),) = ctx.fitted
    assert 24 < len(batches.encoded) <= 24 * 3 and ("teacher_logits", len(batches.encoded)) in ctx.asked


class Garbage:
    """The same context, whose labels are all wrong."""

    def __init__(self, ctx: FakeContext) -> None:
        self.ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ctx, name)

    def train_texts(self) -> Texts:
        raise AssertionError("distillation reads no labelled rows")

    def all_texts(self) -> Texts:
        texts = self.ctx.all_texts()
        return replace(texts, labels=np.full_like(texts.labels, 77))


@pytest.mark.parametrize("name", ["bilstm", "cnn-aug"])
def test_distillation_reads_no_label(name: str, make: Callable) -> None:
    first, second = run(name, make()), run(name, Garbage(make()))
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("task", ["sst2", "stsb", "mnli"])
def test_the_supervised_student_never_asks_for_the_teacher(task: str, make: Callable) -> None:
    ctx = make(task)
    ctx.given = None
    run("cbow-ffn-supervised", ctx)
    assert not any(asked[0] == "teacher_logits" for asked in ctx.asked)
    ((_, _, batches, _),) = ctx.fitted
    assert batches.encoded.labels.tolist() == ctx.train_texts().labels.tolist() and len(batches.encoded) == 12


def test_a_seed_gives_the_same_student(make: Callable) -> None:
    same, again, other = (weights(run("bilstm-aug", make(seed=seed))) for seed in (0, 0, 1))
    assert torch.equal(same, again) and not torch.equal(same, other)
