"""Which files and tensors of a checkpoint folder count: what is checked is what is hashed and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_load import TINY, edit_config, edit_weights, make, refused, small_tokenizer
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel

from bench.models import load
from bench.models.config import read_config
from bench.run.inputs import checkpoint_identity

SHAPE: dict[str, Any] = dict(TINY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    load.save(make(BertForMaskedLM), tmp_path / "teacher", small_tokenizer())
    return tmp_path / "teacher"


def sharded(folder: Path) -> list[Path]:
    make(BertForMaskedLM).save_pretrained(folder, max_shard_size="10KB")
    (folder / load.WEIGHTS).unlink(missing_ok=True)
    return load.weight_files(folder)


# Files


def test_the_files_that_are_hashed_are_those_that_are_loaded(folder: Path) -> None:
    shards = sharded(folder)
    checkpoint_identity.cache_clear()
    before, name = checkpoint_identity(folder), "bert.encoder.layer.1.output.dense.bias"
    assert len(shards) > 1
    shard = next(file for file in shards if name in load_file(file))
    save_file(load_file(shard) | {name: torch.full((16,), 7.0)}, shard, metadata={"format": "pt"})
    checkpoint_identity.cache_clear()
    assert checkpoint_identity(folder) != before
    assert load.load(load.check(folder), BertForMaskedLM).state_dict()[name].tolist() == [7.0] * 16


@pytest.mark.parametrize("stray", ["model-00001-of-00002.safetensors", "adapter_model.safetensors"])
def test_other_weights_beside_the_single_file_are_refused(folder: Path, stray: str) -> None:
    save_file({"a": torch.ones(1)}, folder / stray)
    refused(lambda: load.check(folder), "more weights than one model's", stray, f"beside {load.WEIGHTS}", "next:")


def test_shards_that_are_not_what_the_index_says_are_refused(folder: Path) -> None:
    first, *_ = sharded(folder)
    index = json.loads((folder / load.INDEX).read_text())
    name = next(iter(load_file(first)))

    def told(change: dict[str, str], *gone: str) -> None:
        mapped = {k: v for k, v in (index["weight_map"] | change).items() if k not in gone}
        (folder / load.INDEX).write_text(json.dumps({"weight_map": mapped}))

    told({"bert.more": first.name})
    refused(lambda: load.check(folder), "not what the index says", "bert.more", "found no such tensor")
    told({}, name)
    refused(lambda: load.check(folder), "not what the index says", name, "expected no such tensor")
    told({name: index["weight_map"]["cls.predictions.bias"]})
    refused(lambda: load.check(folder), "not what the index says", name, f"found {first.name}")


@pytest.mark.parametrize("name", ["config.json", load.WEIGHTS, load.INDEX, "tokenizer.json", "added_tokens.json"])
def test_a_link_that_leads_nowhere_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../../blobs/0123")
    refused(lambda: load.check(folder), "the link is broken", name, "../../blobs/0123", "next:")


def test_a_folder_that_is_a_broken_link_or_a_file_is_told(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to("gone")
    refused(lambda: load.find(str(link)), "the link is broken", "gone", "next:")
    refused(lambda: load.find(str(folder / load.WEIGHTS)), "is a file", f"next: give {folder}")
    refused(lambda: load.find("~nobody-of-that-name/bert"), "cannot be read", "next:")


def test_weights_exchanged_after_the_check_are_noticed(folder: Path) -> None:
    checkpoint = load.check(folder)
    edit_weights(folder, lambda t: t.update({"cls.predictions.bias": torch.ones(61)[:60].clone()}))
    (folder / load.WEIGHTS).touch()
    refused(lambda: load.load(checkpoint, BertForMaskedLM), "was changed", str(folder), "next:")


# Tensors


def change(name: str, tensor: Tensor | None) -> Callable[[dict[str, Tensor]], object]:
    return lambda t: t.pop(name) if tensor is None else t.update({name: tensor})


LAYER = "bert.encoder.layer.1.attention.self"
TENSORS: dict[str, tuple[Callable[[dict[str, Tensor]], object], tuple[str, ...]]] = {
    "left over": (change(f"{LAYER}.distance_embedding.weight", torch.ones(3, 8)),
                  ("1 left over", "distance_embedding")),
    "a layer more": (change("bert.encoder.layer.2.output.dense.bias", torch.ones(16)),
                     ("1 layers left over, from bert.encoder.layer.2", "num_hidden_layers 2")),
    "missing": (change(f"{LAYER}.key.bias", None), ("1 tensors missing", f"{LAYER}.key.bias")),
    "half a head": (change("cls.predictions.transform.dense.bias", None), ("1 tensors missing", "transform")),
    "a task's head": (change("classifier.weight", torch.ones(2, 16)), ("1 left over", "classifier.weight",
                                                                    "next: name the class")),
    "reshaped": (change(f"{LAYER}.key.bias", torch.ones(4, 4)), ("1 of another shape", f"{LAYER}.key.bias")),
    "twice": (change("embeddings.LayerNorm.gamma", torch.ones(16)), ("there twice", "embeddings.LayerNorm.gamma")),
    "untied": (change("cls.predictions.decoder.weight", torch.ones(60, 16)), ("differ", "tie_word_embeddings")),
    "positions": (change("bert.embeddings.position_embeddings.weight", torch.ones(9, 16)), ("9 rows", "24")),
    "wrapped": (lambda t: [t.update({f"module.{name}": t.pop(name)}) for name in list(t)],
                ("left over", "begin with module.")),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_not_all_of_the_model_and_no_more_are_refused(folder: Path, case: str) -> None:
    spoil, fragments = TENSORS[case]
    edit_weights(folder, spoil)
    checkpoint = load.check(folder)
    refused(lambda: load.check_places(checkpoint, BertForMaskedLM), "next:", *fragments)
    refused(lambda: load.load(checkpoint, BertForMaskedLM), *fragments)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_in_few_bits_are_refused(folder: Path, dtype: torch.dtype) -> None:
    edit_weights(folder, lambda t: t.update({f"{LAYER}.key.weight": t[f"{LAYER}.key.weight"].to(dtype)}))
    refused(lambda: load.check(folder), "quantised", f"{LAYER}.key.weight", "floating point")


def test_names_of_the_first_berts_and_their_buffers_are_known(folder: Path) -> None:
    whole = {name: tensor.clone() for name, tensor in load.load(folder, BertForMaskedLM).state_dict().items()}

    def old(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            if "LayerNorm" in name:
                tensors[name.replace(".weight", ".gamma").replace(".bias", ".beta")] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(24)[None]
        tensors["cls.seq_relationship.bias"] = torch.ones(2)

    edit_weights(folder, old)
    back = load.load(load.check(folder), BertForMaskedLM).state_dict()
    assert len(whole) > 40 and all(torch.equal(tensor, back[name]) for name, tensor in whole.items())


def test_part_of_a_pooler_is_refused_and_none_is_new(tmp_path: Path) -> None:
    load.save(make(BertForPreTraining), tmp_path / "both", small_tokenizer())
    edit_weights(tmp_path / "both", change("bert.pooler.dense.bias", None))
    refused(lambda: load.load(tmp_path / "both", BertModel), "1 tensors missing", "pooler.dense.bias")
    edit_weights(tmp_path / "both", change("bert.pooler.dense.weight", None))
    assert isinstance(load.load(tmp_path / "both", BertModel), BertModel)


def test_a_special_token_that_no_vocabulary_lists_is_refused(folder: Path) -> None:
    """transformers would give it an id behind the others, whose row was never trained."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(50))]))
    refused(lambda: load.check(folder), "vocab.txt", "found no [MASK]", "next:")


