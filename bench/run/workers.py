"""Several processes on one machine that make the jobs of one plan: a parent that hands them out, and its children.

The parent makes nothing itself. A child that is killed loses its piece to another; whatever ends the parent, its
children save what they are at, so that the same command goes on there.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from bench.core import environment, errors, store
from bench.core.errors import SpecError, TrainError
from bench.core.processes import deaf_children
from bench.core.record import Record
from bench.core.store import Store
from bench.run.cache import WORKERS
from bench.run.deadline import Deadline
from bench.run.execute import needed_stages, refuse_given_teacher
from bench.run.leases import Leases
from bench.run.plan import Job, Plan, StagePlan
from bench.run.schedule import Piece, Scheduler, graph, uncached
from bench.run.watch import Watch, watch
from bench.run.worker import identity, serve
from bench.train.settings import Training
from bench.train.stopping import Stopped

log = logging.getLogger(__name__)

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
"""What libraries read once, when they start: every child has its share of the cores."""
DEATHS = 2
"""A piece at which so many children died is not tried again: memory, most likely."""
BUSY_S = 2.0
"""How long a job that another bench makes is left alone before it is asked for again."""
SAVE_S = 120.0
"""How long children may take to save their checkpoints."""
TOKENS_PER_S = 5_000.0
"""Of training, roughly: only the proportions of the costs matter."""
ROW_TOKENS = 40
"""Of a row of a task, roughly."""

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class _Child:
    """The parent's end of a child; `key` is the node that it makes ("" between two of them)."""

    number: int
    process: Any
    pipe: connection.Connection
    ready: bool = False
    key: str = ""
    began: float = 0.0
    """When it was given its node, by the monotonic clock."""
    expected: float = 0.0
    """Seconds that the node was expected to take, where there is a deadline."""


def run(plan: Plan, workers: int, deadline: Deadline | None = None) -> list[Record]:
    """Every record of the plan, found or made, in its order, by so many processes; with a deadline as `execute.run`.

    Raises what a child found wrong that is no job's own failure; TrainError where a piece cannot be made; Stopped
    after SIGINT or SIGTERM, when all children have saved what they were at.
    """
    results = Path(plan.request.results)
    refuse_given_teacher(plan)
    store.check_writable(results)
    plan.cache.check_writable(needed_stages(plan, Store(results)))
    Leases(results).refuse_another_bench()
    if deadline:
        deadline.plan(plan)
    pool = Pool(plan, deadline)
    pieces = len(pool.pieces)
    if pieces:
        pool.make(min(workers, pieces))
    return [pool.records[job.hash] for job in plan.jobs if job.hash in pool.records]


