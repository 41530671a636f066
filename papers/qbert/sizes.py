"""What Q-BERT's models weigh by the paper's own arithmetic: parameters times bits (arXiv 1909.05840v2, Table 1).

Counted are the encoder's layers, biases and LayerNorm too, at their layer's bits, and the three embedding tables at
theirs. Not counted are the embeddings' LayerNorm, the pooler and the task head. The ranges of the groups are not
counted either: `range_bytes` gives them apart.
Table 1 was not at hand, its sizes are recalled. The rule meets those of BERT-base to their last digit and is up to
0.12 MiB under those of quantised models. With the ranges of 128 groups added it would meet them all but the encoder at
2 bits (20.35, printed 20.4); but the sizes of DirectQ, which has one group, are printed the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import BertConfig

from bench.core.errors import SpecError
from bench.models.size import bert_parts, parameters
from papers.qbert.quantize import layers, tables
from papers.qbert.scheme import FLOAT_BITS, Scheme

MIB = 2**20
"""The paper's MB."""
ACTIVATION_BITS = 8
MATRICES = 6
"""Of a layer: query, key, value, attention output, feed-forward in and out."""


UNCASED = BertConfig()
"""BERT-base uncased: transformers' defaults."""
CASED = BertConfig(vocab_size=28996)
"""What CoNLL-2003 takes."""


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of each layer's weights and of the embeddings, and the groups that a matrix is cut into.

    Raises: SpecError for bits outside 1 to 32 and for no groups.
    """

    layers: tuple[int, ...]
    embeddings: int = 8
    groups: int = 128

    def __post_init__(self) -> None:
        if not all(1 <= bits <= FLOAT_BITS for bits in (*self.layers, self.embeddings)) or self.groups < 1:
            raise SpecError("the bits are impossible", found=self,
                            expected=f"1 to {FLOAT_BITS} bits, and groups from 1")  # fmt: skip


def uniform(bits: int, embeddings: int = 8, groups: int = 128) -> Bits:
    """The same bits in each of 12 layers. Raises: SpecError as `Bits` does."""
    return Bits((bits,) * UNCASED.num_hidden_layers, embeddings, groups)


def mixed(high: int, low: int, of: int = 2) -> Bits:
    """One in `of` of 12 layers at more bits, the rest at fewer. Half is what the printed sizes for SST-2 and SQuAD
    come to; those for MNLI and CoNLL-2003 come to no number of whole layers, a third is the closest.

    Which layers get more is found by sensitivity and changes no size; here the first ones stand for them.
    Raises: SpecError as `Bits` does.
    """
    layers = UNCASED.num_hidden_layers
    return Bits((high,) * (layers // of) + (low,) * (layers - layers // of))


def encoder_bytes(bits: Bits, bert: BertConfig = UNCASED) -> int:
    """Bytes of the encoder's layers at their bits. Raises: SpecError when there are not as many as the BERT has."""
    layers = bert.num_hidden_layers
    if len(bits.layers) != layers:
        raise SpecError("the bits do not fit the model", found=f"{len(bits.layers)} layers", expected=layers)
    return _bytes(bert_parts(bert)[1] // layers * sum(bits.layers))


def embedding_bytes(bits: Bits, bert: BertConfig = UNCASED) -> int:
    """Bytes of the three embedding tables at their bits."""
    return _bytes(bert_parts(bert)[0] * bits.embeddings)


def packed_bytes(bits: Bits, bert: BertConfig = UNCASED) -> int:
    """Bytes of encoder and embeddings together: the paper's column Size. Raises: SpecError as `encoder_bytes`."""
    return encoder_bytes(bits, bert) + embedding_bytes(bits, bert)


def range_bytes(bits: Bits, bert: BertConfig = UNCASED) -> int:
    """Bytes of the groups' ranges, two floats a group in each matrix of the encoder: no part of the paper's sizes."""
    return _bytes(bert.num_hidden_layers * MATRICES * bits.groups * 2 * FLOAT_BITS)


def module_bytes(model: nn.Module, scheme: Scheme) -> int:
    """Bytes of any model in floats by the same arithmetic: its layers, biases and all, and its embedding tables.

    Values are not looked at, so the meta device does. Raises: SpecError when the scheme has another number of layers;
    ModelError for a model without layers.
    """
    found = layers(model)
    if len(found) != len(scheme.layers):
        raise SpecError("the bits do not fit the model", found=f"bits of {len(scheme.layers)} layers",
                        expected=f"{len(found)} layers")  # fmt: skip
    encoder = sum(parameters(layer) * bits for layer, bits in zip(found, scheme.layers, strict=True))
    return _bytes(encoder) + _bytes(sum(t.weight.numel() * getattr(scheme, kind) for _, kind, t in tables(model)))


def _bytes(bits: int) -> int:
    return -(-bits // 8)
