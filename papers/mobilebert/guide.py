"""What gives IB-BERT a start where text is little: the states of the encoder that the user gave (ours, D13).

Some million masked words teach a model from random weights hardly more than how frequent words are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.data.batches import Batch
from bench.models.outputs import forward
from bench.train.processes import mean_over, total
from bench.train.step import Loss
from papers.mobilebert.heads import MobileBertForPreTraining
from papers.mobilebert.transfer import Terms, text_loss


class Guided(nn.Module):
    """A model in pre-training, and a map [H] -> [H of the encoder] of its last states, which is left behind."""

    def __init__(self, model: MobileBertForPreTraining, width: int) -> None:
        super().__init__()
        self.model = model
        self.map = nn.Linear(model.config.hidden_size, width)


@torch.no_grad()
def start_words(model: MobileBertForPreTraining, encoder: PreTrainedModel) -> None:
    """Make the word table the principal components of the encoder's, with the deviation that the model begins with."""
    given: Any = encoder.get_input_embeddings()
    table, words = given.weight.detach().float(), model.encoder.embeddings.words.weight
    centred = table[: len(words)] - table.mean(0)
    _, _, directions = torch.linalg.svd(centred.T @ centred)
    kept = centred @ directions[: words.shape[1]].T
    words[: len(kept), : kept.shape[1]] = kept * (model.config.initializer_range / kept.std())


def guided_loss(encoder: nn.Module, weight: float) -> Loss:
    """Three terms as a loss for `fit`: states that follow a frozen encoder's, masked words, and pairs of texts.

    The first is the mean squared difference of the model's last states [B, L, H], mapped to the encoder's width, to the
    encoder's, divided by the variance of those; the encoder reads what the model reads, masks among it, and padding is
    left out. Words and pairs teach their heads alone: as few as there are, they would pull the states back to word
    frequencies.
    """

    def loss(guided: nn.Module, batch: Batch) -> Terms:
        assert isinstance(guided, Guided)
        hidden = guided.model.last(batch)
        theirs = forward(encoder, batch, hidden=True).hidden[-1].float()
        tokens = batch["attention_mask"][..., None]
        mean = total((theirs * tokens).sum()) / (total(tokens.sum()) * theirs.shape[-1])
        spread = ((theirs - mean).square() * tokens).sum()
        difference = ((guided.map(hidden).float() - theirs).square() * tokens).sum()
        return text_loss(guided.model, hidden.detach(), batch) | {
            "states": mean_over(weight * difference / spread, spread)
        }

    return loss
