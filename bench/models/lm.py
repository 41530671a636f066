"""The parts of a masked language model, so that losses may project only the positions they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from transformers import BertForMaskedLM, DistilBertForMaskedLM

from bench.models.outputs import bare, inputs


@dataclass(frozen=True, slots=True)
class MaskedLM:
    """`encoder` gives hidden states [B, L, H]; `transform` prepares [P, H] for `projection` [V, H] with bias."""

    encoder: nn.Module
    transform: Callable[[Tensor], Tensor]
    projection: nn.Linear

    def hidden(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The last hidden state, after the final LayerNorm. [B, L, H]"""
        return self.encoder(**inputs(self.encoder, batch)).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """[P, H] -> [P, V]"""
        return self.projection(self.transform(hidden))


def parts(model: nn.Module) -> MaskedLM:
    """Take a masked LM apart; raises AssertionError for a class that it does not know."""
    model = bare(model)
    if isinstance(model, BertForMaskedLM):
        head = model.cls.predictions
        return MaskedLM(model.bert, head.transform, cast(nn.Linear, head.decoder))
    assert isinstance(model, DistilBertForMaskedLM), f"{type(model).__name__} is not a known masked LM"

    def transform(hidden: Tensor) -> Tensor:
        return model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))

    return MaskedLM(model.distilbert, transform, cast(nn.Linear, model.vocab_projector))
