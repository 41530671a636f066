"""`bench run profile.toml --json` with a fault in one process: `FAULT=WHERE:RANK:HOW python faulty.py`.

WHERE: train (the 20th step), predict (the first split that is scored), or none. The file `fault` says when it was.
HOW: raise, full (a disk), kill, or launcher (kill -9 of the parent, which started all processes).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.cli.main import main
from bench.run import evaluate
from bench.train.engine import Eager

where, rank, how = os.environ["FAULT"].split(":")


def fault() -> None:
    Path("fault").write_text(str(time.time()))
    if how == "raise":
        raise ValueError("made to fail")
    if how == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")
    os.kill(os.getppid() if how == "launcher" else os.getpid(), signal.SIGKILL)


def break_call(owner: Any, name: str, number: int) -> None:
    """The so-and-so-many-th call fails."""
    plain: Callable[..., Any] = getattr(owner, name)
    calls = []

    def call(*given: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            fault()
        return plain(*given, **named)

    setattr(owner, name, call)


if os.environ.get("RANK") == rank:
    places: dict[str, tuple[Any, str, int]] = {"train": (Eager, "run", 20), "predict": (evaluate, "predict", 1)}
    break_call(*places[where])
sys.argv = ["bench", "run", "profile.toml", "--json"]
main()
