"""MobileBERT (Sun et al. 2020, arXiv 2004.02984v2): as deep as its teacher and thin, taught one layer after another.

    bench run small --paper mobilebert --teacher FOLDER --data FOLDER --corpus FOLDER --task sst2
    bench run full  --paper mobilebert --variant mobilebert-released --task sst2
    bench run smoke --paper mobilebert

No checkpoint of the teacher, IB-BERT, was ever released: its variant ib-bert-large trains it. The authors had 256 TPUs
for its 500,000 steps; the small scale is a declared fraction of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import MobileBertModel, PreTrainedModel

from bench.core.errors import Diverged, SpecError
from bench.data.batches import Encoded, InTurn
from bench.data.masking import Masking
from bench.data.tasks import GLUE
from bench.models import load
from bench.models.load import Checkpoint
from bench.models.outputs import frozen
from bench.train.recipe import Context, EncoderFacts, Recipe, Stage, State, Variant
from bench.train.settings import Training
from bench.train.tuning import fine_tune_on_task
from papers.mobilebert import exchange, settings
from papers.mobilebert.guide import Guided, guided_loss, start_words
from papers.mobilebert.heads import (
    MobileBertClassifier,
    MobileBertEncoder,
    MobileBertForPreTraining,
    MobileBertForSpans,
)
from papers.mobilebert.quantize import quantised
from papers.mobilebert.settings import Body, Corpus, FineTuning, Hyper, Transfer, check_pair
from papers.mobilebert.student import NO_OPT, PAPER, TINY, Architecture
from papers.mobilebert.transfer import follows, layer_loss, phases, word_loss


def check(variant: Variant, chosen: Hyper, encoder: EncoderFacts | None, released: Checkpoint | None) -> None:
    """Refuse, before anything runs, models that cannot be made, a pair that cannot match, and an unknown checkpoint.

    Raises: ModelError; SpecError for a length beyond the position table, and for a transfer of nothing.
    """
    if released is not None:
        exchange.check(released)
        config: Any = released.config
        _check_lengths(config.max_position_embeddings, "the checkpoint's", max_length=chosen.max_length)
        return
    for architecture in (settings.teacher_of, settings.student_of):
        architecture(chosen, 2, 0)
    if variant.taught_by and chosen.transfer.schedule != "none":
        check_pair(chosen.student, chosen.teacher)
        if chosen.transfer.of_nothing:
            raise SpecError("nothing to transfer", where="transfer", found="every weight is 0",
                            fix="give one of them a weight, or take --variant mobilebert-no-opt-pd")  # fmt: skip
    lengths = {"max_length": chosen.max_length, "corpus.max_length": chosen.corpus.max_length}
    _check_lengths(chosen.stream.max_position_embeddings, "stream.max_position_embeddings", **lengths)


def _check_lengths(positions: int, whose: str, **lengths: int) -> None:
    for name, length in lengths.items():
        if length > positions:
            raise SpecError("the position table is shorter than the input", where=name, found=length,
                            expected=f"at most {whose} {positions}", fix=f"--set {name}={positions}")  # fmt: skip


def pretrain_teacher(state: State, hyper: Hyper, ctx: Context) -> State:
    """IB-BERT from random weights, by masked words and pairs of texts, on all of the text; task-free.

    Source: arXiv 2004.02984v2, section 4.3.1.
    """
    words = ctx.vocabulary
    model = MobileBertForPreTraining(settings.teacher_of(hyper, words.size, words.pad))
    rows = ctx.sentence_pairs(hyper.corpus.corpus_tokens, hyper.corpus.max_length)
    ctx.fit(model, word_loss(None, 1.0), ctx.batches(rows, hyper.pretrain, _masked(hyper.corpus, ctx)), hyper.pretrain)
    return State({"model": model})


def pretrain_guided_teacher(state: State, hyper: Hyper, ctx: Context) -> State:
    """IB-BERT from the given encoder's words, taught by its last states beside the text; task-free (D13)."""
    words, given = ctx.vocabulary, ctx.teacher()
    assert isinstance(given, PreTrainedModel), "the reference starts from an encoder of transformers"
    encoder = given.base_model  # without a masked-LM head, whose words nobody asks for
    assert isinstance(encoder, PreTrainedModel)
    model = MobileBertForPreTraining(settings.teacher_of(hyper, words.size, words.pad))
    start_words(model, encoder)
    rows = ctx.sentence_pairs(hyper.corpus.corpus_tokens, hyper.corpus.max_length)
    loss = guided_loss(frozen(encoder, ctx.device), hyper.guide)
    batches = ctx.batches(rows, hyper.pretrain, _masked(hyper.corpus, ctx))
    ctx.fit(Guided(model, encoder.config.hidden_size), loss, batches, hyper.pretrain)
    return State({"model": model})


