"""Checkpoint folders: one reading decides which files count; they are checked, hashed and loaded, and no others.

Safetensors only, nothing unpickled, no remote code, and every doubt is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from bench.core import hub
from bench.core.errors import ModelError
from bench.models.config import CONFIG, present, read_config

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.pt", "model.pt", "model.bin")
TOKENIZER = (
    "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",
)  # fmt: skip
"""The files that a tokenizer is read from; one of the first two must be there."""
FLOATS = ("F16", "BF16", "F32", "F64")
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Whole numbers that older versions of transformers saved beside the weights; they are made anew."""

HEADS: Mapping[str, tuple[str, ...]] = {
    "ForSequenceClassification": ("label", "score"), "ForQuestionAnswering": ("span",),
    "ForTokenClassification": ("tags",),
}  # fmt: skip
"""How an architecture's name ends -> the kinds of task that it is for."""


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds of task that an architecture of this name answers; none of an encoder, or of another name."""
    return next((kinds for head, kinds in HEADS.items() if name.endswith(head)), ())


class Stored(NamedTuple):
    """Where a tensor lies, and what it is, as the file's header says."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a folder: the files that count, and every tensor in them by name."""

    folder: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, Stored]
    stamps: tuple[tuple[int, int], ...]
    """Size and time of change of each file, to notice that one was exchanged"""

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The tensors of these names, file by file. Raises ModelError for a file that cannot be read."""
        wanted = set(names)
        for file in self.files:
            with _opened(file) as tensors:
                for name in sorted(name for name in wanted if self.tensors[name].file == file):
                    yield name, tensors.get_tensor(name)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A folder on this disk that was checked: its config, its architecture and its weights."""

    folder: Path
    config: PreTrainedConfig
    architecture: str
    checked: Weights | None = None

    @property
    def weights(self) -> Weights:
        """The weights that were checked. Raises ModelError where the files were exchanged since then."""
        found = read_weights(self.folder)
        if self.checked is not None and (found.files, found.stamps) != (self.checked.files, self.checked.stamps):
            raise ModelError("the checkpoint was changed while it was in use", where=self.folder,
                             expected="the files that were checked", fix="start the command again")  # fmt: skip
        return found

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of task that it is fine-tuned for, by its architecture; none of an encoder."""
        return kinds_of(self.architecture)

    @property
    def has_lm_head(self) -> bool:
        """Whether the weights hold a masked-LM head, or a part of one."""
        names = (self.checked or read_weights(self.folder)).tensors
        heads = ("cls.predictions.", "vocab_projector.", "vocab_transform.", "lm_head.")
        return any(name.startswith(heads) for name in names)


def find(name: str, revision: str | None = None) -> Path:
    """The local folder of a checkpoint, given a folder or a hub id; the hub's files are fetched at a revision.

    Raises ModelError when neither the folder exists nor the hub can be reached.
    """
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
        gone = os.readlink(folder) if folder.is_symlink() else ""
        is_file = folder.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError("the checkpoint folder cannot be read", where=name, found=f"{type(error).__name__}: {error}",
                         fix="give an existing folder or a hub id") from error  # fmt: skip
    if gone:
        raise ModelError("the link is broken", where=name, found=f"a link to {gone}, which is gone",
                         expected="a checkpoint folder", fix="give the folder itself")  # fmt: skip
    if is_file:
        raise ModelError("the checkpoint is a file", where=name, expected="the folder that holds it",
                         fix=f"give {folder.parent}")  # fmt: skip
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError("the checkpoint folder does not exist", where=name, fix="give an existing folder or a hub id")
    return _fetched(name, revision)


def _fetched(name: str, revision: str | None) -> Path:
    """The folder of the hub's cache that holds a checkpoint. Raises ModelError where the hub does not give it."""
    from huggingface_hub import snapshot_download

    # Of a repository that also holds weights in other precisions or parts, the plain ones alone.
    files = [CONFIG, WEIGHTS, INDEX, "model-*-of-*.safetensors", "tokenizer*", "vocab.txt", "special_tokens*",
             "added_tokens.json"]  # fmt: skip
    try:
        folder = Path(hub.patiently(lambda: snapshot_download(name, revision=revision, allow_patterns=files)))
    except Exception as error:  # the hub's client raises its own classes, and those of the libraries under it
        told = hub.trouble(error, name, revision or "")
        at = f" --revision {revision}" if revision and not told.moved else ""
        instead = f"give a folder in its place (hf download {name}{at} --local-dir FOLDER)"
        raise ModelError(
            "the checkpoint is no folder here, and the hub has not given it",
            where=f"{name}@{revision[:8]}" if revision else name, found=told.found,
            fix=f"{told.fix}; or {instead}" if told.fix else instead,
        ) from error  # fmt: skip
    _refuse_pickles(name, revision, folder)
    return folder


