"""What all fuzzed readers share: an input is made, read, and looked at where it was accepted."""

from __future__ import annotations

import math
import os
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any


class Impossible(Exception):
    """Something was accepted that cannot be; the text says what."""


class Reader:
    """One reader of the bench, with the good inputs that the bad ones are made of."""

    name: str
    inputs: int
    """How many of 200,000 are its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.last: Any = None
        """The input that was tried last, to be shown where it breaks something."""

    def one(self, chance: random.Random) -> None:
        """Try one input. Raises: BenchError where it is refused, Impossible where it should have been."""
        raise NotImplementedError


def possible(fine: bool, what: str, found: object) -> None:
    """Raises Impossible where it is not."""
    if not fine:
        raise Impossible(f"{what}: {found!r:.200}")


def same(again: object, first: object, what: str) -> None:
    """What was accepted and is written and read again must be the same."""
    possible(again == first, f"{what} does not come back as it was", again)


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def date(text: str) -> bool:
    """Whether it is a moment that exists: UTC, to the second."""
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return False
    return _DATE.fullmatch(text) is not None


def digits(text: str, count: int) -> bool:
    """Whether it is so many hexadecimal digits."""
    return re.fullmatch(f"[0-9a-f]{{{count}}}", text) is not None


def plain_name(text: str) -> bool:
    """Whether it stays in its folder on any system."""
    device = re.fullmatch(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", text)
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", text) is not None and device is None and len(text) < 200


def numbers(tree: Any) -> Iterator[float]:
    """Every number in a tree."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, float):
            yield one


def all_finite(tree: Any) -> bool:
    """Whether no number in a tree is NaN or infinite."""
    return all(map(math.isfinite, numbers(tree)))


_EVENTS = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link",
           "os.symlink"}  # fmt: skip
_watched: list[tuple[str, str, list[str]]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or event not in _EVENTS:
        return
    below, kept, escaped = _watched[-1]
    for given in arguments[:2]:
        if isinstance(given, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(given))
            outside = path.startswith(below) and not f"{path}/".startswith(kept)
            if (outside and path != below.rstrip("/")) or path.startswith("/etc/passwd"):
                escaped.append(f"{event} {path}")


@cache
def _hook() -> None:
    """Watch from now on; a hook of this kind stays."""
    sys.addaudithook(_watch)


@contextmanager
def staying_in(folder: Path, below: Path) -> Iterator[None]:
    """Raises Impossible where a file below the second folder is touched that does not lie in the first."""
    _hook()
    escaped: list[str] = []
    _watched.append((f"{below}/", f"{folder}/", escaped))
    try:
        yield
    finally:
        _watched.pop()
        if escaped:
            raise Impossible(f"left its folder: {escaped[0][:200]}")