def _masked(corpus: Corpus, ctx: Context) -> InTurn:
    words = ctx.vocabulary
    return InTurn((follows, Masking(words.mask, words.size, words.special, corpus.mask_probability)))


def initialise_student(state: State, hyper: Hyper, ctx: Context) -> State:
    """The student; its layers are random, and its embeddings and heads the teacher's, where tensors have one shape.

    A NoNorm takes nothing from the teacher's LayerNorm, and a student that learns from a teacher has no dropout until
    it is fine-tuned. Source: released code (README).
    """
    words = ctx.vocabulary
    config = settings.student_of(hyper, words.size, words.pad)
    if _is_taught(hyper):
        config = replace(config, hidden_dropout=0.0, attention_dropout=0.0)
    student = MobileBertForPreTraining(config)
    if hyper.start == "teacher":
        student.load_state_dict(_shared(student, _teacher(ctx)), strict=False)
    return State({"model": student})


def _is_taught(hyper: Hyper) -> bool:
    return hyper.transfer.schedule != "none" or hyper.distillation.hard < 1


def _shared(student: MobileBertForPreTraining, teacher: MobileBertForPreTraining) -> dict[str, torch.Tensor]:
    """The teacher's tensors of a name and shape that the student has, too, outside of the layers."""
    norm = "encoder.embeddings.norm."
    known = {name: tensor.shape for name, tensor in student.state_dict().items()}
    same_norm = student.config.normalization == teacher.config.normalization
    return {name: tensor for name, tensor in teacher.state_dict().items()
            if known.get(name) == tensor.shape and not name.startswith("encoder.layers.")
            and (same_norm or not name.startswith(norm))}  # fmt: skip


def _teacher(ctx: Context) -> MobileBertForPreTraining:
    found = ctx.teacher()
    assert isinstance(found, MobileBertForPreTraining), "the variant is taught by one that pre-trains an IB-BERT"
    return found


def transfer(state: State, hyper: Hyper, ctx: Context) -> State:
    """The teacher's feature maps and attention, one layer after another, or all at once (section 3.6); task-free."""
    student, chosen = state.model, hyper.transfer
    assert isinstance(student, MobileBertForPreTraining)
    teacher = frozen(_teacher(ctx), ctx.device)
    corpus = hyper.corpus
    rows = ctx.sentence_pairs(corpus.corpus_tokens, corpus.max_length)
    rows = rows.between(0, _read_before(chosen, rows))
    for phase in phases(chosen, student.config.num_hidden_layers, rows):
        batches = ctx.batches(phase.rows, chosen.training, _masked(corpus, ctx))
        ctx.fit(student, layer_loss(teacher, chosen, phase.layers), batches, chosen.training, phase.groups)
    return state


def _read_before(chosen: Transfer, rows: Encoded) -> int:
    """How many rows the transfer reads; there is always one left for the words."""
    return int(chosen.share * len(rows))


def distil_words(state: State, hyper: Hyper, ctx: Context) -> State:
    """Pre-training on words and pairs, from the text and from the teacher, on the text that is left; task-free.

    Source: arXiv 2004.02984v2, equation 3.
    """
    corpus, training = hyper.corpus, hyper.distillation.training
    rows = ctx.sentence_pairs(corpus.corpus_tokens, corpus.max_length)
    if hyper.transfer.first:
        rows = rows.between(_read_before(hyper.transfer, rows), len(rows))
    teacher = frozen(_teacher(ctx), ctx.device) if _is_taught(hyper) else None
    beside = hyper.transfer if hyper.transfer.schedule == "auxiliary" else None
    loss = word_loss(teacher, hyper.distillation.hard, beside)
    ctx.fit(state.model, loss, ctx.batches(rows, training, _masked(corpus, ctx)), training)
    return state


