"""What makes the steps of a training cheaper on a CPU and leaves what is computed as it is, but for roundings.

tests/benchmarks/training_throughput.py measures the same steps without each part.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt."""
_CHANCES = 1 << 15
"""Of a random number that decides on one element: 15 bits."""
_WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an element -> whole numbers of that size."""


def keep_large_blocks() -> None:
    """Ask glibc to use freed memory again, not to give it back: the gradient of a table of word vectors is tens of MB,
    and fresh pages for it in every step cost more than filling it. Does nothing with another C library."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def cheaper(model: nn.Module) -> Iterator[None]:
    """All of it, while a model is trained; memory is kept from then on."""
    keep_large_blocks()
    with cheap_dropout(model), cheap_attention(), rounded_once():
        yield


@contextmanager
def cheap_dropout(model: nn.Module) -> Iterator[None]:
    """Inside, the model's `nn.Dropout` draws 15 random bits an element, not a whole number; see `dropout`."""
    plain = [module for module in model.modules() if type(module) is nn.Dropout and not module.inplace]
    try:
        for module in plain:
            module.__class__ = _Dropout
        yield
    finally:
        for module in plain:
            module.__class__ = nn.Dropout


def dropout(x: Tensor, p: float) -> Tensor:
    """Sets each element to 0 with probability p and divides the others by 1 - p, so that the mean stays.

    p is rounded to a multiple of 2^-15, for the draw and for the division alike. Draws from torch's generator of the
    CPU. Shapes: any, kept. Source: Srivastava et al. 2014 (JMLR 15), in its inverted form.
    """
    return _Dropped.apply(x, p)  # pyright: ignore[reportReturnType]


class _Dropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training and 0 < self.p < 1 else super().forward(input)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        kept = min(max(_CHANCES - round(p * _CHANCES), 1), _CHANCES - 1)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)  # all 64 bits
        numbers = words.view(torch.int16)[: x.numel()].view(x.shape).bitwise_and_(_CHANCES - 1)
        mask = numbers.sub_(kept).bitwise_right_shift_(15)  # the sign in every bit: all ones where a number is < kept
        ctx.save_for_backward(mask)
        ctx.scale = _CHANCES / kept
        return _masked(x, mask, ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return _masked(gradients[0], mask, ctx.scale), None


def _masked(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    """The bits of x where those of `mask` are ones, times `scale`: to multiply by a mask is slower, most so in bf16."""
    whole = _WHOLE[x.element_size()]
    return (x.contiguous().view(whole) & mask.to(whole)).view(x.dtype).mul_(scale)


@contextmanager
def rounded_once() -> Iterator[None]:
    """Inside, autocast rounds the weights of a frozen dense layer, a teacher's, once and not in every pass.

    Only parameters without a gradient are kept so, and anew when they were changed in place or given other data; who
    writes into `parameter.data` is not seen.
    """
    before, copies = functional.linear, dict[nn.Parameter, tuple[tuple[int, int], Tensor]]()

    def rounded(parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
        state = parameter._version, parameter.data_ptr()
        known, copy = copies.get(parameter, (None, parameter))
        if known != state or copy.dtype != dtype:
            with torch.inference_mode(False):
                copy = parameter.detach().to(dtype)
            copies[parameter] = state, copy
        return copy

    def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if torch.is_autocast_enabled("cpu") and _is_frozen(weight) and (bias is None or _is_frozen(bias)):
            dtype = torch.get_autocast_dtype("cpu")
            weight, bias = rounded(weight, dtype), None if bias is None else rounded(bias, dtype)
        return before(input, weight, bias)

    functional.linear = linear
    try:
        yield
    finally:
        functional.linear = before


def _is_frozen(tensor: Tensor) -> TypeGuard[nn.Parameter]:
    return isinstance(tensor, nn.Parameter) and not tensor.requires_grad


@contextmanager
def cheap_attention() -> Iterator[None]:
    """Inside, whoever calls `scaled_dot_product_attention` by torch.nn.functional gets `attention` where it trains."""
    before = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = _attention_or(before)
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = before


def _attention_or(other: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`attention` where a gradient is asked for, and no more than it knows; else the other one."""

    def chosen(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
               is_causal: bool = False, scale: float | None = None, **more: Any) -> Tensor:  # fmt: skip
        plain = attn_mask is None or attn_mask.dtype == torch.bool
        if plain and query.requires_grad and not is_causal and not any(more.values()):
            return attention(query, key, value, attn_mask, dropout_p, scale)
        return other(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **more)

    return chosen


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float = 0.0, scale: float | None = None
) -> Tensor:
    """softmax(scale q k^T) v with dropout of the probabilities, by plain products, of which the scores stay.

    torch's own either has dropout, and then works in fp32 and draws a whole number for each score, or keeps no scores,
    and then is slower in bf16, most of it in the backward pass. As elsewhere under autocast the scores are rounded to
    its format. Shapes: query, key, value [B, A, L, D]; mask [B, 1, L, L], true where a token is seen, of which each
    token has one at least; the result as value. Source: Vaswani et al., arXiv 1706.03762v7, equation 1.
    """
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    probabilities = scores.softmax(-1)
    return (dropout(probabilities, p) if 0 < p < 1 else probabilities) @ value