def _refuse_pickles(name: str, revision: str | None, folder: Path) -> None:
    """Raises ModelError for a repository with nothing but pickled weights, none of which was fetched."""
    if any(folder.glob("*.safetensors")):
        return
    from huggingface_hub import HfApi

    try:
        there = HfApi().list_repo_files(name, revision=revision)
    except Exception:  # offline: what is missing is said by whoever reads the folder
        return
    pickled = [file for file in there if file in PICKLES]
    if pickled:
        raise ModelError("the checkpoint has no safetensors weights", where=name, expected=WEIGHTS,
                         found=f"only pickled weights {', '.join(pickled)}, which are never opened",
                         fix="convert it where it is trusted (from_pretrained, then save_pretrained), and give that "
                             "folder")  # fmt: skip


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder: the shards that an index names, else the single file.

    Raises ModelError for pickles or nothing, and where the folder holds other weights beside them: which of them is
    meant is not guessed.
    """
    shards = sorted(set(_shard_map(folder).values()))
    names = shards or [WEIGHTS]
    missing = [name for name in names if present(folder, name) is None]
    if missing:
        pickled = [name for name in PICKLES if (folder / name).exists()]
        raise ModelError(
            "the checkpoint has no safetensors weights", where=folder,
            found=f"only pickled weights {', '.join(pickled)}, which are never opened" if pickled else "no weight file",
            expected=", ".join(missing), fix="convert the checkpoint to safetensors where it was made",
        )  # fmt: skip
    others = sorted(file.name for file in folder.glob("*.safetensors") if file.name not in names)
    if others:
        raise ModelError("the folder holds more weights than one model's", where=folder,
                         found=f"{', '.join(others[:3])} beside {INDEX if shards else WEIGHTS}",
                         expected="one set of weights", fix="move the one that is not meant out of it")  # fmt: skip
    return [folder / name for name in names]


def packed_files(folder: Path) -> list[Path]:
    """The files of a folder that a paper's packing wrote."""
    return sorted(folder.glob("*.safetensors"))


def _shard_map(folder: Path) -> Mapping[str, str]:
    """Name of a tensor -> the shard that holds it, as the index says; empty without an index."""
    path = present(folder, INDEX)
    if path is None:
        return {}
    try:
        found = {str(name): str(shard) for name, shard in json.loads(path.read_text())["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError("the weight index cannot be read", where=path, found=type(error).__name__,
                         expected="a weight_map", fix="copy the file again") from error  # fmt: skip
    if not found:
        raise ModelError("the weight index is empty", where=path, expected="a weight_map of tensors",
                         fix="copy the file again")  # fmt: skip
    for shard in found.values():
        if Path(shard).name != shard or "\0" in shard:
            raise ModelError("the weight index names a file outside its folder", where=path, found=shard,
                             expected="names of files beside it", fix="check the folder")  # fmt: skip
    return found


def read_weights(folder: Path) -> Weights:
    """The one reading of a folder's weights: which files count, and which tensors they hold.

    Raises ModelError as `weight_files`, for a file that cannot be read, and where the files are not what the index
    says.
    """
    files = weight_files(folder)
    mapped = _shard_map(folder)
    tensors: dict[str, Stored] = {}
    for file in files:
        with _opened(file) as stored:
            for name in stored.keys():  # noqa: SIM118
                if mapped and mapped.get(name) != file.name:
                    raise ModelError("the shards are not what the index says", where=f"{file}: {name}", found=file.name,
                                     expected=mapped.get(name, f"no such tensor in {INDEX}"),
                                     fix="copy the whole checkpoint again")  # fmt: skip
                part = stored.get_slice(name)
                tensors[name] = Stored(file, tuple(part.get_shape()), str(part.get_dtype()))
    lost = sorted(mapped.keys() - tensors.keys())
    if lost:
        raise ModelError("the shards are not what the index says", where=f"{folder / mapped[lost[0]]}: {lost[0]}",
                         found="no such tensor", expected=f"the {len(mapped)} tensors of {INDEX}",
                         fix="copy the whole checkpoint again")  # fmt: skip
    stats = [file.stat() for file in files]
    return Weights(folder, tuple(files), tensors, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """An open weight file; what it raises becomes a ModelError that names it."""
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(
            "the weight file cannot be read", where=file, found=f"{type(error).__name__}: {error}",
            expected="a whole safetensors file", fix="copy the file again and compare its sha256",
        ) from error  # fmt: skip


def check(folder: Path) -> Checkpoint:
    """Verify a checkpoint folder before anything is built from it.

    Raises ModelError: a config as `read_config` says, weights as `read_weights` says or not of finite floating-point
    numbers, a word embedding or a tokenizer that does not fit the config's vocabulary.
    """
    try:
        config = read_config(folder)
        weights = read_weights(folder)
        _check_values(weights, getattr(config, "vocab_size", None))
        _check_ids(folder, tokenizer(folder), getattr(config, "vocab_size", None))
    except OSError as error:
        raise ModelError("the checkpoint cannot be read", where=folder, found=f"{type(error).__name__}: {error}",
                         fix="check the folder and its permissions") from error  # fmt: skip
    return Checkpoint(folder, config, (config.architectures or [""])[0], weights)


def _check_values(weights: Weights, vocabulary: int | None) -> None:
    """Refuse weights that are no floating-point numbers, or not finite, and a word embedding of another length."""
    for name, stored in weights.tensors.items():
        if stored.dtype not in FLOATS and not name.endswith(BUFFERS):
            raise ModelError("the checkpoint is quantised", where=f"{stored.file}: {name}", found=stored.dtype,
                             expected=f"weights in floating point ({', '.join(FLOATS)})",
                             fix="use the checkpoint from before it was quantised")  # fmt: skip
        if name.endswith("word_embeddings.weight") and stored.shape[:1] != (vocabulary,):
            raise ModelError(
                "the vocabulary size is wrong", where=f"{stored.file}: {name}",
                found=f"{stored.shape[0] if stored.shape else 'no'} rows",
                expected=f"vocab_size {vocabulary} of {CONFIG}", fix="use a matching config and weights",
            )  # fmt: skip
    for name, tensor in weights.read(weights.tensors):
        # The extremes tell of every number, NaN included, without a copy: 15 times as fast as isfinite of them all.
        if tensor.is_floating_point() and tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax())).all():
            raise ModelError("the weights are not finite", where=f"{weights.tensors[name].file}: {name}",
                             found="NaN or infinity", fix="use another checkpoint")  # fmt: skip


