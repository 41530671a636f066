"""Masked-LM training that several methods need: of a model, and of a head for an encoder that came without one."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from bench.data.batches import Batch, Encoded, pad
from bench.data.masking import Masking
from bench.models.lm import parts
from bench.models.outputs import forward, frozen
from bench.train import feed
from bench.train.fit import FitLog
from bench.train.losses import masked_lm
from bench.train.precision import choose
from bench.train.recipe import Context
from bench.train.settings import Budget, Settings, Training

log = logging.getLogger(__name__)

HELD_OUT = 0.02
"""Share of the sequences, the last ones, on which the accuracy of a new head is taken."""
HELD_ROWS = 64
"""Held-out sequences that are read at a time."""
LITTLE = 0.02
"""Accuracy above that of the commonest word which is hardly any."""


class HeadTraining(Settings):
    """How the missing head is trained; the encoder and the word embeddings stay as they are."""

    corpus_tokens: Annotated[int, Budget()] = Field(default=1_000_000, ge=100)
    """Tokens of corpus per pass."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Tokens per sequence."""
    training: Training = Training(epochs=1, batch_size=32, batch_tokens=4096, lr=1e-3, weight_decay=0.0, warmup=0.05)
    """One pass at a high rate: only the head's transform and bias learn."""


HEADS = {
    "smoke": HeadTraining(),
    "small": HeadTraining(corpus_tokens=200_000, max_length=64).changed({"training.batch_tokens": 1024}),
    "full": HeadTraining(),
}
"""Scale -> how the head is trained."""


def train_masked_lm(model: nn.Module, corpus: Encoded, training: Training, ctx: Context) -> FitLog:
    """Pre-train a masked LM on a corpus with BERT's masking; only masked positions are projected on the vocabulary.

    Source: Devlin et al. 2019 (arXiv 1810.04805v2), appendix A.1.
    """

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        lm = parts(model)
        return {"mlm": masked_lm(lm.hidden(batch), batch, lm.logits)}

    masked = Masking(ctx.vocabulary.mask, ctx.vocabulary.size, ctx.vocabulary.special)
    return ctx.fit(model, loss, ctx.batches(corpus, training, masked), training)


def with_lm_head(encoder: nn.Module, settings: HeadTraining, ctx: Context) -> tuple[BertForMaskedLM, dict[str, Any]]:
    """The encoder as a masked LM: as it is when it has a head, else with a head trained on the corpus.

    The facts of a new head hold its accuracy on text that it was not trained on, as `masked_accuracy` takes it; where
    it guesses hardly better than the commonest word, the log says so.
    """
    if isinstance(encoder, BertForMaskedLM):
        return encoder, {}
    assert isinstance(encoder, PreTrainedModel), f"no masked-LM head is known for {type(encoder).__name__}"
    corpus = ctx.corpus(settings.corpus_tokens, settings.max_length)
    learnt = len(corpus) - max(1, int(HELD_OUT * len(corpus)))
    if not learnt:  # a single sequence: none is left to be held out
        return headed(encoder, corpus, settings.training, ctx), {}
    model = headed(encoder, corpus.between(0, learnt), settings.training, ctx)
    found = masked_accuracy(model, corpus.between(learnt, len(corpus)), ctx)
    if found["held_out"] < found["commonest"] + LITTLE:
        log.warning("masked_lm_accuracy=%.3f commonest=%.3f reason='the new head knows hardly more than which word is "
                    "commonest: what learns from its guesses learns little'", *found.values())  # fmt: skip
    return model, {"masked_lm_accuracy": {split: [value] for split, value in found.items()}}


@torch.no_grad()
def masked_accuracy(model: BertForMaskedLM, rows: Encoded, ctx: Context) -> dict[str, float]:
    """The share of masked words that are the model's likeliest ("held_out"), or the commonest one ("commonest")."""
    model.eval()
    lm, right, words = parts(model), 0, []
    rng, masking = np.random.default_rng(0), Masking(ctx.vocabulary.mask, ctx.vocabulary.size, ctx.vocabulary.special)
    for start in range(0, len(rows), HELD_ROWS):
        batch = masking(pad(rows, np.arange(start, min(start + HELD_ROWS, len(rows)))), rng)
        at = batch["masked_at"]
        wanted = batch["labels"].flatten()[at]
        with choose("auto", ctx.device).autocast(ctx.device):
            hidden = lm.hidden(feed.moved(batch, ctx.device))
            said = lm.logits(hidden.flatten(0, 1)[at.to(ctx.device)]).argmax(-1).cpu()
        right += int((said == wanted).sum())
        words.append(wanted)
    every = torch.cat(words)
    commonest = int(torch.bincount(every).max()) if len(every) else 0
    return {"held_out": right / max(1, len(every)), "commonest": commonest / max(1, len(every))}


def headed(encoder: PreTrainedModel, rows: Encoded, training: Training, ctx: Context) -> BertForMaskedLM:
    """The encoder under a new masked-LM head that is trained on the rows.

    Only the transform, its LayerNorm and the output bias are trained, on masked positions, with BERT's masking.
    """
    config = encoder.config
    assert isinstance(config, BertConfig), f"no masked-LM head is known for {type(encoder).__name__}"
    model = BertForMaskedLM(config)
    model.bert.load_state_dict(
        {k: v for k, v in encoder.base_model.state_dict().items() if not k.startswith("pooler.")}, strict=True
    )
    encoder = frozen(model.bert, ctx.device)
    # Of the model's vocabulary, which may be larger than the tokenizer's.
    masked = Masking(ctx.vocabulary.mask, config.vocab_size, ctx.vocabulary.special)

    def loss(head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"mlm": masked_lm(forward(encoder, batch).logits, batch, head)}

    ctx.fit(model.cls, loss, ctx.batches(rows, training, masked), training)
    return model
