"""The student of Q-BERT: the fine-tuned BERT itself, with the scheme of its rounding in its config."""

from __future__ import annotations

import copy
from typing import get_args

from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from bench.core.errors import ModelError
from bench.models import load
from papers.qbert.quantize import Bert, Scheme, quantize


class _Quantized:
    """A BERT that rounds as `config.qbert` says; saved, it holds the float weights and the ranges of activations.

    Goes before the class of the BERT among the bases.
    """

    def __init__(self, config: BertConfig):
        scheme = _scheme(config)
        super().__init__(config)  # pyright: ignore[reportCallIssue]
        self.scheme = scheme
        quantize(self, scheme)  # pyright: ignore[reportArgumentType]


@load.register
class QBertForSequenceClassification(_Quantized, BertForSequenceClassification):
    """One answer per row: logits [B, C]."""


@load.register
class QBertForQuestionAnswering(_Quantized, BertForQuestionAnswering):
    """Answers that are spans: start and end logits, [B, L] each."""


@load.register
class QBertForTokenClassification(_Quantized, BertForTokenClassification):
    """A tag for every word: logits [B, L, C], of which those of a word's first piece count."""


QBert = QBertForSequenceClassification | QBertForQuestionAnswering | QBertForTokenClassification


def _scheme(config: BertConfig) -> Scheme:
    """The scheme that a config holds. Raises: ModelError where it holds none."""
    content = getattr(config, "qbert", None)
    if content is None:
        raise ModelError("the config is not that of a Q-BERT", expected="a scheme under `qbert`",
                         fix="make the model with from_float")  # fmt: skip
    return Scheme.model_validate(content)


def from_float(model: Bert, scheme: Scheme) -> QBert:
    """A Q-BERT with a copy of a BERT's weights, and of its ranges of activations where it is a Q-BERT itself.

    Activations that came without a range have none until the model trains.
    Raises: SpecError where the scheme does not fit the model.
    """
    config = copy.deepcopy(model.config)
    config.qbert = scheme.model_dump(mode="json")
    made = next(student for student in get_args(QBert) if isinstance(model, student.__bases__[1]))(config)
    left = made.load_state_dict(model.state_dict(), strict=False)
    assert not left.unexpected_keys and all(".output." in name for name in left.missing_keys), left
    return made.train(model.training)  # pyright: ignore[reportReturnType]
