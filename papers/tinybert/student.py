"""The students of TinyBERT: plain BERTs of fewer and, for the smaller one, narrower layers.

Source: Jiao et al. 2020, arXiv 1909.10351v5, Table 1. The projection to the teacher's width is needed in training only
and is no part of the student.
"""

from __future__ import annotations

from transformers import BertConfig


def four_layers(vocabulary: int = 30522) -> BertConfig:
    """TinyBERT4: 4 layers of 312, inner width 1200, 12 heads of 26, each of which copies every third of the teacher."""
    return _config(vocabulary, layers=4, hidden=312, ffn=1200)


def six_layers(vocabulary: int = 30522) -> BertConfig:
    """TinyBERT6: 6 layers of BERT-base's own width, 768, inner width 3072, 12 heads of 64."""
    return _config(vocabulary, layers=6, hidden=768, ffn=3072)


def _config(vocabulary: int, layers: int, hidden: int, ffn: int) -> BertConfig:
    """Heads as the teacher's, since attention is copied head by head; dropout 0.1 and GELU as in BERT."""
    return BertConfig(
        vocab_size=vocabulary,
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_attention_heads=12,
        max_position_embeddings=512,
        type_vocab_size=2,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        pad_token_id=0,
    )