def load_released(state: State, hyper: Hyper, ctx: Context) -> State:
    """The authors' released student. Raises: ModelError where its weights do not fit its config."""
    assert ctx.released is not None, "planned for a released checkpoint"
    encoder = load.load(ctx.released, MobileBertModel, exchange.HEADS)
    assert isinstance(encoder, MobileBertModel)
    return State({"model": exchange.from_transformers(encoder)})


def fine_tune(state: State, hyper: Hyper, ctx: Context) -> State:
    """Plain fine-tuning on the task; of several points of the published grid the best one on dev (D7).

    Raises: Diverged where none of them ends with finite losses.
    """
    source = state.model
    assert isinstance(source, MobileBertEncoder)
    rows = ctx.train_rows(hyper.max_length, hyper.windows)
    tried = points(hyper.fine_tune, ctx.seed)
    best: tuple[float, nn.Module, Training] | None = None  # one alone is kept: ten teachers would fill a GPU
    failures: list[Diverged] = []
    for training in tried:
        model = _with_head(source, ctx)
        try:
            fine_tune_on_task(model, rows, training, ctx)
        except Diverged as error:  # a rate of the grid that this model does not bear
            failures.append(error.with_traceback(None))  # whose frames hold the model
            continue
        score = ctx.dev_score(model) if len(tried) > 1 else 0.0
        if best is None or score > best[0] or math.isnan(best[0]):
            best = score, model, training
    if best is None:
        raise failures[0]
    chosen = {name: [float(getattr(best[2], name))] for name in ("batch_size", "lr", "epochs")}
    chosen["diverged"] = [float(len(failures))]
    return State({"model": best[1]}, {"chosen": chosen} if len(tried) > 1 else {})


def quantise(state: State, hyper: Hyper, ctx: Context) -> State:
    """The weights of the finished model in 8 bits, without training.

    Source: arXiv 2004.02984v2, section 4.6.3.
    """
    assert isinstance(state.model, MobileBertEncoder)
    return State({"model": quantised(state.model)}, state.facts)


BATCHES, RATES, EPOCHS = (16, 32, 48), tuple(i / 100_000 for i in range(1, 11)), tuple(range(2, 11))
"""The published grid (paper, section 4.4.1)."""


def points(chosen: FineTuning, seed: int) -> list[Training]:
    """The trainings that are tried: the one that is set, then others of the grid, drawn without repetition."""
    first = chosen.training
    grid = [point for point in itertools.product(BATCHES, RATES, EPOCHS)
            if point != (first.batch_size, first.lr, first.epochs)]  # fmt: skip
    drawn = np.random.default_rng(seed).permutation(len(grid))[: chosen.tries - 1]
    return [first, *(first.changed(dict(zip(("batch_size", "lr", "epochs"), grid[i], strict=True))) for i in drawn)]


def _with_head(source: MobileBertEncoder, ctx: Context) -> nn.Module:
    """The encoder, with its dropout, under a new head for the task."""
    labels = ctx.task.labels
    ours = replace(source.config, num_labels=max(1, len(labels)), labels=labels,
                   classifier_dropout=PAPER.classifier_dropout)  # fmt: skip
    if not ours.pooler:
        ours = replace(ours, hidden_dropout=PAPER.hidden_dropout, attention_dropout=PAPER.attention_dropout)
    model = (MobileBertForSpans if ctx.task.spans else MobileBertClassifier)(ours)
    model.encoder.load_state_dict(source.encoder.state_dict())
    if model.pooler is not None:
        assert source.pooler is not None, "the architecture says so"
        model.pooler.load_state_dict(source.pooler.state_dict())
    return model


