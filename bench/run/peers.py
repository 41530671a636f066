"""What processes that train together tell each other beside their work: that one failed, and that the launcher is gone.

One that fails alone would leave the others waiting for it for ever. So it says why, in the store that they met in, and
hangs up: what the others wait for fails at once, they find the reason there, and the run ends in all of them.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import distributed as dist

from bench.core.errors import BenchError, MachineError, ProcessLost, Stopped, TrainError
from bench.core.processes import trains_together
from bench.core.steering import steering
from bench.core.trouble import explained

PATIENCE = timedelta(days=1)
"""How long processes wait for one of them that measures, or waits for another bench. A dead one is noticed at once."""
ALIKE_S = 4.0
"""Processes that fail alike do so within this time."""
HEARD_S = 1.0
"""How long a reason is looked for: whoever fails tells it before the others can notice."""
WRITTEN_S = 3.0
"""How long the main process may take to write the record."""
LOST = "another process of this run was lost"
"""The reason of a record; what the library says of it names ports, and differs each time."""
GRACE_S = 8.0
"""A process whose launcher is gone has this long to write a checkpoint."""
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a process failed."""

    text: str
    machine: bool
    """Whether its machine is to blame, and not the run."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a run, as all processes see it."""

    reason: str
    error: Exception
    alone: bool
    """Whether some process failed and others did not: then nothing more can be done together."""


def start() -> None:
    """Meet the other processes of the run, where there are any, and follow the launcher: its end is theirs.

    Raises SpecError for variables that would change how they train.
    """
    if not trains_together():
        return
    steering()
    Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    _store()
    if "TORCHELASTIC_RUN_ID" in os.environ:  # started by torchrun or accelerate, which is the parent
        threading.Thread(target=_follow, args=(os.getppid(),), name="launcher", daemon=True).start()


def _follow(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)


@cache
def _store() -> Any:
    """Where the processes met; it stays when they no longer talk to each other."""
    return dist.distributed_c10d._get_default_store()


def failure_of(error: BaseException, key: str, where: object) -> Failure:
    """What failed in a run, as all processes see it; `key` names the run among those of a plan.

    Raises instead what is no failure of the run: Stopped, and MachineError for what the machine of any process did not
    allow. A process that was lost without a word is a failure: it took the run with it, and nothing else will say so.
    """
    trouble = explained(error, where) if isinstance(error, Exception) else None
    if Accelerator().num_processes == 1 or not dist.is_initialized():
        if trouble is not None:
            raise trouble from error
        if not isinstance(error, Exception):
            raise error
        return Failure(said_of(error), error, alone=False)
    # A launcher wants all gone as soon as one is; what this one finds and writes takes a moment more, then it is.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if trouble is None and isinstance(error, Exception):
        reason = said_of(error)
        alike = _tell(key, Reason(reason, machine=False), wait=True)
        if alike:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        return Failure(reason, error, alone=not alike)
    if isinstance(error, Stopped) or isinstance(trouble, ProcessLost):
        told = _heard(key, 0.0 if isinstance(error, Stopped) else HEARD_S)
        if told is not None and not told.machine:
            return Failure(told.text, TrainError("another process of this run failed", where=where, found=told.text,
                                                 fix="see its record"), alone=True)  # fmt: skip
        if told is not None:
            raise MachineError(told.text) from error
        if trouble is None:
            raise error
        return Failure(LOST, trouble, alone=True)
    assert trouble is not None
    _tell(key, Reason(str(trouble), machine=True), wait=False)
    hang_up()
    raise trouble from error


def said_of(error: Exception) -> str:
    """A failure in words."""
    return str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"


def hang_up() -> None:
    """Nothing more is done together: what the others wait for fails."""
    if dist.is_initialized():
        dist.destroy_process_group()


def written(key: str) -> None:
    """Say, as the main process, that the failure is on record."""
    with suppress(dist.DistError):
        _store().set(f"{key}/written", "")
    hang_up()


def wait_until_written(key: str) -> None:
    """Give the main process time for that: a launcher ends all when one has ended."""
    hang_up()
    _until(lambda: _store().check([f"{key}/written"]), WRITTEN_S)


def _names(key: str) -> list[str]:
    """Where each process tells why it failed."""
    return [f"{key}/{process}" for process in range(Accelerator().num_processes)]


def _tell(key: str, told: Reason, wait: bool) -> bool:
    """Tell the others; with `wait` whether all of them fail for the same reason."""
    store, said = _store(), json.dumps(asdict(told))
    try:
        store.set(_names(key)[Accelerator().process_index], said)
        alike = wait and _until(lambda: store.check(_names(key)), ALIKE_S)
        return alike and all(store.get(name).decode() == said for name in _names(key))
    except dist.DistError:  # it went with the launcher
        return False


def _heard(key: str, seconds: float) -> Reason | None:
    """What another process has told, or None."""
    store = _store()
    try:
        _until(lambda: any(store.check([name]) for name in _names(key)), seconds)
        found = next((name for name in _names(key) if store.check([name])), None)
        return Reason(**json.loads(store.get(found))) if found else None
    except dist.DistError:
        return None


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds; false where it does not in time, or the launcher says that it is over."""
    end = time.monotonic() + seconds
    try:
        while not holds():
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)
    except (Stopped, dist.DistError):
        return False
    return True
