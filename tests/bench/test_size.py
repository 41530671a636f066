"""Size: parameter counts worked out from the papers' tables, and the bytes that count as weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertModel,
)

from bench.core.errors import ModelError
from bench.core.files import file_sha256
from bench.models.size import folder_bytes, parameters, parameters_without_embeddings

WORDS, POSITIONS, TYPES, H = 30522, 512, 2, 768
BERT_TABLES = (WORDS + POSITIONS + TYPES) * H
DISTILBERT_TABLES = (WORDS + POSITIONS) * H


def test_the_tables_of_bert_by_hand() -> None:
    assert BERT_TABLES == 23_835_648


@pytest.mark.parametrize(
    ("model_class", "config", "total", "tables"),
    [
        (BertModel, BertConfig(), 109_482_240, BERT_TABLES),
        (BertForSequenceClassification, BertConfig(), 109_483_778, BERT_TABLES),
        (BertForMaskedLM, BertConfig(), 109_514_298, BERT_TABLES),
        (DistilBertModel, DistilBertConfig(), 66_362_880, DISTILBERT_TABLES),
        (DistilBertForSequenceClassification, DistilBertConfig(), 66_955_010, DISTILBERT_TABLES),
        (DistilBertForMaskedLM, DistilBertConfig(), 66_985_530, DISTILBERT_TABLES),
    ],
)
def test_published_parameter_counts(
    model_class: type[nn.Module], config: BertConfig | DistilBertConfig, total: int, tables: int
) -> None:
    with torch.device("meta"):
        model = model_class(config)
    if hasattr(model, "tie_weights"):
        model.tie_weights()  # pyright: ignore[reportCallIssue]
    assert parameters(model) == total
    assert parameters_without_embeddings(model) == total - tables


def test_one_layer_by_hand_and_frozen_parameters_count() -> None:
    with torch.device("meta"):
        model = BertModel(BertConfig(num_hidden_layers=1)).requires_grad_(False)
    layer, pooler, norm = 7_087_872, 590_592, 1_536
    assert parameters_without_embeddings(model) == layer + pooler + norm


def test_a_tied_table_counts_once_and_buffers_do_not() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(10, 4), "out": nn.Linear(4, 10), "norm": nn.BatchNorm1d(4)})
    model["out"].weight = model["table"].weight
    assert parameters(model) == 40 + 10 + 8
    assert parameters_without_embeddings(model) == 10 + 8


def test_only_weight_files_count(tmp_path: Path) -> None:
    sizes = {"model-00001.safetensors": 100, "model-00002.safetensors": 20, "model.onnx": 3, "model.onnx.data": 4}
    others = ["config.json", "tokenizer.json", "vocab.txt", "pytorch_model.bin", "model.safetensors.index.json"]
    for name, size in {**sizes, **dict.fromkeys(others, 1000)}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "checkpoint.safetensors").mkdir()
    assert folder_bytes(tmp_path) == 127


def test_a_folder_without_weights_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no weights"):
        folder_bytes(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        folder_bytes(tmp_path / "nowhere")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert file_sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file.write_bytes(b"\0" * 3_000_000)
    assert file_sha256(file) == hashlib.sha256(b"\0" * 3_000_000).hexdigest()
