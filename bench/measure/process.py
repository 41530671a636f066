"""The parent's end of a measuring process: one model under one backend, in a process of its own."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from bench.core import errors
from bench.core.errors import DeviceError
from bench.core.processes import deaf_children
from bench.measure.worker import serve

READS = 30
"""Calls of a tokenizer that are timed, per batch."""

_CHILDREN = multiprocessing.get_context("forkserver")
_CHILDREN.set_forkserver_preload(["bench.measure.worker"])  # what takes seconds to import is imported once for all


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """One model under one backend."""

    paper: str
    variant: str
    backend: str = "eager"


class Worker:
    """The parent's end of a child process; use as a context."""

    def __init__(self, subject: Subject, threads: int):
        self.subject, self.threads = subject, threads

    def __enter__(self) -> Worker:
        self._pipe, theirs = _CHILDREN.Pipe()
        self._process = _CHILDREN.Process(target=serve, args=(theirs,), daemon=True)
        with deaf_children():
            self._process.start()
        theirs.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, and give back what it holds."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def order(self, **order: Any) -> None:
        """Send an order; the answer is fetched with `answer`."""
        with suppress(BrokenPipeError):  # the child is gone, which `answer` will tell
            self._pipe.send(order)

    def answer(self) -> dict[str, Any]:
        """The next answer.  Raises what the child raised, or DeviceError when the child is gone."""
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise DeviceError("a measuring process ended", where=f"{self.subject.variant}, {self.subject.backend}",
                              found=f"exit code {self._process.exitcode}", expected="an answer",
                              fix="free memory, or measure fewer variants at once") from None  # fmt: skip
        if "error" in answer:
            error = getattr(errors, answer["kind"])("")
            error.args = (f"{answer['error']}; in {self.subject.variant}",)
            raise error
        return answer

    def load(self) -> None:
        subject = self.subject
        self.order(do="load", paper=subject.paper, variant=subject.variant, backend=subject.backend,
                   threads=self.threads)  # fmt: skip

    def time(self, calls: int) -> list[float]:
        self.order(do="time", calls=calls)
        return self.answer()["seconds"]

    def read(self, batch: int, length: int) -> list[float]:
        self.order(do="read", batch=batch, length=length, calls=READS)
        return self.answer()["seconds"]