# Config

WRONG: dict[str, Any] = {
    "vocab_size": "60", "hidden_size": 16.0, "num_attention_heads": 3, "num_hidden_layers": True,
    "intermediate_size": None, "max_position_embeddings": -1, "type_vocab_size": 10**12, "hidden_act": "gelou",
    "hidden_dropout_prob": 1.5, "attention_probs_dropout_prob": "0.1", "layer_norm_eps": 0.0,
    "initializer_range": float("nan"), "pad_token_id": 60, "is_decoder": True, "pruned_heads": {"0": [1]},
    "tie_word_embeddings": "no", "architectures": "BertModel", "num_labels": 0, "id2label": {"0": "a", "1": "a"},
    "label2id": {"LABEL_0": 1, "LABEL_1": 0}, "model_type": None, "auto_map": {"AutoModel": "own.Own"},
    "chunk_size_feed_forward": 4, "position_embedding_type": "relative_key_query",
    "compression_config": {"format": "int-quantized"},
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_a_field_that_is_wrong_is_named(folder: Path, field: str) -> None:
    names = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}} if field == "label2id" else {}
    edit_config(folder, **names)
    edit_config(folder, **{field: WRONG[field]})
    refused(lambda: load.check(folder), "config.json", field, "next:")


def test_a_number_of_heads_that_is_not_told_and_a_config_that_is_a_list_are_refused(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["num_attention_heads"]
    path.write_text(json.dumps(content))
    refused(lambda: load.check(folder), "num_attention_heads", "the weights do not tell")
    path.write_text("[]")
    refused(lambda: load.check(folder), "config.json", "found 'list'")


def test_how_outputs_are_packed_is_no_part_of_a_model(folder: Path) -> None:
    edit_config(folder, return_dict=False, output_hidden_states=True)
    config = read_config(folder)
    assert config.return_dict and not config.output_hidden_states


def test_labels_are_matched_by_name_whatever_their_order() -> None:
    config = BertConfig(**SHAPE, id2label={0: "Positive", 1: "negative"}, label2id={"Positive": 0, "negative": 1})
    assert load.label_order(config, ("negative", "positive")) == [1, 0]
    assert load.label_order(config, ("Positive", "negative")) is None
    model = make(BertForSequenceClassification)
    assert load.realign(model, ("negative", "positive")) is model
