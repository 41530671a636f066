"""How the steps of a training run: one operation after another, as CUDA graphs of whole steps, or compiled.

What was asked for runs, or it fails; where a recipe's loss cannot be recorded in a graph, its steps run one operation
after another, and the record says so and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from bench.core.errors import DeviceError, TrainError
from bench.models.device import lacks_for_compile
from bench.train.cpu import cheaper
from bench.train.feed import Fed, moved
from bench.train.graphs import Graphs
from bench.train.meter import Meter
from bench.train.settings import Settings, Training
from bench.train.step import Job

Name = Literal["eager", "graph", "compile"]


class Engine(Protocol):
    """Runs optimiser steps."""

    def run(self, job: Job, step: int, fed: Fed, meter: Meter) -> None:
        """One step, and what it cost; nobody waits for the device."""
        ...

    def says(self) -> str:
        """For the record: what ran, and why so where another engine was asked for."""
        ...


def choose(training: Training, device: torch.device, where: str = "...", processes: int = 1) -> Name:
    """The engine that was asked for; of one process on a GPU graphs, unless another one is.

    Graphs make the same bits as single operations, and a stop and a resume change none: tests/benchmarks/gpu.py checks
    both, and gpu-h100.json and gpu-h200.json beside it are what it found. There graphs are several times as fast where
    launches took the time, and as fast where the largest batches of distillation fill the device.
    `where` names the training in a message. Raises DeviceError where the device, the machine or several processes have
    not what was asked for.
    """
    asked, fix = training.engine, f"--set {where}.engine=auto"
    if asked == "graph" and device.type != "cuda":
        raise DeviceError("the engine graph was asked for", where=f"{where}.engine", found=f"a {device.type} device",
                          expected="a CUDA GPU", fix=fix)  # fmt: skip
    if asked == "graph" and processes > 1:
        raise DeviceError("the engine graph was asked for", where=f"{where}.engine", found=f"{processes} processes",
                          expected="one", fix=fix)  # fmt: skip
    lacks = lacks_for_compile(device) if asked == "compile" else None
    if lacks:
        raise DeviceError("the engine compile was asked for", where=f"{where}.engine", found=lacks[0],
                          fix=f"{lacks[1]}, or {fix}")  # fmt: skip
    if asked == "auto":
        return "graph" if device.type == "cuda" and processes == 1 else "eager"
    return asked


def check(settings: Settings) -> None:
    """Refuse, before anything runs, an engine that this machine has not. Raises DeviceError as `choose`."""
    for name, training in settings.trainings():
        if training.engine not in ("auto", "eager"):
            choose(training, Accelerator().device, name, Accelerator().num_processes)


def records(name: Name, accelerator: Accelerator) -> bool:
    """Whether an engine records graphs, and so takes batches of few shapes: compiled steps too, of one process."""
    alone = accelerator.num_processes == 1
    return name == "graph" or (name == "compile" and alone and accelerator.device.type == "cuda")


@contextmanager
def started(name: Name, job: Job) -> Iterator[Engine]:
    """The engine of a training."""
    with compiled_in_place(job.model) if name == "compile" else nullcontext(), _of_device(name, job) as engine:
        yield engine


@contextmanager
def _of_device(name: Name, job: Job) -> Iterator[Engine]:
    device = job.accelerator.device
    alone = "compile" if name == "compile" else "eager"
    if not records(name, job.accelerator):
        with cheaper(job.model) if name == "eager" and device.type == "cpu" else nullcontext():
            yield Eager(alone)
        return
    with Graphs.on(device, alone) as graphs:
        yield graphs


class Eager:
    """One operation after another."""

    def __init__(self, name: str = "eager"):
        self._name = name

    def run(self, job: Job, step: int, fed: Fed, meter: Meter) -> None:
        device = job.accelerator.device
        total = torch.zeros((), device=device)
        for part in fed.parts:
            cost = job.cost_of(moved(part.batch, device), 1 / len(fed.parts), part)
            meter.saw(step, cost.whole, cost.terms)
            cost.own.backward()
            total += cost.whole.detach()
        job.update()
        meter.ended(total)

    def says(self) -> str:
        return self._name


@contextmanager
def compiled_in_place(model: nn.Module) -> Iterator[None]:
    """Its calls run compiled code inside, and those of its encoder: a loss may call a part of the model by itself."""
    modules = dict.fromkeys((model, getattr(model, "base_model", model)))
    for module in modules:
        module.compile(dynamic=True)
    try:
        yield
    finally:
        for module in modules:
            module._compiled_call_impl = None  # torch has no public way back


@contextmanager
def told_of_memory(fed: Fed) -> Iterator[None]:
    """Turns what a device says when it fails into one line. Raises TrainError."""
    shape = " x ".join(map(str, fed.parts[0].batch["input_ids"].shape))
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainError("the device has no memory left for a batch", found=f"{shape} tokens",
                         fix="lower batch_size or batch_tokens with --set") from error  # fmt: skip
    except torch.AcceleratorError as error:
        raise TrainError("the device failed in a step", found=str(error).splitlines()[0],
                         fix="see that the device works, then run again: progress is saved") from error  # fmt: skip
