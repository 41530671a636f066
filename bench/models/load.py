"""Checkpoints in and out: safetensors only, nothing unpickled, no remote code, and every doubt is an error."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from bench.core.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.pt", "model.pt", "model.bin")

HEADS: Mapping[str, tuple[str, ...]] = {
    "ForSequenceClassification": ("label", "score"), "ForQuestionAnswering": ("span",),
    "ForTokenClassification": ("tags",),
}  # fmt: skip
"""How an architecture's name ends -> the kinds of task that it is for."""
BERT_HEADS: Mapping[str, type[PreTrainedModel]] = {
    kind: getattr(transformers, f"Bert{head}") for head, kinds in HEADS.items() for kind in kinds
}
"""Kind of task -> the BERT that answers it."""


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds of task that an architecture of this name answers; none of an encoder, or of another name."""
    return next((kinds for head, kinds in HEADS.items() if name.endswith(head)), ())


@runtime_checkable
class Saved(Protocol):
    """What a registered class offers that is no PreTrainedModel, so that it can be saved and made again."""

    def saved_config(self) -> dict[str, Any]:
        """All that its constructor takes, as JSON has it."""
        ...

    @classmethod
    def from_saved(cls, config: dict[str, Any]) -> Self:
        """A model of such a config, with any weights."""
        ...


Own = TypeVar("Own", bound=type[nn.Module])

_OWN: dict[str, type[nn.Module]] = {}


def register(model_class: Own) -> Own:
    """Make a paper's own model class loadable by the name in its config's `architectures`.

    It is a PreTrainedModel, or another module with the methods of `Saved`.
    """
    known = _OWN.get(model_class.__name__)
    if known is not None and known.__module__ != model_class.__module__:
        raise ModelError("two model classes have the same name", found=model_class.__name__, fix="rename one of them")
    _OWN[model_class.__name__] = model_class
    return model_class


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder on this disk that was checked: its config, its architecture and the sha256-able weight files."""

    folder: Path
    config: PreTrainedConfig
    architecture: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of task that it is fine-tuned for, by its architecture; none of an encoder."""
        return kinds_of(self.architecture)

    @property
    def has_lm_head(self) -> bool:
        """Whether the weights hold a masked-LM head (its bias is the one tensor that is never tied)."""
        names = {key for file in weight_files(self.folder) for key in _keys(file)}
        return any(name.endswith(("predictions.bias", "vocab_projector.bias", "lm_head.bias")) for name in names)


def find(name: str, revision: str | None = None) -> Path:
    """The local folder of a checkpoint, given a folder or a hub id; the hub's files are fetched at a revision.

    Raises ModelError when neither the folder exists nor the hub can be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError("the checkpoint folder does not exist", where=name, fix="give an existing folder or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    files = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab.txt", "special_tokens*"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"the checkpoint {name} is neither a folder nor reachable on the hub ({type(error).__name__})",
            fix=f"connect, or give a folder: --teacher FOLDER (hf download {name} --local-dir FOLDER)",
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder. Raises ModelError for pickles or nothing."""
    if (folder / INDEX).is_file():
        try:
            shards = sorted({str(shard) for shard in json.loads((folder / INDEX).read_text())["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError("the weight index cannot be read", where=folder / INDEX, found=type(error).__name__,
                             expected="a weight_map", fix="copy the file again") from error  # fmt: skip
        outside = [shard for shard in shards if Path(shard).name != shard]
        if outside:
            raise ModelError("the weight index names a file outside its folder", where=folder / INDEX,
                             found=outside[0], expected="names of files beside it", fix="check the folder")  # fmt: skip
        files = [folder / shard for shard in shards]
    else:
        files = [folder / WEIGHTS]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        pickled = [name for name in PICKLES if (folder / name).exists()]
        raise ModelError(
            "the checkpoint has no safetensors weights",
            where=folder,
            found=f"only pickled weights {', '.join(pickled)}, which are never opened" if pickled else "no weight file",
            expected=", ".join(missing),
            fix="convert the checkpoint to safetensors where it was made",
        )
    return files


def packed_files(folder: Path) -> list[Path]:
    """The files of a folder that a paper's packing wrote."""
    return sorted(folder.glob("*.safetensors"))


def _keys(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(
            "the weight file cannot be read", where=file, found=f"{type(error).__name__}: {error}",
            expected="a whole safetensors file", fix="copy the file again and compare its sha256",
        ) from error  # fmt: skip


def check(folder: Path) -> Checkpoint:
    """Verify a checkpoint folder before anything is built from it.

    Raises ModelError: no config, an unknown architecture, pickled or corrupt weights, NaN or infinite weights,
    a word embedding or a tokenizer that does not fit the config's vocabulary.
    """
    if not (folder / "config.json").is_file():
        raise ModelError("the checkpoint has no config", where=folder, expected="config.json", fix="check the folder")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError("the config cannot be read", where=folder / "config.json", found=error,
                         expected="a config that transformers knows", fix="copy the file again") from error  # fmt: skip
    vocabulary = getattr(config, "vocab_size", None)
    for file in weight_files(folder):
        names = _keys(file)
        with safe_open(file, framework="pt") as tensors:
            for name in names:
                tensor = tensors.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise ModelError(
                        "the weights are not finite", where=f"{file}: {name}", found="NaN or infinity",
                        fix="use another checkpoint",
                    )  # fmt: skip
                if name.endswith("word_embeddings.weight") and tensor.shape[0] != vocabulary:
                    raise ModelError(
                        "the vocabulary size is wrong", where=f"{file}: {name}", found=f"{tensor.shape[0]} rows",
                        expected=f"vocab_size {vocabulary} of config.json", fix="use a matching config and weights",
                    )  # fmt: skip
    tokens = len(tokenizer(folder))
    if vocabulary is not None and tokens > vocabulary:
        raise ModelError(
            "the tokenizer does not fit the model", where=folder, found=f"{tokens} tokens",
            expected=f"at most vocab_size {vocabulary}", fix="use the tokenizer that the model was trained with",
        )  # fmt: skip
    architecture = (config.architectures or [""])[0]
    return Checkpoint(folder, config, architecture)


def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder. Raises ModelError when there is none or it cannot be read."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise ModelError("the checkpoint has no tokenizer", where=folder, expected="tokenizer.json or vocab.txt",
                         fix="copy the tokenizer files beside the weights")  # fmt: skip
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ModelError(
            "the tokenizer cannot be read", where=folder, found=f"{type(error).__name__}: {error}",
            expected="a whole tokenizer.json or vocab.txt", fix="copy the files again",
        ) from error  # fmt: skip


def lowers(words: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer makes capitals small, as those of uncased models do."""
    normalizer = getattr(getattr(words, "backend_tokenizer", None), "normalizer", None)
    return normalizer is not None and normalizer.normalize_str("A") == "a"


def architecture(name: str, home: str = "") -> type[nn.Module]:
    """The model class of an architecture name: a paper's registered class, or one of transformers.

    `home` is the Python module that is said to define it. It is named, never imported.
    Raises ModelError for a class that is neither: a paper's classes are known once their module was imported.
    """
    found = _OWN.get(name) or getattr(transformers, name, None)
    if not (isinstance(found, type) and (name in _OWN or issubclass(found, PreTrainedModel))):
        raise ModelError("the architecture is not known", found=name or "no `architectures` in config.json",
                         expected="a class of transformers, or of a paper that was imported",
                         fix=f"import {home or 'papers.NAME.recipe'} of the paper that defines it first")  # fmt: skip
    return found


def described(model: nn.Module) -> dict[str, Any]:
    """What a model is without its weights: class and config, as JSON has it; `made` makes such a model.

    Raises AssertionError for a module that is neither a PreTrainedModel nor registered with the methods of `Saved`.
    """
    kind = type(model)
    own = {"module": kind.__module__} if _OWN.get(kind.__name__) is kind else {}
    if isinstance(model, PreTrainedModel):
        config = json.loads(model.config.to_json_string(use_diff=False))
        for name in ("_name_or_path", "transformers_version"):  # where it came from is no part of what it is
            config.pop(name, None)
        return config | {"architectures": [kind.__name__]} | own
    assert own and isinstance(model, Saved), f"cannot save a {kind.__name__}"
    return {"architectures": [kind.__name__]} | own | model.saved_config()


def made(description: Mapping[str, Any]) -> nn.Module:
    """A model as `described` describes it, with any weights. Raises ModelError for an unknown architecture."""
    content = dict(description)
    names, home = content.pop("architectures", None) or [""], content.pop("module", "")
    found: Any = architecture(str(names[0]), str(home))
    if not issubclass(found, PreTrainedModel):
        return found.from_saved(content)
    config_class: Any = found.config_class
    return found(config_class.from_dict(content | {"architectures": names}))


def load(folder: Path, model_class: type[nn.Module], **overrides: Any) -> PreTrainedModel:
    """A model in fp32 from a checked folder. `overrides` are config fields, for example `num_labels`.

    Raises ModelError when a tensor of the encoder is missing (a pooler or a head may be new) or any has another shape,
    and for a class that is no PreTrainedModel.
    """
    if not issubclass(model_class, PreTrainedModel):
        raise ModelError("the checkpoint is not one of transformers", where=folder, found=model_class.__name__,
                         expected="a PreTrainedModel", fix="give another checkpoint")  # fmt: skip
    loaded: Any = model_class.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, ignore_mismatched_sizes=True, output_loading_info=True,
        **overrides,
    )  # fmt: skip
    model, report = loaded
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    missing = sorted(k for k in report["missing_keys"] if k.startswith(prefix) and "pooler." not in k)
    reshaped = sorted(key for key, *_ in report["mismatched_keys"])
    if missing or reshaped:
        raise ModelError(
            "the weights do not fit the config", where=folder,
            found=f"{len(missing)} tensors missing and {len(reshaped)} of another shape: {[*missing, *reshaped][0]}",
            expected="every tensor of the encoder", fix="use the config.json that was saved with the weights",
        )  # fmt: skip
    return model


def load_saved(folder: Path) -> nn.Module:
    """A model that `save` wrote, in the class that wrote it.

    Raises ModelError for an unknown architecture, and where a tensor is missing, left over or of another shape.
    """
    config = json.loads((folder / "config.json").read_text())
    name = (config.get("architectures") or [""])[0]
    found = architecture(name, config.get("module", ""))
    if issubclass(found, PreTrainedModel):
        return load(folder, found)
    model = made(config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    (file,) = weight_files(folder)
    keys = _keys(file)
    with safe_open(file, framework="pt") as tensors:
        reshaped = [k for k in keys if k in shapes and tuple(tensors.get_slice(k).get_shape()) != tuple(shapes[k])]
    # A tensor that two names share is written once; `load_model` knows which names those are.
    missing, unexpected = ([], []) if reshaped else load_model(model, file, strict=False)
    wrong = [*sorted(missing), *sorted(unexpected), *sorted(reshaped)]
    if wrong:
        raise ModelError(
            "the weights do not fit the config", where=folder, expected=f"every tensor of {name} and no other",
            found=f"{len(missing)} tensors missing, {len(unexpected)} left over, {len(reshaped)} of another shape: "
                  f"{wrong[0]}", fix="use the config.json that was saved with the weights",
        )  # fmt: skip
    return model


def save(model: nn.Module, folder: Path, tokenizer_files: PreTrainedTokenizerBase | None = None) -> None:
    """Write a model (safetensors, config) and its tokenizer into a new folder.

    Raises AssertionError for a module that cannot be made again; see `described`.
    """
    if isinstance(model, PreTrainedModel):
        model.save_pretrained(folder)
    else:
        content = json.dumps(described(model), indent=2, sort_keys=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(content + "\n")
        save_model(model, str(folder / WEIGHTS), metadata={"format": "pt"})
    if tokenizer_files is not None:
        tokenizer_files.save_pretrained(folder)
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def is_saved_in(model: nn.Module, folder: Path) -> bool:
    """Whether every tensor of a folder's weights is the model's, bit for bit."""
    mine = model.state_dict()
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if name not in mine or not torch.equal(mine[name].cpu(), tensors.get_tensor(name)):
                    return False
    return True


def realign(model: PreTrainedModel, labels: Sequence[str]) -> PreTrainedModel:
    """Reorder a classifier's outputs so that they follow the task's label names.

    Raises ModelError when the model's names are real names and not the task's (position is never guessed), or when
    it has another number of outputs. A regression has no labels and one output, whatever its name.
    """
    given: dict[Any, str] = dict(model.config.id2label or {})
    names = [str(given[i]).lower() for i in range(len(given))]
    wanted = [label.lower() for label in labels]
    unnamed = all(name == f"label_{i}" for i, name in enumerate(names)) or not wanted
    if names == wanted or (unnamed and len(names) == max(1, len(wanted))):
        return model
    if sorted(names) != sorted(wanted):
        raise ModelError("the teacher's labels are not the task's", found=", ".join(names),
                         expected=", ".join(wanted) or "one score",
                         fix="fine-tune a teacher for this task, or rename id2label in its config.json")  # fmt: skip
    order = torch.tensor([names.index(name) for name in wanted])
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert head.out_features == len(wanted), "the last linear layer is the classifier"
    with torch.no_grad():
        head.weight.copy_(head.weight[order])
        if head.bias is not None:
            head.bias.copy_(head.bias[order])
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
    return model
