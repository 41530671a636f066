"""Answers that follow from code alone, kept until any file that they came from changes.

Reading all recipes imports torch and transformers, which takes seconds; what a recipe offers changes with its files
only. An answer lies in the user's cache folder (not in BENCH_HOME, of which there may be many), with the size and time
of every file that was imported or read for it, and counts only while all of them are as they were. Where it cannot be
written, nothing is remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.core.errors import SpecError
from bench.core.files import write_atomic
from bench.core.paths import user_cache

Stamp = list[int]
"""Size and time of a file, or of a folder: [bytes, nanoseconds]"""


def recall(name: str, key: object) -> Any | None:
    """The answer that was remembered under this name and key, or None where anything has changed."""
    with suppress(OSError, ValueError, KeyError, TypeError, SpecError):
        kept = json.loads(_file(name).read_text(encoding="utf-8"))
        if kept["key"] == _key(key) and all(_stamp(path) == stamp for path, stamp in kept["files"].items()):
            return kept["answer"]
    return None


def remember(name: str, key: object, answer: Any, files: Iterable[Path] = ()) -> None:
    """Keep an answer that came from the modules imported so far, and from these files and folders."""
    paths = {str(path) for path in files} | {path for path in sys.path if path}
    modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths |= {path for path in modules if isinstance(path, str)}
    with suppress(OSError, ValueError, SpecError):
        content = {"key": _key(key), "files": {path: _stamp(path) for path in sorted(paths)}, "answer": answer}
        write_atomic(_file(name), json.dumps(content))


def _file(name: str) -> Path:
    """One for each place that this package is imported from. Raises: SpecError where the user has no home."""
    return user_cache() / "bench" / "answers" / f"{name}-{hashlib.sha256(__file__.encode()).hexdigest()[:12]}.json"


def _key(key: object) -> Any:
    """The key, and what else decides which code is imported, as JSON has it."""
    return json.loads(json.dumps([key, sys.version, sys.path]))


def _stamp(path: str) -> Stamp | None:
    """None where there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
