"""Low-resource distillation (Wasserblat, Pereg and Izsak 2020): small students taught by a BERT on unlabelled text.

    bench run small --paper lowresource --variant bilstm --variant bilstm-supervised \
        --teacher FOLDER --data FOLDER --task sst2 --labels 500 --unlabelled FILE
    bench run smoke --paper lowresource

No text of the paper was at hand: the method is put together from those who describe it (README, section 3).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.core.errors import SpecError
from bench.data.batches import Batch, WithLogits
from bench.data.rows import UNLABELLED, Texts
from bench.models.load import Checkpoint
from bench.models.outputs import forward
from bench.train.losses import supervised
from bench.train.recipe import Context, EncoderFacts, Recipe, Stage, State, Variant
from bench.train.tuning import classifier_config
from papers.lowresource import settings
from papers.lowresource.augment import augmented
from papers.lowresource.losses import logit_mse
from papers.lowresource.settings import BiLstm, CbowFfn, Cnn, Hyper, Student, passes
from papers.lowresource.student import (
    BiLstmForSequenceClassification,
    CbowFfnForSequenceClassification,
    CnnForSequenceClassification,
)
from papers.lowresource.vocabulary import vocabulary

MODELS: dict[str, type[PreTrainedModel]] = {
    "bilstm": BiLstmForSequenceClassification,
    "cbow-ffn": CbowFfnForSequenceClassification,
    "cnn": CnnForSequenceClassification,
}
"""Kind of student -> its model."""


def check(variant: Variant, chosen: Hyper, encoder: EncoderFacts | None, released: Checkpoint | None) -> None:
    """Refuse, before anything runs, settings that the variant's stages would not heed.

    Raises: SpecError for another target than the variant's, and for augmentation without a teacher.
    """
    planned = "logits" if _DISTIL in variant.stages else "labels"
    if chosen.target != planned:
        raise SpecError("the target belongs to the variant", where="target", found=chosen.target, expected=planned,
                        fix="choose the variant with or without -supervised")  # fmt: skip
    if chosen.augment.use and planned == "labels":
        raise SpecError("new text has no label, and this variant has no teacher to answer it", where="augment.use",
                        found="true", expected="false", fix="choose the variant with -aug")  # fmt: skip


def build_student(state: State, hyper: Hyper, ctx: Context) -> State:
    """A student with random weights, and the tokenizer that it reads with, made of all in-domain text.

    Source: sizes see the settings; vocabulary D4.
    """
    student = hyper.student
    words = vocabulary(ctx.all_texts(), student.vocabulary, str(ctx.tokenizer.mask_token))
    model = MODELS[student.kind](classifier_config(student.config(), ctx.task))
    return replace(state.having(model), tokenizer=words)


def distil(state: State, hyper: Hyper, ctx: Context) -> State:
    """The fine-tuned teacher's logits of all in-domain text, and of new text made of it; no label is read.

    Source: as Galke et al. 2022 describe the paper, appendix B; D2, D3 and D6.
    """
    texts = ctx.all_texts()
    columns = texts.columns
    if hyper.augment.use:
        new = augmented(columns, hyper.augment, str(ctx.tokenizer.mask_token), ctx.seed)
        columns = tuple([*old, *more] for old, more in zip(columns, new, strict=True))
    texts = Texts(columns, np.full(len(columns[0]), UNLABELLED, texts.labels.dtype))
    rows = ctx.encode(texts, hyper.max_length, state.tokenizer)

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"logits": logit_mse(forward(model, batch).logits, batch["teacher_logits"])}

    batches = ctx.batches(rows, hyper.training, WithLogits(ctx.teacher_logits(texts)))
    ctx.fit(state.model, loss, batches, passes(hyper.training, len(batches.order(0)), hyper.least_steps))
    return state


def train_on_labels(state: State, hyper: Hyper, ctx: Context) -> State:
    """The same student without a teacher: the labelled rows alone. Ours, to compare with."""
    rows = ctx.encode(ctx.train_texts(), hyper.max_length, state.tokenizer)
    batches = ctx.batches(rows, hyper.training)
    training = passes(hyper.training, len(batches.order(0)), hyper.least_steps)
    ctx.fit(state.model, supervised(ctx.task.kind), batches, training)
    return state


_BUILD = Stage(build_student, uses=("student",))
_DISTIL = Stage(distil, uses=("max_length", "augment", "training", "least_steps"), asks=("fine_tuned",))
_LABELS = Stage(train_on_labels, uses=("max_length", "training", "least_steps"))


def _variants(name: str, says: str, student: Student) -> dict[str, Variant]:
    """A student in three ways."""
    own = {} if student == Hyper().student else {"student": student}
    return {
        name: Variant(f"{says}, distilled on all text at hand", (_BUILD, _DISTIL), own),
        f"{name}-aug": Variant(
            f"{says}, distilled on all text at hand and new text made of it", (_BUILD, _DISTIL),
            {**own, "augment.use": True},
        ),
        f"{name}-supervised": Variant(
            f"{says}, trained on the labelled rows alone, without a teacher", (_BUILD, _LABELS),
            {**own, "target": "labels"},
        ),
    }  # fmt: skip


RECIPE = Recipe(
    name="lowresource",
    variants={
        **_variants("bilstm", "a BiLSTM of 0.66 million parameters", BiLstm()),
        **_variants("cbow-ffn", "an average of word vectors, 80 thousand parameters", CbowFfn()),
        **_variants("cnn", "a convolutional network", Cnn()),
    },
    tasks=("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "imdb"),
    smoke_tasks=("sst2",),
    hyper=settings.hyper,
    check=check,
    teachers=("bert",),
)
