"""A timing session: one child process per model, and rounds in which all of them take their turns.

Every round times every model within a short while, so that the machine's drift falls on all alike; a ratio is taken
within the round. Two processes of one model differ by a few percent for as long as they live (where their memory
lies), which no number of rounds shows: so all processes are started anew several times, and the interval is over those.
The reference runs twice, as itself and as its twin: what tells the two apart is the noise floor.
A model with a tokenizer of its own saves time there, too, or loses it: tokenising is timed apart, and added to both.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any

import psutil

from bench.core import environment, errors
from bench.core.errors import DeviceError
from bench.core.stats import ratio_interval
from bench.measure.latency import Percentiles, Ratio, Timer, percentiles, speedup, turns
from bench.measure.worker import serve

Rounds = dict[str, list[list[float]]]
"""Name -> the calls of each round, in seconds."""

TWIN = "(twin)"
"""The name of the reference's second process."""

WIDE = 0.10
"""An A/A interval wider than this share, or as far from 1, means that the session was too noisy to tell much."""

READS = 30
"""Calls of a tokenizer that are timed, per batch."""

ROOM_BYTES = 2**30
"""Memory that one process of a paper-sized model is given, on average; what does not fit waits for a later session."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a session measures: fresh processes, their rounds, seconds per turn, warming."""

    copies: int = 5
    """How often all processes are started anew, at least."""
    rounds: int = 5
    """Of each set of processes."""
    turn_s: float = 0.6
    warm_calls: int = 10
    warm_s: float = 10.0
    """Warming stops here, steady or not."""
    until: float | None = None
    """Go on, with fresh processes, until every ratio's 95% interval is within this share of it."""
    minutes: float = 10.0
    """The most that `until` may take per shape."""

    @property
    def reduced(self) -> bool:
        """Whether this is less than the usual protocol."""
        return self.copies * self.rounds < FULL.copies * FULL.rounds or self.turn_s < FULL.turn_s


FULL = Effort()
QUICK = Effort(copies=1, turn_s=0.1, warm_calls=3, warm_s=1.0)
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
    read_s: tuple[float, ...] = ()
    """Calls that make such a batch of texts into ids; of the reference and of models with a tokenizer of their own."""
    text: Ratio | None = None
    """`ratio` with each side's tokenising in its passes; None without a tokenizer of its own."""

    @property
    def noisy(self) -> bool:
        """Whether the A/A interval is too wide, or its ratio too far from the 1 that it should be."""
        return self.floor.high / self.floor.low - 1 > WIDE or abs(math.log(self.floor.value)) > math.log1p(WIDE)


_CHILDREN = multiprocessing.get_context("forkserver")
_CHILDREN.set_forkserver_preload(["bench.measure.worker"])  # what takes seconds to import is imported once for all


