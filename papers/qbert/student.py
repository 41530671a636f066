"""The student of Q-BERT: the fine-tuned BERT itself, with the scheme of its rounding in its config."""

from __future__ import annotations

import copy

from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification

from bench.core.errors import ModelError
from bench.models import load
from papers.qbert.quantize import Bert, Scheme, quantize


@load.register
class QBertForSequenceClassification(BertForSequenceClassification):
    """A BERT that rounds as `config.qbert` says; saved, it holds the float weights and the ranges of activations."""

    def __init__(self, config: BertConfig):
        scheme = _scheme(config)
        super().__init__(config)
        self.scheme = scheme
        quantize(self, self.scheme)


@load.register
class QBertForQuestionAnswering(BertForQuestionAnswering):
    """The same for a task whose answers are spans."""

    def __init__(self, config: BertConfig):
        scheme = _scheme(config)
        super().__init__(config)
        self.scheme = scheme
        quantize(self, self.scheme)


QBert = QBertForSequenceClassification | QBertForQuestionAnswering


def _scheme(config: BertConfig) -> Scheme:
    """The scheme that a config holds. Raises ModelError where it holds none."""
    content = getattr(config, "qbert", None)
    if content is None:
        raise ModelError("the config is not that of a Q-BERT", expected="a scheme under `qbert`",
                         fix="make the model with from_float")  # fmt: skip
    return Scheme.model_validate(content)


def from_float(model: Bert, scheme: Scheme) -> QBert:
    """A Q-BERT with a copy of a BERT's weights; activations have no range until it has trained."""
    config = copy.deepcopy(model.config)
    config.qbert = scheme.model_dump(mode="json")
    spans = isinstance(model, BertForQuestionAnswering)
    student = QBertForQuestionAnswering(config) if spans else QBertForSequenceClassification(config)
    left = student.load_state_dict(model.state_dict(), strict=False)
    assert not left.unexpected_keys and all(".output." in name for name in left.missing_keys), left
    return student.train(model.training)  # pyright: ignore[reportReturnType]
