"""A timing session: one child process per model, and rounds in which all of them take their turns.

Every round times every model within a short while, so that the machine's drift falls on all alike; a ratio is taken
within the round. Two processes of one model differ by a few percent for as long as they live (where their memory
lies), which no number of rounds shows: so all processes are started anew several times, and the interval is over those.
The reference runs twice, as itself and as its twin: what tells the two apart is the noise floor. It also runs under
every other backend that is measured, so that a model can be compared with it on the same one.
A model that fails drops out, and the others go on; without the reference there is nothing to compare with.
A model with a tokenizer of its own saves time there, too, or loses it: tokenising is timed apart, and added to both.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from bench.core import environment
from bench.core.errors import BenchError
from bench.core.stats import ratio_interval
from bench.measure.latency import Percentiles, Ratio, Timer, percentiles, speedup, turns
from bench.measure.process import Subject, Worker
from bench.measure.room import free_bytes

Rounds = dict[str, list[list[float]]]
"""Name -> the calls of each round, in seconds."""

TWIN = "(twin)"
"""The name of the reference's second process."""

WIDE = 0.10
"""An A/A interval wider than this share, or as far from 1, means that the session was too noisy to tell much."""

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
    alike: Ratio | None = None
    """How many times faster than the reference under the same backend; None of it, and of eager, where `ratio` is."""
    group: int = 0
    """Which of the sessions it is from, where not all subjects fit in memory at once."""

    @property
    def noisy(self) -> bool:
        """Whether the A/A interval is too wide, or its ratio too far from the 1 that it should be."""
        return self.floor.high / self.floor.low - 1 > WIDE or abs(math.log(self.floor.value)) > math.log1p(WIDE)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a subject was not measured, or not at all batch sizes."""

    subject: Subject
    batch: int | None
    """The batch size from which on it was not; None where it was not even made."""
    reason: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What one session or several say: facts per subject, timings per subject and shape, and what failed."""

    facts: Mapping[Subject, Mapping[str, Any]]
    timings: tuple[Timing, ...]
    failures: tuple[Failure, ...] = ()


def measure(
    reference: Subject, subjects: Sequence[Subject], batches: Sequence[int], length: int, threads: int, effort: Effort,
    say: Callable[[str], None] = lambda text: None,
) -> Measured:  # fmt: skip
    """Time the subjects against the reference, in one session, at every batch size.

    Where they do not all fit in memory, in several sessions, each with the reference (under every backend) and its
    twin in it; the reference's own timings are those of the first.
    Raises SpecError, DeviceError and ModelError as the reference's own process does; nothing is measured then.
    """
    every = dict.fromkeys([reference, *(replace(reference, backend=subject.backend) for subject in subjects)])
    rest = [subject for subject in dict.fromkeys(subjects) if subject not in every]
    groups = fitting(rest, _room() + 1 - len(every))
    found = [_session([*every, *some], batches, length, threads, effort, say) for some in groups]
    facts = {subject: told for one in reversed(found) for subject, told in one.facts.items()}
    later = [replace(timing, group=group) for group, one in enumerate(found) if group
             for timing in one.timings if timing.subject not in every]  # fmt: skip
    failures = {failure.subject: failure for one in reversed(found) for failure in one.failures}
    return Measured(facts, (*found[0].timings, *later), tuple(failures.values()))


def fitting(subjects: Sequence[Subject], room: int) -> list[Sequence[Subject]]:
    """The subjects in groups of at most as many processes as have room beside the reference and its twin."""
    size = max(1, room - 2)
    return [subjects[start : start + size] for start in range(0, len(subjects), size)] or [()]


def _room() -> int:
    """How many processes fit in the memory that is free now: the machine's, and the GPU's where they use one."""
    return min(environment.free_bytes(), free_bytes()) // ROOM_BYTES


@dataclass(slots=True)
class _Group:
    """The models of a session by name, the reference under "0"; and which of them failed, as the rounds go on."""

    names: Mapping[str, Subject]
    batches: Sequence[int]
    length: int
    threads: int
    effort: Effort
    failed: dict[str, Failure] = field(default_factory=dict)

    def alive(self, place: int) -> list[str]:
        """Those that no set of processes lost at the batch size of this place, or before it."""
        gone = {name: -1 if failure.batch is None else self.batches.index(failure.batch)
                for name, failure in self.failed.items()}  # fmt: skip
        return [name for name in self.names if gone.get(name, len(self.batches)) > place]

    def ask(self, name: str, worker: Worker, batch: int | None, question: Callable[[Worker], Any]) -> Any:
        """The answer, or None of a model that fails here.  Raises what the reference or its twin raises."""
        try:
            return question(worker)
        except BenchError as error:
            if name not in self.names or name == "0":
                raise
            self.failed[name] = Failure(self.names[name], batch, str(error))
            worker.stop()  # the memory that it holds would be missed by others
            return None