class Pool:
    """A plan while children make it."""

    def __init__(self, plan: Plan, deadline: Deadline | None = None):
        self.plan, self._deadline = plan, deadline
        found = Store(Path(plan.request.results))
        self.records = {job.hash: record for job in plan.jobs if (record := found.find(job.spec, job.hash))}
        pieces = graph(plan.jobs, self.records, plan.cache.has, lambda job, stage: cost_s(plan, job, stage))
        self.pieces, self._scheduler = pieces.pieces, Scheduler(pieces.nodes)
        self._blocked: list[str] = []
        """Jobs that wait to write that they cannot be made."""
        self._later: list[tuple[float, str]] = []
        """(when, key) of jobs that another bench makes."""
        self._deaths: Counter[str] = Counter()
        self._told_busy: set[str] = set()
        self._children: list[_Child] = []
        self._watch: Watch

    def make(self, workers: int) -> None:
        """Make all that is left; see `run`."""
        with _raising(), watch(len(self.plan.jobs), len(self.records), workers) as self._watch:
            self._settings = [settings(number, workers, _devices()) for number in range(workers)]
            try:
                for number in range(1, workers + 1):
                    self._children.append(self._start(number))
                while not self._over:
                    self._hand_out()
                    if not self._over:  # there may have been time for nothing
                        self._hear()
            finally:
                _end(self._children)

    @property
    def _over(self) -> bool:
        working = any(child.key for child in self._children)
        return self._scheduler.finished and not (self._blocked or self._later or working)

    def _start(self, number: int) -> _Child:
        mine, theirs = _SPAWN.Pipe()
        given = self._settings[number - 1]
        process = _SPAWN.Process(
            target=serve, args=(theirs, self.plan.request.model_dump(mode="json")), name=f"worker-{number}"
        )
        with _environment(given), deaf_children():
            process.start()
        theirs.close()
        return _Child(number, process, mine)

    def _hand_out(self) -> None:
        for when, key in list(self._later):
            if time.monotonic() >= when:
                self._later.remove((when, key))
                self._give_back(key)
        for child in self._children:
            if not child.ready or child.key:
                continue
            key = self._next_blocked() or self._take(child)
            if key is None:
                break
            child.began, child.expected = time.monotonic(), self._expected(key) if self._deadline else 0.0
            piece = self.pieces[key]
            order = {"do": "stage", "key": piece.stage} if piece.stage else {"do": "job"}
            order |= {"job": piece.job, "threads": self._threads(child, piece)}
            child.key = key
            with suppress(OSError):  # it died: its end of the pipe will tell
                child.pipe.send(order)
            self._watch.begins(child.number, self._name(key))

    def _take(self, child: _Child) -> str | None:
        """The next node for a child for which there is time; what there is none for is left, with all that needs it."""
        while (key := self._scheduler.take(child.number)) is not None:
            if self._deadline is None or self._deadline.fits(self._expected(key)):
                return key
            gone = [self.pieces[one] for one in (key, *self._scheduler.failed(key))]
            self._deadline.leave(self.plan.jobs[piece.job] for piece in gone if not piece.stage)
        return None

    def _expected(self, key: str) -> float:
        """Seconds that a node is expected to take, by the deadline's estimates."""
        assert self._deadline is not None
        job, stage = self.plan.jobs[self.pieces[key].job], self.pieces[key].stage
        if stage:
            return self._deadline.seconds([stage])
        return self._deadline.seconds((one.key for one in uncached(job, self.plan.cache.has)), job.hash)

    def _threads(self, child: _Child, piece: Piece) -> int:
        """A child's share of the cores; all of them for a stage beside which nothing can be made until it ends.

        A job has its share, always: it times its model.
        """
        beside = any(one.key for one in self._children) or self._scheduler.ready() or self._later
        alone = piece.stage and not beside
        return environment.cores() if alone else int(self._settings[child.number - 1]["OMP_NUM_THREADS"])

    def _next_blocked(self) -> str | None:
        """A job of which a need failed, once the jobs whose models it asks for have their records."""
        for key in self._blocked:
            job = self.plan.jobs[self.pieces[key].job]
            if all(other.hash in self.records for other in (*([job.base] if job.base else []), *job.teachers)):
                self._blocked.remove(key)
                return key
        return None

    def _hear(self) -> None:
        """Wait until a child says something or is gone, or a job may be asked for again."""
        waits: dict[Any, _Child] = {child.pipe: child for child in self._children}
        waits |= {child.process.sentinel: child for child in self._children}
        first = min((when for when, _ in self._later), default=None)
        heard = connection.wait(list(waits), None if first is None else max(0.0, first - time.monotonic()))
        for child in {id(child): child for child in (waits[one] for one in heard)}.values():
            for answer in _said(child):
                self._answer(child, answer)
            if child.pipe.closed or not child.process.is_alive():
                self._bury(child)

    def _answer(self, child: _Child, answer: dict[str, Any]) -> None:
        kind = answer.pop("say")
        if kind == "progress":
            self._watch.goes_on(child.number, **answer)
        elif kind == "log":
            self._watch.says(child.number, **answer)
        elif kind == "ready":
            if answer["plan"] != identity(self.plan):
                raise SpecError("a worker made another plan than its parent", where=f"worker {child.number}",
                                fix="leave code and data as they are while workers start; run it again")  # fmt: skip
            child.ready = True
        elif kind == "broken":
            raise TrainError("a worker failed", where=self._name(child.key), found=answer["error"],
                             fix="see the traceback above")  # fmt: skip
        else:
            self._ended(child, kind, answer)

    def _ended(self, child: _Child, kind: str, answer: dict[str, Any]) -> None:
        """A child is done with its piece, in one way or the other."""
        key, child.key = child.key, ""
        told = getattr(errors, answer.get("kind", ""), TrainError)
        if kind == "failed" and (issubclass(told, errors.MachineError) or not (key and self.pieces[key].stage)):
            error = told("")
            error.args = (answer["error"],)
            raise error
        state = "ok"
        if kind == "busy":
            self._put_off(key)
            state = "busy"
        elif kind == "failed":
            state = "failed"
            self._watch.says(child.number, logging.ERROR, answer["error"])
            self._failed(key)
        elif "record" in answer:
            self.records[key] = record = Record.model_validate(answer["record"])
            state = record.status
            if key in self._scheduler.taken:
                self._scheduler.done(key) if state == "ok" else self._failed(key)
        else:
            self._scheduler.done(key)
        if self._deadline:
            self._deadline.made += "record" in answer
            if state == "ok":
                self._deadline.took(child.expected, time.monotonic() - child.began)
        self._watch.ends(child.number, self._name(key), state, len(self.records))

    def _failed(self, key: str) -> None:
        """The jobs that this blocks still write why; the stages are left."""
        self._blocked += [one for one in self._scheduler.failed(key) if not self.pieces[one].stage]

    def _put_off(self, key: str) -> None:
        self._later.append((time.monotonic() + BUSY_S, key))
        if key not in self._told_busy:
            log.info("run=%s state=waits reason='another bench makes it'", self._name(key))
            self._told_busy.add(key)

    def _give_back(self, key: str) -> None:
        if key in self._scheduler.taken:
            self._scheduler.give_back(key)
        else:
            self._blocked.insert(0, key)

    def _bury(self, child: _Child) -> None:
        """A child is gone: another one takes its place, and its piece is handed out again."""
        child.process.join()
        child.pipe.close()
        self._deaths[child.key] += 1
        name, code = self._name(child.key), child.process.exitcode
        if self._deaths[child.key] >= DEATHS:
            raise TrainError(f"{DEATHS} workers died at one piece of the plan", where=name, found=f"exit code {code}",
                             expected="a record", fix="free memory, or give fewer --workers")  # fmt: skip
        log.warning("worker=%d at=%s state=died exit_code=%s", child.number, name, code)
        if child.key:
            self._give_back(child.key)
        self._children[self._children.index(child)] = self._start(child.number)

    def _name(self, key: str) -> str:
        """What a node is called: its run, or its stage and the first run that has it."""
        if not key:
            return "the start"
        piece = self.pieces[key]
        spec = self.plan.jobs[piece.job].spec
        names = [stage.stage.name for stage in self.plan.jobs[piece.job].stages if stage.key == piece.stage]
        return "/".join([spec.paper, spec.variant, *names]) if names else str(spec)


