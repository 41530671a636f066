"""A timing session: one child process per model, and rounds in which all of them take their turn.

Every round times every model within a short while, so that the machine's drift falls on all alike; a ratio is taken
within the round. The reference runs twice, as itself and as its twin: what tells the two apart is the noise floor.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import IO, Any, cast

from bench.core import errors
from bench.core.errors import DeviceError
from bench.measure.latency import Percentiles, Ratio, Timer, percentiles, speedup, turns

TWIN = "(twin)"
"""The name of the reference's second process."""

WIDE = 0.10
"""An A/A interval wider than this share means that the session was too noisy to tell much."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a session measures: rounds at least, seconds per turn, warm calls; then on until a ratio is narrow."""

    rounds: int = 20
    turn_s: float = 0.3
    warm_calls: int = 10
    until: float | None = None
    """Go on until every ratio's 95% interval is within this share of it."""
    minutes: float = 10.0
    """The most that `until` may take per shape."""


FULL = Effort()
QUICK = Effort(rounds=5, turn_s=0.1, warm_calls=3)
"""Enough for a first look; recorded as reduced."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """One model under one backend."""

    paper: str
    variant: str
    backend: str = "eager"


@dataclass(frozen=True, slots=True)
class Timing:
    """What a session says of one subject at one shape [B, L]; times in seconds."""

    subject: Subject
    batch: int
    length: int
    rounds: tuple[float, ...]
    """The median call of each round."""
    calls: Percentiles
    """Over all calls."""
    ratio: Ratio | None
    """How many times faster than the reference; None of the reference itself."""
    first_s: float
    """The first call, compilation included."""
    difference: float
    """Largest difference of the logits from eager's on the same input."""
    flops: int
    floor: Ratio
    """The session's A/A pair at this shape: the twin's ratio to the reference."""

    @property
    def noisy(self) -> bool:
        return self.floor.high / self.floor.low - 1 > WIDE


class Worker:
    """The parent's end of a child process; use as a context."""

    def __init__(self, subject: Subject, threads: int):
        self.subject, self.threads = subject, threads

    def __enter__(self) -> Worker:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(self.threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.measure.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.__exit__(kind, error, at)

    def order(self, **order: Any) -> None:
        """Send an order; the answer is fetched with `answer`."""
        stdin = cast(IO[str], self._process.stdin)
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next answer.  Raises what the child raised, or DeviceError when the child is gone."""
        line = cast(IO[str], self._process.stdout).readline()
        if not line:
            raise DeviceError("a measuring process ended", where=f"{self.subject.variant}, {self.subject.backend}",
                              found=f"exit code {self._process.wait()}", expected="an answer",
                              fix="free memory, or measure fewer variants at once")  # fmt: skip
        answer = json.loads(line)
        if "error" in answer:
            error = getattr(errors, answer["kind"])("")
            error.args = (f"{answer['error']}; in {self.subject.variant}",)
            raise error
        return answer

    def load(self) -> None:
        subject = self.subject
        self.order(do="load", paper=subject.paper, variant=subject.variant, backend=subject.backend,
                   threads=self.threads)  # fmt: skip

    def time(self, calls: int) -> list[float]:
        self.order(do="time", calls=calls)
        return self.answer()["seconds"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A session's answer: facts per subject, and timings per subject and shape."""

    facts: Mapping[Subject, Mapping[str, Any]]
    timings: tuple[Timing, ...]


def measure(
    reference: Subject, subjects: Sequence[Subject], batches: Sequence[int], length: int, threads: int, effort: Effort,
    say: Callable[[str], None] = lambda text: None,
) -> Measured:  # fmt: skip
    """Time the subjects against the reference, all in one session, at every batch size.

    Raises SpecError, DeviceError and ModelError as the children do; nothing is measured then.
    """
    chosen = list(dict.fromkeys([reference, *subjects]))
    names = {str(place): subject for place, subject in enumerate(chosen)}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(subject, threads)) for name, subject in names.items()}
        workers[TWIN] = stack.enter_context(Worker(reference, threads))
        for worker in workers.values():  # all load at once; only timing needs the machine to itself
            worker.load()
        facts = {name: worker.answer() for name, worker in workers.items()}
        timings: list[Timing] = []
        for batch in batches:
            say(f"batch {batch}, length {length}: warming {len(workers)} processes")
            warm = {name: _warm(worker, batch, length, effort) for name, worker in workers.items()}
            timers = {name: worker.time for name, worker in workers.items()}
            calls = {name: calls_per_turn(warm[name]["steady_s"], effort) for name in workers}
            found = sample(timers, calls, "0", effort)
            timings += _timings(names, batch, length, found, warm)
            say(f"batch {batch}, length {length}: {len(next(iter(found.values())))} rounds")
        return Measured({subject: facts[name] for name, subject in names.items()}, tuple(timings))


def _warm(worker: Worker, batch: int, length: int, effort: Effort) -> dict[str, Any]:
    worker.order(do="warm", batch=batch, length=length, calls=effort.warm_calls)
    return worker.answer()


def calls_per_turn(steady_s: float, effort: Effort) -> int:
    """So many calls that a turn lasts about `turn_s`: one of a slow model, at most 50 of a fast one."""
    return max(1, min(50, round(effort.turn_s / steady_s)))


def sample(
    timers: Mapping[str, Timer], calls: Mapping[str, int], reference: str, effort: Effort, *, seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, list[list[float]]]:  # fmt: skip
    """name -> the calls of each round. At least `rounds` rounds; with `until`, on until all ratios are narrow enough.

    Whether to go on is asked after doubling rounds only, so that stopping does not chase a lucky interval.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in timers}
    ends, ask = clock() + 60.0 * effort.minutes, effort.rounds
    for done, round_ in enumerate(turns(timers, calls, seed), 1):
        for name, seconds in round_.items():
            found[name].append(seconds)
        if done < ask:
            continue
        if effort.until is None or clock() >= ends or _narrow(found, reference, effort.until):
            break
        ask *= 2
    return found


def _narrow(found: Mapping[str, list[list[float]]], reference: str, share: float) -> bool:
    ratios = (_ratio(found, reference, name) for name in found if name != reference)
    return all(max(ratio.high / ratio.value, ratio.value / ratio.low) - 1 <= share for ratio in ratios)


def _medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(calls) for calls in rounds]


def _ratio(found: Mapping[str, list[list[float]]], reference: str, name: str) -> Ratio:
    return speedup(_medians(found[reference]), _medians(found[name]))


def _timings(
    names: Mapping[str, Subject], batch: int, length: int, found: Mapping[str, list[list[float]]],
    warm: Mapping[str, Mapping[str, Any]],
) -> list[Timing]:  # fmt: skip
    reference = next(iter(names))
    ratio = partial(_ratio, found, reference)
    return [
        Timing(
            subject, batch, length, tuple(_medians(found[name])),
            percentiles([seconds for calls in found[name] for seconds in calls]),
            None if name == reference else ratio(name), warm[name]["first_s"], warm[name]["difference"],
            warm[name]["flops"], ratio(TWIN),
        )
        for name, subject in names.items()
    ]  # fmt: skip
