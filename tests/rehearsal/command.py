"""`python command.py SECONDS ARGUMENTS... [-- ARGUMENTS...]`: bench commands, one after another in one process.

The tasks have as many rows as the little hub serves, so that a run on them is as whole as one on the real data. What
waits before it asks a hub again waits for at most so many seconds. Each command ends with a line `exit CODE` on stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[up]) for up in (1, 2)]

from bench.data.tasks import TASKS  # noqa: E402
from rehearsal.rows import counts  # noqa: E402


def shrink() -> None:
    """The official numbers of rows become those of the little hub, for this process."""
    for task in TASKS.values():
        object.__setattr__(task, "splits", counts(task))


def hurry(most_s: float) -> None:
    """Nothing sleeps for longer than this."""
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(float(seconds), most_s))


def run(arguments: Sequence[str]) -> int:
    """One command, its exit code as the shell would see it."""
    from bench.cli.main import main

    sys.argv = ["bench", *arguments]
    try:
        main()
    except SystemExit as told:
        return told.code if isinstance(told.code, int) else int(told.code is not None)
    return 0


def commands(words: Sequence[str]) -> list[list[str]]:
    """The command lines that `--` parts."""
    found: list[list[str]] = [[]]
    for word in words:
        found = [*found, []] if word == "--" else [*found[:-1], [*found[-1], word]]
    return found


if __name__ == "__main__":
    shrink()
    hurry(float(sys.argv[1]))
    for given in commands(sys.argv[2:]):
        code = run(given)
        print(f"exit {code}", flush=True)
