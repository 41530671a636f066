"""Checkpoint folders: config.json and weights."""

from __future__ import annotations

import copy
import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from fuzz_parts.mutations import as_json, changed_bytes, changed_tree
from fuzz_parts.reader import Reader, all_finite, possible, same, staying_in

from bench.models import checkpoint
from bench.models.config import CONFIG, read_config

SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
         "max_position_embeddings", "type_vocab_size", "embedding_size", "true_hidden_size", "intra_bottleneck_size",
         "num_feedforward_networks", "dim", "n_layers", "n_heads", "hidden_dim")  # fmt: skip
SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "seq_classif_dropout")
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1}


def _configs() -> list[dict[str, Any]]:
    names = {"id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1}}
    made = [
        transformers.BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                                intermediate_size=12, max_position_embeddings=16, pad_token_id=0),
        transformers.DistilBertConfig(vocab_size=30, dim=8, n_layers=2, n_heads=2, hidden_dim=12),
        transformers.MobileBertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                                      embedding_size=4, intra_bottleneck_size=4),
        transformers.RobertaConfig(vocab_size=30, hidden_size=8, num_hidden_layers=2, num_attention_heads=2),
    ]  # fmt: skip
    kinds = ("Bert", "DistilBert", "MobileBert", "Roberta")
    return [config.to_dict() | names | {"architectures": [f"{kind}ForSequenceClassification"]}
            for config, kind in zip(made, kinds, strict=True)]  # fmt: skip


class Configs(Reader):
    """`config.json` of a checkpoint."""

    name, inputs = "config", 25_000

    def __init__(self, folder: Path):
        super().__init__(folder)
        transformers.utils.logging.set_verbosity_error()
        self.seeds = _configs()
        for seed in self.seeds:
            (folder / CONFIG).write_bytes(as_json(seed))
            read_config(folder)

    def one(self, chance: random.Random) -> None:
        seed = chance.choice(self.seeds)
        if chance.random() < 0.2:
            self.last = changed_bytes(as_json(seed), chance)
        else:
            self.last = as_json(changed_tree(copy.deepcopy(seed), chance))
        (self.folder / CONFIG).write_bytes(self.last)
        with staying_in(self.folder, self.folder.parent):
            config = read_config(self.folder)
        found = config.to_dict()
        for field in SIZES:
            value = found.get(field, 1)
            least = 0 if field == "type_vocab_size" else 1
            possible(type(value) is int and least <= value <= 10**8, f"a size {field}", value)
        for field in SHARES:
            value = found.get(field, 0.0)
            possible(type(value) in (int, float) and 0 <= value < 1, f"a share {field}", value)
        epsilon = found.get("layer_norm_eps", 1e-12)
        possible(isinstance(epsilon, float) and 0 < epsilon < 1, "a small number", epsilon)
        possible(all_finite(found), "a number", "NaN or infinite")
        possible(not found.get("auto_map") and not found.get("quantization_config"), "code or packed weights", found)
        labels = found.get("id2label") or {}
        possible(sorted(map(int, labels)) == list(range(len(labels))), "labels", labels)
        (self.folder / CONFIG).write_text(json.dumps(found))
        same(read_config(self.folder).to_dict(), found, "the config")


class Weights(Reader):
    """`model.safetensors`, shards, and the index that names them."""

    name, inputs = "safetensors", 20_000

    def __init__(self, folder: Path):
        super().__init__(folder)
        draw = np.random.default_rng(0)
        self.tensors = {"bert.embeddings.word_embeddings.weight": draw.normal(size=(30, 4)).astype("<f4"),
                        "bert.pooler.dense.bias": draw.normal(size=4).astype("<f4"),
                        "classifier.weight": draw.normal(size=(2, 4)).astype("<f4"),
                        "bert.embeddings.position_ids": np.arange(6)}  # fmt: skip
        self.outside = folder.parent / "outside.safetensors"
        self.outside.write_bytes(_framed(*self._parts(list(self.tensors))))
        self._write(_framed(*self._parts(list(self.tensors))), None)
        self._read()

    def one(self, chance: random.Random) -> None:
        names = list(self.tensors)
        header, data = self._parts(names)
        how = chance.randrange(10)
        index: Any = None
        if how < 4:
            raw = _framed(changed_tree(header, chance), data)
        elif how < 6:
            raw = changed_bytes(_framed(header, data), chance)
        elif how < 7:
            raw = _framed(header, changed_bytes(data, chance))
        else:
            raw = _framed(header, data)
            index = changed_tree({"metadata": {}, "weight_map": dict.fromkeys(names, checkpoint.WEIGHTS)}, chance)
            index = changed_bytes(as_json(index), chance) if chance.random() < 0.2 else as_json(index)
        self.last = (raw, index)
        self._write(raw, index)
        with staying_in(self.folder, self.folder.parent):
            found = self._read()
        for name, tensor in found.items():
            possible(bool(torch.isfinite(tensor).all()), f"a weight {name}", tensor)
            possible(tensor.is_floating_point() or name.endswith("position_ids"), "a type", tensor.dtype)
        again = {name: tensor.to(torch.float32).numpy() for name, tensor in found.items()}
        self.tensors, kept = again, self.tensors
        try:
            self._write(_framed(*self._parts(list(again))), None)
            back = {name: tensor.to(torch.float32).numpy() for name, tensor in self._read(30).items()}
        finally:
            self.tensors = kept
        possible(all(np.array_equal(back[name], again[name]) for name in again) and back.keys() == again.keys(),
                 "other weights", sorted(back))  # fmt: skip
        _as_written(raw, found)

    def _parts(self, names: list[str]) -> tuple[dict[str, Any], bytes]:
        header, data = {}, b""
        for name in names:
            raw, start = self.tensors[name].tobytes(), len(data)
            data += raw
            kind = "I64" if self.tensors[name].dtype.kind == "i" else "F32"
            header[name] = {"dtype": kind, "shape": list(self.tensors[name].shape), "data_offsets": [start, len(data)]}
        return header, data

    def _write(self, raw: bytes, index: bytes | None) -> None:
        (self.folder / checkpoint.WEIGHTS).write_bytes(raw)
        (self.folder / checkpoint.INDEX).unlink(missing_ok=True)
        if index is not None:
            (self.folder / checkpoint.INDEX).write_bytes(index)

    def _read(self, vocabulary: int = 30) -> dict[str, torch.Tensor]:
        weights = checkpoint.read_weights(self.folder)
        checkpoint._check_values(weights, vocabulary)
        return {name: tensor.clone() for name, tensor in weights.read(weights.tensors)}


def _framed(header: Any, data: bytes) -> bytes:
    text = as_json(header)
    return struct.pack("<Q", len(text)) + text + data


def _as_written(raw: bytes, found: dict[str, torch.Tensor]) -> None:
    """Every tensor holds the bytes that its header says, and there are no others."""
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    possible(header.keys() == found.keys(), "other tensors", sorted(found))
    for name, one in header.items():
        start, end = one["data_offsets"]
        possible(end - start == math.prod(one["shape"]) * BYTES.get(one["dtype"], 0), "a size", one)
        held = found[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if found[name].numel() else b""
        possible(held == raw[8 + size + start : 8 + size + end], "other bytes", name)
