"""Q-BERT at paper size: bytes by arithmetic alone.

There is nothing to build: its weights are rounded while they are trained and then kept as floats, so a model of it
takes the products, and the time, of BERT-base.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from bench.models.shape import Shape
from papers.qbert.bits import mixed as mixed_bits
from papers.qbert.quantize import layers
from papers.qbert.scheme import TABLES, Scheme
from papers.qbert.sizes import (
    ACTIVATION_BITS,
    CASED,
    MIB,
    UNCASED,
    Bits,
    embedding_bytes,
    encoder_bytes,
    mixed,
    module_bytes,
    packed_bytes,
    range_bytes,
    uniform,
)  # fmt: skip

BITS: Mapping[str, Bits] = {
    "qbert-w8": uniform(8),
    "qbert-w4": uniform(4),
    "qbert-w3": uniform(3),
    "qbert-w2": uniform(2),
    "qbert-mp24": mixed(4, 2),
    "qbert-mp23": mixed(3, 2),
    "directq-w4": uniform(4, groups=1),
    "directq-w3": uniform(3, groups=1),
    "directq-w2": uniform(2, groups=1),
    "qbert-w4-g1": uniform(4, groups=1),
    "qbert-w4-g12": uniform(4, groups=12),
    "qbert-w4-g768": uniform(4, groups=768),
    "qbert-w4-e4": uniform(4, embeddings=4),
}
"""Variant -> the bits of Tables 1 and 2, for BERT-base uncased; 128 groups unless the variant says otherwise."""


def _says(bits: Bits) -> str:
    weights = " and ".join(str(b) for b in sorted(set(bits.layers), reverse=True))
    groups = "1 group" if bits.groups == 1 else f"{bits.groups} groups"
    return (
        f"BERT-base at {weights} bits, embeddings at {bits.embeddings}, {groups} a matrix, "
        f"whose ranges would take {range_bytes(bits) / MIB:.2g} MiB more"
    )


def _packed(bits: Bits, ending: str = "") -> Mapping[str, int]:
    """The bytes by the splits of the claims; activations are a layer's output per token."""
    return {
        f"packed{ending}": packed_bytes(bits), f"packed-encoder{ending}": encoder_bytes(bits),
        f"packed-cased{ending}": packed_bytes(bits, CASED),
    }  # fmt: skip


def _shape(name: str, bits: Bits) -> Shape:
    packed = {
        **_packed(bits), "packed-embeddings": embedding_bytes(bits),
        "activations": UNCASED.hidden_size * ACTIVATION_BITS // 8,
    }  # fmt: skip
    if name == "qbert-mp23":
        packed |= _packed(mixed(3, 2, of=3), "-third")
    return Shape(_says(bits), packed=packed)


SHAPES: Mapping[str, Shape] = {name: _shape(name, bits) for name, bits in BITS.items()}


def packed(variant: str, model: nn.Module) -> Mapping[str, int]:
    """What another model would weigh as a variant of Q-BERT, by the split of the claims: for stacks at paper size.

    The model may lie on the meta device. Of a mixture the first half of its layers, rounded down, gets more bits.
    Raises: KeyError for a variant without a shape; ModelError for a model without layers; SpecError for a
    mixture of one layer.
    """
    bits, count = BITS[variant], len(layers(model))
    several = len(set(bits.layers)) > 1
    of_layers = mixed_bits([0.0] * count, bits.layers[0], bits.layers[-1]) if several else bits.layers[:1] * count
    tables = dict.fromkeys(TABLES, bits.embeddings)
    return {"packed": module_bytes(model, Scheme(layers=of_layers, **tables))}


def stacked(variant: str, below: Shape) -> Shape:
    """The shape of another paper's model made a variant of Q-BERT: what runs is that model, what it weighs is less."""
    assert below.build is not None, "a shape to stack upon can be built"
    with torch.device("meta"):
        model = below.build()
    says = f"{below.says}; {_says(BITS[variant]).partition(' at ')[2].partition(', whose')[0]}"
    return Shape(says, below.build, below.flops, packed(variant, model), below.guessed, below.words)
