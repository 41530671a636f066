"""A model as one file of another runtime answers as the model does."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import DeviceError, ModelError
from bench.models import files
from bench.models.files import FORMATS, Format, check_same
from bench.models.outputs import forward
from papers.lowresource.student import (
    BiLstmConfig,
    BiLstmForSequenceClassification,
    CnnConfig,
    CnnForSequenceClassification,
)
from papers.mobilebert.heads import MobileBertClassifier
from papers.mobilebert.student import Architecture

LONGEST = 12
INSTALLED = [name for name, one in FORMATS.items() if all(find_spec(package) for package in one.needs)]


def bert() -> nn.Module:
    return BertForSequenceClassification(
        BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                   max_position_embeddings=LONGEST))  # fmt: skip


def mobilebert() -> nn.Module:
    return MobileBertClassifier(
        Architecture(vocab_size=40, max_position_embeddings=LONGEST, embedding_size=4, num_hidden_layers=2,
                     hidden_size=16, intra_bottleneck_size=8, intermediate_size=16))  # fmt: skip


def bilstm() -> nn.Module:
    return BiLstmForSequenceClassification(BiLstmConfig(vocab_size=40, embedding_size=6, hidden_size=6))


def cnn() -> nn.Module:
    return CnnForSequenceClassification(CnnConfig(vocab_size=40, embedding_size=6, filters=3))


@torch.no_grad()
def scattered(model: nn.Module) -> nn.Module:
    """Large enough weights everywhere that logits differ by what is read."""
    for parameter in model.parameters():
        parameter.normal_(std=0.4)
    return model.eval()


def some() -> dict[str, torch.Tensor]:
    """Rows of 5, 12 and 1 tokens. [3, 12]"""
    mask = (torch.arange(LONGEST) < torch.tensor([[5], [12], [1]])).long()
    ids = torch.arange(3 * LONGEST).reshape(3, LONGEST) % 39 + 1
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def in_file(model: nn.Module, chosen: Format, folder: Path) -> nn.Module:
    chosen.write(model, folder / chosen.file, LONGEST)
    return chosen.read(folder / chosen.file, 1)


@pytest.mark.parametrize("make", [bert, mobilebert, bilstm, cnn])
@torch.no_grad()
def test_an_onnx_file_answers_as_its_model(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = scattered(make())
    read = in_file(model, FORMATS["onnx"], tmp_path)
    check_same(model, read, LONGEST)
    mine, theirs = (forward(one, some()).logits for one in (model, read))
    assert mine.abs().max() > 0.05 and mine.shape == (3, 2)
    torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif("tflite" not in INSTALLED, reason="the packages of tflite.txt are not installed")
@torch.no_grad()
def test_a_tflite_file_answers_as_its_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = scattered(mobilebert())
    read = in_file(model, FORMATS["tflite"], tmp_path)
    torch.testing.assert_close(forward(read, some()).logits, forward(model, some()).logits, rtol=1e-4, atol=1e-5)


def test_another_models_file_is_noticed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    read = in_file(scattered(bert()), FORMATS["onnx"], tmp_path)
    with pytest.raises(ModelError, match="does not answer as the model does"):
        check_same(scattered(bert()), read, LONGEST)


class Undecided(nn.Module):
    """Takes a branch by what stands in a tensor: no exporter follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.config = BertConfig(vocab_size=40)
        self.linear = nn.Linear(1, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        if int(input_ids.sum()) > 3:
            return {"logits": self.linear(input_ids[:, :1].float())}
        return {"logits": self.linear(input_ids[:, 1:2].float())}


def test_a_model_that_cannot_be_exported_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model cannot be exported in this format") as caught:
        in_file(Undecided().eval(), FORMATS["onnx"], tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="litert_torch and ai_edge_litert not installed; next: pip install --no-deps"):
        FORMATS["tflite"].check()


def test_what_the_installation_of_tflite_names_is_pinned() -> None:
    lines = (Path(__file__).resolve().parents[2] / "tflite.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 10 and all("==" in pin for pin in pins)
    assert {"litert-torch", "ai-edge-litert"} <= {pin.partition("==")[0] for pin in pins}
