"""Where a user's caches lie."""

from __future__ import annotations

import os
from pathlib import Path

from bench.core.errors import SpecError


def user_cache() -> Path:
    """The user's cache folder. Raises SpecError for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        raise SpecError("there is no cache folder", where="BENCH_HOME", found="not set, and this user has no home",
                        fix="export BENCH_HOME=FOLDER") from None  # fmt: skip


def shared_url() -> str:
    """The URL that $BENCH_HOME is; "" where it is a folder, or not set."""
    given = os.environ.get("BENCH_HOME", "")
    return given.rstrip("/") if "://" in given else ""


def home() -> Path:
    """The bench's cache folder: $BENCH_HOME, else `bench` in the user's, also where $BENCH_HOME is an URL.

    Raises SpecError where there is neither.
    """
    given = os.environ.get("BENCH_HOME")
    if not given or shared_url():
        return user_cache() / "bench"
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # the home folder of nobody
        raise SpecError("the cache folder cannot be found", where=f"BENCH_HOME {given}", found=error,
                        fix="export BENCH_HOME=FOLDER") from error  # fmt: skip


def made_home() -> Path:
    """The same, there now. Raises SpecError where it cannot be made, naming BENCH_HOME."""
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = "a file in its place" if isinstance(error, FileExistsError) else error.strerror
        raise SpecError("the cache folder cannot be made", where=f"BENCH_HOME {folder}", found=found,
                        fix="export BENCH_HOME=FOLDER_THAT_CAN_BE_WRITTEN") from error  # fmt: skip
    return folder
