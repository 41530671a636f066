"""Files and folders that appear whole or not at all: staged beside their place, pushed to the disk, then renamed.

A reader never sees a part, a failure leaves nothing, and several processes may write to one place. What is staged has
a hidden name that ends in `.writing`; only a process that was killed leaves one behind (see `sweep`).
Errors of the file system are plain OSErrors here; callers say what they mean.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock

from bench.core.processes import host, runs
from bench.core.trouble import FULL

NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What a file system says that has no hard links."""
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}
_STAGED = re.compile(r"\..+\.([0-9a-f]{16})-(\d+)-[0-9a-f]{32}\.writing", re.DOTALL)
"""A staged name says who writes: the host, and the process on it."""
OLD_S = 86_400.0
"""What another machine has been writing for so long is no longer being written."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file in one step, text as UTF-8 with its line ends as they are; replaces what is there."""
    with whole_file(path) as staging:
        _fill(staging, content)


def create_atomic(path: Path, content: str | bytes) -> None:
    """Like `write_atomic`, but raises FileExistsError where the name is taken, also by a process at the same moment."""
    with staged_file(path) as staging:
        _fill(staging, content)
        _sync(staging)
        try:
            os.link(staging, path)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            _claim_and_rename(staging, path)
        _sync_name(path.parent)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write the file to, which then takes its place under `path`; replaces what is there."""
    with staged_file(path) as staging:
        yield staging
        _sync(staging)
        os.replace(staging, path)
        _sync_name(path.parent)


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """The path beside `path` that a file is staged under; makes the folder, and leaves nothing there afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = _beside(path)
    try:
        yield staging
    finally:
        with suppress(OSError):  # most often it has been renamed; a failure to write must not be hidden by this one
            staging.unlink()


@contextmanager
def whole_folder(path: Path, taken: Literal["drop", "raise"] = "drop") -> Iterator[Path]:
    """An empty folder to fill, which then takes its place under `path`; see `move_folder`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = _beside(path)
    staging.mkdir()
    try:
        yield staging
        move_folder(staging, path, taken)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def move_folder(staging: Path, path: Path, taken: Literal["drop", "raise"] = "drop") -> None:
    """Push a folder's files to the disk and rename it; an empty folder in its place is replaced.

    Where another process was first, and its folder holds something, the staged one is dropped (right where both hold
    the same), or the OSError of the rename is raised.
    """
    for folder, _, names in os.walk(staging):
        for name in names:
            _sync(Path(folder) / name)
        _sync_name(Path(folder))
    try:
        os.rename(staging, path)
    except OSError as error:
        if taken == "raise" or error.errno not in _TAKEN:
            raise
        shutil.rmtree(staging, ignore_errors=True)
    _sync_name(path.parent)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; only for one whose writers a lock keeps apart."""
    for staging in folder.glob(".*.writing"):
        _remove(staging)


def sweep_dead(folder: Path) -> None:
    """The same where others may be writing: what a dead process of this machine left, and what another machine
    left a day ago.

    Looks into the folder only, not below; what cannot be removed stays.
    """
    with suppress(OSError):
        for staging in folder.glob(".*.writing"):
            found = _STAGED.fullmatch(staging.name)
            with suppress(OSError):
                if found is not None and found[1] == host():  # its process tells, however the clock has jumped
                    dead = not runs(int(found[2]))
                else:
                    dead = time.time() - staging.lstat().st_mtime > OLD_S
                if dead:
                    _remove(staging)


def remove_folder(folder: Path) -> None:
    """Remove a folder at once: to a reader it is there whole, or not at all. Raises OSError where it stays."""
    aside = _beside(folder)
    try:
        os.rename(folder, aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside for this path.

    Where no lock can be written there is none: nothing else can be written there either, so that nobody is disturbed.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        if error.errno not in {*FULL, errno.EROFS, errno.EACCES, errno.EPERM}:
            raise
    try:
        yield
    finally:
        lock.release()


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _remove(staging: Path) -> None:
    if staging.is_dir() and not staging.is_symlink():
        shutil.rmtree(staging, ignore_errors=True)
    else:
        staging.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{host()}-{os.getpid()}-{uuid.uuid4().hex}.writing")


def _fill(staging: Path, content: str | bytes) -> None:
    staging.write_bytes(content.encode() if isinstance(content, str) else content)


def _claim_and_rename(staging: Path, path: Path) -> None:
    """For file systems without hard links, where no rename refuses to replace: a hidden claim keeps others off."""
    claim = path.with_name(f".{path.name}.claim")
    os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        os.replace(staging, path)
    finally:
        os.unlink(claim)


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _sync_name(folder: Path) -> None:
    """A name, too, must survive a power cut; not every file system can sync a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
