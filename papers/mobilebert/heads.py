"""What stands on MobileBERT's encoder: heads for a row, for spans, and for pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import QuestionAnsweringModelOutput, SequenceClassifierOutput

from bench.models.load import register
from papers.mobilebert.student import ACTIVATIONS, Architecture, MobileBert, initialise


@register
class MobileBertEncoder(nn.Module):
    """The encoder, with its pooler where it has one, and what stands on it: all that makes one is its architecture."""

    reads_first = True
    """Whether the first token is read by itself, and so a pooler, where the architecture has one."""

    def __init__(self, config: Architecture):
        super().__init__()
        self.config = config
        self.encoder = MobileBert(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if config.pooler and self.reads_first else None
        if self.pooler is not None:
            initialise(self.pooler, config.initializer_range)

    def first(self, hidden: Tensor) -> Tensor:
        """What stands for a row: its first token, through the pooler where there is one. [B, L, H] -> [B, H]"""
        return hidden[:, 0] if self.pooler is None else torch.tanh(self.pooler(hidden[:, 0]))

    def saved_config(self) -> dict[str, Any]:
        return asdict(self.config)

    @classmethod
    def from_saved(cls, config: dict[str, Any]) -> Self:
        fields: dict[str, Any] = config | {"labels": tuple(config.get("labels", ()))}
        return cls(Architecture(**fields))


@register
class MobileBertClassifier(MobileBertEncoder):
    """The encoder with a linear classifier on its first token.

    Shapes: ids, mask and types [B, L] -> logits [B, C].
    """

    def __init__(self, config: Architecture):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        initialise(self.classifier, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> SequenceClassifierOutput:
        states = self.encoder(input_ids, attention_mask, token_type_ids)
        logits = self.classifier(self.dropout(self.first(states[-1])))
        return SequenceClassifierOutput(logits=logits, hidden_states=states if output_hidden_states else None)


@register
class MobileBertForSpans(MobileBertEncoder):
    """The encoder with the start and the end of an answer at each token.

    Shapes: ids, mask and types [B, L] -> start and end logits [B, L].
    """

    reads_first = False

    def __init__(self, config: Architecture):
        super().__init__(config)
        self.spans = nn.Linear(config.hidden_size, 2)
        initialise(self.spans, config.initializer_range)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> QuestionAnsweringModelOutput:
        start, end = self.spans(self.encoder(input_ids, attention_mask, token_type_ids)[-1]).unbind(-1)
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)


@register
class MobileBertForPreTraining(MobileBertEncoder):
    """The encoder with BERT's two heads: words at masked places, and whether the second text follows the first.

    The word table is narrower than the stream, so the decoder is that table beside a further one of the words, `extra`.
    Source: released code, `modeling.py`; as `transformers.MobileBertForPreTraining`.
    """

    def __init__(self, config: Architecture):
        super().__init__(config)
        width = config.hidden_size
        self.transform = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.extra = nn.Parameter(torch.empty(config.vocab_size, width - config.embedding_size))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.follows = nn.Linear(width, 2)
        deviation = config.initializer_range
        nn.init.trunc_normal_(self.extra, std=deviation, a=-2 * deviation, b=2 * deviation)
        for head in (self.transform, self.follows):
            initialise(head, deviation)

    def words(self, hidden: Tensor) -> Tensor:
        """Logits of the vocabulary at places. [P, H] -> [P, V]"""
        hidden = self.norm(ACTIVATIONS[self.config.hidden_act](self.transform(hidden)))
        table = torch.cat((self.encoder.embeddings.words.weight, self.extra), dim=1)
        return functional.linear(hidden, table, self.bias)

    def follow(self, hidden: Tensor) -> Tensor:
        """Logits of "follows" and "does not". [B, L, H] -> [B, 2]"""
        return self.follows(self.first(hidden))

    def last(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The last state of a batch. [B, L, H]"""
        return self.encoder(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))[-1]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits of words [B, L, V] and of "follows" [B, 2]; losses take the parts, for the places that they need."""
        hidden = self.encoder(input_ids, attention_mask, token_type_ids)[-1]
        return self.words(hidden), self.follow(hidden)
