"""The only training loop. Papers differ by their losses, batches and settings, never by a loop of their own.

One code path for one process and many: every batch is the same global batch whatever the number of processes,
each process takes its share of the rows, and gradients are summed. Refuses to go on after a non-finite loss.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from bench.core.errors import Stopped, TrainError
from bench.data.batches import Batch, Batches
from bench.train import stopping
from bench.train.checkpoint import Checkpointer, Position
from bench.train.precision import Precision, choose
from bench.train.progress import Advance, Progress, silent
from bench.train.settings import Group, Training

Loss = Callable[[nn.Module, Batch], dict[str, Tensor]]
"""(model, batch) -> named, already weighted scalar terms; what is minimised is their sum."""

_Groups = dict[nn.Parameter, Group]
"""The group of each parameter that has one; by identity, as parameters hash."""


@dataclass(frozen=True, slots=True)
class FitLog:
    """What a training stage did; losses are those of the first and the last optimiser step."""

    steps: int
    examples: int
    seconds: float
    first_loss: float
    last_loss: float
    peak_bytes: int
    """Peak memory: of the device's allocator on a GPU, of the process (resident) on a CPU."""
    precision: str


@dataclass(frozen=True, slots=True)
class _Job:
    """What does not change while a loop runs."""

    model: nn.Module
    loss: Loss
    batches: Batches
    training: Training
    accelerator: Accelerator
    precision: Precision
    steps: int


def fit(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    training: Training,
    accelerator: Accelerator,
    *,
    groups: Sequence[Group] = (),
    checkpointer: Checkpointer | None = None,
    progress: Progress = silent,
) -> FitLog:
    """Train `model` in place and say what was done.

    With a checkpointer that holds a checkpoint, training resumes there and ends bit for bit as an uninterrupted
    run would on the same machine. Only parameters that require a gradient are trained; of `groups`, the first one that
    matches a parameter's name decides its rate, and a parameter that none matches has rate 1. What has rate 0 needs no
    gradient while this runs (buffers and dropout are as in training all the same).

    Raises TrainError at the first non-finite loss, naming the step and the loss terms; for a group that decides no
    parameter; and where nothing is left to train. Raises Stopped for a signal, inside `stopping.stoppable`: after the
    optimiser step that runs, when a checkpoint of it is written, in all processes at the same step.
    """
    model.to(accelerator.device).train()
    of = _assigned(model, groups)
    with _frozen([parameter for parameter, group in of.items() if group.rate == 0]), stopping.held():
        return _fit(model, loss, batches, training, accelerator, of, checkpointer, progress)


def _fit(
    model: nn.Module, loss: Loss, batches: Batches, training: Training, accelerator: Accelerator,
    of: _Groups, checkpointer: Checkpointer | None, progress: Progress,
) -> FitLog:  # fmt: skip
    _same_start(model, accelerator)
    optimizer = _adamw(model, training, accelerator.device, of)
    at = checkpointer.restore(accelerator, model, optimizer) if checkpointer else Position()
    steps = sum(math.ceil(len(batches.order(e)) / training.accumulation) for e in range(training.epochs))
    if training.compile:
        _compile(model)
    precision = choose(training.precision, accelerator.device)
    job = _Job(model, loss, batches, training, accelerator, precision, steps)
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(accelerator.device)
    with progress(steps, at.step) as advance:
        _train(job, optimizer, at, checkpointer, advance)
    assert at.step == steps, f"{at.step} optimiser steps were made, {steps} were planned"
    assert at.first_loss is not None and at.last_loss is not None
    peak = peak_bytes(accelerator.device)
    return FitLog(steps, at.examples, at.seconds, at.first_loss, at.last_loss, peak, job.precision.name)