class Worker:
    """The parent's end of a child process; use as a context."""

    def __init__(self, subject: Subject, threads: int):
        self.subject, self.threads = subject, threads

    def __enter__(self) -> Worker:
        self._pipe, theirs = _CHILDREN.Pipe()
        self._process = _CHILDREN.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def order(self, **order: Any) -> None:
        """Send an order; the answer is fetched with `answer`."""
        with suppress(BrokenPipeError):  # the child is gone, which `answer` will tell
            self._pipe.send(order)

    def answer(self) -> dict[str, Any]:
        """The next answer.  Raises what the child raised, or DeviceError when the child is gone."""
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise DeviceError("a measuring process ended", where=f"{self.subject.variant}, {self.subject.backend}",
                              found=f"exit code {self._process.exitcode}", expected="an answer",
                              fix="free memory, or measure fewer variants at once") from None  # fmt: skip
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

    def read(self, batch: int, length: int) -> list[float]:
        self.order(do="read", batch=batch, length=length, calls=READS)
        return self.answer()["seconds"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one session or several say: facts per subject, and timings per subject and shape."""

    facts: Mapping[Subject, Mapping[str, Any]]
    timings: tuple[Timing, ...]


def measure(
    reference: Subject, subjects: Sequence[Subject], batches: Sequence[int], length: int, threads: int, effort: Effort,
    say: Callable[[str], None] = lambda text: None,
) -> Measured:  # fmt: skip
    """Time the subjects against the reference, in one session, at every batch size.

    Where they do not all fit in memory, in several sessions, each with the reference and its twin in it; the
    reference's own timings are those of the first.
    Raises SpecError, DeviceError and ModelError as the children do; nothing is measured then.
    """
    rest = [subject for subject in dict.fromkeys(subjects) if subject != reference]
    found = [_session([reference, *some], batches, length, threads, effort, say) for some in fitting(rest, _room())]
    facts = {subject: told for one in reversed(found) for subject, told in one.facts.items()}
    later = [timing for one in found[1:] for timing in one.timings if timing.subject != reference]
    return Measured(facts, (*found[0].timings, *later))


def fitting(subjects: Sequence[Subject], room: int) -> list[Sequence[Subject]]:
    """The subjects in groups of at most as many processes as have room beside the reference and its twin."""
    size = max(1, room - 2)
    return [subjects[start : start + size] for start in range(0, len(subjects), size)] or [()]


def _room() -> int:
    """How many processes fit in the memory that is free now."""
    return min(psutil.virtual_memory().available, environment.memory_bytes()) // ROOM_BYTES


def _session(
    chosen: Sequence[Subject], batches: Sequence[int], length: int, threads: int, effort: Effort,
    say: Callable[[str], None],
) -> Measured:  # fmt: skip
    """Time the subjects, the first of which is the reference, in one session."""
    names = {str(place): subject for place, subject in enumerate(chosen)}
    told: list[_Told] = []

    def one(copy: int) -> dict[int, Rounds]:
        say(f"processes {copy + 1}: {len(names) + 1} load and warm")
        told.append(_Told())
        return _copies(names, batches, length, threads, effort, copy, told[-1])

    found = repeat(one, "0", effort, len(batches))
    say(f"{len(found)} times {effort.rounds} rounds at batch {', '.join(map(str, batches))}, length {length}")
    first, timings = told[0], []
    for batch in batches:
        timings += _timings(names, batch, length, [one[batch] for one in found], first.warm[batch],
                            first.read[batch])  # fmt: skip
    return Measured({subject: first.facts[name] for name, subject in names.items()}, tuple(timings))


@dataclass(slots=True)
class _Told:
    """What the processes said of themselves, by name; of their warming and tokenising, by batch and name."""

    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    warm: dict[int, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    read: dict[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """Of the first set of processes only."""


def _copies(
    names: Mapping[str, Subject], batches: Sequence[int], length: int, threads: int, effort: Effort, copy: int,
    told: _Told,
) -> dict[int, Rounds]:  # fmt: skip
    """Batch -> the rounds of one fresh process per model, and of the reference's twin."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(subject, threads)) for name, subject in names.items()}
        workers[TWIN] = stack.enter_context(Worker(names["0"], threads))
        for worker in workers.values():  # all load at once; only timing needs the machine to itself
            worker.load()
        told.facts = {name: worker.answer() for name, worker in workers.items()}
        out: dict[int, Rounds] = {}
        for batch in batches:
            warm = told.warm[batch] = {name: _warm(worker, batch, length, effort) for name, worker in workers.items()}
            calls = {name: calls_per_turn(warm[name]["steady_s"], effort) for name in workers}
            out[batch] = sample({name: worker.time for name, worker in workers.items()}, calls, effort.rounds, copy)
        if copy == 0:  # after all rounds, which a tokenizer in memory might disturb
            reading = [name for name, subject in names.items()
                       if name == "0" or (subject.backend == "eager" and told.facts[name]["own_words"])]  # fmt: skip
            told.read = {batch: {name: workers[name].read(batch, length) for name in reading} for batch in batches}
        return out


def _warm(worker: Worker, batch: int, length: int, effort: Effort) -> dict[str, Any]:
    worker.order(do="warm", batch=batch, length=length, calls=effort.warm_calls, at_most_s=effort.warm_s)
    return worker.answer()


def calls_per_turn(steady_s: float, effort: Effort) -> int:
    """So many calls that a turn lasts about `turn_s`: one of a slow model, at most 50 of a fast one."""
    return max(1, min(50, round(effort.turn_s / steady_s)))


def sample(timers: Mapping[str, Timer], calls: Mapping[str, int], rounds: int, seed: int = 0) -> Rounds:
    """So many interleaved rounds."""
    found = list(islice(turns(timers, calls, seed), rounds))
    return {name: [round_[name] for round_ in found] for name in timers}


def repeat(
    one: Callable[[int], dict[int, Rounds]], reference: str, effort: Effort, shapes: int = 1, *,
    clock: Callable[[], float] = time.monotonic,
) -> list[dict[int, Rounds]]:  # fmt: skip
    """What `one` gives for `copies` fresh sets of processes; with `until`, on until all ratios are narrow enough.

    Whether to go on is asked after doubling the sets only, so that stopping does not chase a lucky interval.
    """
    found: list[dict[int, Rounds]] = []
    ends, ask = clock() + 60.0 * effort.minutes * shapes, effort.copies
    while True:
        found.append(one(len(found)))
        if len(found) < ask:
            continue
        if effort.until is None or clock() >= ends or _narrow(found, reference, effort.until):
            return found
        ask *= 2


def _narrow(found: Sequence[dict[int, Rounds]], reference: str, share: float) -> bool:
    ratios = (
        ratio_of([one[batch] for one in found], reference, name)
        for batch, rounds in found[0].items() for name in rounds if name != reference
    )  # fmt: skip
    return all(max(ratio.high / ratio.value, ratio.value / ratio.low) - 1 <= share for ratio in ratios)


def _medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(calls) for calls in rounds]


