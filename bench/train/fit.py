"""The only training loop. Papers differ by their losses, batches and settings, never by a loop of their own.

One code path for one process and many: every batch is the same global batch whatever the number of processes,
each process takes its share of the rows, every mean of a loss is that over all of them, and gradients are summed.
Refuses to go on after a non-finite loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from bench.core.errors import Diverged, Stopped, TrainError
from bench.data.batches import Batches
from bench.train import engine, stopping, words
from bench.train.checkpoint import Checkpointer, Position, random_states, set_random_states
from bench.train.engine import Engine
from bench.train.feed import Fed, feed
from bench.train.memory import peak_bytes, restart_peak
from bench.train.meter import Meter, every
from bench.train.optimizer import Groups, made
from bench.train.precision import choose
from bench.train.progress import Advance, Progress, silent
from bench.train.settings import Group, Training
from bench.train.step import Job, Loss, Rates


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
    engine: str
    """How the steps ran, and why so where another engine was asked for."""


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

    Raises Diverged at the first non-finite loss, naming the step and the loss terms: random numbers then go on as if it
    had not been tried, since how many steps were made before anyone looked depends on the clock. Raises TrainError for
    a group that decides no parameter, and where nothing is left to train. Raises Stopped for a signal, inside
    `stopping.stoppable`: after the optimiser step that runs, when a checkpoint of it is written, in all processes at
    the same step.
    """
    model.to(accelerator.device).train()
    on_cpu = accelerator.device.type == "cpu"
    with words.only_those_of(batches, model, training) if on_cpu else nullcontext() as table:
        of = _assigned(model, groups)
        with _frozen([parameter for parameter, group in of.items() if group.rate == 0]), stopping.held():
            before = random_states(accelerator.device)
            try:
                log = _fit(model, loss, batches, training, accelerator, of, checkpointer, progress)
            except Diverged:
                set_random_states(before, accelerator.device)
                raise
        if table is not None:
            table.decay = words.decay(training, of.get(table.weight), log.steps)
    return log


def _fit(
    model: nn.Module, loss: Loss, batches: Batches, training: Training, accelerator: Accelerator,
    of: Groups, checkpointer: Checkpointer | None, progress: Progress,
) -> FitLog:  # fmt: skip
    device, name = accelerator.device, engine.choose(training, accelerator.device, processes=accelerator.num_processes)
    _same_start(model, accelerator)
    optimizer = made(model, training, device, of)
    at = checkpointer.restore(accelerator, model, optimizer) if checkpointer else Position()
    batches = batches.of_few_shapes() if engine.records(name, accelerator) else batches
    steps = sum(math.ceil(len(batches.order(e)) / training.accumulation) for e in range(training.epochs))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    job = Job(model, loss, training, accelerator, choose(training.precision, device), optimizer, parameters, steps)
    restart_peak(device)
    with (
        engine.started(name, job) as run,
        closing(feed(batches, training, at, accelerator, fill=engine.records(name, accelerator))) as fed,
        progress(steps, at.step) as advance,
    ):
        _train(job, run, fed, at, checkpointer, advance)
        ran = run.says()
    optimizer.zero_grad()  # graphs leave zeros: the next training would take them for gradients, and decay by them
    assert at.step == steps, f"{at.step} optimiser steps were made, {steps} were planned"
    assert at.first_loss is not None and at.last_loss is not None
    return FitLog(steps, at.examples, at.seconds, at.first_loss, at.last_loss, peak_bytes(device), job.precision.name,
                  ran)  # fmt: skip


def _assigned(model: nn.Module, groups: Sequence[Group]) -> Groups:
    """The first group that matches each parameter. Raises TrainError for a group that is left without any."""
    of: Groups = {}
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


def _train(
    job: Job, run: Engine, fed: Iterable[Fed], at: Position, checkpointer: Checkpointer | None, advance: Advance
) -> None:
    """Go from `at` to the end; `at` says what is done, and after each look at the meter also what it cost."""
    before, started = at.seconds, time.monotonic()
    if checkpointer:
        checkpointer.written(started)
    meter = Meter(at, job.steps, every(job.accelerator.device))
    rates = Rates(job.optimizer, job.training, job.steps, job.accelerator.device)
    for one in fed:
        rates.set(at.step)
        with engine.told_of_memory(one):
            run.run(job, at.step, one, meter)
        at.step, at.epoch, at.position = at.step + 1, one.epoch, one.position
        at.examples += one.examples
        advance(1, meter.text)
        due = checkpointer is not None and checkpointer.due(time.monotonic())
        due, signum = _agreed(job.accelerator, due, stopping.pending())
        if due or signum or at.step == job.steps:
            with engine.told_of_memory(one):
                meter.look()
        at.seconds = before + time.monotonic() - started
        if checkpointer and (due or signum):
            checkpointer.save(job.accelerator, job.model, job.optimizer, at)
            checkpointer.written(time.monotonic())
        if signum:
            raise Stopped(signum)


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
    """Give every process the main process's parameters and buffers, and random numbers of its own for dropout."""
    if accelerator.num_processes > 1:
        with torch.no_grad():
            for tensor in model.state_dict().values():
                broadcast(tensor, from_process=0)
    if not accelerator.is_main_process:  # whose draws are those of a single process
        torch.manual_seed(torch.initial_seed() + accelerator.process_index)
