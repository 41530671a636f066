"""A classifier's outputs find the task's labels by name, never by position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

from bench.core.errors import ModelError
from bench.models import load

NLI = ("entailment", "neutral", "contradiction")


def classifier(labels: tuple[str, ...], model_class: Any = BertForSequenceClassification) -> PreTrainedModel:
    names = dict(enumerate(labels))
    torch.manual_seed(0)
    named = {"num_labels": len(labels), "id2label": names, "label2id": {v: k for k, v in names.items()}}
    if model_class is DistilBertForSequenceClassification:
        shape = {"vocab_size": 60, "n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32}
        return model_class(DistilBertConfig(**shape, **named)).eval()
    shape = {"vocab_size": 60, "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    return model_class(BertConfig(**shape, **named, intermediate_size=32)).eval()


def ids() -> Tensor:
    return torch.arange(5, 5 + 16).view(2, 8)


def refused(model: PreTrainedModel, labels: tuple[str, ...], *fragments: str) -> None:
    """Realigning raises a ModelError of one line that holds every fragment and says what to do next."""
    with pytest.raises(ModelError) as error:
        load.realign(model, labels)
    message = str(error.value)
    assert "\n" not in message and "next:" in message
    assert fragments and not [fragment for fragment in fragments if fragment not in message], message


def by_name(model: PreTrainedModel) -> dict[str, Tensor]:
    assert model.config.id2label is not None
    with torch.inference_mode():
        logits = model(ids()).logits
    return {str(name).lower(): logits[:, int(i)] for i, name in model.config.id2label.items()}


@pytest.mark.parametrize("model_class", [BertForSequenceClassification, DistilBertForSequenceClassification])
def test_outputs_follow_the_label_names(model_class: Any) -> None:
    model = classifier(("Contradiction", "ENTAILMENT", "neutral"), model_class)
    want = by_name(model)
    got = load.realign(model, NLI)
    assert got.config.id2label == dict(enumerate(NLI))
    assert got.config.label2id == {name: i for i, name in enumerate(NLI)}
    after = by_name(got)
    assert list(after) == list(NLI)
    with torch.inference_mode():
        logits = got(ids()).logits
    for i, name in enumerate(NLI):
        assert torch.equal(logits[:, i], want[name]) and torch.equal(after[name], want[name])


@pytest.mark.parametrize("labels", [NLI, ("LABEL_0", "LABEL_1", "LABEL_2")])
def test_names_in_order_or_no_names_leave_the_model_as_it_is(labels: tuple[str, ...]) -> None:
    model = classifier(labels)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = load.realign(model, NLI).state_dict()
    assert len(before) > 30 and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("found", [("negative", "positive"), ("entailment", "not_entailment", "other")])
def test_foreign_names_are_refused(found: tuple[str, ...]) -> None:
    model = classifier(found)
    refused(model, ("entailment", "not_entailment"), f"found {', '.join(found)}", "expected entailment, not_entailment")


@pytest.mark.parametrize("outputs", [1, 3])
def test_another_number_of_unnamed_outputs_is_refused(outputs: int) -> None:
    model = classifier(tuple(f"LABEL_{i}" for i in range(outputs)))
    refused(model, ("no", "yes"), "found label_0", "expected no, yes")


@pytest.mark.parametrize("name", ["score", "LABEL_0"])
def test_a_regression_has_one_output_whatever_its_name(name: str) -> None:
    model = classifier((name,))
    assert load.realign(model, ()) is model
    refused(classifier(("LABEL_0", "LABEL_1")), (), "found label_0, label_1", "one score")
