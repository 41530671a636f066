"""The parts of a masked language model, so that losses may project only the positions they need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from transformers import BertForMaskedLM

from bench.core.errors import ModelError
from bench.models.outputs import inputs


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


@functools.singledispatch
def parts(model: nn.Module) -> MaskedLM:
    """Take a masked LM apart. A class says how by `@parts.register`, where it is defined or first used.

    Raises ModelError for a class of which nobody said it.
    """
    raise ModelError("the model is not known as a masked LM", found=type(model).__name__,
                     fix="register how it is taken apart: bench.models.lm.parts.register")  # fmt: skip


@parts.register
def _(model: BertForMaskedLM) -> MaskedLM:
    head = model.cls.predictions
    return MaskedLM(model.bert, head.transform, cast(nn.Linear, head.decoder))
