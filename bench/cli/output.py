"""What commands print: results on stdout, complaints on stderr, tables for the eye, JSON for programs."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bench.core.errors import MachineError
from bench.core.processes import is_main_process


@contextmanager
def _heard() -> Iterator[None]:
    """Raises MachineError where stdout takes no more: a full disk behind it, a pipe that nobody reads."""
    try:
        yield
    except OSError as error:
        drop_output()
        raise MachineError("the output cannot be written", where="stdout", found=error.strerror or error) from error


def drop_output() -> None:
    """Nothing more is written to stdout, not even when Python ends."""
    sys.stdout = io.StringIO()
    with suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)


def end_output() -> None:
    """Write out what stdout has kept. Raises MachineError where it cannot be."""
    with _heard():
        sys.stdout.flush()


def say(text: str = "") -> None:
    """A line of the result, on stdout."""
    with _heard():
        sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """A line of trouble, on stderr."""
    if is_main_process():
        with suppress(OSError):  # where nobody listens the exit code says it
            sys.stderr.write(f"bench: {_printable(text)}\n")


def say_json(content: Any) -> None:
    """The one document of `--json`."""
    say(json.dumps(content, indent=1, ensure_ascii=False))


def say_table(rows: list[dict[str, Any]]) -> None:
    """Rows with the same keys, as columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        # As Text, nothing is taken for markup or for a terminal's commands: a path may hold brackets.
        table.add_row(*(Text("" if value is None else _printable(_shown(value))) for value in row.values()))
    with _heard():
        Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False, highlight=False).print(table)


def _printable(text: str) -> str:
    """Text without what would steer a terminal (escape sequences, carriage returns); line ends stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def say_facts(lines: list[tuple[str, str]]) -> None:
    """(heading, text) lines, the texts under each other."""
    width = max((len(heading) for heading, _ in lines), default=0)
    for heading, text in lines:
        say(_printable(f"{heading:{width}}  {text}"))


def _shown(value: Any) -> str:
    """A cell; numbers with digits enough to read (--json has them all)."""
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value)


def quiet_libraries() -> None:
    """One owner of progress and log: libraries keep to warnings and draw no bars."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it tries again is told by ours
    import transformers

    transformers.utils.logging.disable_progress_bar()
