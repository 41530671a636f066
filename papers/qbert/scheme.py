"""What there is to choose of Q-BERT's rounding: bits, groups, and how ranges and gradients are taken."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from bench.core.errors import SpecError
from bench.train.settings import Settings

FLOAT_BITS = 32
"""The number of bits that leaves a tensor as it is."""
MOST_BITS = 8

TABLES = ("word", "position", "token_type")
"""Kinds of embedding tables, each a field of `Scheme` and, with `_embeddings`, a module of BERT."""

Zero = Literal["exact", "rounded"]
Axis = Literal["output", "input"]


class Quantiser(Settings):
    """How ranges and gradients are taken, and the bits of all but the encoder's matrices."""

    word: int = 8
    """Bits of the word embeddings, and of any table that is none of the others."""
    position: int = 8
    """Bits of the position embeddings."""
    token_type: int = 8
    """Bits of the token type embeddings."""
    groups: int = Field(default=128, ge=1, le=100_000)
    """Groups that each matrix is cut into, each with a range of its own (Table 2: 1, 12, 128, 768); a matrix that so
    many do not divide has the greatest common divisor (D9)."""
    axis: Axis = "output"
    """What is grouped: output neurons (the paper) or input features (the released code)."""
    embedding_groups: int = Field(default=128, ge=1, le=100_000)
    """Groups of consecutive features that each table is cut into; as above."""
    activations: int = 8
    """Bits of the outputs of query, key, value and the first feed-forward matrix, and of a layer that is no encoder's;
    one range per tensor."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Share of the old value in the moving range of an activation."""
    range: Literal["minmax", "percentile"] = "minmax"
    """What a weight's range is: all of the group, or without its two tails."""
    tail: float = Field(default=0.1, ge=0, lt=50)
    """Percent of a group cut off on each side when the range is a percentile (an option of the released code)."""
    zero: Zero = "exact"
    """Where the grid starts: at the smallest value (the paper's formula), or moved so that 0 is on it (the code)."""
    gradient: Literal["clamped", "identity"] = "clamped"
    """Straight through inside the range only (the paper), or everywhere (the released code)."""


class Scheme(Quantiser):
    """A quantiser and the bits of each layer: all that there is to know of how a model is rounded.

    Raises: SpecError for bits other than 1 to 8 and 32, and for no layers.
    """

    layers: tuple[int, ...]
    """Bits of the matrices of each layer, of the encoder or, where there is none, of `quantize.layers`."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.layers:
            raise SpecError("a scheme has no layers", expected="the bits of each layer")
        named = {f"layer {i}": bits for i, bits in enumerate(self.layers)}
        named |= {name: getattr(self, name) for name in (*TABLES, "activations")}
        for name, bits in named.items():
            check_bits(bits, name)
        return self


def check_bits(bits: int, where: object) -> int:
    """The same bits. Raises: SpecError unless they are 1 to 8, or 32 for none of it."""
    if not (1 <= bits <= MOST_BITS or bits == FLOAT_BITS):
        raise SpecError("so many bits cannot be quantised to", where=where, found=bits,
                        expected=f"1 to {MOST_BITS}, or {FLOAT_BITS} to leave it as it is")  # fmt: skip
    return bits
