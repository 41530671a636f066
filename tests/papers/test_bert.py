"""BERT, the reference: its size, its settings per task and scale, and how a given encoder becomes a classifier."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from bench.core.errors import ModelError, SpecError, TrainError
from bench.data.tasks import TASKS, get_task
from bench.models import load
from bench.models.lm import parts
from bench.models.outputs import forward
from bench.train.losses import masked_lm
from bench.train.mlm import masked_accuracy
from bench.train.recipe import EncoderFacts, State
from bench.train.tuning import classifier_config, load_encoder
from papers.bert import recipe
from papers.bert.recipe import RECIPE, Hyper, Pretraining

PRETRAINING = Pretraining.model_validate({})
GIVEN = EncoderFacts(layers=4, hidden=128, heads=4, vocabulary=1000)


def hyper(variant: str, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The settings of a variant by its name."""
    return recipe.hyper(RECIPE.variants[variant], task, scale, encoder)


def tiny_config(layers: int = 2, **fields: Any) -> BertConfig:
    return BertConfig(
        vocab_size=60, num_hidden_layers=layers, hidden_size=16, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, **fields,
    )  # fmt: skip


def classifier(task: str) -> BertForSequenceClassification:
    config: Any = classifier_config(tiny_config(), get_task(task))
    return BertForSequenceClassification(config)


def tiny(model_class: Callable[..., PreTrainedModel], seed: int = 0, **fields: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    return model_class(tiny_config(**fields)).eval()


def test_parameter_counts_are_the_papers() -> None:
    def count(build: Callable[[], nn.Module]) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in build().parameters())

    assert count(lambda: BertModel(BertConfig())) == 109_482_240
    assert count(lambda: BertForMaskedLM(BertConfig())) == 109_514_298
    two_way: Any = classifier_config(BertConfig(), get_task("sst2"))
    assert count(lambda: BertForSequenceClassification(two_way)) == 109_483_778
    assert count(lambda: BertModel(BertConfig(num_hidden_layers=0))) == 23_835_648 + 1_536 + 590_592


# Settings


@pytest.mark.parametrize("task", RECIPE.tasks)
def test_full_scale_is_the_reference_setting(task: str) -> None:
    full = hyper("bert", task, "full", GIVEN)
    tune = full.fine_tune
    assert full.pretrain is None and full.max_length == {"imdb": 256, "squad": 384}.get(task, 128)
    assert (full.windows is not None) == (task == "squad")
    assert tune.epochs == (5 if task in ("mrpc", "wnli", "conll2003") else 3)
    lr, warmup = 5e-5 if task in ("squad", "conll2003") else 2e-5, 0.4 if task == "conll2003" else 0.1
    assert (tune.batch_size, tune.lr, tune.weight_decay, tune.warmup) == (32, lr, 0.01, warmup)
    assert (tune.schedule, tune.clip, tune.betas, tune.accumulation) == ("linear", 1.0, (0.9, 0.999), 1)


@pytest.mark.parametrize("task", RECIPE.tasks)
def test_small_scale_takes_larger_steps_and_levels_the_epochs(task: str) -> None:
    small, full = hyper("bert", task, "small", GIVEN), hyper("bert", task, "full", GIVEN)
    assert small.fine_tune.lr > full.fine_tune.lr and small.fine_tune.epochs == 10
    assert (
        small.fine_tune.model_copy(update={"lr": full.fine_tune.lr, "batch_size": 32, "epochs": full.fine_tune.epochs})
        == full.fine_tune
    )
    assert (small.pretrain, small.max_length) == (None, 128 if task == "squad" else full.max_length)


