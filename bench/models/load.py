"""Models in and out: which class a checkpoint is of, loaded from what was checked, and saved as safetensors."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
import transformers
from safetensors.torch import load_model, save_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from bench.core.errors import ModelError

# What has to do with a folder is used through this module, too.
from bench.models.checkpoint import HEADS as HEADS
from bench.models.checkpoint import INDEX as INDEX
from bench.models.checkpoint import PICKLES as PICKLES
from bench.models.checkpoint import WEIGHTS as WEIGHTS
from bench.models.checkpoint import Checkpoint as Checkpoint
from bench.models.checkpoint import Weights as Weights
from bench.models.checkpoint import check as check
from bench.models.checkpoint import find as find
from bench.models.checkpoint import kinds_of as kinds_of
from bench.models.checkpoint import lowers as lowers
from bench.models.checkpoint import packed_files as packed_files
from bench.models.checkpoint import read_weights as read_weights
from bench.models.checkpoint import tokenizer as tokenizer
from bench.models.checkpoint import weight_files as weight_files
from bench.models.placing import check_places as check_places
from bench.models.placing import placed

BERT_HEADS: Mapping[str, type[PreTrainedModel]] = {
    kind: getattr(transformers, f"Bert{head}") for head, kinds in HEADS.items() for kind in kinds
}
"""Kind of task -> the BERT that answers it."""


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

ALONE = threading.RLock()
"""Held while a model is made, loaded or trained: of threads one at a time. Random numbers are one stream a process, and
transformers changes its classes for as long as it loads a model."""

_OWN: dict[str, type[nn.Module]] = {}


def register(model_class: Own) -> Own:
    """Make a paper's own model class loadable by the name in its config's `architectures`.

    It is a PreTrainedModel, or another module with the methods of `Saved`.
    """
    known = _OWN.get(model_class.__name__)
    if known is not None and known.__module__ != model_class.__module__:
        raise ModelError("two model classes have the same name", found=model_class.__name__, fix="rename one of them")
    _OWN[model_class.__name__] = model_class
    config = getattr(model_class, "config_class", None)
    if config is not None and config.model_type not in transformers.CONFIG_MAPPING:  # else each load of one warns
        transformers.AutoConfig.register(config.model_type, config)
    return model_class


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
    with ALONE:
        return found(config_class.from_dict(content | {"architectures": names}))


def load(given: Checkpoint | Path, model_class: type[nn.Module], apart: Sequence[str] = ()) -> PreTrainedModel:
    """A model in fp32 from a checked checkpoint, or from a folder that `save` wrote.

    `apart` are beginnings of names of tensors that may be left over; see `bench.models.placing`.
    Raises ModelError when a tensor is missing (the pooler of a bare encoder may be new), left over or of another
    shape, for files exchanged since they were checked, and for a class that is no PreTrainedModel.
    """
    folder = given.folder if isinstance(given, Checkpoint) else given
    if not issubclass(model_class, PreTrainedModel):
        raise ModelError("the checkpoint is not one of transformers", where=folder, found=model_class.__name__,
                         expected="a PreTrainedModel", fix="give another checkpoint")  # fmt: skip
    config_class: Any = model_class.config_class
    if isinstance(given, Checkpoint):
        config, weights = given.config, given.weights
    else:
        config, weights = config_class.from_pretrained(folder), read_weights(folder)
    places = placed(weights, config, model_class, apart)
    tensors = dict(weights.read(places.stored.values()))
    # transformers is given what was checked, under its own names: it decides on no file and on no name.
    with ALONE:
        loaded: Any = model_class.from_pretrained(
            None, config=config, state_dict={name: tensors[stored] for name, stored in places.stored.items()},
            dtype=torch.float32, trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    model, report = loaded
    wrong = {*report["missing_keys"] - places.new, *report["unexpected_keys"], *map(str, report["mismatched_keys"])}
    assert not wrong, f"placed, and not loaded: {sorted(wrong)}"
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
    weights = read_weights(folder)
    (file,) = weights.files
    stored = weights.tensors
    reshaped = [name for name in stored if name in shapes and stored[name].shape != tuple(shapes[name])]
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
        write_weights(model, folder / WEIGHTS)
    if tokenizer_files is not None:
        tokenizer_files.save_pretrained(folder)
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def write_weights(model: nn.Module, file: Path) -> None:
    """Write every tensor of a module once, whole, under the first of its names, as safetensors.

    Tensors that lie side by side in one piece of memory (the weights of an LSTM on a GPU) are written apart.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not any(tensor.is_set_to(known) for known in tensors.values()):
            tensors[name] = tensor
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    save_file(copies, file, metadata={"format": "pt"})


def is_saved_in(model: nn.Module, folder: Path) -> bool:
    """Whether every tensor of a folder's weights is the model's, bit for bit."""
    mine = model.state_dict()
    weights = read_weights(folder)
    return all(name in mine and torch.equal(mine[name].cpu(), stored) for name, stored in weights.read(weights.tensors))


def label_order(config: PreTrainedConfig, labels: Sequence[str]) -> list[int] | None:
    """Which output of a classifier answers each of the task's labels; None where they are in order already.

    Raises ModelError when the model's names are real names and not the task's (position is never guessed), or when
    it has another number of outputs. A regression has no labels and one output, whatever its name.
    """
    given: dict[Any, str] = dict(config.id2label or {})
    names = [str(given[i]).lower() for i in sorted(given)]
    wanted = [label.lower() for label in labels]
    unnamed = all(name == f"label_{i}" for i, name in enumerate(names)) or not wanted
    if names == wanted or (unnamed and len(names) == max(1, len(wanted))):
        return None
    if sorted(names) != sorted(wanted):
        raise ModelError("the teacher's labels are not the task's", found=", ".join(names),
                         expected=", ".join(wanted) or "one score",
                         fix="fine-tune a teacher for this task, or rename id2label in its config.json")  # fmt: skip
    return [names.index(name) for name in wanted]


def realign(model: PreTrainedModel, labels: Sequence[str]) -> PreTrainedModel:
    """Reorder a classifier's outputs so that they follow the task's label names.

    Raises ModelError as `label_order` does.
    """
    order = label_order(model.config, labels)
    if order is None:
        return model
    order = torch.tensor(order)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert head.out_features == len(labels), "the last linear layer is the classifier"
    with torch.no_grad():
        head.weight.copy_(head.weight[order])
        if head.bias is not None:
            head.bias.copy_(head.bias[order])
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
    return model
