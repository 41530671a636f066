"""Progress of a long loop: a bar on a terminal, nothing elsewhere, never more than one owner."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Advance = Callable[[int, str], None]
"""(steps done now, short text) -> None"""

Progress = Callable[[int, int], AbstractContextManager[Advance]]
"""(total steps, steps done before) -> a context that yields an Advance."""

Bars = Callable[[str], Progress]
"""(label) -> Progress: who shows the loops of a stage of that name; `bar` is one."""

Tell = Callable[[str, str, int, int], None]
"""(label, short text, steps done, total steps) -> None"""


@contextmanager
def silent(total: int, done: int) -> Iterator[Advance]:
    """Shows nothing."""
    yield lambda steps, text: None


def display() -> RichProgress:
    """How all bars look: on stderr, with steps of steps, the time left and a text; gone at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                        TimeRemainingColumn(), TextColumn("{task.fields[text]}", markup=False),
                        console=Console(stderr=True), transient=True)  # fmt: skip


def bar(label: str) -> Progress:
    """A rich progress bar on stderr, shown on a terminal only."""
    if not sys.stderr.isatty():
        return silent

    @contextmanager
    def shown(total: int, done: int) -> Iterator[Advance]:
        with display() as progress:
            task = progress.add_task(label, total=total, completed=done, text="")
            yield lambda steps, text: progress.update(task, advance=steps, text=text)

    return shown


def told(tell: Tell, every_s: float = 0.5) -> Bars:
    """Bars that are shown elsewhere: the first step, the last one, and between them one every so many seconds."""

    def of(label: str) -> Progress:
        @contextmanager
        def shown(total: int, done: int) -> Iterator[Advance]:
            at, last = done, time.monotonic()
            tell(label, "", at, total)

            def advance(steps: int, text: str) -> None:
                nonlocal at, last
                at += steps
                if at >= total or time.monotonic() - last >= every_s:
                    last = time.monotonic()
                    tell(label, text, at, total)

            yield advance

        return shown

    return of