@dataclass(slots=True)
class _Told:
    """What the processes said of themselves, by name; of their warming and tokenising, by batch and name."""

    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    warm: dict[int, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    read: dict[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """Of the first set of processes only."""


def _session(
    chosen: Sequence[Subject], batches: Sequence[int], length: int, threads: int, effort: Effort,
    say: Callable[[str], None],
) -> Measured:  # fmt: skip
    """Time the subjects, the first of which is the reference, in one session."""
    group = _Group({str(place): subject for place, subject in enumerate(chosen)}, batches, length, threads, effort)
    told: list[_Told] = []

    def one(copy: int) -> dict[int, Rounds]:
        say(f"processes {copy + 1}: {len(chosen) + 1} load and warm")
        told.append(_Told())
        began = time.monotonic()
        rounds = _copies(group, copy, told[-1])
        took = time.monotonic() - began
        if copy == 0 and effort.copies > 1:
            left = took * (effort.copies - 1) / 60
            say(f"these took {took:.0f} s; {effort.copies - 1} more sets take about {left:.0f} minutes")
        return rounds

    found = repeat(one, "0", effort, len(batches))
    say(f"{len(found)} times {effort.rounds} rounds at batch {', '.join(map(str, batches))}, length {length}")
    first, timings = told[0], []
    for place, batch in enumerate(batches):
        alive = {name: group.names[name] for name in group.alive(place)}
        timings += _timings(alive, batch, length, [one[batch] for one in found], first.warm[batch],
                            first.read[batch])  # fmt: skip
    facts = {subject: first.facts[name] for name, subject in group.names.items() if name in first.facts}
    return Measured(facts, tuple(timings), tuple(group.failed.values()))


def _copies(group: _Group, copy: int, told: _Told) -> dict[int, Rounds]:
    """Batch -> the rounds of one fresh process per model that did not fail, and of the reference's twin."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(group.names[name], group.threads)) for name in group.alive(0)}
        workers[TWIN] = stack.enter_context(Worker(group.names["0"], group.threads))
        for worker in workers.values():  # all load at once; only timing needs the machine to itself
            worker.load()
        answers = {name: group.ask(name, worker, None, Worker.answer) for name, worker in workers.items()}
        told.facts = {name: facts for name, facts in answers.items() if facts is not None}
        out: dict[int, Rounds] = {}
        for place, batch in enumerate(group.batches):
            taken = {name: workers[name] for name in (*group.alive(place), TWIN)}
            out[batch] = _rounds(group, taken, place, copy, told)
        if copy == 0:  # after all rounds, which a tokenizer in memory might disturb
            told.read = {batch: _reads(group, workers, batch, told) for batch in group.batches}
        return out


def _rounds(group: _Group, workers: Mapping[str, Worker], place: int, copy: int, told: _Told) -> Rounds:
    """The rounds of these processes at the batch size of this place, without those that fail in them."""
    effort, batch = group.effort, group.batches[place]
    answers = {name: group.ask(name, worker, batch, lambda worker: _warm(worker, batch, group.length, effort))
               for name, worker in workers.items()}  # fmt: skip
    warm = told.warm[batch] = {name: answer for name, answer in answers.items() if answer is not None}

    def timer(name: str) -> Timer:
        def seconds(calls: int) -> list[float]:
            if name in group.names and name not in group.alive(place):
                return [math.nan] * calls
            found = group.ask(name, workers[name], batch, lambda worker: worker.time(calls))
            return found or [math.nan] * calls

        return seconds

    calls = {name: calls_per_turn(warm[name]["steady_s"], effort) for name in warm}
    found = sample({name: timer(name) for name in warm}, calls, effort.rounds, copy)
    return {name: found[name] for name in (*group.alive(place), TWIN)}


def _reads(group: _Group, workers: Mapping[str, Worker], batch: int, told: _Told) -> dict[str, Sequence[float]]:
    """The calls of the tokenizers: the reference's, and those of models with one of their own."""
    reading = [name for name in group.alive(len(group.batches) - 1)
               if name == "0" or (group.names[name].backend == "eager" and told.facts[name]["own_words"])]  # fmt: skip
    found = {name: group.ask(name, workers[name], batch, lambda worker: worker.read(batch, group.length))
             for name in reading}  # fmt: skip
    return {name: seconds for name, seconds in found.items() if seconds is not None}


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
    whole = {batch: set.intersection(*(set(one[batch]) for one in found)) - {reference} for batch in found[0]}
    ratios = (ratio_of([one[batch] for one in found], reference, name) for batch in whole for name in whole[batch])
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
    """What the rounds say of those that are in all of them."""
    reference, name_of = next(iter(names)), {subject: name for name, subject in names.items()}
    read = {name: seconds for name, seconds in read.items() if name in names}
    ratio, text = partial(ratio_of, found, reference), partial(ratio_of, with_text(found, read), reference)
    rounds = {name: [calls for one in found for calls in one[name]] for name in names}

    def alike(name: str) -> Ratio | None:
        base = name_of.get(replace(names[reference], backend=names[name].backend))
        return ratio_of(found, base, name) if base and base not in (name, reference) else None

    return [
        Timing(
            subject, batch, length, tuple(_medians(rounds[name])),
            percentiles([seconds for calls in rounds[name] for seconds in calls]),
            None if name == reference else ratio(name), warm[name]["first_s"], warm[name]["difference"],
            warm[name]["flops"], ratio(TWIN), tuple(read.get(name, ())),
            text(name) if name in read and name != reference else None, alike(name),
        )
        for name, subject in names.items()
    ]  # fmt: skip
