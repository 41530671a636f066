"""A child process that makes pieces of a plan; the parent says which, and hears how far they are.

Orders: {"do": "stage", "job": place, "key": stage key} and {"do": "job", "job": place}. Its threads are those that it
was started with, for all of them: sums are in another order on more, and a record says one number.
Answers: done (of a job: its record), busy (another bench makes the job), failed (an error that the user can act on),
broken (any other error); before the first order ready, with a digest of the plan; at any time progress and log.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import transformers

from bench.core.errors import BenchError, TrainError
from bench.core.record import Record
from bench.core.spec import digest
from bench.core.store import Store
from bench.core.trouble import explained
from bench.run import plan as planning
from bench.run.job import run_job
from bench.run.leases import HeldStore, LeaseLost, Leases
from bench.run.plan import Job, Plan
from bench.run.request import Request
from bench.run.stages import ChainLog, make_stages
from bench.train.progress import Bars, told
from bench.train.stopping import Stopped, stoppable


def identity(plan: Plan) -> str:
    """What two processes that made the same plan agree on."""
    return digest([job.hash for job in plan.jobs])


class Link:
    """The child's end of the pipe; what is said after the parent has hung up is lost, and stops nothing."""

    def __init__(self, pipe: Connection):
        self._pipe, self._lock = pipe, threading.Lock()

    def say(self, say: str, **content: Any) -> None:
        with self._lock:
            try:
                self._pipe.send({"say": say} | content)
            except OSError:
                return

    def order(self) -> dict[str, Any] | None:
        """The next order, or None when there will be none."""
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            return None


class _Forward(logging.Handler):
    """One process speaks to the user: what others log is sent to it."""

    def __init__(self, link: Link):
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        self._link.say("log", level=record.levelno, text=record.getMessage())


class Worker:
    """What a child holds between orders: the plan, and nothing of the jobs that it made."""

    def __init__(self, link: Link, plan: Plan):
        self.plan = plan
        self.results = Path(plan.request.results)
        self.store, self.leases = Store(self.results), Leases(self.results)
        self.bars = told(lambda label, text, step, steps: link.say("progress", label=label, text=text, step=step,
                                                                   steps=steps))  # fmt: skip

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what an order says."""
        return make_piece(self.plan, order, self._record, self.bars)

    def _record(self, job: Job) -> Record:
        """A job's record, made under its lease. Raises LeaseLost where another bench makes it."""
        lease = self.leases.take(job.hash)
        if lease is None:
            raise LeaseLost("another bench makes the job", where=job.spec)
        with lease:
            return run_job(job, HeldStore(self.results, lease), self.plan.cache, progress=self.bars)


def make_piece(plan: Plan, order: dict[str, Any], record: Callable[[Job], Record], bars: Bars) -> dict[str, Any]:
    """Do what an order says, and answer: a child process and a task of a cluster make pieces by this alone.

    `record` makes a job's record. Raises what is no trouble of the user's, for a job.
    """
    job = plan.jobs[order["job"]]
    try:
        if order["do"] == "job":
            return {"say": "done", "record": record(job).model_dump(mode="json")}
        make_stages(job, plan.cache, ChainLog(), order["key"], bars)
        return {"say": "done"}
    except LeaseLost:
        return {"say": "busy"}
    except Exception as error:
        told = error if isinstance(error, BenchError) else explained(error, job.spec)
        if told is None and order["do"] == "job":
            raise
        if told is None:
            # A stage's crash is that of the jobs that need it: each of them writes its own failed record.
            traceback.print_exc()
            told = TrainError("a stage failed", where=job.spec, found=f"{type(error).__name__}: {error}")
        return failure(told)


def failure(error: BenchError) -> dict[str, Any]:
    """The answer that tells of an error."""
    return {"say": "failed", "error": str(error), "kind": type(error).__name__}


def serve(pipe: Connection, request: dict[str, Any]) -> None:
    """Make the plan of the request again and answer orders until the pipe is closed, or a signal stops it."""
    os.dup2(2, 1)  # what libraries print goes to stderr: stdout is the command's
    transformers.utils.logging.disable_progress_bar()
    link = Link(pipe)
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward(link)], force=True)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        with stoppable():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says SIGTERM
            _serve(link, request)
    except Stopped:
        return
    except Exception as error:
        traceback.print_exc()
        link.say("broken", error=f"{type(error).__name__}: {error}")


def _serve(link: Link, request: dict[str, Any]) -> None:
    logging.getLogger("bench").setLevel(logging.CRITICAL)  # the parent has said it all when it made the plan
    try:
        worker = Worker(link, planning.make(Request.model_validate(request)))
    except BenchError as error:
        answer = failure(error)
        return link.say(answer.pop("say"), **answer)
    logging.getLogger("bench").setLevel(logging.INFO)
    link.say("ready", plan=identity(worker.plan))
    while (order := link.order()) is not None:
        answer = worker.answer(order)
        link.say(answer.pop("say"), **answer)


def _follow_parent() -> None:
    """Where the parent was killed, stop as it would have asked: with a checkpoint."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
