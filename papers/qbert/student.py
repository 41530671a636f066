"""The student of Q-BERT: the fine-tuned BERT itself, with the scheme of its rounding in its config."""

from __future__ import annotations

import copy

from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import ModelError
from bench.models import load
from papers.qbert.quantize import Scheme, quantize


@load.register
class QBertForSequenceClassification(BertForSequenceClassification):
    """A BERT that rounds as `config.qbert` says; saved, it holds the float weights and the ranges of activations."""

    def __init__(self, config: BertConfig):
        content = getattr(config, "qbert", None)
        if content is None:
            raise ModelError("the config is not that of a Q-BERT", expected="a scheme under `qbert`",
                             fix="make the model with from_float")  # fmt: skip
        super().__init__(config)
        self.scheme = Scheme.model_validate(content)
        quantize(self, self.scheme)


def from_float(model: BertForSequenceClassification, scheme: Scheme) -> QBertForSequenceClassification:
    """A Q-BERT with a copy of a BERT's weights; activations have no range until it has trained."""
    config = copy.deepcopy(model.config)
    config.qbert = scheme.model_dump(mode="json")
    student = QBertForSequenceClassification(config)
    left = student.load_state_dict(model.state_dict(), strict=False)
    assert not left.unexpected_keys and all(".output." in name for name in left.missing_keys), left
    return student.train(model.training)  # pyright: ignore[reportReturnType]
