"""The shapes of MobileBERT: the released model, the rows of its tables, and its teacher.

Only the released model and MobileBERT_TINY have a published config. The rows without NoNorm or ReLU are built on the
paper's architecture, whose parameters they print: their speed compares with that of `mobilebert`, which differs
from them in nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from bench.models.shape import Shape
from papers.mobilebert.heads import MobileBertClassifier
from papers.mobilebert.student import (
    GELU,
    LAYER_NORM,
    NO_OPT,
    PAPER,
    RELEASED,
    TEACHER,
    TINY,
    Architecture,
    flops,
)


def _shape(says: str, config: Architecture) -> Shape:
    return Shape(says, functools.partial(MobileBertClassifier, config), functools.partial(flops, config))


SHAPES: Mapping[str, Shape] = {
    "mobilebert-released": _shape(
        "MobileBERT as released: attention reads a shared bottleneck, NoNorm, ReLU", RELEASED
    ),
    "mobilebert": _shape("MobileBERT as printed: attention reads the 512-wide stream, NoNorm, ReLU", PAPER),
    "mobilebert-tiny": _shape("MobileBERT_TINY: two feed-forward networks, attention inside the bottleneck", TINY),
    "mobilebert-layernorm": _shape("MobileBERT as printed, with LayerNorm and ReLU", LAYER_NORM),
    "mobilebert-gelu": _shape("MobileBERT as printed, with NoNorm and GELU", GELU),
    "mobilebert-no-opt": _shape("MobileBERT as printed, without its optimisations: LayerNorm and GELU", NO_OPT),
    "ib-bert-large": _shape("IB-BERT-large, MobileBERT's teacher: 24 layers, 1024 wide between bottlenecks", TEACHER),
}
