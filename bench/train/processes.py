"""Processes that train together: what one of them decides for all, and what is summed over their parts of a batch.

Inside `batch_of` a loss or a module may ask for sums over the whole batch (`total`), of which each process holds some
rows. Everywhere else, and so wherever one process trains, the same functions return what they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch import distributed as dist

Found = TypeVar("Found")


def decided(accelerator: Accelerator, decide: Callable[[], Found]) -> Found:
    """What the main process decides (something that can be copied), in all of them; the others do not look.

    What it raises is raised in all of them.
    """
    if accelerator.num_processes == 1:
        return decide()
    answers: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            answers[0] = decide()
        except Exception as error:
            answers[1] = error
    broadcast_object_list(answers)
    if answers[1] is not None:
        raise answers[1]
    return answers[0]


Item = TypeVar("Item")
Made = TypeVar("Made")


def divided(items: Sequence[Item], work: Callable[[Item], Made]) -> list[Made]:
    """What `work` makes of each item. Of several processes each does its share, and all of them get all, in order."""
    if not (dist.is_available() and dist.is_initialized()):
        return [work(item) for item in items]
    processes, rank = dist.get_world_size(), dist.get_rank()
    parts: list[Any] = [None] * processes
    dist.all_gather_object(parts, [work(item) for item in items[rank::processes]])
    return [parts[place % processes][place // processes] for place in range(len(items))]


@dataclass(slots=True)
class _State:
    """Of this process, while it computes a loss together with others."""

    together: bool = False
    share: float = 1.0
    """Of the batch's rows, this process's."""
    spread: bool = False
    """Whether the other rows are those of other processes; else each process has all of them."""


_state = _State()


@contextmanager
def batch_of(accelerator: Accelerator, share: float, spread: bool) -> Iterator[None]:
    """Inside, all processes compute the loss of one batch: each of its own rows where it is `spread`, else of all.

    What a process finds counts for its `share`.
    """
    before = _state.together, _state.share, _state.spread
    several = accelerator.num_processes > 1
    _state.together, _state.share, _state.spread = several, share, several and spread
    try:
        yield
    finally:
        _state.together, _state.share, _state.spread = before


def is_spread() -> bool:
    """Whether this process has some rows of a batch, and others have the rest."""
    return _state.spread


def mean_over(mean: Tensor, count: Tensor | float) -> Tensor:
    """A term of a loss that is a mean over something else than rows: tokens, masked places, answers inside the text.

    `count` says over how many, or more generally what the sum was divided by. One process gets its mean back. Of
    several each counts for its share of the rows, so the mean is scaled until it counts for its share of those.
    """
    if not _state.spread:
        return mean
    own = torch.as_tensor(count, dtype=torch.float64, device=mean.device).detach()
    all_of_them = _reduced(own, dist.ReduceOp.SUM).clamp(min=torch.finfo(torch.float64).tiny)
    return mean * (own / (all_of_them * _state.share)).to(mean.dtype)


def total(values: Tensor) -> Tensor:
    """The sum over all rows of a batch of what is summed over this process's rows; the gradient goes back to all."""
    return _Total.apply(values) if _state.spread else values  # pyright: ignore[reportReturnType]


def mean_of_rows(values: Tensor) -> Tensor:
    """The mean over the rows of the whole batch. Shapes: [B, ...] -> [1, ...]."""
    if not _state.spread:
        return values.mean(0, keepdim=True)
    return total(values.sum(0, keepdim=True)) / total(values.new_tensor(float(len(values))))


def lowest(values: Tensor) -> Tensor:
    """The smallest of each value over all rows of a batch, without a gradient."""
    return _reduced(values, dist.ReduceOp.MIN) if _state.spread else values


def highest(values: Tensor) -> Tensor:
    """The largest of each value over all rows of a batch, without a gradient."""
    return _reduced(values, dist.ReduceOp.MAX) if _state.spread else values


def same(drawn: Tensor) -> Tensor:
    """What the main process has drawn at random, in all processes."""
    if _state.together:
        dist.broadcast(drawn, 0)
    return drawn


class _Total(torch.autograd.Function):
    """A sum over the processes; each of them adds its part of the loss, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _reduced(values, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return _reduced(grad_outputs[0], dist.ReduceOp.SUM)


def _reduced(values: Tensor, how: Any) -> Tensor:
    out = values.detach().clone().contiguous()
    dist.all_reduce(out, how)
    return out
