"""DistilBERT (Sanh et al. 2019, arXiv 1910.01108v4): half a BERT, distilled while it pre-trains, then fine-tuned.

    bench run small --paper distilbert --teacher FOLDER --data FOLDER --corpus FOLDER --task sst2
    bench run full  --paper distilbert --variant distilbert-released --task sst2
    bench run smoke --paper distilbert --variant distilbert-d --task squad

Pre-training took the authors 8 V100 for about 90 hours; the small scale is a declared fraction of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import (
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

from bench.core.errors import SpecError
from bench.data.batches import Batch, InTurn
from bench.data.masking import Masking
from bench.data.positions import positions
from bench.data.tasks import GLUE
from bench.models import load
from bench.models.lm import parts
from bench.models.load import Checkpoint
from bench.models.outputs import forward, frozen
from bench.train.losses import attended_only, masked_lm, span_loss
from bench.train.mlm import HEADS, HeadTraining, with_lm_head
from bench.train.processes import mean_over
from bench.train.recipe import Context, EncoderFacts, Recipe, Stage, State, Variant
from bench.train.settings import WINDOWS, Budget, Settings, Training, Windowing, unless_none, unless_whole
from bench.train.step import Loss
from bench.train.tuning import classifier_config, fine_tune_on_task, load_encoder
from papers.distilbert.losses import cosine, soft_spans
from papers.distilbert.positions import Attended, smoothed
from papers.distilbert.soft_targets import soft_targets
from papers.distilbert.student import config, copy_layers, teacher_layers


class Distillation(Settings):
    """Pre-training by distillation; values of the official script's main command unless said."""

    weight_ce: float = Field(default=5.0, ge=0)
    """Weight of the soft-target term L_ce."""
    weight_mlm: float = Field(default=2.0, ge=0)
    """Weight of the masked-LM term L_mlm."""
    weight_cos: float = Field(default=1.0, ge=0)
    """Weight of the cosine term L_cos."""
    temperature: float = Field(default=2.0, gt=0)
    """T of the soft targets; the paper gives no value, the script's default is 2."""
    positions: Literal["attended", "masked"] = "attended"
    """Where L_ce is taken; `masked` is the script's restrict_ce_to_mask."""
    ce_share: Annotated[float, Budget()] = unless_whole()
    """Share of those positions on which a step takes the soft-target term: drawn anew for each batch, a budget."""
    mask_probability: float = Field(default=0.15, gt=0, lt=1)
    """Masked positions as a share of the real tokens of a batch."""
    smoothing: float = Field(default=0.7, ge=0)
    """Exponent of the frequency-smoothed mask draw."""
    corpus_tokens: Annotated[int, Budget()] = Field(default=3_300_000_000, ge=100)
    """Tokens of corpus per pass (Wikipedia and the Toronto books at full scale)."""
    max_length: int = Field(default=512, ge=8, le=512)
    """Longer lines are cut into pieces of this many tokens."""
    min_length: int = Field(default=12, ge=1)
    """Shorter lines are dropped (the script drops 11 tokens and fewer)."""
    training: Training = Training(
        epochs=3, batch_size=5, accumulation=800, lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0,
        warmup=0.05, clip=5.0,
    )  # fmt: skip
    """The script's defaults, and the paper's 4,000 sequences per optimiser step, in parts of the script's 5 (D9)."""


class SecondDistillation(Settings):
    """Fine-tuning on SQuAD from labels and a fine-tuned teacher's answers; values of the official script's defaults."""

    weight_ce: float = Field(default=0.5, ge=0)
    """Weight of the soft-target term, over the start and the end of an answer."""
    weight_span: float = Field(default=0.5, ge=0)
    """Weight of the labels."""
    temperature: float = Field(default=2.0, gt=0)
    """T of the soft targets."""
    training: Training = Training(epochs=3, batch_size=8, lr=5e-5, weight_decay=0.0, warmup=0.0, clip=1.0)
    """How it is trained."""