def _check_ids(folder: Path, words: PreTrainedTokenizerBase, vocabulary: int | None) -> None:
    """Refuse a tokenizer with more tokens than the table has rows, or with an id beyond it."""
    if vocabulary is None:
        return
    if len(words) > vocabulary:
        raise ModelError("the tokenizer does not fit the model", where=folder, found=f"{len(words)} tokens",
                         expected=f"at most vocab_size {vocabulary}",
                         fix="use the tokenizer that the model was trained with")  # fmt: skip
    if not (folder / TOKENIZER[0]).is_file():
        listed = set((folder / TOKENIZER[1]).read_text(encoding="utf-8").split("\n"))
        made_up = [word for word in words.all_special_tokens if word not in listed]
        if made_up:  # transformers would give them ids behind the others, of rows that were never trained
            raise ModelError("the vocabulary lacks special tokens", where=folder / TOKENIZER[1],
                             found=f"no {', '.join(sorted(made_up))}", expected="BERT's five",
                             fix="use the tokenizer that the model was trained with")  # fmt: skip
    token, last = max(words.get_vocab().items(), key=lambda item: item[1])
    if last >= vocabulary:
        raise ModelError("the tokenizer does not fit the model", where=folder,
                         found=f"id {last} of the token {token!r}", expected=f"ids below vocab_size {vocabulary}",
                         fix="use the tokenizer that the model was trained with")  # fmt: skip


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a folder that its tokenizer is read from. Raises ModelError for a link that leads nowhere."""
    return [path for name in TOKENIZER if (path := present(folder, name))]


def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder. Raises ModelError when there is none or it cannot be read."""
    files = tokenizer_files(folder)
    if not {file.name for file in files} & set(TOKENIZER[:2]):
        raise ModelError("the checkpoint has no tokenizer", where=folder, expected="tokenizer.json or vocab.txt",
                         fix="copy the tokenizer files beside the weights")  # fmt: skip
    try:
        words = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if not words.get_vocab():
            raise ValueError("no words")
        return words
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ModelError(
            "the tokenizer cannot be read", where=folder, found=f"{type(error).__name__}: {error}",
            expected="a whole tokenizer.json or vocab.txt", fix="copy the files again",
        ) from error  # fmt: skip


def lowers(words: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer makes capitals small, as those of uncased models do."""
    normalizer = getattr(getattr(words, "backend_tokenizer", None), "normalizer", None)
    return normalizer is not None and normalizer.normalize_str("A") == "a"
