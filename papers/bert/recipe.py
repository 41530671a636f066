"""BERT, the teacher and the reference: any BERT from a folder or the hub, fine-tuned per task.

    bench run full --paper bert --task rte        about 10 minutes a seed on one GPU
    bench run small --paper bert --teacher FOLDER --data FOLDER --task rte

At smoke scale it first pre-trains a little BERT of its own by masked LM on the synthetic corpus.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    PreTrainedModel,
)

from bench.core.errors import ModelError, SpecError
from bench.data.tasks import GLUE
from bench.models import load
from bench.models.load import Checkpoint
from bench.train.mlm import train_masked_lm
from bench.train.recipe import Context, EncoderFacts, Recipe, Stage, State, Variant
from bench.train.settings import WINDOWS, Budget, Settings, Training, Windowing, unless_none
from bench.train.tuning import classifier_config, fine_tune_on_task, load_encoder
from papers.bert.adapt import Adapting, adapted


class Pretraining(Settings):
    """The little BERT that smoke scale makes for itself (ours, see D1)."""

    layers: int = Field(default=4, ge=1, le=1_000)
    """Transformer layers."""
    hidden: int = Field(default=128, ge=1, le=100_000)
    """Width of the hidden states."""
    heads: int = Field(default=4, ge=1, le=1_000)
    """Attention heads."""
    ffn: int = Field(default=512, ge=1, le=1_000_000)
    """Width inside the feed-forward blocks."""
    max_positions: int = Field(default=128, ge=8, le=100_000)
    """Rows of the position table: the longest input in tokens."""
    corpus_tokens: Annotated[int, Budget()] = Field(default=400_000, ge=1000)
    """Tokens of corpus per pass."""
    max_length: int = Field(default=64, ge=8, le=100_000)
    """Tokens per sequence."""
    training: Training = Training(epochs=2, batch_size=64, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01, warmup=0.1)
    """How it is trained."""


class Hyper(Settings):
    """Devlin et al. 2019 (arXiv 1810.04805v2), appendix A.3, and the GLUE scripts of its users."""

    pretrain: Pretraining | None = None
    """Set at smoke scale only; elsewhere the encoder is given."""
    adapt: Adapting = Field(default=Adapting(), exclude_if=lambda value: value == Adapting())
    """Masked-LM training of a given encoder that has no head for it (ours, see D8)."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Word pieces per example; 128 in the reference GLUE runs."""
    windows: Windowing | None = unless_none()
    """Set for SQuAD, whose examples are windows of `max_length` word pieces."""
    fine_tune: Training = Training(epochs=3, batch_size=32, lr=2e-5, weight_decay=0.01, warmup=0.1, clip=1.0)
    """Batch 32, 2e-5, 3 epochs: the setting of the reference dev rows; warm-up and decay of the BERT paper."""


