"""Stopping by a signal: at once, or inside `fit` after the optimiser step that runs, with a checkpoint of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from bench.core.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO_S = 0.5
"""A signal so soon after another one is the same request: `timeout` sends two, to the process and to its group."""


@dataclass(slots=True)
class _State:
    """Of this process; only the main thread, where Python runs signal handlers, touches it."""

    holding: bool = False
    pending: int = 0
    """The signal that waits for the step to end, or 0."""
    last_s: float = float("-inf")


_state = _State()


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGINT and SIGTERM raise Stopped in here: at once, or inside `held` when it asks. A second signal never waits.

    Main thread only. The handlers of before are back afterwards.
    """
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    _state.last_s = float("-inf")
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that Python does not know


def _handle(signum: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if now - _state.last_s < ECHO_S:
        return
    _state.last_s = now
    if _state.holding and not _state.pending:
        _state.pending = signum
        return
    _state.pending = 0
    raise Stopped(signum)


@contextmanager
def held() -> Iterator[None]:
    """A first signal waits in here until `pending` is asked, or else until the end, where it raises Stopped."""
    _state.pending = 0
    _state.holding = True
    try:
        yield
    except Stopped:
        _state.pending = 0
        raise
    finally:
        _state.holding = False  # first of all: from here on a signal does not wait, so that none is lost
        signum, _state.pending = _state.pending, 0
        if signum:
            raise Stopped(signum)


def pending() -> int:
    """The signal that waits, or 0."""
    return _state.pending
