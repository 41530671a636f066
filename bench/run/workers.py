"""Several processes on one machine that make the jobs of one plan: a parent that hands them out, and its children.

The parent makes nothing itself. A child that is killed loses its piece to another; whatever ends the parent, its
children save what they are at, so that the same command goes on there.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import torch

from bench.core import environment
from bench.core.errors import MachineError, SpecError, TrainError
from bench.core.processes import deaf_children
from bench.core.record import Record
from bench.run.cache import WORKERS
from bench.run.deadline import Deadline
from bench.run.pieces import Pieces, prepared, told_failure
from bench.run.plan import Plan
from bench.run.watch import Watch, watch
from bench.run.worker import identity, serve
from bench.train.stopping import stoppable

log = logging.getLogger(__name__)

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
"""What libraries read once, when they start: every child has its share of the cores."""
SAVE_S = 120.0
"""How long children may take to save their checkpoints."""
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
    pieces = prepared(plan, deadline)
    if len(pieces):
        Pool(pieces, deadline).make(min(workers, len(pieces)))
    return [pieces.records[job.hash] for job in plan.jobs if job.hash in pieces.records]


class Pool:
    """The children that make the pieces of a plan."""

    def __init__(self, pieces: Pieces, deadline: Deadline | None = None):
        self._pieces, self._deadline = pieces, deadline
        self._children: list[_Child] = []
        self._watch: Watch

    def make(self, workers: int) -> None:
        """Make all that is left; see `run`."""
        pieces = self._pieces
        with stoppable(), watch(len(pieces.plan.jobs), len(pieces.records), workers) as self._watch:
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
        return self._pieces.all_handed_out and not any(child.key for child in self._children)

    def _start(self, number: int) -> _Child:
        mine, theirs = _SPAWN.Pipe()
        given = self._settings[number - 1]
        process = _SPAWN.Process(
            target=serve, args=(theirs, self._pieces.plan.request.model_dump(mode="json")), name=f"worker-{number}"
        )
        with _environment(given), deaf_children():
            process.start()
        theirs.close()
        return _Child(number, process, mine)

    def _hand_out(self) -> None:
        for child in self._children:
            if not child.ready or child.key:
                continue
            key = self._pieces.take()
            if key is None:
                break
            child.began, child.expected = time.monotonic(), self._pieces.expected_s(key)
            child.key = key
            with suppress(OSError):  # it died: its end of the pipe will tell
                child.pipe.send(self._pieces.order(key))
            self._watch.begins(child.number, self._pieces.name(key))

    def _hear(self) -> None:
        """Wait until a child says something or is gone, or a job may be asked for again."""
        waits: dict[Any, _Child] = {child.pipe: child for child in self._children}
        waits |= {child.process.sentinel: child for child in self._children}
        heard = connection.wait(list(waits), self._pieces.waits_s())
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
            if answer["plan"] != identity(self._pieces.plan):
                raise SpecError("a worker made another plan than its parent", where=f"worker {child.number}",
                                fix="leave code and data as they are while workers start; run it again")  # fmt: skip
            child.ready = True
        elif kind == "broken":
            raise TrainError("a worker failed", where=self._pieces.name(child.key), found=answer["error"],
                             fix="see the traceback above")  # fmt: skip
        else:
            self._ended(child, kind, answer)

    def _ended(self, child: _Child, kind: str, answer: dict[str, Any]) -> None:
        """A child is done with its piece, in one way or the other."""
        key, child.key = child.key, ""
        state = kind
        if kind == "busy":
            self._pieces.put_off(key)
        elif kind == "failed":
            error = told_failure(answer)
            if isinstance(error, MachineError) or not self._pieces.stage(key):
                raise error
            self._watch.says(child.number, logging.ERROR, answer["error"])
            self._pieces.failed(key)
        else:
            record = Record.model_validate(answer["record"]) if "record" in answer else None
            state = self._pieces.made(key, record)
        if self._deadline:
            self._deadline.made += "record" in answer
            if state == "ok":
                self._deadline.took(child.expected, time.monotonic() - child.began)
        self._watch.ends(child.number, self._pieces.name(key), state, len(self._pieces.records))

    def _bury(self, child: _Child) -> None:
        """A child is gone: another one takes its place, and its piece is handed out again."""
        child.process.join()
        child.pipe.close()
        name, code = self._pieces.name(child.key), child.process.exitcode
        self._pieces.died(child.key, f"exit code {code}", "free memory, or give fewer --workers")
        log.warning("worker=%d at=%s state=died exit_code=%s", child.number, name, code)
        self._children[self._children.index(child)] = self._start(child.number)


def _said(child: _Child) -> Iterator[dict[str, Any]]:
    """All that a child has said by now; the pipe is closed after the last word of a dead one."""
    try:
        while child.pipe.poll():
            yield child.pipe.recv()
    except (EOFError, OSError):
        child.pipe.close()


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
