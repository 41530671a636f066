"""Q-BERT's variants and stages without a run: settings, what is refused, where it starts, the order of rounding."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification, BertModel

from bench.core.errors import ModelError, SpecError
from bench.data.tasks import get_task
from bench.train.recipe import EncoderFacts, State
from papers.qbert import recipe, settings
from papers.qbert.recipe import RECIPE
from papers.qbert.settings import Assignment, Hyper
from papers.qbert.student import from_float

BASE = EncoderFacts(layers=12, hidden=768, heads=12, vocabulary=30522)
NARROW = EncoderFacts(layers=2, hidden=16, heads=2, vocabulary=60)
SHAPE: dict[str, Any] = {"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}

SETTINGS = {
    "qbert-mp23": "27f0b2def5e3", "qbert-mp24": "13b58901c0f7", "qbert-w8": "f2a744759fe9", "qbert-w4": "ada28adef358",
    "qbert-w3": "514cbaa8f46b", "qbert-w2": "7490a43b1e07", "qbert-mp23-rev": "def538e8ae96",
    "qbert-mp23-random": "3c776be8cfc0", "directq-w4": "62f1a65835a4", "directq-w3": "db2d88afc2dd",
    "directq-w2": "9e7207657cae", "qbert-w4-g1": "d4dac409716c", "qbert-w4-g12": "bede31d785f9",
    "qbert-w4-g768": "a1fb7778b6a3", "qbert-w4-e4": "6a9f0abf53ac",
}  # fmt: skip
"""The first digits of the sha256 of a variant's settings, on SST-2 and SQuAD, at all three scales. A change of one
makes its runs another series than those of the committed records."""


def test_the_settings_of_a_variant_stay() -> None:
    found = {}
    for name, variant in RECIPE.variants.items():
        seen = {f"{task} {scale}": settings.hyper(variant, task, scale, BASE).model_dump(mode="json")
                for task in ("sst2", "squad") for scale in ("smoke", "small", "full")}  # fmt: skip
        found[name] = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:12]
    assert found == SETTINGS


def test_every_variant_has_the_bits_and_groups_of_its_name() -> None:
    found = {name: settings.hyper(variant, "sst2", "full", BASE) for name, variant in RECIPE.variants.items()}
    assert {name: (h.bits.high, h.bits.low, h.bits.order) for name, h in found.items() if h.bits.low} == {
        "qbert-mp24": (4, 2, "sensitivity"), "qbert-mp23": (3, 2, "sensitivity"),
        "qbert-mp23-rev": (3, 2, "reversed"), "qbert-mp23-random": (3, 2, "random"),
    }  # fmt: skip
    groups = {name: h.quantiser.groups for name, h in found.items() if h.quantiser.groups != 128}
    assert groups == {"directq-w4": 1, "directq-w3": 1, "directq-w2": 1, "qbert-w4-g1": 1, "qbert-w4-g12": 12,
                      "qbert-w4-g768": 768}  # fmt: skip
    assert {name: h.bits.high for name, h in found.items() if not h.bits.low} == {
        name: int(name.split("-w")[1][0]) for name in RECIPE.variants if "-w" in name
    }
    tables = {name: h.quantiser.word for name, h in found.items()}
    assert {name for name, bits in tables.items() if bits != 8} == {"qbert-w4-e4"}
    assert found["qbert-w4-g1"].quantiser.embedding_groups == 128
    squad = settings.hyper(RECIPE.variants["qbert-w4"], "squad", "full", BASE)
    assert (squad.training.batch_size, squad.training.lr, squad.training.epochs, squad.max_length) == (12, 3e-5, 3, 384)
    assert settings.hyper(RECIPE.variants["qbert-w4"], "sst2", "full", NARROW) == found["qbert-w4"], (
        "whatever the width"
    )


def test_mixtures_measure_and_the_others_do_not() -> None:
    measuring = {name for name, variant in RECIPE.variants.items()
                 if [stage.name for stage in variant.stages][1:-1] == ["measure_sensitivity"]}  # fmt: skip
    assert measuring == {name for name in RECIPE.variants if "-mp2" in name}
    for name, variant in RECIPE.variants.items():
        assert [variant.stages[0].name, variant.stages[-1].name] == ["start_from_base", "train_quantised"]
        assert variant.stages[0].asks == ("base",) and RECIPE.base == "bert" and not RECIPE.teachers
        for encoder in (BASE, NARROW):
            settings.check(variant, settings.hyper(variant, "sst2", "small", encoder), encoder)
        fields = {field for stage in variant.stages for field in stage.uses}
        assert fields <= set(Hyper.model_fields), name


@pytest.mark.parametrize(("variant", "changes", "words"), [
    ("qbert-mp23", {"quantiser.groups": 3}, ("groups do not divide", "found 3", "hidden size 16")),
    ("qbert-mp23", {"quantiser.embedding_groups": 7}, ("groups do not divide", "found 7")),
    ("qbert-mp23", {"bits.more": 3}, ("so many layers cannot get more bits", "found 3", "0 to 2")),
    ("qbert-mp23", {"bits.high": 9}, ("so many bits", "found 9", "1 to 8, or 32")),
    ("qbert-mp23", {"bits.low": 7}, ("more bits are not more",)),
    ("qbert-mp23", {"bits.low": None}, ("bits.low does not go with the variant", "3 bits for the half")),
    ("qbert-w4", {"bits.low": 2}, ("bits.low does not go with the variant", "4 bits in every layer", "a mixture")),
    ("qbert-w4", {"bits.more": 1}, ("bits.more and bits.order are a mixture's", "choose a mixture")),
    ("qbert-w4", {"bits.order": "random"}, ("4 bits in every layer", "choose a mixture")),
])  # fmt: skip
def test_what_does_not_go_with_a_variant_is_refused(variant: str, changes: dict[str, Any], words: Any) -> None:
    chosen = settings.hyper(RECIPE.variants[variant], "sst2", "smoke", NARROW)
    with pytest.raises(SpecError) as error:
        settings.check(RECIPE.variants[variant], chosen.changed(changes), NARROW)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def start(base: nn.Module, task: str) -> State:
    context: Any = SimpleNamespace(base=lambda: base, task=get_task(task))
    return recipe.start_from_base(State(facts={"seen": 1}), Hyper(), context)


def test_a_run_starts_from_a_model_of_its_task() -> None:
    classifier = BertForSequenceClassification(BertConfig(**SHAPE, num_labels=2))
    state = start(classifier, "sst2")
    assert state.model is classifier and state.facts == {"seen": 1}
    spans = BertForQuestionAnswering(BertConfig(**SHAPE))
    assert start(spans, "squad").model is spans
    for base, task in ((classifier, "mnli"), (classifier, "squad"), (classifier, "conll2003"), (spans, "sst2"),
                       (BertModel(BertConfig(**SHAPE)), "sst2")):  # fmt: skip
        with pytest.raises(ModelError) as error:
            start(base, task)
        message = str(error.value)
        assert "the model to quantise is not fine-tuned on the task" in message and type(base).__name__ in message
    with pytest.raises(ModelError, match="no layers to quantise"):
        start(nn.Linear(2, 2), "sst2")


def context(trained: list[Any]) -> Any:
    """A context whose training only notes what would be trained, and on which rows."""
    return SimpleNamespace(
        seed=0, task=get_task("sst2"), train_rows=lambda *_: "rows", train_texts=lambda: "texts",
        encode=lambda texts, length, tokenizer: (texts, length, tokenizer), batches=lambda rows, training: rows,
        fit=lambda model, loss, batches, training: trained.append((model.scheme.layers, batches)),
    )  # fmt: skip


def test_one_layer_after_another_goes_by_the_damage_that_rounding_does() -> None:
    """Of three layers with the same bits the largest weights are moved most; an eigenvalue weighs that distance."""
    model = BertForSequenceClassification(BertConfig(**SHAPE, num_hidden_layers=3))
    with torch.no_grad():
        for layer, factor in enumerate((1.0, 4.0, 2.0)):
            for parameter in model.bert.encoder.layer[layer].parameters():
                parameter.mul_(factor)
    chosen = Hyper(bits=Assignment(high=4), schedule="progressive").changed({"quantiser.groups": 1})
    trained: list[Any] = []
    state = recipe.train_quantised(State({"model": model}), chosen, context(trained))
    assert trained == [((32, 4, 32), "rows"), ((32, 4, 4), "rows"), ((4, 4, 4), "rows")]
    assert state.facts["bits"] == {"layer0": [4], "layer1": [4], "layer2": [4]}
    trained.clear()
    told = {
        "sensitivity": {f"layer{i}": [omega] for i, omega in enumerate((1.0, 2.0, 3.0))},
        "eigenvalue": {f"layer{i}": values for i, values in enumerate(([1.0, 1.0], [1.0, -1.0], [-9.0, -7.0]))},
    }
    mixture = chosen.changed({"bits.low": 3, "bits.more": 1})
    recipe.train_quantised(State({"model": model}, told), mixture, context(trained))
    assert [bits for bits, _ in trained] == [(32, 32, 4), (3, 32, 4), (3, 3, 4)], "the mean eigenvalue of layer 1 is 0"


def test_the_packed_file_is_weighed_in_parts(tmp_path: Any) -> None:
    model = from_float(BertForSequenceClassification(BertConfig(**SHAPE, num_hidden_layers=1)),
                       recipe._scheme(Hyper(), (4,))).train()  # fmt: skip
    model(torch.arange(5, 25).view(2, 10))
    further: Any = RECIPE.further
    sizes = further.write(model, tmp_path)
    (file,) = tmp_path.iterdir()
    assert next(iter(sizes)) == "packed-file" and sizes["packed-file"] == file.stat().st_size
    assert list(sizes)[1:] == ["packed-codes", "packed-ranges", "packed-floats", "packed-formula"]
    assert [(form.name, form.int8) for form in further.forms] == [("packed", False), ("int8", True)]
    found: dict[str, Any] = {}
    exec(further.usage.replace("FOLDER", str(tmp_path)), found)
    assert further.usage.count("\n") == 2 and type(found["model"]) is BertForSequenceClassification
