"""MobileBERT's stages on tiny models: what they ask for, copy, train and hand on, and its settings at each scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from conftest import FakeContext, scatter

from bench.core.errors import Diverged, ModelError, SpecError, TrainError
from bench.train.recipe import EncoderFacts, State
from bench.train.settings import Training
from papers.mobilebert import recipe, settings
from papers.mobilebert.heads import MobileBertClassifier, MobileBertForPreTraining, MobileBertForSpans
from papers.mobilebert.recipe import RECIPE
from papers.mobilebert.settings import FineTuning, Hyper
from papers.mobilebert.student import Architecture

BASE = EncoderFacts(layers=12, hidden=768, heads=12, vocabulary=30522)
TAUGHT = [name for name, variant in RECIPE.variants.items() if variant.taught_by]


def hyper(name: str = "mobilebert", scale: str = "smoke", **changes: Any) -> Hyper:
    chosen = settings.hyper(RECIPE.variants[name], "sst2", scale, BASE)
    return chosen.changed({field.replace("__", "."): value for field, value in changes.items()})


# Settings


def test_full_scale_is_the_released_code() -> None:
    chosen = hyper(scale="full")
    transfer, words = chosen.transfer.training, chosen.distillation.training
    for training in (transfer, words, chosen.pretrain):
        assert (training.optimizer, training.lr, training.eps, training.weight_decay) == ("lamb", 1.5e-3, 1e-6, 0.01)
        assert training.betas == (0.9, 0.999) and training.clip == 1.0
    assert (transfer.schedule, transfer.warmup) == ("root", 0.1) and (words.schedule, words.warmup) == ("linear", 0.02)
    assert transfer.batch_size * transfer.accumulation == words.batch_size * words.accumulation == 2048
    assert chosen.pretrain.batch_size * chosen.pretrain.accumulation == 4096
    # Passes over 3.3e9 tokens of text, in pairs of 512: 240,000 and 500,000 steps, and 500,000 of the teacher.
    pairs = chosen.corpus.corpus_tokens / chosen.corpus.max_length
    before = pairs * chosen.transfer.share
    assert transfer.epochs * before / 2048 == pytest.approx(240_000, rel=0.01)
    assert words.epochs * (pairs - before) / 2048 == pytest.approx(500_000, rel=0.01)
    assert chosen.pretrain.epochs * pairs / 4096 == pytest.approx(500_000, rel=0.01)
    weights = {name: getattr(chosen.transfer, f"weight_{name}") for name in ("map", "mean", "variance", "attention")}
    assert weights == {"map": 100, "mean": 5000, "variance": 5, "attention": 1} and chosen.distillation.hard == 0.5
    tuning = chosen.fine_tune.training
    assert (tuning.batch_size, tuning.lr, tuning.epochs, tuning.warmup, tuning.optimizer) == (32, 4e-5, 5, 0.1, "adamw")


def test_the_small_scale_has_the_papers_ratios() -> None:
    """To BERT-large the ratios give what Table 1 prints."""
    large = settings.ratios(24, 1024)
    full = Hyper()
    assert full.changed(large) == full
    small = hyper(scale="small")
    assert (small.stream.hidden_size, small.stream.embedding_size) == (384, 96)
    assert (small.teacher.intra_bottleneck_size, small.student.intra_bottleneck_size) == (768, 96)
    assert small.teacher.num_hidden_layers == small.student.num_hidden_layers == 12
    with pytest.raises(ModelError, match="multiple of 32"):
        settings.ratios(12, 100)


def test_the_grid_is_the_published_one() -> None:
    given = Training(batch_size=32, lr=4e-5, epochs=5)
    found = recipe.points(FineTuning(training=given, tries=270), 0)
    seen = {(point.batch_size, point.lr, point.epochs) for point in found}
    assert found[0] == given and len(seen) == len(found) == 270, "no point twice, the one that is set included"
    assert seen == {(b, i / 100_000, e) for b in (16, 32, 48) for i in range(1, 11) for e in range(2, 11)}
    few = [recipe.points(FineTuning(training=given, tries=4), seed) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2] and len(few[0]) == 4
    assert recipe.points(FineTuning(training=given, tries=1), 0) == [given]


# Stages


@pytest.fixture
def taught(context: Callable[..., FakeContext]) -> Callable[..., tuple[Hyper, FakeContext, MobileBertForPreTraining]]:
    """The settings of a variant, a context with an IB-BERT of random weights in it, and that IB-BERT."""

    def make(name: str = "mobilebert", trains: bool = False, **changes: Any) -> Any:
        chosen = hyper(name, **changes)
        teacher = MobileBertForPreTraining(settings.teacher_of(chosen, 60, 0))
        scatter(teacher, 4)
        return chosen, context("sst2", given=teacher, trains=trains), teacher

    return make


def shared(chosen: Hyper, ctx: FakeContext, teacher: MobileBertForPreTraining) -> set[str]:
    """Names of the tensors that a new student has from its teacher."""
    student = recipe.initialise_student(State(), chosen, ctx).model
    of_teacher = teacher.state_dict()
    return {name for name, tensor in student.state_dict().items()
            if name in of_teacher and torch.equal(tensor, of_teacher[name])}  # fmt: skip


EMBEDDINGS = {f"encoder.embeddings.{part}" for part in (
    "words.weight", "positions.weight", "types.weight", "transform.weight", "transform.bias")}  # fmt: skip
NORM = {"encoder.embeddings.norm.weight", "encoder.embeddings.norm.bias"}
HEADS = {"transform.weight", "transform.bias", "norm.weight", "norm.bias", "extra", "bias", "follows.weight",
         "follows.bias"}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("mobilebert", EMBEDDINGS | HEADS), ("mobilebert-tiny", EMBEDDINGS | HEADS),
     ("mobilebert-no-opt", EMBEDDINGS | NORM | HEADS), ("mobilebert-no-opt-bare", set())],
)  # fmt: skip
def test_a_student_begins_with_its_teachers_embeddings_and_heads(taught: Callable, name: str, wanted: set[str]) -> None:
    assert shared(*taught(name)) == wanted


@pytest.mark.parametrize("name", TAUGHT)
def test_a_student_has_no_dropout_while_it_is_taught_and_has_it_for_the_task(taught: Callable, name: str) -> None:
    chosen, ctx, _ = taught(name)
    state = recipe.initialise_student(State(), chosen, ctx)
    found: Any = state.model
    bare = name == "mobilebert-no-opt-bare"
    assert (found.config.hidden_dropout, found.config.attention_dropout) == (0.0, 0.1 if bare else 0.0)
    assert {layer.attention.dropout for layer in cast(Any, found).encoder.layers} == {0.1 if bare else 0.0}
    tuned: Any = recipe.fine_tune(state, chosen, ctx).model
    assert isinstance(tuned, MobileBertClassifier) and tuned.config.labels == ctx.task.labels
    assert (tuned.config.hidden_dropout, tuned.config.attention_dropout, tuned.dropout.p) == (0.0, 0.1, 0.1)
    assert {layer.attention.dropout for layer in cast(Any, tuned).encoder.layers} == {0.1}
    for one, other in zip(found.encoder.parameters(), tuned.encoder.parameters(), strict=True):
        assert torch.equal(one, other), "the head is new, the encoder is the student's"


def test_the_teacher_keeps_its_pooler_and_dropout_for_the_task(context: Callable[..., FakeContext]) -> None:
    ctx, chosen = context("sst2", trains=False), hyper("ib-bert-large")
    state = recipe.pretrain_teacher(State(), chosen, ctx)
    before: Any = state.model
    scatter(before, 5)
    tuned: Any = recipe.fine_tune(state, chosen, ctx).model
    assert torch.equal(tuned.pooler.weight, before.pooler.weight) and tuned.config.hidden_dropout == 0.1
    assert [asked[0] for asked in ctx.asked] == ["sentence_pairs", "train_rows"]
    (_, loss, batches, training) = ctx.fitted[0]
    assert training == chosen.pretrain
    batch = batches.batch(0, 0, batches.order(0)[0])
    assert loss(before, batch).keys() == {"words", "follows"}


def test_a_task_of_spans_has_a_head_of_its_own(context: Callable[..., FakeContext]) -> None:
    """Of a teacher, whose pooler it does not read."""
    ctx, chosen = context("squad", trains=False), hyper("ib-bert-large")
    tuned: Any = recipe.fine_tune(recipe.pretrain_teacher(State(), chosen, ctx), chosen, ctx).model
    assert isinstance(tuned, MobileBertForSpans) and tuned.pooler is None and tuned.config.labels == ("start", "end")
    _, loss, batches, _ = ctx.fitted[-1]
    batch = batches.batch(0, 0, batches.order(0)[0])
    spans = torch.tensor([[1, 3]]).expand(len(batch["labels"]), 2)
    loss(tuned, {**batch, "labels": spans})["task"].backward()
    assert all(parameter.grad is not None for parameter in tuned.parameters())


def test_transfer_and_words_share_the_text_between_them(taught: Callable) -> None:
    """A phase a layer on the first part of the pairs, and the words on the rest; the teacher is frozen."""
    chosen, ctx, teacher = taught(transfer__share=0.25)
    state = recipe.initialise_student(State(), chosen, ctx)
    state = recipe.distil_words(recipe.transfer(state, chosen, ctx), chosen, ctx)
    parts = [batches.encoded.ids.tolist() for _, _, batches, _ in ctx.fitted]
    assert parts == [list(range(5)), list(range(5, 10)), list(range(10, 40))]
    assert [len(groups) for groups in ctx.grouped] == [2, 3, 0]
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(model is state.model for model, *_ in ctx.fitted)


def test_however_much_the_transfer_reads_the_words_are_left_some_text(taught: Callable) -> None:
    chosen, ctx, _ = taught(transfer__share=0.99)
    state = recipe.initialise_student(State(), chosen, ctx)
    recipe.distil_words(recipe.transfer(state, chosen, ctx), chosen, ctx)
    assert [len(batches.encoded) for _, _, batches, _ in ctx.fitted] == [20, 19, 1]


@pytest.mark.parametrize("name", ["mobilebert-auxiliary", "mobilebert-no-opt-pd", "mobilebert-no-opt-bare"])
def test_without_a_transfer_before_them_the_words_have_all_of_the_text(taught: Callable, name: str) -> None:
    chosen, ctx, _ = taught(name)
    assert not chosen.transfer.first
    state = recipe.distil_words(recipe.initialise_student(State(), chosen, ctx), chosen, ctx)
    ((model, loss, batches, training),) = ctx.fitted
    assert model is state.model and len(batches.encoded) == 40 and training == chosen.distillation.training
    found = loss(model, batches.batch(0, 0, batches.order(0)[0]))
    copied = {"feature_map", "mean", "variance", "attention"} if name == "mobilebert-auxiliary" else set()
    assert found.keys() == {"words", "follows"} | copied | (set() if "bare" in name else {"soft_words"})


def test_a_short_transfer_brings_the_student_nearer(taught: Callable) -> None:
    chosen, ctx, _ = taught("mobilebert-joint", trains=True, transfer__share=0.9, transfer__training__epochs=8,
                            transfer__training__batch_size=8)  # fmt: skip
    recipe.transfer(recipe.initialise_student(State(), chosen, ctx), chosen, ctx)
    (log,) = ctx.logs
    assert log.last_loss < 0.7 * log.first_loss


@pytest.mark.parametrize("scores", [(0.6, 0.9, 0.7), (float("nan"), 0.5, 0.2), (0.1, float("nan"), 0.05)])
def test_the_best_try_on_dev_is_kept(
    taught: Callable, scores: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, ctx, _ = taught(fine_tune__tries=3)
    looked: list[torch.nn.Module] = []

    def dev_score(model: torch.nn.Module) -> float:
        looked.append(model)
        return scores[len(looked) - 1]

    monkeypatch.setattr(ctx, "dev_score", dev_score)
    state = recipe.fine_tune(recipe.initialise_student(State(), chosen, ctx), chosen, ctx)
    best = max((i for i in range(3) if scores[i] == scores[i]), key=lambda i: scores[i])
    assert state.model is looked[best] and len(looked) == 3
    training = ctx.fitted[best][3]
    assert state.facts["chosen"] == {
        "batch_size": [training.batch_size], "lr": [training.lr], "epochs": [training.epochs], "diverged": [0.0],
    }  # fmt: skip


@pytest.mark.parametrize("broken", [(0,), (1, 2), (0, 1, 2)])
def test_a_try_that_diverges_is_passed_over_and_counted(
    taught: Callable, broken: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, ctx, _ = taught(fine_tune__tries=3)
    start, plain, begun = recipe.initialise_student(State(), chosen, ctx), ctx.fit, []

    def fit(*given: Any) -> Any:
        begun.append(given)
        if len(begun) - 1 in broken:
            raise Diverged("the loss is not finite")
        return plain(*given)

    monkeypatch.setattr(ctx, "fit", fit)
    monkeypatch.setattr(ctx, "dev_score", lambda model: 0.5)
    if len(broken) == 3:
        with pytest.raises(Diverged, match="not finite"):
            recipe.fine_tune(start, chosen, ctx)
        return
    state = recipe.fine_tune(start, chosen, ctx)
    first = next(i for i in range(3) if i not in broken)
    assert state.model is begun[first][0] and len(begun) == 3
    assert state.facts["chosen"]["diverged"] == [float(len(broken))]


def test_a_try_that_fails_otherwise_ends_the_run(taught: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, ctx, _ = taught(fine_tune__tries=3)
    start, plain, begun = recipe.initialise_student(State(), chosen, ctx), ctx.fit, []

    def fit(*given: Any) -> Any:
        begun.append(given)
        if len(begun) == 2:
            raise TrainError("the device has no memory left for a batch")
        return plain(*given)

    monkeypatch.setattr(ctx, "fit", fit)
    monkeypatch.setattr(ctx, "dev_score", lambda model: 0.5)
    with pytest.raises(TrainError, match="no memory left"):
        recipe.fine_tune(start, chosen, ctx)


# What cannot be made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"student__num_hidden_layers": 3}, ("student.num_hidden_layers", "found 3 layers", "expected 2")),
        ({"student__num_attention_heads": 2}, ("student.num_attention_heads", "found 2 heads", "expected 4")),
        ({"student__num_attention_heads": 3}, ("heads do not divide", "found 3 heads")),
        ({"corpus__max_length": 200}, ("corpus.max_length", "found 200", "128")),
        ({"max_length": 200}, ("max_length", "found 200", "128")),
        (
            {f"transfer__weight_{name}": 0.0 for name in ("map", "mean", "variance", "attention")},
            ("nothing to transfer", "every weight is 0"),
        ),
    ],
)
def test_a_pair_that_cannot_be_is_refused(change: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises((ModelError, SpecError)) as error:
        recipe.check(RECIPE.variants["mobilebert"], hyper(**change), BASE, None)
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in (*words, "next:")), message


def test_layers_that_nobody_copies_may_be_as_many_as_they_are() -> None:
    uneven = hyper("mobilebert-no-opt-pd", student__num_hidden_layers=3)
    recipe.check(RECIPE.variants["mobilebert-no-opt-pd"], uneven, BASE, None)


@pytest.mark.parametrize("name", RECIPE.variants)
@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_every_variant_can_be_made(name: str, scale: str) -> None:
    recipe.check(RECIPE.variants[name], hyper(name, scale), BASE, None)


def test_variants_differ_in_what_they_say() -> None:
    full = {name: hyper(name, "full") for name in TAUGHT}
    plain, bare = full["mobilebert"], full["mobilebert-no-opt-bare"]
    for name in ("mobilebert-auxiliary", "mobilebert-joint"):
        schedule = name.removeprefix("mobilebert-")
        assert full[name] == plain.changed({"transfer.schedule": schedule})
    no_opt = plain.changed({"student.normalization": "layer", "student.hidden_act": "gelu"})
    assert full["mobilebert-no-opt"] == no_opt
    assert full["mobilebert-no-opt-pd-fmt"] == no_opt.changed({"transfer.weight_attention": 0.0})
    assert full["mobilebert-no-opt-pd"] == no_opt.changed({"transfer.schedule": "none"})
    assert bare == full["mobilebert-no-opt-pd"].changed({"distillation.hard": 1.0, "start": "random"})
    tiny = settings.student_of(full["mobilebert-tiny"], 30522, 0)
    assert tiny == replace(
        settings.student_of(plain, 30522, 0), attention_input="bottleneck", num_feedforward_networks=2
    )


def test_an_answer_does_not_depend_on_padding_even_after_training() -> None:
    torch.manual_seed(0)
    config = Architecture(
        vocab_size=40, max_position_embeddings=24, embedding_size=8, num_hidden_layers=2, hidden_size=16,
        intra_bottleneck_size=8, intermediate_size=16, initializer_range=0.3,
    )  # fmt: skip
    model = MobileBertForPreTraining(config)
    ids = torch.arange(1, 7)[None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(5):  # the decoder is the word table, so the vector of padding learns, too
        model(ids)[0].logsumexp(-1).sum().backward()
        optimizer.step()
    assert model.encoder.embeddings.words.weight[0].abs().max() > 0.01
    padded = torch.cat((ids, torch.zeros(1, 4, dtype=torch.long)), 1)
    with torch.no_grad():
        alone = model.eval()(ids, torch.ones_like(ids))
        beside = model(padded, (padded != 0).long())
    torch.testing.assert_close(beside[0][:, :6], alone[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(beside[1], alone[1], rtol=1e-4, atol=1e-5)
