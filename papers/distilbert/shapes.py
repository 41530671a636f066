"""The shape of DistilBERT: the published student as a classifier."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import BertConfig, DistilBertForSequenceClassification

from bench.models.flops import encoder_formula
from bench.models.shape import Shape
from papers.distilbert.student import config


def build() -> DistilBertForSequenceClassification:
    """The student at paper size: half the layers of BERT-base (Sanh et al. 2019, arXiv 1910.01108v4, section 3)."""
    return DistilBertForSequenceClassification(config(BertConfig()))


def flops(batch: int, length: int) -> int:
    """FLOPs of one forward pass of the classifier on [B, L].

    Its pre-classifier is one dense layer on the first token, as BERT's pooler is.
    """
    student = config(BertConfig())
    sizes = student.n_layers, student.dim, student.hidden_dim, student.n_heads
    return encoder_formula(*sizes, batch, length, labels=student.num_labels or 0)


SHAPES: Mapping[str, Shape] = {
    "distilbert": Shape(
        "DistilBERT: 6 layers of 768, 12 heads, no token types and no pooler; a pre-classifier instead",
        build,
        flops,
    ),
}