@pytest.mark.parametrize("task", RECIPE.tasks)
def test_smoke_scale_makes_its_own_encoder_unless_one_is_given(task: str) -> None:
    own, given = hyper("bert", task, "smoke", None), hyper("bert", task, "smoke", GIVEN)
    assert own.pretrain == PRETRAINING and given.pretrain is None
    assert own.model_copy(update={"pretrain": None}) == given
    assert own.max_length <= PRETRAINING.max_positions and PRETRAINING.max_length <= PRETRAINING.max_positions
    assert own.budget().keys() == {"pretrain.corpus_tokens", "pretrain.training.epochs", "fine_tune.epochs"}
    assert own.budget()["fine_tune.epochs"] == given.fine_tune.epochs
    assert given.budget().keys() == {"fine_tune.epochs"}


def test_the_recipe_names_what_exists() -> None:
    assert set(RECIPE.tasks) <= set(TASKS) and len(set(RECIPE.tasks)) == len(RECIPE.tasks) == 12
    assert set(RECIPE.smoke_tasks) <= set(RECIPE.tasks) and len(RECIPE.smoke_tasks) >= 3
    assert RECIPE.is_reference and RECIPE.main_variant == "bert" and not RECIPE.variants["bert"].released
    for given, wanted in ((RECIPE.default_encoder, "uncased"), (RECIPE.cased_encoder, "cased")):
        assert given is not None
        assert given[0] == f"google-bert/bert-base-{wanted}" and re.fullmatch("[0-9a-f]{40}", given[1])


@pytest.mark.parametrize(
    ("teacher", "names", "needs"),
    [
        (GIVEN, ["load_checkpoint", "adapt", "fine_tune"], [None, "corpus", "task"]),
        (None, ["pretrain", "fine_tune"], ["corpus", "task"]),
    ],
)
def test_stages(teacher: EncoderFacts | None, names: list[str], needs: list[str | None]) -> None:
    where = "given" if teacher else "made"
    stages = [stage for stage in RECIPE.variants["bert"].stages if stage.encoder in (None, where)]
    assert [stage.name for stage in stages] == names
    assert [stage.task_free for stage in stages] == [True] * (len(names) - 1) + [False]
    assert [stage.needs for stage in stages] == needs
    used = {name for stage in stages for name in stage.uses}
    assert used == set(Hyper.model_fields) - ({"pretrain"} if teacher else {"adapt"})
    assert not [stage for stage in stages if stage.asks]


# An encoder becomes a classifier


@pytest.mark.parametrize("source", [BertModel, BertForMaskedLM, BertForSequenceClassification])
def test_an_encoder_is_copied_whole(source: Any) -> None:
    encoder = tiny(source, seed=1)
    model = classifier("rte")
    head = model.classifier.weight.clone()
    load_encoder(model, encoder)
    weights, copied = encoder.base_model.state_dict(), model.bert.state_dict()
    pooled = 0 if source is BertForMaskedLM else 2
    assert len(weights) == 5 + 16 * 2 + pooled and len(copied) == 5 + 16 * 2 + 2
    assert all(torch.equal(tensor, copied[name]) for name, tensor in weights.items())
    assert torch.equal(model.classifier.weight, head)
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in encoder.parameters()}


@pytest.mark.parametrize("layers", [1, 3])
def test_an_encoder_of_other_depth_is_not_copied_in_part(layers: int) -> None:
    model = tiny(BertForSequenceClassification, layers=2)
    with pytest.raises(AssertionError, match=re.escape(f"encoder.layer.{min(layers, 2)}")):
        load_encoder(model, tiny(BertModel, layers=layers))


@pytest.mark.parametrize("task", RECIPE.tasks)
def test_a_classifier_config_has_the_tasks_labels_in_order(task: str) -> None:
    before = tiny_config().to_dict()
    encoder = tiny_config()
    made = classifier_config(encoder, get_task(task))
    names = get_task(task).labels or ("score",)
    assert made.num_labels == len(names) and made.id2label == dict(enumerate(names))
    assert made.label2id == {name: i for i, name in enumerate(names)}
    changed = {k for k, v in made.to_dict().items() if v != before.get(k)}
    assert changed <= {"id2label", "label2id", "num_labels"} and encoder.to_dict() == before


# Stages


def checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, **config: Any) -> Any:
    load.save(model, folder, tokenizer)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return load.check(folder)


