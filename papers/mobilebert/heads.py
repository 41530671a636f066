"""What stands on MobileBERT's encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from papers.mobilebert.student import Architecture, MobileBert, initialise


class MobileBertClassifier(nn.Module):
    """The encoder with a linear classifier on its first token.

    Shapes: ids, mask and types [B, L] -> logits [B, C].
    """

    def __init__(self, config: Architecture):
        super().__init__()
        self.config = config
        self.encoder = MobileBert(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if config.pooler else None
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        for head in filter(None, (self.pooler, self.classifier)):
            initialise(head)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> SequenceClassifierOutput:
        states = self.encoder(input_ids, attention_mask, token_type_ids)
        pooled = states[-1][:, 0]
        if self.pooler is not None:
            pooled = torch.tanh(self.pooler(pooled))
        logits = self.classifier(self.dropout(pooled))
        return SequenceClassifierOutput(logits=logits, hidden_states=states if output_hidden_states else None)
