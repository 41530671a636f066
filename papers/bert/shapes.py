"""The shapes of BERT, uncased: the base size, which every other shape is compared with, the large one, and four small.

Source: Devlin et al. 2019, arXiv 1810.04805v2, section 3; the small ones Turc et al. 2019, arXiv 1908.08962v2, Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from transformers import BertConfig

from bench.models.shape import Shape, bert_shape
from bench.models.size import bert_parts

BASE = BertConfig(
    vocab_size=30522, num_hidden_layers=12, hidden_size=768, num_attention_heads=12, intermediate_size=3072
)
LARGE = BertConfig(
    vocab_size=30522, num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, intermediate_size=4096
)

CASED = BertConfig(
    vocab_size=28996, num_hidden_layers=12, hidden_size=768, num_attention_heads=12, intermediate_size=3072
)
SMALL: Mapping[str, tuple[int, int]] = {
    "bert-medium": (8, 512), "bert-small": (4, 512), "bert-mini": (4, 256), "bert-tiny": (2, 128),
}  # fmt: skip
"""Layers and width; heads of 64, an inner width of four times the width."""
FLOAT = 4
"""Bytes."""


def _small(name: str, layers: int, width: int) -> Shape:
    config = BertConfig(
        vocab_size=30522, num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )  # fmt: skip
    title = name.removeprefix("bert-").capitalize()
    return bert_shape(f"BERT-{title}: {layers} layers of {width}, {width // 64} heads", config)


def _floats() -> Mapping[str, int]:
    """Bytes of the parts that papers on fewer bits count, all in fp32; of activations, a layer's output per token."""
    (tables, encoder), (cased, _) = bert_parts(BASE), bert_parts(CASED)
    parts = {
        "packed": tables + encoder, "packed-encoder": encoder, "packed-embeddings": tables,
        "packed-cased": cased + encoder, "activations": BASE.hidden_size,
    }  # fmt: skip
    return {split: FLOAT * number for split, number in parts.items()}


SHAPES: Mapping[str, Shape] = {
    "bert": replace(
        bert_shape("BERT-base, uncased: 12 layers of 768, 12 heads; the reference", BASE), packed=_floats()
    ),
    "bert-large": bert_shape("BERT-large, uncased: 24 layers of 1024, 16 heads", LARGE),
    **{name: _small(name, *sizes) for name, sizes in SMALL.items()},
}