def peak_bytes(device: torch.device) -> int:
    """Peak memory so far: of the device's allocator on a GPU, of the resident process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _compile(model: nn.Module) -> None:
    """In place, the encoder too: a loss that calls a part of the model by itself runs compiled code as well."""
    for module in dict.fromkeys((model, getattr(model, "base_model", model))):
        module.compile(dynamic=True)


def _assigned(model: nn.Module, groups: Sequence[Group]) -> _Groups:
    """The first group that matches each parameter. Raises TrainError for a group that is left without any."""
    of: _Groups = {}
    names = [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        found = next((group for group in groups if fnmatchcase(name, group.match)), None)
        if found is not None:
            of[parameter] = found
    for group in groups:
        if not any(group is one for one in of.values()):
            taken = sum(fnmatchcase(name, group.match) for name in names)
            raise TrainError("a group decides no parameter", where=f"match {group.match!r}",
                             found=f"{taken} names that match, all in earlier groups" if taken else "no such name",
                             expected=f"a glob over names like {', '.join(names[:1])}")  # fmt: skip
    return of


@contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    """These need no gradient inside; afterwards those need one that did before."""
    needed = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in needed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in needed:
            parameter.requires_grad_(True)


def _adamw(model: nn.Module, training: Training, device: torch.device, of: _Groups) -> torch.optim.AdamW:
    """Fused AdamW; vectors (biases, LayerNorms) are not decayed. `rate` of its groups is the share of the schedule."""
    parts: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            group = of.get(parameter)
            decay = training.weight_decay if group is None or group.weight_decay is None else group.weight_decay
            key = (1.0 if group is None else group.rate, decay if parameter.ndim >= 2 else 0.0)
            parts.setdefault(key, []).append(parameter)
    if not parts:
        raise TrainError("there is nothing to train", found="every parameter is frozen",
                         fix="give a group a rate above 0")  # fmt: skip
    return torch.optim.AdamW(
        [{"params": part, "rate": rate, "weight_decay": decay} for (rate, decay), part in parts.items()],
        lr=training.lr, betas=training.betas, eps=training.eps, fused=device.type in ("cpu", "cuda"),
    )  # fmt: skip


def _train(
    job: _Job, optimizer: torch.optim.Optimizer, at: Position, checkpointer: Checkpointer | None, advance: Advance
) -> None:
    """Go from `at` to the end; `at` always says what is done, so a checkpoint of it is exact."""
    before, started = at.seconds, time.monotonic()
    if checkpointer:
        checkpointer.written(started)
    size = job.training.accumulation
    while at.epoch < job.training.epochs:
        order = job.batches.order(at.epoch)
        for start in range(at.position, len(order), size):
            micro = order[start : start + size]
            value = _step(job, optimizer, at, start, micro)
            at.step, at.position = at.step + 1, start + len(micro)
            at.examples += sum(len(indices) for indices in micro)
            at.first_loss = value if at.first_loss is None else at.first_loss
            at.last_loss, at.seconds = value, before + time.monotonic() - started
            advance(1, f"loss {value:.4f}")
            due = checkpointer is not None and checkpointer.due(time.monotonic())
            due, signum = _agreed(job.accelerator, due, stopping.pending())
            if checkpointer and (due or signum):
                checkpointer.save(job.accelerator, job.model, optimizer, at)
                checkpointer.written(time.monotonic())
            if signum:
                raise Stopped(signum)
        at.epoch, at.position = at.epoch + 1, 0


def _step(job: _Job, optimizer: torch.optim.Optimizer, at: Position, start: int, micro: list[np.ndarray]) -> float:
    """One optimiser step over the batches from position `start` of the epoch; returns the loss."""
    training, accelerator = job.training, job.accelerator
    for group in optimizer.param_groups:
        group["lr"] = training.lr_at(at.step, job.steps) * group["rate"]
    total = torch.zeros((), device=accelerator.device)
    for offset, indices in enumerate(micro):
        batch, weight = _share(job.batches.batch(at.epoch, start + offset, indices), accelerator)
        with job.precision.autocast(accelerator.device):
            terms = job.loss(job.model, batch)
        loss = sum(terms.values(), start=torch.zeros((), device=accelerator.device)) * (weight / len(micro))
        if not bool(torch.isfinite(loss)):
            shown = ", ".join(f"{name} {term.detach().item():.4g}" for name, term in terms.items())
            raise TrainError(f"the loss is not finite at step {at.step} of {job.steps}", found=shown,
                             expected="finite terms", fix="lower the learning rate or use fp32")  # fmt: skip
        accelerator.backward(loss)
        total += loss.detach()
    parameters = [p for p in job.model.parameters() if p.requires_grad]
    if accelerator.num_processes > 1:
        total = _sum_over_processes(total, parameters, accelerator)
    clip_gradients(parameters, training)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(total)


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


def _agreed(accelerator: Accelerator, due: bool, signum: int) -> tuple[bool, int]:
    """Whether the main process has a checkpoint due, and the signal of any process, or 0: the same in all of them.

    So all write a checkpoint, and stop, at the same step.
    """
    if accelerator.num_processes == 1:
        return due, signum
    answers = accelerator.gather(torch.tensor([[int(due), signum]], device=accelerator.device))
    assert isinstance(answers, Tensor)
    dues, signals = answers.T.tolist()
    return bool(dues[0]), max(signals)


def _same_start(model: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the main process's parameters and buffers."""
    if accelerator.num_processes > 1:
        with torch.no_grad():
            for tensor in model.state_dict().values():
                broadcast(tensor, from_process=0)


def _share(batch: Batch, accelerator: Accelerator) -> tuple[Batch, float]:
    """This process's rows of a batch, and the weight that makes the sum over processes the batch's mean.

    Exact for losses that are means over rows; a mean over tokens is weighted by rows, which is close for rows of
    one length bin.
    """
    if accelerator.num_processes == 1:
        return {name: tensor.to(accelerator.device) for name, tensor in batch.items()}, 1.0
    rows = len(batch["input_ids"])
    mine = torch.arange(accelerator.process_index, rows, accelerator.num_processes)
    weight = len(mine) / rows
    if len(mine) == 0:
        mine = torch.zeros(1, dtype=torch.long)  # a row that counts nothing keeps the processes in step
    return {name: tensor[mine].to(accelerator.device) for name, tensor in batch.items()}, weight
