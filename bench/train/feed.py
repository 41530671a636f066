"""What comes next in a training: the batches of each optimiser step, made before they are asked for where that helps.

A batch is a pure function of its place in the training, so it does not matter who makes it, or when.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from bench.data.batches import Batch, Batches
from bench.data.positions import filled, of_rows
from bench.models.outputs import Moved
from bench.train.checkpoint import Position
from bench.train.settings import Training

Item = TypeVar("Item")
AHEAD = 4
"""Optimiser steps whose batches are ready before they are needed."""


@dataclass(frozen=True, slots=True)
class Part:
    """This process's part of a batch."""

    batch: Batch
    share: float = 1.0
    """Of the rows of the whole batch."""
    spread: bool = False
    """Whether other processes have other rows; where a batch has fewer rows than processes, each has all of them."""


@dataclass(frozen=True, slots=True)
class Fed:
    """The batches of one optimiser step: those of this process, on the host."""

    epoch: int
    position: int
    """Batches of the epoch that are done after this step."""
    examples: int
    """Rows of all processes."""
    parts: tuple[Part, ...]


def feed(
    batches: Batches, training: Training, at: Position, accelerator: Accelerator, fill: bool
) -> Generator[Fed, None, None]:
    """From `at` to the end. `fill` makes batches of few shapes. Close it: a thread may stand behind it."""
    made = _made(batches, training, at, accelerator, fill)
    return ahead(made, AHEAD, on(accelerator.device)) if accelerator.device.type == "cuda" else made


def _made(
    batches: Batches, training: Training, at: Position, accelerator: Accelerator, fill: bool
) -> Generator[Fed, None, None]:
    size, begin = training.accumulation, at.position
    for epoch in range(at.epoch, training.epochs):
        order = batches.order(epoch)
        for start in range(begin, len(order), size):
            micro = order[start : start + size]
            parts: list[Part] = []
            for offset, indices in enumerate(micro):
                part = share(batches.batch(epoch, start + offset, indices), accelerator)
                batch = pinned(filled(part.batch) if fill else part.batch, accelerator.device)
                parts.append(replace(part, batch=batch))
            yield Fed(epoch, start + len(micro), sum(len(indices) for indices in micro), tuple(parts))
        begin = 0


def share(batch: Batch, accelerator: Accelerator) -> Part:
    """This process's rows of a batch. Those of all processes are the batch, each row once.

    A batch of fewer rows than processes is not split: each process does all of it and counts for its part.
    """
    rows, processes = len(batch["input_ids"]), accelerator.num_processes
    if processes == 1:
        return Part(batch)
    if rows < processes:
        return Part(batch, 1 / processes)
    mine = torch.arange(accelerator.process_index, rows, processes)
    return Part(of_rows(batch, mine), len(mine) / rows, spread=True)


def pinned(batch: Batch, device: torch.device) -> Batch:
    """The same batch where a GPU can fetch it while the host goes on; for other devices as it is."""
    return {name: tensor.pin_memory() for name, tensor in batch.items()} if device.type == "cuda" else batch


def moved(batch: Batch, device: torch.device) -> Batch:
    """A batch of the host on a device, without waiting for it where its memory is pinned."""
    if device.type == "cpu":
        return batch
    padded = not bool(batch["attention_mask"].all())
    found: dict[str, Tensor] = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    return Moved(found, padded=padded)


def on(device: torch.device) -> Callable[[], None]:
    """Makes a GPU the current one of a thread, which begins with the first."""
    index = torch.cuda.current_device() if device.index is None else device.index
    return lambda: torch.cuda.set_device(index)


def ahead(items: Iterable[Item], depth: int, begin: Callable[[], None] = lambda: None) -> Generator[Item, None, None]:
    """The same items in the same order, up to `depth` of them made by a thread before they are asked for.

    What making one raises is raised where it would have been handed out. Closing it ends the thread; `begin` is called
    in the thread first of all.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            begin()
            for item in items:
                if stop.is_set():
                    return
                put(item, None)
        except BaseException as error:
            return put(None, error)
        put(None, StopIteration())

    thread = threading.Thread(target=work, name="feed", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        stop.set()
        thread.join()