CASES: dict[str, tuple[type[PreTrainedModel], dict[str, Any], type[PreTrainedModel]]] = {
    "masked LM": (BertForMaskedLM, {}, BertForMaskedLM),
    "both pre-training heads": (BertForPreTraining, {}, BertForMaskedLM),
    "bare encoder": (BertModel, {}, BertModel),
    "no architecture named, with a head": (BertForMaskedLM, {"architectures": None}, BertForMaskedLM),
    "no architecture named, without": (BertModel, {"architectures": None}, BertModel),
    "a masked LM by name, without a head": (BertModel, {"architectures": ["BertForMaskedLM"]}, BertModel),
    "a classifier": (BertForSequenceClassification, {}, BertForSequenceClassification),
}


@pytest.mark.parametrize("case", CASES)
def test_a_given_encoder_keeps_the_head_that_it_has(
    case: str, context: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    saved, config, expected = CASES[case]
    given = tiny(saved, seed=3)
    ctx = context(checkpoint=checkpoint(given, tokenizer, tmp_path / "given", **config))
    model = recipe.load_checkpoint(State(), hyper("bert", "rte", "full", GIVEN), ctx).model
    assert type(model) is expected and not ctx.asked and not ctx.fitted
    ours, theirs = model.state_dict(), given.state_dict()
    if expected is BertModel:
        theirs = {name.removeprefix("bert."): tensor for name, tensor in theirs.items()}
    assert len(ours) >= 37 and not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def test_another_architecture_is_refused(
    context: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = DistilBertConfig(vocab_size=60, n_layers=1, dim=16, n_heads=2, hidden_dim=32, max_position_embeddings=24)
    ctx = context(checkpoint=checkpoint(DistilBertForMaskedLM(config), tokenizer, tmp_path / "distil"))
    with pytest.raises(ModelError) as error:
        recipe.load_checkpoint(State(), Hyper.model_validate({}), ctx)
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in ("not a BERT", "distil", "found model_type distilbert", "next:"))


@pytest.mark.parametrize(("task", "outputs"), [("rte", 2), ("mnli", 3), ("stsb", 1)])
def test_fine_tuning_starts_from_the_encoder(context: Callable[..., Any], task: str, outputs: int) -> None:
    encoder = tiny(BertForMaskedLM, seed=2)
    settings = hyper("bert", task, "full", GIVEN)
    ctx = context(task, trains=False)
    model = recipe.fine_tune(State({"model": encoder}), settings, ctx).model
    assert isinstance(model, BertForSequenceClassification) and model.classifier.out_features == outputs
    assert all(torch.equal(t, model.bert.state_dict()[n]) for n, t in encoder.base_model.state_dict().items())
    fitted, loss, batches, training = ctx.fitted[0]
    assert fitted is model and ctx.asked == [("train_rows", 128)] and training == settings.fine_tune
    order = batches.order(0)
    batch = batches.batch(0, 0, order[0])
    terms = loss(model.eval(), batch)
    logits = forward(model, batch).logits
    labels = batch["labels"]
    plain = (logits[:, 0] - labels).square().mean() if task == "stsb" else nn.functional.cross_entropy(logits, labels)
    assert terms.keys() == {"task"} and terms["task"].item() == pytest.approx(plain.item(), rel=1e-5)


def test_a_given_classifier_is_used_as_it_is_with_its_labels_aligned(context: Callable[..., Any]) -> None:
    names = {0: "not_entailment", 1: "entailment"}
    given = tiny(BertForSequenceClassification, id2label=names, label2id={v: k for k, v in names.items()})
    ids = torch.arange(5, 13)[None]
    with torch.inference_mode():
        before = given(ids).logits
    ctx = context("rte")
    state = recipe.fine_tune(State({"model": given}), Hyper.model_validate({}), ctx)
    with torch.inference_mode():
        after = state.model(ids).logits
    assert get_task("rte").labels == ("entailment", "not_entailment")
    assert torch.equal(after, before.flip(-1)) and not torch.equal(after, before)
    assert state.facts == {"given_fine_tuned": True} and not ctx.fitted


def test_a_regression_teacher_of_our_own_comes_back(context: Callable[..., Any], tmp_path: Path) -> None:
    load.save(classifier("stsb"), tmp_path / "stsb")
    ctx = context("stsb")
    state = recipe.fine_tune(State({"model": load.load_saved(tmp_path / "stsb")}), Hyper.model_validate({}), ctx)
    assert state.facts == {"given_fine_tuned": True} and not ctx.fitted


def test_pretraining_makes_a_masked_lm_that_learns(context: Callable[..., Any]) -> None:
    pretrain = Pretraining.model_validate({
        "layers": 2, "hidden": 16, "heads": 2, "ffn": 32, "max_positions": 24, "max_length": 16,
        "corpus_tokens": 1000,
        "training": {"epochs": 6, "batch_size": 8, "lr": 3e-3, "precision": "fp32"},
    })  # fmt: skip
    ctx = context()
    torch.manual_seed(0)
    model = recipe.pretrain(State(), Hyper.model_validate({}).model_copy(update={"pretrain": pretrain}), ctx).model
    assert isinstance(model, BertForMaskedLM) and ctx.asked == [("corpus", 1000, 16, 1)]
    config = model.config
    assert (config.vocab_size, config.num_hidden_layers, config.max_position_embeddings) == (60, 2, 24)
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (16, 2, 32)
    assert ctx.logs[0].steps == 30 and ctx.logs[0].last_loss < ctx.logs[0].first_loss
    _, loss, batches, _ = ctx.fitted[0]
    assert batches.transform is not None and batches.transform.weights is None, "BERT masks each position on its own"
    batch = batches.batch(0, 0, batches.order(0)[0])
    assert bool((batch["labels"] >= 0).any()) and bool((batch["input_ids"] == 4).any())
    lm = parts(model.eval())
    plain = nn.functional.cross_entropy(forward(model, batch).logits.view(-1, 60), batch["labels"].view(-1))
    terms = loss(model, batch)
    assert terms.keys() == {"mlm"} and terms["mlm"].item() == pytest.approx(plain.item(), rel=1e-5)
    assert masked_lm(lm.hidden(batch), batch, lm.logits).item() == pytest.approx(plain.item(), rel=1e-5)


def test_a_given_pooler_is_kept_beside_the_masked_lm(
    context: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """A masked LM has no pooler, but the checkpoint of a BERT does, and fine-tuning starts from it."""
    whole = tiny(BertForPreTraining, seed=3)
    ctx = context(checkpoint=checkpoint(whole, tokenizer, tmp_path / "given"))
    state = recipe.load_checkpoint(State(), hyper("bert", "rte", "full", GIVEN), ctx)
    assert isinstance(state.model, BertForMaskedLM)
    pooler = state.models["encoder"].state_dict()["pooler.dense.weight"]
    assert torch.equal(pooler, whole.state_dict()["bert.pooler.dense.weight"])


ADAPT = {
    "corpus_tokens": 1000, "max_length": 16, "margin": 0.0, "held_out": 0.2,
    "head_tokens": 100, "head": {"epochs": 1, "batch_size": 8, "lr": 3e-3},
    "training": {"epochs": 2, "batch_size": 8, "lr": 3e-3, "precision": "fp32"},
}  # fmt: skip


def test_adapting_trains_the_whole_encoder_on_text_that_is_not_held_out(context: Callable[..., Any]) -> None:
    encoder = tiny(BertModel, seed=1)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    ctx = context()
    settings = Hyper.model_validate({"adapt": ADAPT})
    below = settings.adapt.model_copy(update={"margin": -1.0})  # whatever it learned: the floor is tested below
    state = recipe.adapt(State({"model": encoder}), settings.model_copy(update={"adapt": below}), ctx)
    assert isinstance(state.model, BertForMaskedLM)
    after = state.model.bert.state_dict()
    moved = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
    assert len(moved) == len(after), "every tensor of the encoder was trained"
    rows = ctx.corpus(1000, 16)
    seen = [np.unique(np.concatenate(batches.order(0))) for _, _, batches, _ in ctx.fitted]
    assert len(seen) == 2
    assert all(places.max() < len(rows) - int(0.2 * len(rows)) for places in seen), "the last fifth is held out"
    assert len(seen[0]) < len(seen[1]) == len(rows) - int(0.2 * len(rows)), "the head has tokens of its own"
    found = state.facts["masked_lm_accuracy"]
    assert found.keys() == {"held_out", "commonest"}
    assert 0 <= found["held_out"][0] <= 1
    assert 0 < found["commonest"][0] < 1


def test_an_adapted_encoder_is_fine_tuned_from_the_pooler_that_was_given(context: Callable[..., Any]) -> None:
    given = tiny(BertModel, seed=3)
    pooler = given.state_dict()["pooler.dense.weight"].clone()
    settings = Hyper.model_validate({"adapt": ADAPT})
    settings = settings.model_copy(update={"adapt": settings.adapt.model_copy(update={"margin": -1.0})})
    state = recipe.adapt(State({"model": given}), settings, context())
    model = recipe.fine_tune(state, settings, context("rte", trains=False)).model.state_dict()
    assert torch.equal(model["bert.pooler.dense.weight"], pooler)
    trained = state.model.state_dict()
    assert all(torch.equal(tensor, model[name]) for name, tensor in trained.items() if name.startswith("bert."))


def test_an_adapted_encoder_that_knows_no_words_is_refused(context: Callable[..., Any]) -> None:
    settings = Hyper.model_validate({"adapt": ADAPT | {"margin": 0.99}})
    with pytest.raises(TrainError, match=r"knows too few words; found 0\.\d+ of held-out words; expected at least"):
        recipe.adapt(State({"model": tiny(BertModel)}), settings, context())


def test_masked_accuracy_counts_the_words_that_are_guessed(context: Callable[..., Any]) -> None:
    """A head whose bias is far above all else says one word everywhere: it is right as often as that word is masked."""
    model = tiny(BertForMaskedLM)
    assert isinstance(model, BertForMaskedLM)
    ctx = context()
    rows = ctx.corpus(1000, 16)
    shares = []
    for word in range(60):
        with torch.no_grad():
            model.cls.predictions.bias.zero_()
            model.cls.predictions.bias[word] = 1e4
        shares.append(masked_accuracy(model, rows, ctx))
    assert sum(share["held_out"] for share in shares) == pytest.approx(1.0)
    assert {share["commonest"] for share in shares} == {max(share["held_out"] for share in shares)}


def test_the_adapting_stage_is_there_where_it_is_asked_for_and_old_settings_are_what_they_were() -> None:
    (stage,) = [stage for stage in recipe.STAGES if stage.name == "adapt"]
    assert stage.when is not None
    plain, asked = Hyper.model_validate({}), Hyper.model_validate({}).override({"adapt.corpus_tokens": "5000"})
    assert not stage.when(plain)
    assert stage.when(asked)
    assert "adapt" not in plain.model_dump()
    assert "adapt.corpus_tokens" not in plain.budget()
    assert asked.budget()["adapt.corpus_tokens"] == 5000


@pytest.mark.parametrize("model_class", [BertForMaskedLM, BertForSequenceClassification])
def test_what_needs_no_adapting_is_refused_in_the_plan(
    model_class: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    given = checkpoint(tiny(model_class), tokenizer, tmp_path / "given")
    asked = Hyper.model_validate({}).override({"adapt.corpus_tokens": "5000"})
    for one in (given, None):
        with pytest.raises(SpecError, match=r"no encoder to adapt.*without a masked-LM head; next: leave it at 0"):
            recipe.check(RECIPE.variants["bert"], asked, GIVEN, one)