def _said(child: _Child) -> Iterator[dict[str, Any]]:
    """All that a child has said by now; the pipe is closed after the last word of a dead one."""
    try:
        while child.pipe.poll():
            yield child.pipe.recv()
    except (EOFError, OSError):
        child.pipe.close()


def cost_s(plan: Plan, job: Job, stage: StagePlan | None) -> float:
    """An estimate that reads no data: tokens of training at a usual rate; of what follows the stages, a constant."""
    if stage is None:
        return 1.0
    tokens = 0.0
    for name in stage.stage.uses:
        setting = getattr(job.hyper, name, None)
        training = setting if isinstance(setting, Training) else getattr(setting, "training", None)
        if isinstance(training, Training):
            rows = getattr(setting, "corpus_tokens", None) or ROW_TOKENS * _rows(plan, job)
            tokens += rows * training.epochs
    return 0.1 + tokens / TOKENS_PER_S


def _rows(plan: Plan, job: Job) -> int:
    return len(plan.inputs.used(job.task, job.task.train))


def settings(number: int, workers: int, devices: list[str]) -> dict[str, str]:
    """Environment variables of a child: its share of the cores, and one GPU, in turn."""
    threads = str(max(1, environment.cores() // workers))
    gpu = {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}
    return dict.fromkeys(THREADS, threads) | gpu | {WORKERS: str(workers)}


def _devices() -> list[str]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """A child has its environment from its first moment: some variables are read when a library is imported."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _raising() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise Stopped at once: there is nothing here to save."""

    def stop(signum: int, frame: object) -> None:
        raise Stopped(signum)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(children: list[_Child]) -> None:
    """Ask all children to stop, and wait until they have saved what they were at; a second signal waits no longer."""
    try:
        for child in children:
            if child.key or not child.ready:
                child.process.terminate()
            child.pipe.close()
        ends = time.monotonic() + SAVE_S
        for child in children:
            child.process.join(max(0.0, ends - time.monotonic()))
    finally:
        for child in children:
            child.process.kill()
            child.process.join()
