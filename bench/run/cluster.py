"""The driver of a cluster: hands the pieces of a plan to nodes, and writes what comes back.

Nodes make models and measure them; records are written here alone, each under its lease. A task whose node is lost is
handed out again. Whatever ends the driver, its tasks end too, and the same command goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import MachineError, SpecError, TrainError
from bench.core.record import Record
from bench.core.store import Store, read_record
from bench.run.leases import HeldStore, Lease, LeaseLost, Leases
from bench.run.nodes import Lost, Nodes
from bench.run.pieces import Pieces, prepared, told_failure
from bench.run.plan import Plan
from bench.run.request import Request
from bench.run.task import agreed
from bench.run.watch import Watch, watch
from bench.train.stopping import ECHO_S, Stopped

log = logging.getLogger(__name__)

POLL_S = 0.5
"""How often signals, and nodes that come and go, are looked for."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A task that runs."""

    number: int
    """Of those that run at once; the lowest that was free."""
    key: str
    lease: Lease | None
    """Of a job."""


class _Signals:
    """SIGINT and SIGTERM, as they come: while Ray waits, no exception can be raised by a handler."""

    def __init__(self) -> None:
        self.first = 0
        self.again = False
        self._last_s = float("-inf")

    def __call__(self, signum: int, frame: object) -> None:
        now = time.monotonic()
        if self.first and now - self._last_s > ECHO_S:
            self.again = True
        self.first, self._last_s = self.first or signum, now

    def check(self) -> None:
        """Raises Stopped where one has come."""
        if self.first:
            raise Stopped(self.first)


def run(plan: Plan, nodes: Nodes) -> list[Record]:
    """Every record of the plan, found or made, in its order, by the nodes of a cluster.

    Raises: as `workers.run`, and SpecError for a node that is not like the driver.
    """
    pieces = prepared(plan)
    if len(pieces):
        Driver(pieces, nodes).make()
    return [pieces.records[job.hash] for job in plan.jobs if job.hash in pieces.records]


