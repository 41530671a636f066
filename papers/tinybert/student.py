"""The students of TinyBERT: plain BERTs of fewer and, for the smaller one, narrower layers.

Source: Jiao et al. 2020, arXiv 1909.10351v5, Table 1. The projection to the teacher's width is needed in training only
and is no part of the student that is scored.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, BertModel
from transformers.models.bert.modeling_bert import BertPreTrainedModel

from bench.core.errors import ModelError
from bench.models import load
from bench.train.recipe import EncoderFacts

LayerMapping = Literal["uniform", "top", "bottom"]
BASE = 768
"""The width of BERT-base, of which the published widths are fractions."""


def check_layers(layers: int, every: int) -> None:
    """Refuse a teacher whose layers cannot be shared out. Raises: ModelError where they are no multiple of `every`."""
    if layers < every or layers % every:
        raise ModelError("the teacher's layers do not divide", found=f"{layers} layers",
                         expected=f"a multiple of {every}",
                         fix="use another teacher, or another --set student.every=N of a new student")  # fmt: skip


def student_config(teacher: BertConfig, every: int, hidden: int, ffn: int) -> BertConfig:
    """The student of a teacher in the published ratios: layers / `every`, widths `hidden` and `ffn` per 768.

    The width is rounded to a multiple of the heads, which are the teacher's, since attention is copied head by head;
    dropout 0.1 and GELU as in BERT. From BERT-base the published students
    come out exactly. Raises: ModelError where the layers do not divide.
    Source: arXiv 1909.10351v5, Table 1; ratios for other teachers are ours, see D9.
    """
    check_layers(teacher.num_hidden_layers, every)
    heads = teacher.num_attention_heads
    width = max(1, round(teacher.hidden_size * hidden / BASE / heads)) * heads
    inner = max(1, round(teacher.hidden_size * ffn / BASE))
    return BertConfig(
        vocab_size=teacher.vocab_size,
        num_hidden_layers=teacher.num_hidden_layers // every,
        hidden_size=width,
        intermediate_size=inner,
        num_attention_heads=heads,
        max_position_embeddings=teacher.max_position_embeddings,
        type_vocab_size=teacher.type_vocab_size,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        pad_token_id=0,
    )


def mapped(layers: int, teacher_layers: int, mapping: LayerMapping) -> tuple[int, ...]:
    """The teacher layer (from 1) that each of the student's `layers` copies; layer 0, the embedding, copies layer 0.

    Uniform is g(m) = m * K / M, top the last M layers, bottom the first M.
    Raises: ModelError where M does not divide K. Source: arXiv 1909.10351v5, Table 4.
    """
    check_layers(teacher_layers, layers)
    if mapping == "uniform":
        return tuple((m + 1) * teacher_layers // layers for m in range(layers))
    first = teacher_layers - layers if mapping == "top" else 0
    return tuple(first + m + 1 for m in range(layers))


def check_fit(student: BertConfig, teacher: EncoderFacts, projected: int) -> None:
    """Refuse a teacher that cannot teach this student: another vocabulary, number of heads, width or depth.

    `projected` is the width that the student's projections give. Raises: ModelError naming the first that differs.
    """
    for what, found, expected in (
        ("vocabulary", teacher.vocabulary, student.vocab_size),
        ("number of heads", teacher.heads, student.num_attention_heads),
        ("hidden size", teacher.hidden, projected),
    ):
        if found != expected:
            raise ModelError(f"the teacher's {what} does not fit the student", found=found, expected=expected,
                             fix="use the teacher that the student was distilled from, or one like it")  # fmt: skip
    check_layers(teacher.layers, student.num_hidden_layers)


@load.register
class TinyBertForDistillation(BertPreTrainedModel):
    """The student's encoder with its projections to the teacher's width: W_e of the embedding, W_h of all layers.

    With `config.projections` 1 one matrix is both, as in the released code (D1).
    Shapes: ids, mask and types [B, L] -> the encoder's own hidden states [B, L, H_s]; losses apply the projections.
    """

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config)
        self.projections = nn.ModuleList(
            nn.Linear(config.hidden_size, config.projected_size, bias=config.projection_bias)
            for _ in range(config.projections)
        )
        self.post_init()

    def projected_by(self, layer: int) -> nn.Linear:
        """The projection of a student layer's state; layer 0 is the embedding output."""
        found = self.projections[0 if layer == 0 else len(self.projections) - 1]
        assert isinstance(found, nn.Linear)
        return found

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ):  # fmt: skip
        return self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)


def with_projections(config: BertConfig, teacher_hidden: int, count: int, bias: bool) -> TinyBertForDistillation:
    """A new student of random weights, with `count` projections (1 or 2) to the teacher's width; D1."""
    own = BertConfig.from_dict(config.to_dict())
    own.projected_size, own.projections, own.projection_bias = teacher_hidden, count, bias
    return TinyBertForDistillation(own)


@load.register
class TinyBertForSequenceClassification(BertForSequenceClassification):
    """The classifier of the released code (D3): a linear layer on relu(pooled [CLS]) in place of dropout.

    Shapes: ids, mask and types [B, L] -> logits [B, C].
    """

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.dropout = nn.ReLU()