def ratio_of(found: Sequence[Rounds], reference: str, name: str) -> Ratio:
    """How many times faster than the reference: the geometric mean over sets of processes, with its 95% interval.

    The ratio of a set is the median over its rounds, since a stall makes one round worthless; a single set is judged by
    its rounds, which see nothing of what differs between processes.
    """
    each = [speedup(_medians(rounds[reference]), _medians(rounds[name])) for rounds in found]
    if len(each) == 1:
        return each[0]
    samples = tuple(statistics.median(ratio.samples) for ratio in each)
    return Ratio(*ratio_interval(samples), samples)


def with_text(found: Sequence[Rounds], read: Mapping[str, Sequence[float]]) -> list[Rounds]:
    """The rounds as if each call had begun with tokenising: the median of a name's calls `read` is added to all."""
    seconds = {name: statistics.median(calls) for name, calls in read.items()}
    return [
        {name: [[call + more for call in calls] for calls in rounds[name]] for name, more in seconds.items()}
        for rounds in found
    ]


def _timings(
    names: Mapping[str, Subject], batch: int, length: int, found: Sequence[Rounds],
    warm: Mapping[str, Mapping[str, Any]], read: Mapping[str, Sequence[float]],
) -> list[Timing]:  # fmt: skip
    reference = next(iter(names))
    ratio, text = partial(ratio_of, found, reference), partial(ratio_of, with_text(found, read), reference)
    rounds = {name: [calls for one in found for calls in one[name]] for name in names}
    return [
        Timing(
            subject, batch, length, tuple(_medians(rounds[name])),
            percentiles([seconds for calls in rounds[name] for seconds in calls]),
            None if name == reference else ratio(name), warm[name]["first_s"], warm[name]["difference"],
            warm[name]["flops"], ratio(TWIN), tuple(read.get(name, ())),
            text(name) if name in read and name != reference else None,
        )
        for name, subject in names.items()
    ]  # fmt: skip
