"""The shapes of TinyBERT: its two students as classifiers, and its BERT_TINY, which is the smaller one pre-trained."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import BertConfig

from bench.models.shape import Shape, bert_shape
from papers.tinybert.student import student_config

FOUR, SIX = student_config(BertConfig(), 3, 312, 1200), student_config(BertConfig(), 2, 768, 3072)
"""Table 1, from BERT-base."""
SHAPES: Mapping[str, Shape] = {
    "tinybert-4": bert_shape("TinyBERT4: 4 layers of 312, inner width 1200, 12 heads", FOUR),
    "tinybert-4-init-bert": bert_shape("BERT_TINY of TinyBERT's tables: the architecture of TinyBERT4", FOUR),
    "tinybert-6": bert_shape("TinyBERT6: 6 layers of 768, inner width 3072, 12 heads", SIX),
}