_PRETRAIN = ("stream", "teacher", "corpus", "pretrain")
_TEACHER = Stage(pretrain_teacher, uses=_PRETRAIN, task_free=True, needs="pairs", when=lambda hyper: not hyper.guide)
_GUIDED = Stage(pretrain_guided_teacher, uses=(*_PRETRAIN, "guide"), task_free=True, needs="pairs",
                asks=("pretrained",), when=lambda hyper: hyper.guide > 0)  # fmt: skip
_START = Stage(initialise_student, uses=("stream", "student", "start", "transfer", "distillation"), task_free=True,
               needs=None, asks=("pretrained",))  # fmt: skip
_TRANSFER = Stage(transfer, uses=("corpus", "transfer"), task_free=True, needs="pairs", asks=("pretrained",),
                  when=lambda hyper: hyper.transfer.first)  # fmt: skip
_WORDS = Stage(distil_words, uses=("corpus", "transfer", "distillation"), task_free=True, needs="pairs",
               asks=("pretrained",))  # fmt: skip
_RELEASED = Stage(load_released, uses=("released",), task_free=True, needs=None)
_FINE_TUNE = Stage(fine_tune, uses=("max_length", "windows", "fine_tune"))
_QUANTISE = Stage(quantise, uses=())
STAGES = (_START, _TRANSFER, _WORDS, _FINE_TUNE)
"""The method's table of contents."""
IB_BERT = "ib-bert-large"


def _taught(says: str, *changes: Mapping[str, Any], stages: tuple[Stage, ...] = STAGES) -> Variant:
    return Variant(says, stages, {name: value for part in changes for name, value in part.items()}, taught_by=IB_BERT)


def _student(architecture: Architecture) -> dict[str, Any]:
    """The changes that make MobileBERT another of the paper's students."""
    return {f"student.{name}": getattr(architecture, name) for name in Body.model_fields
            if getattr(architecture, name) != getattr(PAPER, name)}  # fmt: skip


_TINY, _NO_OPT = _student(TINY), _student(NO_OPT)
_NO_TRANSFER = {"transfer.schedule": "none"}
_ALONE = {"transfer.schedule": "none", "distillation.hard": 1.0, "start": "random"}

RECIPE = Recipe(
    name="mobilebert",
    variants={
        "mobilebert": _taught("progressive transfer, then distillation of words, then fine-tuning"),
        "mobilebert-tiny": _taught("two feed-forward networks a layer, attention inside the bottleneck", _TINY),
        "mobilebert-no-opt": _taught("with LayerNorm and GELU (Table 4; all losses of Table 9)", _NO_OPT),
        "mobilebert-auxiliary": _taught(
            "all layers copied beside the words (Table 8)", {"transfer.schedule": "auxiliary"}),
        "mobilebert-joint": _taught(
            "all layers copied at once, before the words (Table 8)", {"transfer.schedule": "joint"}),
        "mobilebert-no-opt-bare": _taught("no teacher: pre-trained like BERT (Table 9)", _NO_OPT, _ALONE),
        "mobilebert-no-opt-pd": _taught("distillation of words alone (Table 9)", _NO_OPT, _NO_TRANSFER),
        "mobilebert-no-opt-pd-fmt": _taught(
            "feature maps and words, no attention (Table 9)", _NO_OPT, {"transfer.weight_attention": 0.0}),
        "mobilebert-quant": _taught("mobilebert with weights in 8 bits, after training", stages=(*STAGES, _QUANTISE)),
        "mobilebert-tiny-quant": _taught(
            "mobilebert-tiny with weights in 8 bits, after training", _TINY, stages=(*STAGES, _QUANTISE)),
        "mobilebert-released": Variant(
            "the authors' released checkpoint, fine-tuned by us", (_RELEASED, _FINE_TUNE), released="released"),
        IB_BERT: Variant(
            "the teacher: as wide as BERT-large between the student's stream", (_TEACHER, _GUIDED, _FINE_TUNE)),
    },
    tasks=(*GLUE, "squad"),
    smoke_tasks=("sst2",),
    hyper=settings.hyper,
    teachers=("bert",),
    check=check,
)  # fmt: skip
"""Variants that learn are taught by ib-bert-large, with which their scores are compared; that one, and the released
model, are compared with BERT."""