class Hyper(Settings):
    """All of DistilBERT's choices."""

    head: HeadTraining = HeadTraining()
    """For a teacher without a masked-LM head (D3)."""
    initialisation: Literal["teacher", "random"] = "teacher"
    """Every second teacher layer, or random (an ablation)."""
    copy_transform: bool = True
    """Whether the masked-LM head's transform is copied too (a switch of the extraction script)."""
    general: Distillation = Distillation()
    """Pre-training by distillation."""
    released: str = "distilbert/distilbert-base-uncased"
    """The authors' checkpoint, a hub id or a folder (variant distilbert-released only)."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Word pieces per example of the task."""
    windows: Windowing | None = unless_none()
    """Set for SQuAD, whose examples are windows of `max_length` word pieces."""
    second: SecondDistillation | None = unless_none()
    """Set for the variant distilbert-d, in place of `fine_tune`."""
    fine_tune: Training = Training(epochs=3, batch_size=32, lr=5e-5, weight_decay=0.01, warmup=0.1, clip=1.0)
    """The paper gives no fine-tuning settings; BERT's grid is {2, 3, 5}e-5 (D4)."""


def hyper(variant: Variant, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The paper's settings at full scale; declared fractions of them elsewhere (README, D5).

    Raises: SpecError for the second distillation of another task than SQuAD.
    """
    general, fine_tune = Distillation(), Hyper().fine_tune
    length, windows = WINDOWS[scale] if task == "squad" else (256 if task == "imdb" else 128, None)
    if scale == "smoke":
        general = general.model_copy(update={
            "corpus_tokens": 200_000, "max_length": 64, "min_length": 1,
            "training": general.training.model_copy(update={"epochs": 1, "batch_size": 32, "accumulation": 1}),
        })  # fmt: skip
        fine_tune = Training(epochs=4, batch_size=32, lr=5e-4, warmup=0.1)
    if scale == "small":
        general = general.model_copy(update={
            "corpus_tokens": 100_000, "max_length": 64, "ce_share": 0.25,
            "training": general.training.model_copy(
                update={"epochs": 1, "batch_tokens": 512, "accumulation": 1, "lr": 3e-5}),
        })  # fmt: skip
        fine_tune = fine_tune.model_copy(update={"epochs": 10, "batch_size": 16, "lr": 3e-5})
    chosen = Hyper(
        head=HEADS[scale], general=general, max_length=64 if scale == "smoke" else length, windows=windows,
        fine_tune=fine_tune,
    ).changed(variant.changes)  # fmt: skip
    if chosen.second is None:
        return chosen
    if task != "squad":
        raise SpecError("the second distillation is of SQuAD", where=variant.says, found=task, expected="squad",
                        fix="add --task squad")  # fmt: skip
    # The larger steps of plain fine-tuning at this scale, so that the two differ in their loss alone.
    return chosen if scale == "full" else chosen.changed({"second.training": fine_tune.model_dump()})


def check(variant: Variant, chosen: Hyper, encoder: EncoderFacts | None, released: Checkpoint | None) -> None:
    """Refuse, before anything runs, a teacher whose layers cannot be halved, and a released model that is not whole.

    Raises: ModelError.
    """
    if released is not None:
        load.check_places(released, DistilBertForMaskedLM)
    elif encoder is not None:
        encoder.expect("bert")
        teacher_layers(encoder.layers)


def prepare_teacher(state: State, hyper: Hyper, ctx: Context) -> State:
    """The pre-trained teacher as a masked LM; a head is trained where it came without one (ours, see D3)."""
    teacher, facts = with_lm_head(ctx.teacher(), hyper.head, ctx)
    return State({"teacher": teacher}, facts)


def initialise_student(state: State, hyper: Hyper, ctx: Context) -> State:
    """Half the teacher's layers, from the teacher or random.

    Raises: ModelError for a teacher whose layers cannot be halved.
    Source: Sanh et al. 2019, arXiv 1910.01108v4, section 3; D2 for the head.
    """
    teacher = state.models["teacher"]
    assert isinstance(teacher, BertForMaskedLM), "prepare_teacher leaves a masked LM"
    student = DistilBertForMaskedLM(config(teacher.config))
    if hyper.initialisation == "teacher":
        copy_layers(student, teacher, hyper.copy_transform)
    return state.having(student)


def distil_general(state: State, hyper: Hyper, ctx: Context) -> State:
    """Masked-LM pre-training of the student with the triple loss; task-free.

    Source: Sanh et al. 2019, arXiv 1910.01108v4, section 3; the draw of masked positions is the official code's.
    """
    settings, vocabulary = hyper.general, ctx.vocabulary
    corpus = ctx.corpus(settings.corpus_tokens, settings.max_length, settings.min_length)
    student = state.model
    assert isinstance(student, DistilBertForMaskedLM), "the stage before leaves a masked LM"
    words = student.config.vocab_size
    masking = Masking(
        vocabulary.mask, words, vocabulary.special, settings.mask_probability,
        smoothed(corpus, words, vocabulary.special, settings.smoothing),
    )  # fmt: skip
    teacher = frozen(state.models["teacher"], ctx.device)
    attended = Attended(settings.ce_share, settings.positions == "masked")
    batches = ctx.batches(corpus, settings.training, InTurn((masking, attended)))
    ctx.fit(student, triple_loss(teacher, settings), batches, settings.training)
    return State({"model": student}, state.facts)


def triple_loss(teacher: nn.Module, settings: Distillation) -> Loss:
    """L = w_ce L_ce + w_mlm L_mlm + w_cos L_cos as a loss for `fit`; a term of weight 0 is not computed.

    The teacher is frozen. Raises: ModelError for one that is no masked LM.
    Source: Sanh et al. 2019, arXiv 1910.01108v4, section 3; weights and T are the official code's, positions see D1.
    """
    lm_teacher = parts(teacher)

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        lm = parts(model)
        hidden = lm.hidden(batch)
        attended = positions(batch, "attended", batch["attention_mask"])
        terms: dict[str, Tensor] = {}
        if settings.weight_mlm:
            terms["mlm"] = settings.weight_mlm * masked_lm(hidden, batch, lm.logits)
        if not (settings.weight_ce or settings.weight_cos):
            return terms
        with torch.no_grad():
            teacher_hidden = lm_teacher.hidden(batch)
        if settings.weight_ce:
            # Only the P chosen positions, as [P, H]: the loss projects them on the vocabulary chunk by chunk.
            chosen = positions(batch, "masked", batch["labels"] >= 0) if settings.positions == "masked" else attended
            chosen = chosen if settings.ce_share == 1.0 else positions(batch, "drawn")
            with torch.no_grad():
                prepared = lm_teacher.transform(chosen.of(teacher_hidden))
            ce = soft_targets(lm.transform(chosen.of(hidden)), prepared, lm.projection, lm_teacher.projection,
                              settings.temperature, counts=chosen.weight)  # fmt: skip
            terms["ce"] = settings.weight_ce * mean_over(ce, chosen.count)
        if settings.weight_cos:
            cos = attended.mean(cosine(attended.of(hidden), attended.of(teacher_hidden)))
            terms["cos"] = settings.weight_cos * mean_over(cos, attended.count)
        return terms

    return loss


def load_released(state: State, hyper: Hyper, ctx: Context) -> State:
    """The authors' released student instead of our own pre-training.

    Raises: ModelError when its weights do not fit its config.
    """
    assert ctx.released is not None, "planned for a released checkpoint"
    return State({"model": load.load(ctx.released, DistilBertForMaskedLM)})


def fine_tune(state: State, hyper: Hyper, ctx: Context) -> State:
    """Plain single-task fine-tuning of the student, without distillation, as the paper does on GLUE (settings: D4)."""
    model = _with_head(state.model, ctx)
    fine_tune_on_task(model, ctx.train_rows(hyper.max_length, hyper.windows), hyper.fine_tune, ctx)
    return State({"model": model}, state.facts)


def _with_head(student: nn.Module, ctx: Context) -> PreTrainedModel:
    """The student's encoder under a new head for the task."""
    assert isinstance(student, PreTrainedModel), "the stage before leaves a DistilBERT"
    student_config = student.config
    assert isinstance(student_config, DistilBertConfig), "the stage before leaves a DistilBERT"
    head = DistilBertForQuestionAnswering if ctx.task.spans else DistilBertForSequenceClassification
    model = head(classifier_config(student_config, ctx.task))
    load_encoder(model, student)
    return model


def distil_second(state: State, hyper: Hyper, ctx: Context) -> State:
    """Fine-tuning on SQuAD with the fine-tuned BERT's start and end probabilities as soft targets beside the labels.

    Source: the official code's second distillation, see D8.
    """
    settings = hyper.second
    assert settings is not None, "planned for the second distillation"
    model, rows = _with_head(state.model, ctx), ctx.train_rows(hyper.max_length, hyper.windows)
    logits = ctx.teacher_logits(rows)

    # Logits are kept as [N, 2 L] of the longest window: start and end of one token after those of the one before.
    def with_teacher(batch: Batch, _: np.random.Generator) -> Batch:
        chosen = logits[batch["example_id"].numpy()].reshape(len(batch["example_id"]), -1, 2)
        return {**batch, "teacher_logits": torch.from_numpy(chosen[:, : batch["input_ids"].shape[1]])}

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        attended = batch["attention_mask"]
        student = attended_only(forward(model, batch).logits, attended)
        teacher = attended_only(batch["teacher_logits"], attended)
        return {
            "ce": settings.weight_ce * soft_spans(student, teacher, settings.temperature),
            "span": settings.weight_span * span_loss(student, batch["labels"]),
        }

    ctx.fit(model, loss, ctx.batches(rows, settings.training, with_teacher), settings.training)
    return State({"model": model}, state.facts)


_START = (
    Stage(prepare_teacher, uses=("head",), task_free=True, needs="lm_head", asks=("pretrained",)),
    Stage(initialise_student, uses=("initialisation", "copy_transform"), task_free=True, needs=None),
    Stage(distil_general, uses=("general",), task_free=True, needs="corpus"),
)
_FINE_TUNE = Stage(fine_tune, uses=("max_length", "windows", "fine_tune"))
_SECOND = Stage(distil_second, uses=("max_length", "windows", "second"), asks=("fine_tuned",))
_RELEASED = Stage(load_released, uses=("released",), task_free=True, needs=None)
STAGES = (*_START, _FINE_TUNE)
"""The method's table of contents."""

RECIPE = Recipe(
    name="distilbert",
    variants={
        "distilbert": Variant("triple loss, initialised from every second teacher layer", STAGES),
        "distilbert-no-ce": Variant(
            "without the soft-target term (Table 4)", STAGES, {"general.weight_ce": 0.0}),
        "distilbert-no-cos": Variant(
            "without the cosine term (Table 4)", STAGES, {"general.weight_cos": 0.0}),
        "distilbert-no-mlm": Variant(
            "without the masked-LM term (Table 4)", STAGES, {"general.weight_mlm": 0.0}),
        "distilbert-random-init": Variant(
            "triple loss from a random initialisation (Table 4)", STAGES, {"initialisation": "random"}),
        "distilbert-released": Variant(
            "the authors' released checkpoint, fine-tuned by us", (_RELEASED, _FINE_TUNE), released="released"),
        "distilbert-d": Variant(
            "distilled a second time while it is fine-tuned on SQuAD (Table 2)", (*_START, _SECOND),
            {"second": SecondDistillation()}),
    },
    tasks=(*GLUE, "imdb", "squad"),
    smoke_tasks=("cola", "sst2", "stsb"),
    hyper=hyper,
    check=check,
    teachers=("bert",),
)  # fmt: skip
