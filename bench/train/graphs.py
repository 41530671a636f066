"""Whole optimiser steps as CUDA graphs: one per shape of batch, replayed by one call in place of a thousand launches.

Where a step takes several batches, a graph holds one batch's forward and backward pass, and gradients stay in place.
The first steps of a shape run one operation after another: they are steps of the training like all others, and warm up
what a recording must not do (handles, the optimizer's state). Recording runs nothing, so it leaves no trace in the
model, the optimizer or the random numbers; a replay draws dropout from the default generator, as the steps before it.
All steps run on one stream, and all graphs share one memory pool: no graph reads what another one left in it.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.data.batches import Batch
from bench.train.feed import Fed, Part, moved
from bench.train.meter import Meter, stacked
from bench.train.step import Job

log = logging.getLogger(__name__)

WARM = 3
"""Steps of a shape that run before it is recorded."""
MOST = 16
"""Shapes that are recorded; others are rare."""

Shape = tuple[object, ...]
Cost = tuple[tuple[str, ...], Tensor]
"""The names of a loss's terms, and the loss and its terms: [1 + T]."""
Runs = Callable[[Job, Batch, float | Tensor], Cost]
"""(job, batch on the device, weight of its loss) -> what it cost: `whole` or `part`."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    inputs: Batch
    """What a replay reads: the tensors that each batch is copied into."""
    weight: Tensor
    """[]: of its loss."""
    names: tuple[str, ...]
    values: Tensor
    """[1 + T]: loss and terms of the last replay."""


@dataclass(slots=True)
class Graphs:
    """The graphs of one training."""

    device: torch.device
    stream: torch.cuda.Stream
    alone: str
    """What steps run by that are not recorded: `eager` or `compile`."""
    refused: str = ""
    """Why nothing is recorded any more."""
    _pool: object = None
    _recorded: dict[Shape, _Recorded] = field(default_factory=dict)
    _seen: Counter[Shape] = field(default_factory=Counter)
    _replays: int = 0

    @classmethod
    @contextmanager
    def on(cls, device: torch.device, alone: str) -> Iterator[Graphs]:
        """Steps inside run on a stream of their own: what is recorded must not meet the default stream."""
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            graphs = cls(device, stream, alone, _pool=torch.cuda.graph_pool_handle())
            try:
                yield graphs
            finally:
                with suppress(torch.AcceleratorError):  # whoever waited first has told of it
                    stream.synchronize()
                graphs._recorded.clear()
        torch.cuda.current_stream(device).wait_stream(stream)

    def run(self, job: Job, step: int, fed: Fed, meter: Meter) -> None:
        """One step: a replay where its shape is recorded."""
        if job.training.accumulation == 1:
            names, values = self._one(job, whole, fed.parts[0].batch, 1.0)
            meter.kept(step, names, values)
            meter.ended(values[0])
            return
        total = torch.zeros((), device=self.device)
        for one in fed.parts:
            names, values = self._one(job, part, one.batch, 1 / len(fed.parts))
            meter.kept(step, names, values)
            total += values[0]
        job.update(keep=bool(self._recorded))  # replays add to gradients that stay in their place
        meter.ended(total)

    def _one(self, job: Job, runs: Runs, host: Batch, weight: float) -> Cost:
        """One batch."""
        shape = shape_of(host)
        self._seen[shape] += 1
        if shape not in self._recorded and self._seen[shape] > WARM and self._may():
            self._record(job, runs, shape, host)
        if shape in self._recorded:
            return self._replay(self._recorded[shape], host, weight)
        if self._seen[shape] == WARM and self._may():
            return self._watched(job, runs, host, weight)
        return runs(job, moved(host, self.device), weight)

    def says(self) -> str:
        done = sum(self._seen.values())
        if self.refused and not self._replays:
            return f"{self.alone} (no graph: {self.refused})"
        named = "graph" if self.alone == "eager" else f"{self.alone}, graph"
        if self.refused:
            return f"{named} ({self._replays} of {done} batches; then none was recorded any more: {self.refused})"
        return f"{named} ({self._replays} of {done} batches by {len(self._recorded)} graphs)"

    def _may(self) -> bool:
        return not self.refused and len(self._recorded) < MOST

    def _replay(self, recorded: _Recorded, host: Batch, weight: float) -> Cost:
        for name, tensor in host.items():
            recorded.inputs[name].copy_(tensor, non_blocking=True)
        recorded.weight.fill_(weight)
        recorded.graph.replay()
        self._replays += 1
        return recorded.names, recorded.values.clone()

    def _watched(self, job: Job, runs: Runs, host: Batch, weight: float) -> Cost:
        """A step that is watched: one that waits for the device can never be recorded."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                done = runs(job, moved(host, self.device), weight)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits = [one for one in seen if "called a synchronizing" in str(one.message)]
        if waits:
            self._refuse(f"a step waits for the device in {waits[0].filename.rpartition('/')[2]}:{waits[0].lineno}")
        return done

    def _record(self, job: Job, runs: Runs, shape: Shape, host: Batch) -> None:
        inputs, weight = moved(host, self.device), torch.ones((), device=self.device)
        graph = torch.cuda.CUDAGraph()
        held = len(job.optimizer.state)
        if runs is part:
            _given_gradients(job)
        try:
            # Other threads may use the device meanwhile: one pins the memory of the batches to come.
            with torch.cuda.graph(graph, pool=self._pool, stream=self.stream, capture_error_mode="thread_local"):  # pyright: ignore[reportArgumentType]
                names, values = runs(job, inputs, weight)
        except RuntimeError as error:
            if runs is whole:
                job.optimizer.zero_grad(set_to_none=True)  # they lie in the memory of what was not recorded
            self._recover(str(error.__context__ or error))  # ending a broken recording raises another one
            return
        assert len(job.optimizer.state) == held, "warming up fills the optimizer's state"
        self._recorded[shape] = _Recorded(graph, inputs, weight, names, values)

    def _recover(self, why: str) -> None:
        """After a failed recording: forget the others, and a generator that believes it is still recorded."""
        self._recorded.clear()
        torch.cuda.synchronize(self.device)
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        generator = torch.cuda.default_generators[index]
        generator.graphsafe_set_state(generator.clone_state())
        self._refuse(why.strip().splitlines()[0][:120] if why.strip() else "recording failed")

    def _refuse(self, why: str) -> None:
        self.refused = why
        log.warning("engine=graph refused=%r", why)


def _given_gradients(job: Job) -> None:
    """Zeros for what has none yet and will get some: a recorded part adds to a gradient, it makes none."""
    for parameter in job.parameters:
        if parameter.grad is None and parameter in job.optimizer.state:
            parameter.grad = torch.zeros_like(parameter)


def whole(job: Job, batch: Batch, weight: float | Tensor) -> Cost:
    """A whole step: forward, backward, clipping and update."""
    names, values = part(job, batch, weight)
    job.update()
    return names, values


def part(job: Job, batch: Batch, weight: float | Tensor) -> Cost:
    """A batch's part of a step: forward and backward; gradients are added to those that are there."""
    cost = job.cost_of(batch, weight, Part(batch))
    cost.own.backward()
    return tuple(cost.terms), stacked(cost.own, cost.terms)


def shape_of(batch: Batch) -> Shape:
    """What a graph is recorded for: the sizes of all tensors of a batch, and whether it has padding."""
    return (bool(batch["attention_mask"].all()), *((name, tuple(tensor.shape)) for name, tensor in batch.items()))
