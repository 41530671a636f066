"""One shape of input and output for every model, whatever its architecture."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Model = TypeVar("Model", bound=nn.Module)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What a batch offers a model; each is [B, L]."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """`logits` is [B, C] of a classifier, [B, L, C] of one that tags, [B, L, V] of a masked LM, [B, L, 2] (start, end)
    of a model that answers with spans; `hidden` holds K+1 tensors [B, L, H]."""

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()


class Moved(dict[str, Tensor]):
    """A batch on a device that was looked at before it went there, so that nobody has to ask the device."""

    def __init__(self, tensors: Mapping[str, Tensor], *, padded: bool):
        super().__init__(tensors)
        self.padded = padded
        """Whether a position of it is padding."""


BY_SDPA = ("sdpa", "watched_sdpa")
"""The attention functions that take a mask of four dimensions as it is; the second one is `bench.models.attention`'."""


@functools.cache
def _accepted(model_class: type[nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(model_class.forward).parameters)


def reads(model: nn.Module) -> frozenset[str]:
    """What of a batch a model takes: what its attribute `reads` says, else what its forward names.

    A module that hands a batch on to another one says so by that attribute (frozenset[str]).
    """
    own = getattr(model, "reads", None)
    return _accepted(type(model)) if own is None else own


def inputs(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a batch that this model takes (a DistilBERT, for example, has no token types)."""
    accepted = reads(model)
    found = {name: batch[name] for name in INPUTS if name in batch and name in accepted}
    if isinstance(batch, Moved) and "attention_mask" in found and _by_sdpa(model):
        # Given a mask [B, L], transformers asks the device whether anything is padded, at every pass. A mask of four
        # dimensions it takes as it is, and none where nothing is padded.
        mask = found.pop("attention_mask")
        if batch.padded:
            found["attention_mask"] = mask[:, None, None, :].bool()
    return found


def _by_sdpa(model: nn.Module) -> bool:
    """Whether a model hands its mask to SDPA: one of transformers, or one that says which it `hands_to`."""
    found: Any = getattr(model, "hands_to", model)
    of_transformers = isinstance(found, PreTrainedModel) and found._supports_sdpa
    return of_transformers and found.config._attn_implementation in BY_SDPA


def forward(model: nn.Module, batch: Mapping[str, Tensor], *, hidden: bool = False) -> Outputs:
    """Run a model on a batch.

    Raises AssertionError when hidden states were asked for and the model returned none: a loss over an empty
    list would be zero without a word.
    """
    extra = {"output_hidden_states": True} if hidden else {}
    out = model(**inputs(model, batch), **extra)
    states = tuple(out.hidden_states) if hidden else ()
    assert not hidden or states, f"{type(model).__name__} returned no hidden states"
    if "start_logits" in out:
        return Outputs(torch.stack((out.start_logits, out.end_logits), -1), states)
    return Outputs(out.logits if "logits" in out else out.last_hidden_state, states)


def frozen(model: Model, device: torch.device) -> Model:
    """The same model on a device, to answer only: eval mode, no gradient. Teachers are used through this."""
    nn.Module.to(model, device)  # `PreTrainedModel.to` hides its type
    return model.eval().requires_grad_(False)
