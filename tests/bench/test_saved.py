"""Modules that say themselves how they are saved, and descriptions that make a model again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    PreTrainedModel,
)

from bench.core.errors import ModelError
from bench.models import load


def refused(call: Callable[[], object], *fragments: str) -> None:
    """The call raises a ModelError of one line that holds every fragment."""
    with pytest.raises(ModelError) as error:
        call()
    message = str(error.value)
    lacking = [fragment for fragment in fragments if fragment not in message]
    assert "\n" not in message and not lacking, f"{lacking} not in: {message}"


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


MODELS: list[PreTrainedModel] = [
    BertForSequenceClassification(BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                             intermediate_size=8, num_labels=3)),
    DistilBertForQuestionAnswering(DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=2, hidden_dim=8)),
]  # fmt: skip


@pytest.mark.parametrize("given", MODELS, ids=lambda model: type(model).__name__)
def test_a_description_of_a_model_makes_another_one(given: PreTrainedModel, tmp_path: Path) -> None:
    load.save(given, tmp_path / "saved")
    model = load.load_saved(tmp_path / "saved").eval()
    description = json.loads(json.dumps(load.described(model)))
    assert str(tmp_path) not in json.dumps(description)
    again = load.made(description).eval()
    assert type(again) is type(given) and again.config.num_labels == given.config.num_labels
    again.load_state_dict(model.state_dict())
    with torch.inference_mode():
        assert torch.equal(model(torch.arange(16).view(2, 8))[0], again(torch.arange(16).view(2, 8))[0])
    refused(lambda: load.made(description | {"architectures": ["NoSuchModel"]}), "found NoSuchModel", "next: import")


class Own(nn.Module):
    """A module that says itself how it is saved; two names share one of its tensors."""

    def __init__(self, width: int):
        super().__init__()
        self.width, self.table = width, nn.Embedding(7, width)
        self.back = nn.Linear(width, 7)
        self.back.weight = self.table.weight
        self.register_buffer("seen", torch.zeros(2))

    def saved_config(self) -> dict[str, Any]:
        return {"width": self.width}

    @classmethod
    def from_saved(cls, config: dict[str, Any]) -> Self:
        return cls(config["width"])


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in which such a module is saved."""
    monkeypatch.setattr(load, "_OWN", {})
    load.register(Own)
    torch.manual_seed(0)
    model = Own(3)
    model.get_buffer("seen").fill_(5.0)
    load.save(model, tmp_path / "own")
    return tmp_path / "own"


def test_a_module_that_says_how_it_is_saved_comes_back_to_the_bit(own: Path) -> None:
    assert json.loads((own / "config.json").read_text()) == {"architectures": ["Own"], "module": __name__, "width": 3}
    assert {path.name for path in own.iterdir()} == {"config.json", load.WEIGHTS}
    assert len(load_file(own / load.WEIGHTS)) == 3, "a shared tensor is written once"
    torch.manual_seed(0)
    model, back = Own(3), load.load_saved(own)
    assert isinstance(back, Own) and back.back.weight is back.table.weight
    assert torch.equal(back.table.weight, model.table.weight) and back.get_buffer("seen").tolist() == [5.0, 5.0]
    assert load.is_saved_in(back, own) and not load.is_saved_in(Own(3), own)
    description = load.described(back)
    assert description == json.loads(json.dumps(description)) and load.made(description).width == 3


def test_weights_that_are_not_all_of_it_are_refused(own: Path) -> None:
    refused(lambda: edited(own, lambda t: t.pop("seen")), "found 1 tensors missing, 0 left over", "seen",
            "expected every tensor of Own and no other", "next:")  # fmt: skip
    refused(lambda: edited(own, lambda t: t.update(more=torch.ones(1))), "0 tensors missing, 1 left over", "more")
    refused(lambda: edited(own, lambda t: t.update({"back.bias": torch.ones(6)})), "1 of another shape: back.bias")
    edit_config(own, width=4)
    refused(lambda: load.load_saved(own), "of another shape")
    edit_config(own, architectures=["Elsewhere"], module="papers.other.student")
    refused(lambda: load.load_saved(own), "found Elsewhere", "next: import papers.other.student")


def edited(own: Path, change: Callable[[dict[str, Tensor]], object]) -> nn.Module:
    """The model of a folder whose weights are changed, and put back."""
    before = (own / load.WEIGHTS).read_bytes()
    try:
        tensors = load_file(own / load.WEIGHTS)
        change(tensors)
        save_file(tensors, own / load.WEIGHTS, metadata={"format": "pt"})
        return load.load_saved(own)
    finally:
        (own / load.WEIGHTS).write_bytes(before)


def test_a_checkpoint_of_such_a_module_is_no_encoder(own: Path) -> None:
    refused(lambda: load.load(own, Own), "the checkpoint is not one of transformers", "found Own")


def test_a_registered_class_must_say_how_it_is_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "_OWN", {})
    silent = load.register(type("Silent", (nn.Module,), {"__module__": "papers.one"}))
    with pytest.raises(AssertionError, match="cannot save a Silent"):
        load.save(silent(), tmp_path / "silent")
    with pytest.raises(AssertionError, match="cannot save a Own"):
        load.save(Own(2), tmp_path / "own")


def test_an_lstm_whose_weights_lie_in_one_piece_of_memory_is_saved(tmp_path: Path) -> None:
    """As cuDNN lays them out: each weight is a part of one flat tensor. One tensor with two names is written once."""
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4, bidirectional=True), "one": nn.Linear(2, 2)})
    model["two"] = model["one"]
    weights = list(model["lstm"].parameters())
    flat, done = torch.randn(sum(weight.numel() for weight in weights)), 0
    for weight in weights:
        weight.data = flat[done : done + weight.numel()].view_as(weight)
        done += weight.numel()
    load.write_weights(model, tmp_path / "model.safetensors")
    stored, mine = load_file(tmp_path / "model.safetensors"), model.state_dict()
    assert sorted(stored) == sorted(name for name in mine if not name.startswith("two."))
    assert all(torch.equal(mine[name], tensor) for name, tensor in stored.items())
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * (flat.numel() + 6) + 4000
