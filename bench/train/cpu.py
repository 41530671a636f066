"""What makes the steps of a training cheaper on a CPU and leaves what is computed as it is.

tests/benchmarks/training_throughput.py measures the same steps without each of the two.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt."""
_STEPS = 1 << 16
"""Of a random number that decides on one element: 16 bits."""


def keep_large_blocks() -> None:
    """Ask glibc to use freed memory again, not to give it back: the gradient of a table of word vectors is tens of MB,
    and fresh pages for it in every step cost more than filling it. Does nothing with another C library."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def cheaper(model: nn.Module) -> Iterator[None]:
    """Both, while a model is trained; memory is kept from then on."""
    keep_large_blocks()
    with cheap_dropout(model):
        yield


@contextmanager
def cheap_dropout(model: nn.Module) -> Iterator[None]:
    """Inside, the model's `nn.Dropout` draws 16 random bits an element, not a whole number; see `dropout`."""
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

    p is rounded to a multiple of 2^-16, for the draw and for the division alike. Draws from torch's generator of the
    CPU. Shapes: any, kept. Source: Srivastava et al. 2014 (JMLR 15), in its inverted form.
    """
    return _Dropped.apply(x, p)  # pyright: ignore[reportReturnType]


class _Dropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training and 0 < self.p < 1 else super().forward(input)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        kept = min(max(_STEPS - round(p * _STEPS), 1), _STEPS - 1)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)  # all 64 bits
        mask = words.view(torch.int16)[: x.numel()].view(x.shape) < kept - _STEPS // 2
        ctx.save_for_backward(mask)
        ctx.scale = _STEPS / kept
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (gradients[0] * mask).mul_(ctx.scale), None