def hyper(variant: Variant, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The settings of the reference runs at full scale; larger steps for narrow encoders elsewhere (D2).

    At full scale MRPC and WNLI get 5 epochs as in the reference runs, SQuAD 5e-5 as in the paper, CoNLL-2003 what
    Q-BERT's commands give it (5 epochs, 5e-5, warm-up 0.4; D7).
    """
    epochs = 5 if task in ("mrpc", "wnli", "conll2003") else 3
    length, windows = WINDOWS[scale] if task == "squad" else (256 if task == "imdb" else 128, None)
    if scale == "smoke":
        training = Training(epochs=4, batch_size=32, lr=5e-4, warmup=0.1)
        pretrain = None if encoder else Pretraining()
        return Hyper(pretrain=pretrain, max_length=64, windows=windows, fine_tune=training)
    base = Hyper().fine_tune.model_copy(update={
        "epochs": epochs, "lr": 5e-5 if task in ("squad", "conll2003") else 2e-5,
        "warmup": 0.4 if task == "conll2003" else 0.1,
    })  # fmt: skip
    if scale == "small":
        base = base.model_copy(update={"epochs": 10, "batch_size": 16, "lr": 1e-4})
    return Hyper(max_length=length, windows=windows, fine_tune=base)


def check(variant: Variant, chosen: Hyper, encoder: EncoderFacts | None, given: Checkpoint | None) -> None:
    """Refuse, before anything runs, an encoder that is neither a BERT nor fine-tuned, or does not hold all of one.

    Raises: ModelError for such a one, an unknown class, and weights that do not fit the config; SpecError where one is
    to be adapted that is a masked LM already, or fine-tuned.
    """
    if chosen.adapt.corpus_tokens and (given is None or given.has_lm_head or given.kinds):
        raise SpecError("there is no encoder to adapt", where="adapt.corpus_tokens",
                        found=given.architecture if given else "a run that makes its own",
                        expected="a given encoder without a masked-LM head", fix="leave it at 0")  # fmt: skip
    if given is None:
        return
    found = model_class(given)
    load.check_places(given, found)
    if found is BertForMaskedLM:
        load.check_places(given, BertModel)


def makes(chosen: Hyper) -> EncoderFacts | None:
    """What the little BERT of smoke scale will be; its vocabulary is the made-up language's, which is not read here."""
    made = chosen.pretrain
    if made is None:
        return None
    return EncoderFacts(made.layers, made.hidden, made.heads, 0, lm_head=True, positions=made.max_positions)


def model_class(given: Checkpoint) -> type[PreTrainedModel]:
    """The class that a given encoder is loaded as: with its masked-LM head where it has one, or fine-tuned.

    One that is fine-tuned may be of any architecture, as it is used as it is. Raises: ModelError for an encoder that
    is no BERT, and for a class that is neither an encoder nor fine-tuned on a task.
    """
    kind: str = given.config.model_type
    if kind != "bert" and not given.kinds:
        raise ModelError("the teacher is not a BERT", where=given.folder,
                         found=f"model_type {kind}, {given.architecture or 'no architecture'}",
                         expected="a BERT, or another encoder that is fine-tuned on the task",
                         fix="give a BERT")  # fmt: skip
    found: Any = load.architecture(given.architecture or "BertModel")
    if kind != "bert":
        return found
    if found in (BertForPreTraining, BertForMaskedLM, BertModel):
        return BertForMaskedLM if given.has_lm_head else BertModel
    if found not in load.BERT_HEADS.values():
        known = sorted({one.__name__ for one in (BertForPreTraining, BertForMaskedLM, BertModel,
                                                 *load.BERT_HEADS.values())})  # fmt: skip
        raise ModelError("the teacher's architecture answers no task here", where=given.folder,
                         found=given.architecture, expected=f"one of {', '.join(known)}",
                         fix="give its pre-trained encoder")  # fmt: skip
    return found


def load_checkpoint(state: State, hyper: Hyper, ctx: Context) -> State:
    """The pre-trained encoder that was given, with its masked-LM head where it has one.

    Raises: ModelError as `model_class` does, and for weights that do not fit the config.
    """
    assert ctx.checkpoint is not None, "planned for a given encoder"
    given = model_class(ctx.checkpoint)
    models = {"model": load.load(ctx.checkpoint, given)}
    if given is BertForMaskedLM:  # which has no pooler; the checkpoint may, and fine-tuning starts from it
        models["encoder"] = load.load(ctx.checkpoint, BertModel)
    return State(models)


def adapt(state: State, hyper: Hyper, ctx: Context) -> State:
    """The given encoder as a masked LM of the corpus, so that students may learn words from it (ours, see D8).

    Raises: TrainError where it does not learn to guess words of text that was held out.
    """
    found = state.model
    assert isinstance(found, BertModel), "planned for an encoder without a head"
    model, accuracy = adapted(found, hyper.adapt, ctx)
    load_encoder(found, model)  # a masked LM has no pooler; fine-tuning starts from the one that was given
    facts = {"masked_lm_accuracy": {split: [value] for split, value in accuracy.items()}}
    return State({"model": model, "encoder": found}, facts)


def pretrain(state: State, hyper: Hyper, ctx: Context) -> State:
    """A little BERT of our own, by masked LM on the corpus (smoke scale; ours, see D1)."""
    settings = hyper.pretrain
    assert settings is not None, "smoke scale pre-trains its own encoder"
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=ctx.vocabulary.size, num_hidden_layers=settings.layers, hidden_size=settings.hidden,
            num_attention_heads=settings.heads, intermediate_size=settings.ffn,
            max_position_embeddings=settings.max_positions,
        )
    )  # fmt: skip
    train_masked_lm(model, ctx.corpus(settings.corpus_tokens, settings.max_length), settings.training, ctx)
    return State({"model": model})


def fine_tune(state: State, hyper: Hyper, ctx: Context) -> State:
    """Plain fine-tuning on the task; an encoder that was given fine-tuned is used as it is, labels aligned.

    Raises: ModelError for a fine-tuned model whose label names, or number of outputs, are not the task's.
    Source: Devlin et al. 2019, arXiv 1810.04805v2, appendix A.3.
    """
    found = state.model
    if load.kinds_of(type(found).__name__):
        assert isinstance(found, PreTrainedModel), "only an encoder of transformers can be given"
        return State({"model": load.realign(found, ctx.task.labels)}, {"given_fine_tuned": True})
    assert isinstance(found, BertForMaskedLM | BertModel), "the stage before leaves a BERT"
    model = load.BERT_HEADS[ctx.task.kind](classifier_config(found.config, ctx.task))
    load_encoder(model, state.models.get("encoder", found))
    fine_tune_on_task(model, ctx.train_rows(hyper.max_length, hyper.windows), hyper.fine_tune, ctx)
    return State({"model": model}, state.facts)


STAGES = (
    Stage(load_checkpoint, uses=(), task_free=True, needs=None, encoder="given"),
    Stage(
        adapt,
        uses=("adapt",),
        task_free=True,
        needs="corpus",
        encoder="given",
        when=lambda hyper: hyper.adapt.corpus_tokens > 0,
    ),
    Stage(pretrain, uses=("pretrain",), task_free=True, needs="corpus", encoder="made"),
    Stage(fine_tune, uses=("max_length", "windows", "fine_tune")),
)
"""The method's table of contents."""

RECIPE = Recipe(
    name="bert",
    variants={"bert": Variant("the pre-trained encoder at hand (BERT-base at full scale), fine-tuned", STAGES)},
    tasks=(*GLUE, "imdb", "squad", "conll2003"),
    smoke_tasks=("cola", "sst2", "stsb"),
    hyper=hyper,
    check=check,
    makes=makes,
    default_encoder=("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"),
    cased_encoder=("google-bert/bert-base-cased", "cd5ef92a9fb2f889e972770a36d4ed042daf221e"),
)
