"""Q-BERT's bytes by the paper's arithmetic, beside the sizes that were printed."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import SpecError
from bench.models.size import bert_parts
from papers.bert import shapes as bert_shapes
from papers.qbert import shapes as qbert_shapes
from papers.qbert import sizes
from papers.qbert.scheme import Scheme
from papers.qbert.sizes import CASED, MIB, Bits, mixed, uniform

PRINTED = {
    "bert": (415.4, 324.5), "qbert-w8": (103.9, 81.2), "qbert-w4": (63.4, 40.6), "directq-w4": (63.4, 40.6),
    "qbert-w3": (53.2, 30.5), "directq-w3": (53.2, 30.5), "qbert-mp24": (53.2, 30.5), "qbert-mp23": (48.1, 25.4),
    "qbert-w2": (43.1, 20.4), "directq-w2": (43.1, 20.4),
}  # fmt: skip
"""Table 1(a), MB with and without embeddings (recalled)."""
PRINTED_CASED = {32: (410.9, 324.5), 8: (102.8, 81.2), 4: (62.2, 40.6), 3: (52.1, 30.5), 2: (42.0, 20.4)}
"""Table 1(c), by bits (recalled); its mixture, 45.0 and 23.4, is of no whole layers."""


def mib(bits: Bits, ranges: bool, bert: BertConfig = sizes.UNCASED) -> tuple[float, float]:
    """Size and size without embeddings; `ranges` adds those of the groups."""
    more = sizes.range_bytes(bits, bert) if ranges else 0
    return (sizes.packed_bytes(bits, bert) + more) / MIB, (sizes.encoder_bytes(bits, bert) + more) / MIB


def test_bert_base_is_counted_as_printed() -> None:
    assert bert_parts(sizes.UNCASED) == (23_835_648, 12 * 7_087_872)
    for bert, printed in ((sizes.UNCASED, PRINTED["bert"]), (CASED, PRINTED_CASED[32])):
        assert tuple(round(size, 1) for size in mib(uniform(32, 32), False, bert)) == printed


def test_printed_sizes() -> None:
    bits_of = {name: bits for name, bits in qbert_shapes.BITS.items() if name in PRINTED}
    rows_of = [(PRINTED[name], bits, sizes.UNCASED) for name, bits in bits_of.items()]
    rows_of += [(printed, uniform(bits), CASED) for bits, printed in PRINTED_CASED.items() if bits < 32]
    missed: dict[bool, set[float]] = {False: set(), True: set()}
    for printed, bits, bert in rows_of:
        grouped = Bits(bits.layers, bits.embeddings, 128)
        for ranges in (False, True):
            for size, shown in zip(mib(grouped, ranges, bert), printed, strict=True):
                assert -0.051 <= shown - size <= 0.122, "bits alone are nearly always below what is printed"
                missed[ranges] |= {shown} if abs(size - shown) > 0.05 else set()
    assert len(rows_of) == 9 + 4
    # Bits alone meet BERT-base's sizes, 40.6, 48.1 and 62.2. With the ranges of 128 groups all 26 are met but the
    # encoder at 2 bits, which comes to 20.349.
    assert missed[False] == {103.9, 81.2, 63.4, 53.2, 30.5, 25.4, 43.1, 20.4, 102.8, 52.1, 42.0}
    assert missed[True] == {20.4}


def test_shapes_weigh_what_the_arithmetic_says() -> None:
    found = {name: shape.packed["packed"] for name, shape in qbert_shapes.SHAPES.items()}
    assert found["qbert-w4"] == 85_054_464 // 2 + 23_835_648 and found["qbert-w4-e4"] == 108_890_112 // 2
    assert found["directq-w4"] == found["qbert-w4-g1"] == found["qbert-w4-g768"] == found["qbert-w4"]
    assert found["qbert-mp24"] == found["qbert-w3"] and found["qbert-mp23"] == 85_054_464 * 5 // 16 + 23_835_648
    parts = qbert_shapes.SHAPES["qbert-mp23"].packed
    assert parts["packed-encoder-third"] == 85_054_464 * 28 // 96 < parts["packed-encoder"]
    floats = bert_shapes.SHAPES["bert"].packed
    assert set(qbert_shapes.SHAPES["qbert-w8"].packed) == set(floats)
    assert all(4 * size == floats[split] for split, size in qbert_shapes.SHAPES["qbert-w8"].packed.items())


@pytest.mark.parametrize("config", [sizes.UNCASED, CASED])
def test_the_bytes_of_a_module_are_those_of_its_config(config: BertConfig) -> None:
    with torch.device("meta"):
        bert = BertForSequenceClassification(config)
    for bits in (uniform(4), uniform(2), uniform(4, embeddings=4), mixed(3, 2), mixed(4, 2, of=3), uniform(8)):
        scheme = Scheme(layers=bits.layers, word=bits.embeddings, position=bits.embeddings, token_type=bits.embeddings)
        assert sizes.module_bytes(bert, scheme) == sizes.packed_bytes(bits, config)
    assert qbert_shapes.packed("qbert-mp23", bert)["packed"] == sizes.packed_bytes(mixed(3, 2), config)
    with pytest.raises(SpecError, match="found bits of 1 layers; expected 12 layers"):
        sizes.module_bytes(bert, Scheme(layers=(4,)))


def test_ratios_of_the_abstract() -> None:
    whole, mixture = uniform(32, 32), mixed(3, 2)
    assert sizes.encoder_bytes(whole) / sizes.encoder_bytes(mixture) == pytest.approx(12.8)
    assert sizes.packed_bytes(whole) / sizes.packed_bytes(mixture) == pytest.approx(8.64, abs=0.005)
    assert sizes.embedding_bytes(whole) / sizes.embedding_bytes(mixture) == 4


def test_bits_by_hand() -> None:
    bert = BertConfig(
        num_hidden_layers=2, hidden_size=4, intermediate_size=8, vocab_size=10, max_position_embeddings=5,
        type_vocab_size=1,
    )  # fmt: skip
    # A layer: 4 * 16 + 2 * 32 weights, 5 * 4 + 8 biases, 16 of LayerNorms; tables 16 * 4.
    assert bert_parts(bert) == (64, 2 * 172)
    bits = Bits((3, 2), embeddings=4, groups=2)
    assert sizes.encoder_bytes(bits, bert) == 108
    assert sizes.packed_bytes(bits, bert) == 108 + 32
    assert sizes.range_bytes(bits, bert) == 2 * 6 * 2 * 2 * 4
    assert sizes.range_bytes(uniform(4)) / MIB == pytest.approx(0.070, abs=0.001)


def test_bits_that_cannot_be() -> None:
    with pytest.raises(SpecError, match="bits"):
        uniform(33)
    with pytest.raises(SpecError, match="groups"):
        uniform(4, groups=0)
    with pytest.raises(SpecError, match="12"):
        sizes.encoder_bytes(Bits((4,)))
