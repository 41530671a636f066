"""A shape: a paper-sized architecture with random weights, enough for size, FLOPs and speed without any training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from bench.core import registry
from bench.core.errors import BenchError, SpecError, one_of
from bench.core.names import JOINT
from bench.models.flops import encoder_formula

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(paper, variant); of a stack `a+b` the paper of the last variant"""


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
    """What of the architecture no source gives, so that it is ours: no printed size is judged from such a shape, and a
    printed speed by proxy only."""
    words: Callable[[], Any] | None = None
    """Makes the tokenizer that it reads with, called as those of transformers are; None is the reference's kind."""


def bert_shape(says: str, config: BertConfig) -> Shape:
    """The shape of a plain BERT classifier: its pooler and the config's labels on top of the encoder."""
    sizes = config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_attention_heads
    return Shape(
        says,
        # a copy, because a model writes into its config which attention it uses
        lambda: BertForSequenceClassification(copy.deepcopy(config)),
        lambda batch, length: encoder_formula(*sizes, batch, length, labels=config.num_labels or 0),
    )


def all_shapes() -> dict[Key, Shape]:
    """The shapes of all papers whose shapes.py is whole; the others are named in the log."""
    papers, _ = registry.find()
    found: dict[Key, Shape] = {}
    for paper in papers:
        try:
            shapes = registry.load_shapes(paper)
            wrong = [name for name, shape in shapes.items() if not isinstance(shape, Shape)]
            if wrong:
                raise SpecError("SHAPES holds what is no Shape", where=paper, found=wrong[0])
        except (BenchError, AttributeError) as error:
            log.warning("left out, because broken: %s: %s", paper, error)
            continue
        found |= {(paper, name): shape for name, shape in shapes.items()}
    return found


def find_shape(name: str) -> tuple[Key, Shape]:
    """The shape of a variant, or of a stack `a+b`, whose upper paper says what becomes of the lower model.

    Raises: SpecError for an unknown variant, and for a paper that says nothing of stacks.
    """
    known = all_shapes()
    keys = {key[1]: key for key in known}
    first, *above = name.split(JOINT)
    unknown = sorted({part for part in (first, *above) if part not in keys})
    if unknown:
        raise SpecError(
            "unknown variant", found=", ".join(unknown), expected=one_of(unknown[0], keys), fix="bench list"
        )
    key, shape = keys[first], known[keys[first]]
    for part in above:
        paper, stacked = keys[part][0], registry.load_stacking(keys[part][0])
        if stacked is None or paper == key[0]:
            raise SpecError("the shapes cannot be stacked", where=name, found=f"{part} on {key[1]}",
                            fix="bench list says which pairs combine")  # fmt: skip
        key, shape = (paper, f"{key[1]}+{part}"), stacked(part, shape)
    return key, shape
