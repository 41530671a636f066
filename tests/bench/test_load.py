"""Checkpoints: what is refused and in which words, and what is kept to the bit."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from bench.core.errors import ModelError
from bench.models import load

VOCABULARY = 60
TINY = {"vocab_size": VOCABULARY, "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 24}  # fmt: skip
TINY_DISTIL = {"vocab_size": VOCABULARY, "n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32,
               "max_position_embeddings": 24}  # fmt: skip


def small_tokenizer(words: int = VOCABULARY) -> PreTrainedTokenizerFast:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(words - 5))]
    raw = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")


def make(model_class: Callable[..., PreTrainedModel], **fields: Any) -> PreTrainedModel:
    """A tiny model with weights that no two tensors share."""
    torch.manual_seed(0)
    name = getattr(model_class, "__name__", "")
    config = DistilBertConfig(**TINY_DISTIL, **fields) if "Distil" in name else BertConfig(**TINY, **fields)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5)
    return model.eval()


def ids() -> Tensor:
    return torch.arange(5, 5 + 16).view(2, 8)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "bert"
    load.save(make(BertForMaskedLM), folder, small_tokenizer())
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A good checkpoint that a test may spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "teacher"))


def refused(call: Callable[[], object], *fragments: str) -> None:
    """The call raises a ModelError of one line that holds every fragment."""
    with pytest.raises(ModelError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    lacking = [fragment for fragment in fragments if fragment not in message]
    assert fragments and not lacking, f"{lacking} not in: {message}"


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / load.WEIGHTS
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# What is refused


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    truncate(folder / "config.json")


def unknown_model(folder: Path) -> None:
    edit_config(folder, model_type="nonsense")


def only_pickles(folder: Path) -> None:
    (folder / load.WEIGHTS).rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / load.WEIGHTS).unlink()


def truncated_weights(folder: Path) -> None:
    truncate(folder / load.WEIGHTS)


def not_weights(folder: Path) -> None:
    (folder / load.WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1")


def nan_weights(folder: Path) -> None:
    edit_weights(folder, lambda t: t["bert.encoder.layer.1.output.dense.bias"][3].fill_(float("nan")))


def infinite_weights(folder: Path) -> None:
    edit_weights(folder, lambda t: t["cls.predictions.bias"][0].fill_(float("-inf")))


def short_embedding(folder: Path) -> None:
    name = "bert.embeddings.word_embeddings.weight"
    edit_weights(folder, lambda t: t.update({name: t[name][:-3].clone()}))


def large_tokenizer(folder: Path) -> None:
    small_tokenizer(VOCABULARY + 2).save_pretrained(folder)


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def broken_tokenizer(folder: Path) -> None:
    truncate(folder / "tokenizer.json")


def foreign_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')


def index(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / load.INDEX).write_text(text)

    return write


BAD: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "no config": (no_config, ("no config", "teacher", "expected config.json", "next:")),
    "broken config": (broken_config, ("config.json", "found", "expected", "next:")),
    "unknown model": (unknown_model, ("config.json", "found", "nonsense", "next:")),
    "only pickles": (only_pickles, ("found only pickled weights pytorch_model.bin", "expected model.safetensors",
                                    "next: convert")),
    "no weights": (no_weights, ("found no weight file", "expected model.safetensors", "next:")),
    "truncated weights": (truncated_weights, ("model.safetensors", "found SafetensorError", "expected a whole",
                                              "next: copy")),
    "not weights": (not_weights, ("model.safetensors", "found SafetensorError", "next: copy")),
    "nan": (nan_weights, ("model.safetensors: bert.encoder.layer.1.output.dense.bias", "found NaN", "next:")),
    "infinity": (infinite_weights, ("model.safetensors: cls.predictions.bias", "infinity", "next:")),
    "short embedding": (short_embedding, ("word_embeddings.weight", "found 57 rows", "expected vocab_size 60",
                                          "next:")),
    "large tokenizer": (large_tokenizer, ("found 62 tokens", "expected at most vocab_size 60", "next:")),
    "no tokenizer": (no_tokenizer, ("no tokenizer", "expected tokenizer.json", "next:")),
    "broken tokenizer": (broken_tokenizer, ("tokenizer cannot be read", "found", "expected", "next:")),
    "foreign tokenizer": (foreign_tokenizer, ("tokenizer cannot be read", "found", "expected", "next:")),
    "index outside": (index('{"weight_map": {"a": "../other.safetensors"}}'),
                      (load.INDEX, "outside", "found ../other.safetensors", "expected", "next:")),
    "index absolute": (index('{"weight_map": {"a": "/etc/other.safetensors"}}'), ("found /etc/other", "next:")),
    "index of nothing": (index('{"weight_map": {"a": "absent.safetensors"}}'), ("expected absent.safetensors",)),
    "broken index": (index('{"weight_map'), (load.INDEX, "found JSONDecodeError", "expected", "next:")),
    "empty index": (index("{}"), (load.INDEX, "found KeyError", "expected", "next:")),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_in_one_line(folder: Path, case: str) -> None:
    spoil, fragments = BAD[case]
    spoil(folder)
    refused(lambda: load.check(folder), folder.name, *fragments)


def test_nothing_is_written_into_a_folder_that_is_checked(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    load.check(folder)
    assert len(before) == 4 and {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_tokenizer_may_be_smaller_than_the_vocabulary(folder: Path) -> None:
    small_tokenizer(VOCABULARY - 4).save_pretrained(folder)
    assert load.check(folder).config.vocab_size == VOCABULARY


def test_find_takes_a_folder_as_it_is(folder: Path) -> None:
    assert load.find(str(folder)) == folder


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "../none", "~/no-such-folder", "a/b/c"])
def test_find_says_that_a_folder_is_missing(name: str) -> None:
    refused(lambda: load.find(name), "does not exist", name, "next: give an existing folder")


def test_a_hub_id_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **options: object) -> str:
        raise LocalEntryNotFoundError("not here\nand no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    refused(lambda: load.find("someone/some-bert"), "someone/some-bert", "no copy in the cache",
            "next: connect once", "or give a folder")  # fmt: skip


def test_a_hub_id_in_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(lambda: load.find("no-such-user-4711/no-such-model"), "no-such-user-4711/no-such-model", "next: connect")


@pytest.mark.parametrize("name", ["not a hub id", "a--b/..c"])
def test_an_impossible_hub_id(name: str) -> None:
    refused(lambda: load.find(name), name, "next:")


def test_the_hub_is_asked_for_one_revision_and_never_for_pickles(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load.find("someone/some-bert", "abc123") == folder
    assert (asked["name"], asked["revision"]) == ("someone/some-bert", "abc123")

    def fetched(file: str) -> bool:
        return any(fnmatch.fnmatch(file, pattern) for pattern in asked["patterns"])

    unsafe = ["pytorch_model.bin", "model.pt", "tf_model.h5", "flax_model.msgpack", "modeling_own.py", *load.PICKLES]
    assert len(unsafe) == 9 and not [file for file in unsafe if fetched(file)]
    needed = ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt", load.INDEX,
              "model-00001-of-00002.safetensors"]  # fmt: skip
    assert all(map(fetched, needed))


@pytest.mark.parametrize("name", ["", "NoSuchModel", "AutoModel", "nn", "BertConfig"])
def test_an_unknown_architecture(name: str) -> None:
    refused(lambda: load.architecture(name), "architecture is not known", name, "next:")


def test_a_papers_own_class_is_found_by_name_and_a_second_one_of_that_name_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "_OWN", {})
    own = type("OwnBert", (BertModel,), {"__module__": "papers.one"})
    assert load.register(own) is own and load.register(own) is own
    assert load.architecture("OwnBert") is own
    other = type("OwnBert", (BertModel,), {"__module__": "papers.two"})
    refused(lambda: load.register(other), "OwnBert", "next: rename")


# Loading


def test_an_encoder_with_missing_layers_is_refused_not_made_up(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=4)
    refused(lambda: load.load(folder, BertForMaskedLM), "teacher", "found 2 layers missing",
            "expected num_hidden_layers 4", "of the 2 layers", "next:")  # fmt: skip


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit_config(folder, intermediate_size=48)
    refused(lambda: load.load(folder, BertForMaskedLM), "teacher",
            "found 0 tensors missing, 0 left over and 6 of another shape: bert.encoder.layer.0.intermediate.dense",
            "next:")  # fmt: skip


def test_a_pooler_may_be_new_a_head_may_not_and_all_else_is_loaded(folder: Path) -> None:
    encoder = load.load(folder, BertModel)
    stored = load_file(folder / load.WEIGHTS)
    seen = 0
    for name, tensor in encoder.state_dict().items():
        if not name.startswith("pooler."):
            assert torch.equal(tensor, stored[f"bert.{name}"])
            seen += 1
    assert seen == 5 + 2 * 16
    refused(lambda: load.load(folder, BertForSequenceClassification), "found 4 tensors missing", "bert.pooler.dense",
            "expected every tensor of BertForSequenceClassification and no other")  # fmt: skip


HEADS: dict[str, tuple[type[PreTrainedModel], bool]] = {
    "bert with a masked-LM head": (BertForMaskedLM, True),
    "bert with both pre-training heads": (BertForPreTraining, True),
    "distilbert with a masked-LM head": (DistilBertForMaskedLM, True),
    "bert": (BertModel, False),
    "bert classifier": (BertForSequenceClassification, False),
    "bert that answers with spans": (BertForQuestionAnswering, False),
}


@pytest.mark.parametrize("case", HEADS)
def test_a_saved_model_comes_back_to_the_bit(case: str, tmp_path: Path) -> None:
    model_class, has_head = HEADS[case]
    model = make(model_class)
    load.save(model, tmp_path / "saved", small_tokenizer())
    checkpoint = load.check(tmp_path / "saved")
    assert checkpoint.has_lm_head is has_head and checkpoint.architecture == model_class.__name__
    wanted = {BertForSequenceClassification: ("label", "score"), BertForQuestionAnswering: ("span",)}
    assert checkpoint.kinds == wanted.get(model_class, ())
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    back = load.load_saved(tmp_path / "saved").eval()
    assert type(back) is model_class
    before, after = model.state_dict(), back.state_dict()
    assert before.keys() == after.keys() and len(before) > 30
    assert not [name for name in before if not torch.equal(before[name], after[name])]
    with torch.inference_mode():
        assert torch.equal(model(ids())[0], back(ids())[0])
    tied = back.get_output_embeddings()
    assert (tied is not None) == has_head
    if tied is not None:
        assert tied.weight is back.get_input_embeddings().weight, "loading unties the vocabulary"
        assert sum(p.numel() for p in back.parameters()) == sum(p.numel() for p in model.parameters())


def test_a_checkpoint_in_shards(tmp_path: Path) -> None:
    model = make(BertForMaskedLM)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    small_tokenizer().save_pretrained(tmp_path)
    files = load.weight_files(tmp_path)
    assert len(files) > 1 and not (tmp_path / load.WEIGHTS).exists()
    assert load.check(tmp_path).has_lm_head
    back = load.load_saved(tmp_path).state_dict()
    assert all(torch.equal(tensor, back[name]) for name, tensor in model.state_dict().items())
    edit = load_file(files[-1])
    next(iter(edit.values())).view(-1)[0] = float("nan")
    save_file(edit, files[-1], metadata={"format": "pt"})
    refused(lambda: load.check(tmp_path), files[-1].name, "found NaN")


def test_half_precision_weights_are_loaded_in_full_precision(tmp_path: Path) -> None:
    load.save(make(BertModel).half(), tmp_path / "half", small_tokenizer())
    load.check(tmp_path / "half")
    assert {p.dtype for p in load.load_saved(tmp_path / "half").parameters()} == {torch.float32}


def test_save_refuses_what_has_no_config(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=re.escape("cannot save a Linear")):
        load.save(nn.Linear(2, 2), tmp_path / "linear")
