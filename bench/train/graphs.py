"""Whole optimiser steps as CUDA graphs: one per shape of batch, replayed by one call in place of a thousand launches.

The first steps of a shape run one operation after another: they are steps of the training like all others, and warm up
what a recording must not do (handles, the optimizer's state). Recording runs nothing, so it leaves no trace in the
model, the optimizer or the random numbers; a replay draws dropout from the default generator, as the steps before it.
All steps run on one stream, and all graphs share one memory pool: no graph reads what another one left in it.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.data.batches import Batch
from bench.train.feed import Fed, moved
from bench.train.meter import Meter, stacked
from bench.train.step import Job

log = logging.getLogger(__name__)

WARM = 3
"""Steps of a shape that run before it is recorded."""
MOST = 16
"""Shapes that are recorded; others are rare."""

Shape = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    inputs: Batch
    """What a replay reads: the tensors that each batch is copied into."""
    names: tuple[str, ...]
    values: Tensor
    """[1 + T]: loss and terms of the last replay."""


@dataclass(slots=True)
class Graphs:
    """The graphs of one training."""

    device: torch.device
    stream: torch.cuda.Stream
    refused: str = ""
    """Why nothing is recorded any more."""
    _pool: object = None
    _recorded: dict[Shape, _Recorded] = field(default_factory=dict)
    _seen: Counter[Shape] = field(default_factory=Counter)
    _replays: int = 0

    @classmethod
    @contextmanager
    def on(cls, device: torch.device) -> Iterator[Graphs]:
        """Steps inside run on a stream of their own: what is recorded must not meet the default stream."""
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            graphs = cls(device, stream, _pool=torch.cuda.graph_pool_handle())
            try:
                yield graphs
            finally:
                stream.synchronize()
                graphs._recorded.clear()
        torch.cuda.current_stream(device).wait_stream(stream)

    def run(self, job: Job, step: int, fed: Fed, meter: Meter) -> None:
        """One step: a replay where its shape is recorded."""
        ((host, share),) = fed.parts
        assert share == 1.0, "one process"
        shape = shape_of(host)
        self._seen[shape] += 1
        if shape not in self._recorded and self._seen[shape] > WARM and self._may():
            self._record(job, shape, host)
        if shape in self._recorded:
            names, values = self._replay(self._recorded[shape], host)
        else:
            look = self._seen[shape] == WARM and self._may()
            names, values = self._watched(job, host) if look else whole(job, moved(host, self.device))
        meter.kept(step, names, values)
        meter.ended(values[0])

    def says(self) -> str:
        done = sum(self._seen.values())
        counted = f"{self._replays} of {done} steps by {len(self._recorded)} graphs"
        return f"eager (no graph: {self.refused})" if self.refused else f"graph ({counted})"

    def _may(self) -> bool:
        return not self.refused and len(self._recorded) < MOST

    def _replay(self, recorded: _Recorded, host: Batch) -> tuple[tuple[str, ...], Tensor]:
        for name, tensor in host.items():
            recorded.inputs[name].copy_(tensor, non_blocking=True)
        recorded.graph.replay()
        self._replays += 1
        return recorded.names, recorded.values.clone()

    def _watched(self, job: Job, host: Batch) -> tuple[tuple[str, ...], Tensor]:
        """A step that is watched: one that waits for the device can never be recorded."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                done = whole(job, moved(host, self.device))
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits = [one for one in seen if "called a synchronizing" in str(one.message)]
        if waits:
            self._refuse(f"a step waits for the device in {waits[0].filename.rpartition('/')[2]}:{waits[0].lineno}")
        return done

    def _record(self, job: Job, shape: Shape, host: Batch) -> None:
        inputs = moved(host, self.device)
        graph = torch.cuda.CUDAGraph()
        held = len(job.optimizer.state)
        try:
            # Other threads may use the device meanwhile: one pins the memory of the batches to come.
            with torch.cuda.graph(graph, pool=self._pool, stream=self.stream, capture_error_mode="thread_local"):  # pyright: ignore[reportArgumentType]
                names, values = whole(job, inputs)
        except RuntimeError as error:
            self._recover(job, str(error.__context__ or error))  # ending a broken recording raises another one
            return
        assert len(job.optimizer.state) == held, "warming up fills the optimizer's state"
        self._recorded[shape] = _Recorded(graph, inputs, names, values)

    def _recover(self, job: Job, why: str) -> None:
        """After a failed recording: forget its gradients, and a generator that believes it is still recorded."""
        job.optimizer.zero_grad(set_to_none=True)
        self._recorded.clear()
        torch.cuda.synchronize(self.device)
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        generator = torch.cuda.default_generators[index]
        generator.graphsafe_set_state(generator.clone_state())
        self._refuse(why.strip().splitlines()[0][:120] if why.strip() else "recording failed")

    def _refuse(self, why: str) -> None:
        self.refused = why
        log.warning("engine=graph refused=%r", why)


def whole(job: Job, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
    """A whole step: forward, backward, clipping and update; the names of its terms, and loss and terms [1 + T]."""
    loss, terms = job.loss_of(batch, 1.0)
    loss.backward()
    values = stacked(loss, terms)
    job.update(loss.detach())
    return tuple(terms), values


def shape_of(batch: Batch) -> Shape:
    """What a graph is recorded for: the sizes of all tensors of a batch, and whether it has padding."""
    return (bool(batch["attention_mask"].all()), *((name, tuple(tensor.shape)) for name, tensor in batch.items()))
