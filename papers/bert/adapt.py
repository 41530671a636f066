"""Masked-LM training of a whole encoder that was given without a head (ours, see D8)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from transformers import BertForMaskedLM, PreTrainedModel

from bench.core.errors import TrainError
from bench.train.mlm import HEADS, headed, masked_accuracy, train_masked_lm
from bench.train.recipe import Context
from bench.train.settings import Budget, Settings, Training


class Adapting(Settings):
    """Masked-LM training of a whole encoder that came without a head, so that it becomes a teacher of words."""

    corpus_tokens: Annotated[int, Budget()] = Field(default=0, ge=0)
    """Tokens of corpus per pass; 0 leaves the encoder as it is."""
    max_length: int = Field(default=64, ge=8, le=512)
    """Tokens per sequence."""
    held_out: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of the sequences, the last ones, that are not trained on: the accuracy is taken on them."""
    margin: float = Field(default=0.1, ge=0, lt=1)
    """By how much the accuracy must be better than that of the commonest word."""
    head_tokens: int = Field(default=200_000, ge=100)
    """The head is trained first, on so many of those tokens, while the encoder stays as it is."""
    head: Training = HEADS["small"].training
    """How the head is trained."""
    training: Training = Training(epochs=1, batch_size=32, batch_tokens=1024, lr=3e-4, warmup=0.05)
    """How the whole is trained then."""


def adapted(encoder: PreTrainedModel, settings: Adapting, ctx: Context) -> tuple[BertForMaskedLM, dict[str, float]]:
    """The encoder as a masked LM, trained on the corpus, and its accuracy on text that it was not trained on.

    The accuracy is that of the likeliest word at masked positions (BERT's masking, drawn once): of the model
    ("held_out"), and of the commonest of the words ("commonest"). Raises TrainError where the model is not better.
    """
    corpus = ctx.corpus(settings.corpus_tokens, settings.max_length)
    held = max(1, int(settings.held_out * len(corpus)))
    if held == len(corpus):
        raise TrainError("the corpus is too short to hold text out", found=f"{len(corpus)} sequences",
                         expected="2 or more", fix="raise adapt.corpus_tokens, or give more text")  # fmt: skip
    rows = corpus.between(0, len(corpus) - held)
    few = int(np.searchsorted(rows.offsets, settings.head_tokens, side="right")) - 1
    model = headed(encoder, rows.between(0, max(1, few)), settings.head, ctx)
    model.requires_grad_(True)
    train_masked_lm(model, rows, settings.training, ctx)
    found = masked_accuracy(model, corpus.between(len(corpus) - held, len(corpus)), ctx)
    if found["held_out"] < found["commonest"] + settings.margin:
        raise TrainError("the adapted encoder knows too few words", found=f"{found['held_out']:.4f} of held-out words",
                         expected=f"at least {found['commonest'] + settings.margin:.4f}",
                         fix="raise adapt.corpus_tokens or adapt.training.lr")  # fmt: skip
    return model, found
