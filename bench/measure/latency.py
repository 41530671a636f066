"""How fast models are, against each other: rounds in which every model runs, in a random order, and their ratios.

Timing A and then B compares two moments of the machine. Here each round times all models within a short while, so
that drift of the machine falls on all of them alike and leaves the ratio, which is taken within the round.
The same callable under two names is an A/A pair: its interval shows what the machine can tell apart.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.core.collection import no_collection
from bench.core.errors import SpecError
from bench.core.stats import ratio_interval
from bench.models.flops import example_inputs


@dataclass(frozen=True, slots=True)
class Protocol:
    """How long to measure: untimed calls of each model first, then rounds of so many timed calls of each.

    Raises SpecError for a protocol that would time nothing.
    """

    warmup: int
    rounds: int
    calls_per_round: int = 1

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.rounds < 1 or self.calls_per_round < 1:
            raise SpecError("the timing protocol is impossible", found=self,
                            expected="warmup of at least 0, rounds and calls_per_round of at least 1")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ratio:
    """A speed-up: `value` with its 95% interval, and the paired ratio of each round."""

    value: float
    low: float
    high: float
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Median and tail of a list of timings, in the unit of the list."""

    p50: float
    p90: float
    p99: float


Timer = Callable[[int], list[float]]
"""Makes so many calls, one after another, and gives the seconds of each."""


def turns(timers: Mapping[str, Timer], calls: Mapping[str, int], seed: int = 0) -> Iterator[dict[str, list[float]]]:
    """Round after round, without end: each name takes its turn of so many calls, in an order drawn anew every round.

    The calls of one name stay together inside a round, since they show its steady state.
    Gives: name -> seconds of each of its calls in this round. Raises SpecError when there is nothing to time.
    """
    if not timers:
        raise SpecError("there is nothing to time", expected="at least one model")
    order, chance = list(timers), random.Random(seed)
    while True:
        chance.shuffle(order)
        yield {name: timers[name](calls[name]) for name in order}


def interleaved(
    callables: Mapping[str, Callable[[], object]],
    protocol: Protocol,
    *,
    seed: int = 0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, list[float]]:
    """Time all callables of this process in rounds; a name's value of a round is the median of its calls in it.

    `clock` counts nanoseconds. A call waits for its device by itself, as those of `inference` do.
    Units: seconds, one number per round. Raises SpecError when there is nothing to time.
    """
    for call in callables.values():
        for _ in range(protocol.warmup):
            call()
    timers = {name: timer(call, clock) for name, call in callables.items()}
    seconds: dict[str, list[float]] = {name: [] for name in callables}
    rounds = turns(timers, dict.fromkeys(callables, protocol.calls_per_round), seed)
    with no_collection():
        for found in itertools.islice(rounds, protocol.rounds):
            for name, timings in found.items():
                seconds[name].append(statistics.median(timings))
            gc.collect(1)
    return seconds


def timer(call: Callable[[], object], clock: Callable[[], int] = time.perf_counter_ns) -> Timer:
    """Times the calls of a callable, each by itself."""

    def once() -> float:
        start = clock()
        call()
        return (clock() - start) / 1e9

    return lambda number: [once() for _ in range(number)]


def device_timer(call: Callable[[], object], device: torch.device) -> Timer:
    """Times the calls of a callable where it runs: by the clock on a processor, by the GPU's own events on a GPU.

    The call need not wait for the GPU.
    """
    return event_timer(call, partial(torch.cuda.Event, enable_timing=True)) if device.type == "cuda" else timer(call)


def event_timer(call: Callable[[], object], event: Callable[[], Any]) -> Timer:
    """Times the calls of a callable between two events of a GPU, which is idle when the first is recorded.

    What the GPU waits for while the host sends kernel after kernel counts; waking the host afterwards does not.
    """

    def once() -> float:
        start, end = event(), event()
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3  # milliseconds

    return lambda number: [once() for _ in range(number)]


def speedup(reference: Sequence[float], candidate: Sequence[float]) -> Ratio:
    """How many times faster the candidate is: the geometric mean over rounds of reference / candidate.

    Both lists come from the same `interleaved` session, so that round i of one is paired with round i of the other.
    The interval is the 95% t interval of the mean log ratio: ratios multiply, and an interval of the logs holds its
    coverage where one of the ratios themselves does not.
    Raises SpecError for fewer than two rounds, lists of unequal length, or a timing that is not positive.
    """
    if len(reference) != len(candidate) or len(reference) < 2:
        raise SpecError("the timings cannot be paired", found=f"{len(reference)} and {len(candidate)} rounds",
                        expected="the same number of rounds, at least 2")  # fmt: skip
    if not all(math.isfinite(s) and s > 0 for s in (*reference, *candidate)):
        raise SpecError("a timing is not positive", found=min(*reference, *candidate), expected="seconds above 0",
                        fix="time a larger batch: this one is below the clock's resolution")  # fmt: skip
    samples = tuple(theirs / mine for theirs, mine in zip(reference, candidate, strict=True))
    return Ratio(*ratio_interval(samples), samples)


def percentiles(samples: Sequence[float]) -> Percentiles:
    """The median, the 90th and the 99th percentile, linear between samples. Raises SpecError without samples."""
    if not len(samples):
        raise SpecError("there are no timings", expected="at least one")
    p50, p90, p99 = (float(p) for p in np.percentile(np.asarray(samples, dtype=float), [50, 90, 99]))
    return Percentiles(p50, p90, p99)


def inference(
    model: nn.Module, batch_size: int, length: int, vocabulary: int, device: torch.device | str, *, seed: int = 0
) -> Callable[[], object]:
    """One forward pass on fixed random ids [B, L] without padding, tokenisation excluded; puts the model in eval mode.

    The call returns when the device is done, so it can be timed as it is. The model must already be on `device`.
    Raises SpecError and ModelError as `example_inputs` does.
    """
    place = torch.device(device)
    batch = example_inputs(model, batch_size, length, vocabulary, place, seed)
    model.eval()

    def forward() -> object:
        with torch.inference_mode():
            out = model(**batch)
        if place.type != "cpu":
            torch.accelerator.synchronize(place)
        return out

    return forward
