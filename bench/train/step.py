"""One optimiser step, written once: every engine runs this code, operation by operation, recorded or compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bench.data.batches import Batch
from bench.train.precision import Precision
from bench.train.settings import Training

Loss = Callable[[nn.Module, Batch], dict[str, Tensor]]
"""(model, batch) -> named, already weighted scalar terms; what is minimised is their sum."""


@dataclass(frozen=True, slots=True)
class Job:
    """What does not change while a training runs."""

    model: nn.Module
    loss: Loss
    training: Training
    accelerator: Accelerator
    precision: Precision
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    """Those that are trained."""
    steps: int
    """Optimiser steps in all."""

    def loss_of(self, batch: Batch, share: float | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`share` of the loss of a batch, and its terms."""
        device = self.accelerator.device
        with self.precision.autocast(device):
            terms = self.loss(self.model, batch)
        return sum(terms.values(), start=torch.zeros((), device=device)) * share, terms

    def update(self, total: Tensor, keep: bool = False) -> Tensor:
        """Move the parameters by their gradients, and forget those; the loss of the step, over all processes.

        With `keep` the gradients stay where they are and become 0.
        """
        if self.accelerator.num_processes > 1:
            total = _sum_over_processes(total, self.parameters, self.accelerator)
        clip_gradients(self.parameters, self.training)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=not keep)
        return total


class Rates:
    """The learning rate of each group of parameters at each step; on a GPU tensors, which no step has to wait for."""

    def __init__(self, optimizer: torch.optim.Optimizer, training: Training, steps: int, device: torch.device):
        self._groups, self._training, self._steps = optimizer.param_groups, training, steps
        self._now: Tensor | None = None
        if device.type == "cuda":
            every = torch.tensor([training.lr_at(step, steps) for step in range(steps)], dtype=torch.float64)
            of = torch.tensor([group["rate"] for group in self._groups], dtype=torch.float64)
            self._table = (every[:, None] * of[None, :]).float().to(device)
            self._now = torch.zeros(len(of), device=device)
            for group, rate in zip(self._groups, self._now.unbind(), strict=True):
                group["lr"] = rate

    def set(self, step: int) -> None:
        """The rates of this step, from now on."""
        if self._now is not None:
            self._now.copy_(self._table[step])
            return
        for group in self._groups:
            group["lr"] = self._training.lr_at(step, self._steps) * group["rate"]


def clip_gradients(parameters: Sequence[nn.Parameter], training: Training) -> None:
    """Scale the gradients down to the largest norm allowed, together or each tensor's by itself."""
    if training.clip is None:
        return
    for together in [[p] for p in parameters] if training.clip_each else [parameters]:
        torch.nn.utils.clip_grad_norm_(together, training.clip)


def _sum_over_processes(loss: Tensor, parameters: list[nn.Parameter], accelerator: Accelerator) -> Tensor:
    """Sum the loss and every gradient over the processes, in one message."""
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([loss.reshape(1), *[g.reshape(-1) for g in grads]])
    summed = accelerator.reduce(flat, reduction="sum")
    assert isinstance(summed, Tensor)
    done = 1
    for g in grads:
        g.copy_(summed[done : done + g.numel()].view_as(g))
        done += g.numel()
    return summed[0]
