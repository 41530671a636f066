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

from bench.core.errors import SpecError

MIB = 2**20
"""The paper's MB."""
FLOAT_BITS = 32
MATRICES = 6
"""Of a layer: query, key, value, attention output, feed-forward in and out."""


@dataclass(frozen=True, slots=True)
class Bert:
    """Sizes of a BERT; the defaults are BERT-base uncased."""

    layers: int = 12
    hidden: int = 768
    ffn: int = 3072
    vocabulary: int = 30522
    positions: int = 512
    types: int = 2

    @property
    def embedding_parameters(self) -> int:
        """The tables of words, positions and token types."""
        return (self.vocabulary + self.positions + self.types) * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Six matrices with their biases, and two LayerNorms."""
        matrices = 4 * self.hidden**2 + 2 * self.hidden * self.ffn
        biases = 5 * self.hidden + self.ffn
        return matrices + biases + 4 * self.hidden


UNCASED = Bert()
CASED = Bert(vocabulary=28996)
"""What CoNLL-2003 takes."""


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of each layer's weights and of the embeddings, and the groups that a matrix is cut into.

    Raises SpecError for bits outside 1 to 32 and for no groups.
    """

    layers: tuple[int, ...]
    embeddings: int = 8
    groups: int = 128

    def __post_init__(self) -> None:
        if not all(1 <= bits <= FLOAT_BITS for bits in (*self.layers, self.embeddings)) or self.groups < 1:
            raise SpecError("the bits are impossible", found=self,
                            expected=f"1 to {FLOAT_BITS} bits, and groups from 1")  # fmt: skip


def uniform(bits: int, embeddings: int = 8, groups: int = 128) -> Bits:
    """The same bits in each of 12 layers."""
    return Bits((bits,) * UNCASED.layers, embeddings, groups)


def mixed(high: int, low: int) -> Bits:
    """Half of 12 layers at more bits, half at fewer, which is what the printed sizes come to for SST-2 and SQuAD.

    Which layers get more is found by sensitivity and changes no size; here the first ones stand for them.
    """
    half = UNCASED.layers // 2
    return Bits((high,) * half + (low,) * (UNCASED.layers - half))


def encoder_bytes(bits: Bits, bert: Bert = UNCASED) -> int:
    """Bytes of the encoder's layers at their bits. Raises SpecError when there are not as many as the BERT has."""
    if len(bits.layers) != bert.layers:
        raise SpecError("the bits do not fit the model", found=f"{len(bits.layers)} layers", expected=bert.layers)
    return _bytes(bert.layer_parameters * sum(bits.layers))


def embedding_bytes(bits: Bits, bert: Bert = UNCASED) -> int:
    """Bytes of the three embedding tables at their bits."""
    return _bytes(bert.embedding_parameters * bits.embeddings)


def packed_bytes(bits: Bits, bert: Bert = UNCASED) -> int:
    """Bytes of encoder and embeddings together: the paper's column Size."""
    return encoder_bytes(bits, bert) + embedding_bytes(bits, bert)


def range_bytes(bits: Bits, bert: Bert = UNCASED) -> int:
    """Bytes of the groups' ranges, two floats a group in each matrix of the encoder: no part of the paper's sizes."""
    return _bytes(bert.layers * MATRICES * bits.groups * 2 * FLOAT_BITS)


def _bytes(bits: int) -> int:
    return -(-bits // 8)