class Driver:
    """A plan while nodes make it."""

    def __init__(self, pieces: Pieces, nodes: Nodes):
        self._pieces, self._nodes = pieces, nodes
        self._results = Path(pieces.plan.request.results)
        self._leases = Leases(self._results)
        self._given = {"request": whole_paths(pieces.plan.request).model_dump(mode="json"),
                       "agreed": agreed(pieces.plan), "threads": nodes.threads}  # fmt: skip
        self._running: dict[Any, _Running] = {}
        self._told: set[str] = set()
        self._watch: Watch

    def make(self) -> None:
        """Make all that is left; see `run`."""
        pieces = self._pieces
        slots = min(self._nodes.slots(), len(pieces))
        with _listening() as signals, watch(len(pieces.plan.jobs), len(pieces.records), slots) as self._watch:
            try:
                while not pieces.all_handed_out or self._running:
                    signals.check()
                    self._hand_out()
                    self._hear()
            finally:
                self._end(lambda: signals.again)

    def _hand_out(self) -> None:
        """Start as many tasks as the nodes take now."""
        slots = self._nodes.slots()
        if not slots and not self._running:
            self._tell_once("no node is left; the runs wait for one")
        while len(self._running) < slots:
            number = min(set(range(1, len(self._running) + 2)) - {one.number for one in self._running.values()})
            key = self._pieces.take()
            if key is None:
                return
            lease = None
            if not self._pieces.stage(key):
                lease = self._claimed(key)
                if lease is None:
                    continue
                lease.start()
            try:
                task = self._nodes.start(self._order(key))
            except BaseException:
                if lease is not None:
                    lease.release()
                raise
            self._running[task] = _Running(number, key, lease)
            self._watch.begins(number, self._pieces.name(key))

    def _claimed(self, key: str) -> Lease | None:
        """The lease on a job that is to be made; None where another bench makes it, or has made it."""
        job = self._pieces.job(key)
        lease = self._leases.take(job.hash)
        if lease is None:
            self._pieces.put_off(key)
            return None
        found = Store(self._results).find(job.spec, job.hash)
        if found is not None:
            lease.release()
            self._pieces.made(key, found)
            return None
        return lease

    def _order(self, key: str) -> dict[str, Any]:
        job, records = self._pieces.job(key), []
        if not self._pieces.stage(key):
            records = [self._pieces.records[one.hash] for one in job.needed if one.hash in self._pieces.records]
        return self._pieces.order(key) | self._given | {"records": [one.model_dump(mode="json") for one in records]}

    def _hear(self) -> None:
        """Wait until a task has ended, or for a moment."""
        if not self._running:
            time.sleep(min(POLL_S, self._pieces.waits_s() or 0.0 if self._nodes.slots() else POLL_S))
            return
        for task in self._nodes.wait(list(self._running), POLL_S):
            one = self._running[task]
            try:
                answer = self._nodes.answer(task)
                del self._running[task]
                self._answered(one, answer)
            except Lost as lost:
                self._running.pop(task, None)
                self._lost(one, str(lost))
            finally:
                if one.lease is not None and task not in self._running:
                    one.lease.release()

    def _lost(self, one: _Running, why: str) -> None:
        name = self._pieces.name(one.key)
        self._watch.ends(one.number, name, "lost", len(self._pieces.records))
        self._pieces.died(one.key, why, "see why nodes are lost: free memory there, or give them fewer runs at once")
        log.warning("task=%d at=%s state=lost reason=%s; it is handed out again", one.number, name, why)

    def _answered(self, one: _Running, answer: dict[str, Any]) -> None:
        """A task has ended, in one way or the other.  Raises Lost for one that somebody else has stopped."""
        key, kind, node = one.key, answer["say"], answer["node"]
        for level, text in answer["logs"]:
            self._watch.says(one.number, level, text)
        state = kind
        if kind == "stopped":
            raise Lost("it was stopped from outside")
        if kind == "refused":
            raise _unlike(answer)
        if kind == "broken":
            if "record" in answer:
                self._keep(one, Record.model_validate(answer["record"]))
            sys.stderr.write(answer["trace"])
            raise TrainError("a task failed", where=f"{self._pieces.name(key)} on node {node}", found=answer["error"],
                             fix="see the traceback above")  # fmt: skip
        if kind in ("failed", "unready"):
            error = told_failure(answer)
            if kind == "unready" or isinstance(error, MachineError) or not self._pieces.stage(key):
                error.args = (f"{error}; on node {node}",)
                raise error
            self._watch.says(one.number, logging.ERROR, answer["error"])
            self._pieces.failed(key)
        elif "record" in answer:
            kept = self._keep(one, Record.model_validate(answer["record"]))
            state = self._pieces.made(key, kept) if kept else "busy"
        else:
            if not self._pieces.plan.cache.has(key):
                self._tell_once(f"node {node} keeps its stages elsewhere, so that each node makes them again; "
                                "next: let BENCH_HOME name a folder that all nodes share, or an URL")  # fmt: skip
            state = self._pieces.made(key, None)
        self._watch.ends(one.number, self._pieces.name(key), state, len(self._pieces.records))

    def _keep(self, one: _Running, record: Record) -> Record | None:
        """Write a record; None where another bench took the job over meanwhile, whose record counts."""
        assert one.lease is not None, "a job is made under a lease"
        store, job = HeldStore(self._results, one.lease), self._pieces.job(one.key)
        if record.status == "failed":
            before = store.failed_before(job.spec, job.hash, record.reason, record.code)
            if before is not None:
                log.info("failed as before, record=%s", before.id)
                return before
        try:
            return read_record(store.write(record))
        except LeaseLost:
            self._pieces.put_off(one.key)
            return None

    def _end(self, at_once: Callable[[], bool]) -> None:
        """Whatever has happened: no task is left, and no lease."""
        left, self._running = self._running, {}
        try:
            if left:
                self._nodes.stop(list(left), at_once)
        finally:
            for one in left.values():
                if one.lease is not None:
                    one.lease.release()

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)


def whole_paths(request: Request) -> Request:
    """The request with each path from the root on: a node has another working folder."""
    named = {name: getattr(request, name) for name in ("teacher", "data", "corpus", "unlabelled")}
    found = {name: os.path.abspath(path) for name, path in named.items() if path and os.path.exists(path)}
    found |= {"results": os.path.abspath(request.results)}
    return request.model_copy(update=found)


def _unlike(answer: dict[str, Any]) -> SpecError:
    what = {"version": "another version of the bench", "code": "other code of the bench"}
    told = what.get(answer["what"], "other runs in the same plan: other code of a paper, data, packages or device")
    return SpecError(f"a node has {told}", where=f"node {answer['node']}", found=answer["found"],
                     expected=answer["expected"],
                     fix="install the same on each node, and restart Ray there")  # fmt: skip


@contextmanager
def _listening() -> Iterator[_Signals]:
    heard = _Signals()
    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
