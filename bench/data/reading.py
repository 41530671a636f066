"""Files as people bring them: opened, listed and decoded, or refused with what is wrong with them."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.core.errors import DataError

log = logging.getLogger(__name__)

CHUNK = 2**16
"""Characters of a text file that are held at a time."""
NAMED = 5
"""So many names fit one line of a log; of more, the rest is counted."""


def missing(path: Path) -> str:
    """Why there is nothing under a path, in a few words, and what it could have been."""
    if path.is_symlink():
        return f"{path}, a broken link to {os.readlink(path)}"
    close = _alike(path)
    return f"{path}" + (f" (there is {close})" if close else "")


def _alike(path: Path) -> Path | None:
    """The nearest name to a mistyped one, at the first part of the path that does not exist."""
    at = path.absolute()
    while not at.parent.exists() and at.parent != at:
        at = at.parent
    try:
        close = difflib.get_close_matches(at.name, os.listdir(at.parent), 1, 0.7)
    except OSError:
        return None
    return at.parent / close[0] if close else None


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file or folder that the system does not give."""
    link = path.is_symlink() and not path.exists()
    return DataError(
        "a link that leads nowhere" if link else "a file that cannot be read", where=path,
        found=f"a broken link to {os.readlink(path)}" if link else error.strerror or error,
        expected="a readable file", fix="put its target back, or copy the file" if link else "check its permissions",
    )  # fmt: skip


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, by name. Raises DataError where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error


def name_passed_over(folder: Path, passed: Iterable[Path], why: str) -> None:
    """Say in the log which files of a folder are not read; hidden ones are nobody's data."""
    names = [path.name + "/" * path.is_dir() for path in passed if not path.name.startswith(".")]
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        log.info("passed_over='%s%s' in=%s reason='%s'", ", ".join(names[:NAMED]), more, folder, why)


def text_chunks(path: Path) -> Iterator[str]:
    """A UTF-8 text file in pieces, with \\n at the ends of lines and without a byte order mark.

    Raises DataError for a file that cannot be read, or is not text.
    """
    try:
        with path.open(encoding="utf-8-sig") as stream:
            while chunk := stream.read(CHUNK):
                if "\0" in chunk:  # UTF-16 without a mark is UTF-8 with a zero beside each letter
                    raise _no_text(path, "zero bytes")
                yield chunk
    except UnicodeDecodeError as error:
        raise _no_text(path, f"byte 0x{error.object[error.start]:02x}") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _no_text(path: Path, found: str) -> DataError:
    return DataError("not text", where=path, found=found, expected="UTF-8",
                     fix="convert the file, for example with iconv -f UTF-16 -t UTF-8")  # fmt: skip
