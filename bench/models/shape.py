"""A shape: a paper-sized architecture with random weights, enough for size, FLOPs and speed without any training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from bench.models.flops import encoder_formula


@dataclass(frozen=True, slots=True)
class Shape:
    """What `papers/<name>/shapes.py` offers in SHAPES, by the variant's name."""

    says: str
    """What it is, in one line."""
    build: Callable[[], nn.Module] | None = None
    """Makes the module, a classifier of two classes as it would be fine-tuned, with `forward(input_ids, ...)` [B, L]
    and `.config.vocab_size`; None where there is only arithmetic. It must also build on the meta device."""
    flops: Callable[[int, int], int] | None = None
    """(B, L) -> FLOPs of one forward pass in closed form, counted as `bench.models.flops` does."""
    packed: Mapping[str, int] = field(default_factory=dict)
    """Bytes by a paper's own arithmetic, by the split that a claim names: of weights that may have fewer bits than a
    float's 32, whole ("packed") or in part."""
    guessed: str = ""
    """What of the architecture no source gives, so that it is ours; no printed number is judged from such a shape."""


def bert_shape(says: str, config: BertConfig) -> Shape:
    """The shape of a plain BERT classifier: its pooler and the config's labels on top of the encoder."""
    sizes = config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_attention_heads
    return Shape(
        says,
        # a copy, because a model writes into its config which attention it uses
        lambda: BertForSequenceClassification(copy.deepcopy(config)),
        lambda batch, length: encoder_formula(*sizes, batch, length, labels=config.num_labels or 0),
    )
