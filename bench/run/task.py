"""A task of a cluster: makes one piece of a plan on a node, and returns all that there is to say of it.

Order and answer are JSON texts. The order is that of `bench.run.worker`, and holds beside it the request, what the node
must agree on with the driver, the threads to use, and the records of the runs that a job needs. Nodes write no record.
"""

from __future__ import annotations

import functools
import json
import logging
import platform
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from bench.core import environment
from bench.core.errors import BenchError, Stopped
from bench.core.record import Code, Record
from bench.core.spec import Spec
from bench.core.store import Store
from bench.run import plan as planning
from bench.run.codehash import module_hash
from bench.run.device import Device
from bench.run.job import run_job
from bench.run.plan import Plan
from bench.run.request import Request
from bench.run.worker import failure, identity, make_piece
from bench.train.progress import silent
from bench.train.stopping import stoppable


class Carried(Store):
    """The store as a task sees it: the records that came with the order, and the one that goes back."""

    def __init__(self, records: Sequence[Record]):
        super().__init__(Path())
        self._records = {record.hash: record for record in records}
        self.written: Record | None = None

    def find(self, spec: Spec, hash_: str) -> Record | None:
        """As Store.find."""
        found = self._records.get(hash_)
        return found if found is not None and found.status == "ok" else None

    def failed_before(self, spec: Spec, hash_: str, reason: str, code: Code) -> Record | None:
        """None: the driver looks, before it writes."""
        return None

    def write(self, record: Record) -> Path:
        """Keep the record for the answer."""
        self.written = record
        return Path(f"{record.id}.json")


def agreed(plan: Plan) -> dict[str, str]:
    """What the driver and every node must have alike, by name."""
    return {"version": environment.version(), "code": module_hash(__name__), "plan": identity(plan)}


def device() -> str:
    """What this node trains on, as JSON."""
    return json.dumps(asdict(Device.here()))


def make(order: str) -> str:
    """Make the piece that an order names.

    Answers as a worker does, and: unready (the node cannot make the plan), refused (it is not like the driver), stopped
    (by a signal); with each of them the node's name and what was logged.
    """
    transformers.utils.logging.disable_progress_bar()
    said: list[tuple[int, str]] = []
    with _heard(said):
        try:
            with stoppable():
                answer = _answer(json.loads(order))
        except Stopped:
            answer = {"say": "stopped"}
        except BenchError as error:
            answer = failure(error) | {"say": "unready"}
        except Exception as error:
            answer = {"say": "broken", "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    return json.dumps(answer | {"node": platform.node(), "logs": said})


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    plan, own = _planned(json.dumps(order["request"], sort_keys=True))
    wanted = order["agreed"]
    differs = [name for name in wanted if own.get(name) != wanted[name]]
    if differs:
        found = Device.here() if differs == ["plan"] else own.get(differs[0], "")[:12]
        return {"say": "refused", "what": differs[0], "found": str(found), "expected": wanted[differs[0]][:12]}
    store = Carried([Record.model_validate(one) for one in order["records"]])

    def record(job: planning.Job) -> Record:
        return run_job(job, store, plan.cache, progress=lambda label: silent)

    torch.set_num_threads(order["threads"])
    try:
        return make_piece(plan, order, record, lambda label: silent)
    except Exception as error:  # of a job, which has its failed record all the same
        kept = {"record": store.written.model_dump(mode="json")} if store.written else {}
        told = f"{type(error).__name__}: {error}"
        return {"say": "broken", "error": told, "trace": traceback.format_exc()} | kept


@functools.lru_cache(maxsize=1)
def _planned(request: str) -> tuple[Plan, dict[str, str]]:
    """The plan of a request and what is agreed on; kept, since a node's process makes many pieces of one plan."""
    log = logging.getLogger("bench")
    before = log.level
    log.setLevel(logging.CRITICAL)  # the driver has said it all when it made the plan
    try:
        plan = planning.make(Request.model_validate_json(request))
    finally:
        log.setLevel(before)
    return plan, agreed(plan)


@contextmanager
def _heard(said: list[tuple[int, str]]) -> Iterator[None]:
    """What is logged in here is gathered: one process speaks to the user."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((record.levelno, record.getMessage()))

    ear, root, bench = Ear(), logging.getLogger(), logging.getLogger("bench")
    levels = root.level, bench.level
    ear.setLevel(logging.INFO)
    root.setLevel(logging.WARNING)
    bench.setLevel(logging.INFO)
    root.addHandler(ear)
    try:
        yield
    finally:
        root.removeHandler(ear)
        root.setLevel(levels[0])
        bench.setLevel(levels[1])
