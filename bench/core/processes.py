"""Processes: which is meant by a number that lies in a file, whether it lives, and what children hear."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import resource_tracker
from pathlib import Path

import psutil


def is_main_process() -> bool:
    """Whether this process speaks for all, where several train together."""
    return os.environ.get("RANK", "0") == "0"


def trains_together() -> bool:
    """Whether this is one of several processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@cache
def host() -> str:
    """A hash that two processes share where the pid of one means the same to the other.

    One machine since it was booted, and one container of it: pids of different containers have nothing in common.
    """
    facts = [platform.node(), str(uuid.getnode())]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with suppress(OSError):
            facts.append(read())
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def runs(pid: int) -> bool:
    """Whether a process of this machine lives; one that was killed and not yet buried does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started in here never hear of Ctrl-C, which a terminal sends to all: their parent ends them.

    A signal that comes meanwhile is heard at the end.
    """
    resource_tracker.ensure_running()  # by starting it multiprocessing would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
