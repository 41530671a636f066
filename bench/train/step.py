"""One optimiser step, written once: every engine runs this code, operation by operation, recorded or compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bench.data.batches import Batch
from bench.train.feed import Part
from bench.train.precision import Precision
from bench.train.processes import batch_of
from bench.train.settings import Training

CLIP_EPS = 1e-6
"""What `clip_grad_norm_` adds to a norm."""

Loss = Callable[[nn.Module, Batch], dict[str, Tensor]]
"""(model, batch) -> named, already weighted scalar terms; what is minimised is their sum.

A term is a mean over the rows of the batch, or else says what it is a mean over: `processes.mean_over`.
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a batch costs."""

    own: Tensor
    """The part of this process, through which the gradient goes."""
    whole: Tensor
    """The sum of the parts of all processes."""
    terms: dict[str, Tensor]
    """Those of the whole batch."""


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

    def cost_of(self, batch: Batch, weight: float | Tensor, part: Part) -> Cost:
        """What a batch costs, times `weight`; `batch` lies on the device, `part` says which of all rows it holds."""
        device, several = self.accelerator.device, self.accelerator.num_processes > 1
        shared = batch_of(self.accelerator, part.share, part.spread) if several else nullcontext()
        with shared, self.precision.autocast(device):
            terms = self.loss(self.model, batch)
        own = sum(terms.values(), start=torch.zeros((), device=device)) * weight
        if not several:
            return Cost(own, own, terms)
        # All processes know the loss before anyone goes on: one that is not finite stops them at the same step.
        parts = torch.stack([term.detach().float() * part.share for term in terms.values()])
        sums = self.accelerator.reduce(parts, reduction="sum")
        assert isinstance(sums, Tensor)
        return Cost(own * part.share, sums.sum() * weight, dict(zip(terms, sums, strict=True)))

    def update(self, keep: bool = False) -> None:
        """Move the parameters by their gradients, summed over all processes, and forget those.

        With `keep` the gradients stay where they are and become 0.
        """
        if self.accelerator.num_processes > 1:
            _sum_over_processes(self.parameters, self.accelerator)
        move(self.optimizer, self.parameters, self.training)
        self.optimizer.zero_grad(set_to_none=not keep)


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


def move(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], training: Training) -> None:
    """Update, by gradients scaled down to the largest norm allowed, together or each tensor's by itself.

    torch's fused AdamW of the CPU divides the whole gradient while it reads it anyway, in place of a pass of its own.
    """
    scale = None
    if training.clip is not None and not training.clip_each and optimizer.defaults.get("fused") and _plain(parameters):
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        scale = ((norm + CLIP_EPS) / training.clip).clamp(min=1.0)
    else:
        clip_gradients(parameters, training)
    optimizer.grad_scale = scale  # pyright: ignore[reportAttributeAccessIssue]
    optimizer.step()


def _plain(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether they are of the only kind that the kernel scales: on a CPU, in fp32."""
    return all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)


def clip_gradients(parameters: Sequence[nn.Parameter], training: Training) -> None:
    """Scale the gradients down to the largest norm allowed, together or each tensor's by itself."""
    if training.clip is None:
        return
    for together in [[p] for p in parameters] if training.clip_each else [parameters]:
        torch.nn.utils.clip_grad_norm_(together, training.clip)


def _sum_over_processes(parameters: list[nn.Parameter], accelerator: Accelerator) -> None:
    """Sum every gradient over the processes, in one message.

    A parameter that has none in any process keeps none, so that the optimiser leaves it alone, as with one process.
    """
    has = torch.tensor([float(p.grad is not None) for p in parameters], device=accelerator.device)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    summed = accelerator.reduce(torch.cat([has, *[g.reshape(-1).float() for g in grads]]), reduction="sum")
    assert isinstance(summed, Tensor)
    found, *sums = summed.split([len(parameters), *[g.numel() for g in grads]])
    for p, grad, there, values in zip(parameters, grads, found.tolist(), sums, strict=True):
        p.grad = grad.copy_(values.view_as(grad)) if there else None
