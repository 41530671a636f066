"""What a layer loss sees of an encoder while it runs: hidden states and attention scores, before the softmax.

`output_attentions` gives probabilities after softmax and dropout, and under SDPA an empty tuple without a word. Here a
registered attention function computes the context by SDPA and hands on queries and keys, from which scores are made
only where and when they are needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from bench.core.errors import ModelError
from bench.models.outputs import inputs

NAME = "watched_sdpa"
"""The attention function's name; its mask builder stands under the same one, or padding would be attended."""


@dataclass(frozen=True, slots=True, eq=False)
class Attended:
    """One layer's queries and keys [B, A, L, D] and which keys may be attended."""

    query: Tensor
    key: Tensor
    keep: Tensor | None
    """bool, [B, 1, L, L] or what broadcasts to it; None where nothing is padded"""
    scaling: float

    def scores(self) -> Tensor:
        """Q K^T * scaling in fp32, the lowest float where a key is padding. [B, A, L, L]"""
        found = self.query.float() @ self.key.float().transpose(-1, -2) * self.scaling
        return found if self.keep is None else found.masked_fill(~self.keep, torch.finfo(found.dtype).min)


See = Callable[[int, Tensor, Attended | None], None]
"""(layer, hidden state [B, L, H], its attention): layer 0 is the embedding output, which has none."""

_latest: list[Attended] = []
"""At most one entry: the attention that ran last. Emptied when a watched forward pass ends."""


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
               scaling: float | None = None, **extra: Any) -> tuple[Tensor, None]:  # fmt: skip
    context, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **extra)
    _latest[:] = [Attended(query, key, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling)]
    return context, None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@functools.singledispatch
def layers_of(model: nn.Module) -> nn.ModuleList:
    """The layers of an encoder, first to last. Raises ModelError for a model that is no encoder of layers.

    A model that keeps them elsewhere than those of transformers do says where by `@layers_of.register`.
    """
    base: Any = getattr(model, "base_model", model)
    found = getattr(getattr(base, "encoder", None) or getattr(base, "transformer", None), "layer", None)
    if not isinstance(found, nn.ModuleList):
        raise ModelError("the model has no list of layers", found=type(base).__name__, expected="a Transformer encoder")
    return found


@contextmanager
def _named_attention(base: Any) -> Iterator[None]:
    before = base.config._attn_implementation
    base.config._attn_implementation = NAME
    try:
        yield
    finally:
        base.config._attn_implementation = before
        _latest.clear()


def watch(model: nn.Module, batch: Mapping[str, Tensor], layers: Collection[int], see: See) -> None:
    """Run the encoder of `model` (no head) and call `see` as soon as each layer of `layers` (0 to K) is done.

    What `see` does not keep is free again before the next layer runs.
    Raises AssertionError when a wanted layer was not seen: a loss over nothing would be zero without a word.
    """
    base: Any = getattr(model, "base_model", model)
    blocks = layers_of(model)
    assert all(0 <= number <= len(blocks) for number in layers), f"{sorted(layers)} of {len(blocks)} layers"
    seen: list[int] = []

    def hook(number: int) -> Callable[..., None]:
        def told(module: nn.Module, arguments: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            seen.append(number)
            assert number == 0 or _latest, f"layer {number} ran another attention function than {NAME}"
            see(number, hidden, _latest.pop() if number else None)

        return told

    wanted = {number: base.embeddings if number == 0 else blocks[number - 1] for number in layers}
    handles = [module.register_forward_hook(hook(number)) for number, module in wanted.items()]
    try:
        with _named_attention(base):
            base(**inputs(base, batch))
    finally:
        for handle in handles:
            handle.remove()
    assert seen == sorted(layers), f"layers {sorted(layers)} were wanted, {seen} were seen"


@dataclass(frozen=True, slots=True)
class Trace:
    """What was seen, by layer: `hidden` [B, L, H], layer 0 the embedding output; `attended` from layer 1 on."""

    hidden: dict[int, Tensor] = field(default_factory=dict)
    attended: dict[int, Attended] = field(default_factory=dict)


def trace(model: nn.Module, batch: Mapping[str, Tensor], layers: Collection[int]) -> Trace:
    """Run the encoder of `model` and keep what the layers of `layers` (0 to K) show."""
    found = Trace()

    def see(number: int, hidden: Tensor, attended: Attended | None) -> None:
        found.hidden[number] = hidden
        if attended is not None:
            found.attended[number] = attended

    watch(model, batch, layers, see)
    return found
