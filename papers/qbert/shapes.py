"""Q-BERT at paper size: bytes by arithmetic alone.

There is nothing to build: its weights are rounded while they are trained and then kept as floats, so a model of it
takes the products, and the time, of BERT-base.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.models.shape import Shape
from papers.qbert.sizes import MIB, Bits, mixed, packed_bytes, range_bytes, uniform

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


SHAPES: Mapping[str, Shape] = {name: Shape(_says(bits), packed_bytes=packed_bytes(bits)) for name, bits in BITS.items()}
