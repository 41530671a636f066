"""What the user sees while several workers make a plan: a line per worker on a terminal, lines of a log elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Protocol

from rich.progress import TaskID

from bench.train.progress import display

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""How often a log says how far a worker is."""


class Watch(Protocol):
    """Told by the parent; use as a context."""

    def __enter__(self) -> Watch: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def begins(self, worker: int, name: str) -> None: ...
    def goes_on(self, worker: int, label: str, text: str, step: int, steps: int) -> None: ...
    def ends(self, worker: int, name: str, state: str, jobs: int) -> None:
        """`jobs`: how many are done by now."""
        ...

    def says(self, worker: int, level: int, text: str) -> None: ...


class Lines:
    """A log."""

    def __init__(self, jobs: int):
        self._jobs = jobs
        self._told: dict[int, float] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def begins(self, worker: int, name: str) -> None:
        self._told[worker] = time.monotonic()
        log.info("worker=%d makes=%s", worker, name)

    def goes_on(self, worker: int, label: str, text: str, step: int, steps: int) -> None:
        if time.monotonic() - self._told.get(worker, 0.0) >= EVERY_S:
            self._told[worker] = time.monotonic()
            log.info("worker=%d at='%s' step=%d of=%d %s", worker, label, step, steps, text)

    def ends(self, worker: int, name: str, state: str, jobs: int) -> None:
        log.info("worker=%d makes=%s state=%s jobs=%d of=%d", worker, name, state, jobs, self._jobs)

    def says(self, worker: int, level: int, text: str) -> None:
        log.log(level, "worker=%d %s", worker, text)


class Screen:
    """A line per worker, and one of the jobs done, on the terminal that is stderr."""

    def __init__(self, jobs: int, done: int, workers: int):
        self._progress = display()
        self._all: TaskID = self._progress.add_task("jobs", total=jobs, completed=done, text="")
        self._lines = [self._progress.add_task(f"{i + 1} starts", total=None, text="") for i in range(workers)]

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def begins(self, worker: int, name: str) -> None:
        self._progress.reset(self._lines[worker - 1], total=None, description=f"{worker} {name}", text="")

    def goes_on(self, worker: int, label: str, text: str, step: int, steps: int) -> None:
        self._progress.update(self._lines[worker - 1], description=f"{worker} {label}", text=text, completed=step,
                              total=steps)  # fmt: skip

    def ends(self, worker: int, name: str, state: str, jobs: int) -> None:
        self._progress.update(self._all, completed=jobs)
        self._progress.reset(self._lines[worker - 1], total=None, description=f"{worker} waits", text="")
        if state != "ok":
            self._progress.console.print(f"worker {worker}: {name} {state}", markup=False, highlight=False)

    def says(self, worker: int, level: int, text: str) -> None:
        self._progress.console.print(f"worker {worker}: {text}", markup=False, highlight=False)


def watch(jobs: int, done: int, workers: int) -> Watch:
    """What fits where stderr goes."""
    return Screen(jobs, done, workers) if sys.stderr.isatty() else Lines(jobs)
