"""Which stored tensor is which of a model: every one of the model's is there, and none is left over without a word."""

from __future__ import annotations

import copy
import functools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from bench.core.errors import ModelError
from bench.models.checkpoint import BUFFERS, Checkpoint, Weights

APART: Mapping[str, tuple[str, ...]] = {
    "bert": ("cls.", "pooler."),
    "distilbert": ("vocab_transform.", "vocab_layer_norm.", "vocab_projector."),
}
"""Kind of model -> the parts of its pre-training, which a model for a task, or a bare encoder, goes without.

A task's own head is not among them: whoever has one and loads the encoder alone has named the wrong architecture.
"""
OLD_NAMES = ((re.compile(r"\.gamma$"), ".weight"), (re.compile(r"\.beta$"), ".bias"))
"""What the first BERTs call the parts of a LayerNorm."""
_LAYER = re.compile(r"(?:^|\.)(?:encoder\.layer|transformer\.layer)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Placing:
    """Where each tensor of a model is stored, and which are new (a pooler)."""

    stored: Mapping[str, str]
    """Name in the model -> name in the file; two names of one tensor have the same"""
    new: frozenset[str]


def placed(
    weights: Weights, config: PreTrainedConfig, model_class: type[PreTrainedModel], apart: Sequence[str] = ()
) -> Placing:
    """Where a model of this class finds its tensors.

    `apart` are beginnings of names that may be left over beside those that the architecture knows apart. Only the
    pooler of a bare encoder may be new. Raises ModelError for a tensor that is missing, left over, of another shape or
    there twice.
    """
    _check_layers(weights, config)
    _check_tables(weights, config)
    try:
        with torch.device("meta"):  # names and shapes alone: no memory, no random numbers
            model = model_class(copy.deepcopy(config))
    except Exception as error:  # whatever a constructor raises of a config
        raise ModelError("no model can be made of the config", where=weights.folder,
                         found=f"{type(error).__name__}: {error}", expected=f"a config of a {model_class.__name__}",
                         fix="use the config.json that was saved with the weights") from error  # fmt: skip
    ours, prefix = model.state_dict(), f"{model.base_model_prefix}."
    is_base = model.base_model is model
    twins: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        twins[id(parameter)].append(name)
    found: dict[str, str] = {}
    left: list[str] = []
    known = (*APART.get(config.model_type, ()), *apart)
    for name in weights.tensors:
        ours_is = _ours(name, ours, prefix)
        if ours_is is None:
            bare = name.removeprefix(prefix)
            left += [] if bare.startswith(known) or name.endswith(BUFFERS) else [name]
        elif ours_is in found:
            raise ModelError("a tensor is there twice", where=weights.folder, found=f"{found[ours_is]} and {name}",
                             expected="one of them", fix="save the model again")  # fmt: skip
        else:
            found[ours_is] = name
    for names in twins.values():
        _share(weights, names, found)
    missing = [name for name in ours if name not in found]
    new = [name for name in missing if is_base and name.startswith("pooler.")]
    if len(new) == sum(name.startswith("pooler.") for name in ours):
        missing = [name for name in missing if name not in new]
    reshaped = [name for name, stored in found.items() if weights.tensors[stored].shape != tuple(ours[name].shape)]
    if missing or left or reshaped:
        raise _unfit(weights, model_class, missing, left, [found[name] for name in reshaped])
    return Placing(found, frozenset(new))


def _ours(name: str, ours: Mapping[str, Any], prefix: str) -> str | None:
    """What the model calls a stored tensor: a bare encoder's names lack the prefix that they have under a head."""
    plain = name
    for old, new in OLD_NAMES:
        plain = old.sub(new, plain)
    for candidate in (name, plain, prefix + plain, plain.removeprefix(prefix)):
        if candidate in ours:
            return candidate
    return None


def _share(weights: Weights, names: Sequence[str], found: dict[str, str]) -> None:
    """Give all names of one tensor what one of them has. Raises ModelError where the file has two that differ."""
    stored = [found[name] for name in names if name in found]
    if len(stored) > 1 and len({weights.tensors[name].shape for name in stored}) == 1:
        first, *others = (tensor for _, tensor in weights.read(stored))
        if not all(torch.equal(first, other) for other in others):
            raise ModelError("the model has one tensor where the file has two", where=weights.folder,
                             found=f"{' and '.join(stored)} that differ", expected="tied ones",
                             fix='set "tie_word_embeddings" in config.json as the model was trained')  # fmt: skip
    if stored:
        found |= {name: stored[0] for name in names if name not in found}


def _check_layers(weights: Weights, config: PreTrainedConfig) -> None:
    """Refuse a config of another depth before a model of that depth is made."""
    wanted = getattr(config, "num_hidden_layers", None)
    layers = {int(found[1]): name for name in sorted(weights.tensors, reverse=True) if (found := _LAYER.search(name))}
    stored = 1 + max(layers, default=-1)
    if not layers or not isinstance(wanted, int) or wanted == stored:
        return
    told = f"{wanted - stored} layers missing" if wanted > stored else f"{stored - wanted} layers left over"
    over = "" if wanted > stored else f", from {layers[min(i for i in layers if i >= wanted)]} on"
    raise ModelError("the weights do not fit the config", where=weights.folder, found=f"{told}{over}",
                     expected=f"num_hidden_layers {wanted} of config.json, of the {stored} layers in the weights",
                     fix="use the config.json that was saved with the weights")  # fmt: skip


def _check_tables(weights: Weights, config: PreTrainedConfig) -> None:
    """Refuse a config of other tables before a model with such tables is made."""
    tables = {"word_embeddings": "vocab_size", "position_embeddings": "max_position_embeddings",
              "token_type_embeddings": "type_vocab_size"}  # fmt: skip
    for table, field in tables.items():
        rows = getattr(config, field, None)
        for name, stored in weights.tensors.items():
            if name.endswith(f"{table}.weight") and rows is not None and stored.shape[:1] != (rows,):
                raise ModelError("the weights do not fit the config", where=weights.folder,
                                 found=f"{name} of {stored.shape[0] if stored.shape else 'no'} rows: another shape",
                                 expected=f"{field} {rows} of config.json",
                                 fix="use the config.json that was saved with the weights")  # fmt: skip


def _unfit(
    weights: Weights, model_class: type[PreTrainedModel], missing: Sequence[str], left: Sequence[str],
    reshaped: Sequence[str],
) -> ModelError:  # fmt: skip
    first = [*sorted(left)[:1], *sorted(missing)[:1], *sorted(reshaped)[:1]]
    fix = "use the config.json that was saved with the weights"
    before = {name.split(".")[0] for name in weights.tensors}
    if len(before) == 1 and left and len(left) == len(weights.tensors):
        fix = f"save the model itself: all names begin with {before.pop()}., as those of a wrapper around it do"
    elif left and not missing and not reshaped:
        fix = "name the class that was saved in `architectures` of config.json, or use another checkpoint"
    return ModelError(
        "the weights do not fit the config", where=weights.folder,
        found=f"{len(missing)} tensors missing, {len(left)} left over and {len(reshaped)} of another shape: "
              f"{', '.join(first)}",
        expected=f"every tensor of {model_class.__name__} and no other", fix=fix,
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def check_places(checkpoint: Checkpoint, model_class: type[PreTrainedModel], apart: tuple[str, ...] = ()) -> None:
    """Refuse a checked folder that does not hold a model of this class, before anything runs.

    Raises ModelError as `placed` does, and for a class of another kind of model.
    """
    kind = getattr(model_class.config_class, "model_type", None)
    if checkpoint.config.model_type != kind:
        raise ModelError("the checkpoint is of another kind", where=checkpoint.folder,
                         found=f"model_type {checkpoint.config.model_type}", expected=f"{kind}, for a "
                         f"{model_class.__name__}", fix="give another checkpoint")  # fmt: skip
    placed(checkpoint.weights, checkpoint.config, model_class, apart)
