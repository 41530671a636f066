"""The shapes of BERT, uncased: the base size, which every other shape is compared with, and the large one.

Source: Devlin et al. 2019, arXiv 1810.04805v2, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

from transformers import BertConfig

from bench.models.shape import Shape, bert_shape

BASE = BertConfig(
    vocab_size=30522, num_hidden_layers=12, hidden_size=768, num_attention_heads=12, intermediate_size=3072
)
LARGE = BertConfig(
    vocab_size=30522, num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, intermediate_size=4096
)

SHAPES: Mapping[str, Shape] = {
    "bert": bert_shape("BERT-base, uncased: 12 layers of 768, 12 heads; the reference", BASE),
    "bert-large": bert_shape("BERT-large, uncased: 24 layers of 1024, 16 heads", LARGE),
}
