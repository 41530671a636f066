"""Folders that can tell whether they are still what was written: a manifest with the size and sha256 of every file.

The manifest holds a digest of itself, too, so that no changed byte of a folder goes unnoticed. Hidden names do not
count: file servers leave some, and nothing here is read from them.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from bench.core.files import file_sha256
from bench.core.spec import digest

MANIFEST = "manifest.json"
MAX_BYTES = 16 * 2**20
"""Of a manifest: far above what facts of a stage weigh, far below what fills a memory."""

_Signature = tuple[tuple[str, int, int, int, int], ...]
_checked: dict[Path, _Signature] = {}
"""Folders that this process has read whole, as the file system described their files then."""


class Damaged(Exception):
    """A folder is not what was sealed; the text says how."""


LOST = (Damaged, FileNotFoundError, NotADirectoryError)
"""What says that a folder is not as it was sealed. Any other OSError (too many open files, a file server that is away)
says nothing of it: what may be whole is never removed."""


def seal(folder: Path, content: dict[str, Any]) -> None:
    """Write the manifest of a folder whose files are all there: `content`, and what every file is."""
    sums = {name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
            for name in _names(folder)}  # fmt: skip
    whole = {"content": content, "files": sums}
    (folder / MANIFEST).write_text(json.dumps(whole | {"digest": digest(whole)}, indent=1, sort_keys=True))


def content(folder: Path) -> dict[str, Any]:
    """What was sealed with a folder, once its files are there with their sizes; reads none of them but the manifest.

    Raises Damaged; FileNotFoundError where there is no manifest.
    """
    return _read(folder)["content"]


def sums(folder: Path, below: str = "") -> dict[str, str]:
    """The sha256 of each file of a folder, or of the files below one of its folders, as it was sealed. Raises: as
    `content`."""
    start = f"{below}/" if below else ""
    return {name.removeprefix(start): one["sha256"] for name, one in _read(folder)["files"].items()
            if name.startswith(start)}  # fmt: skip


def checked(folder: Path) -> dict[str, Any]:
    """As `content`, after reading every byte: once, as long as the file system says that nothing has changed.

    Raises Damaged where a byte is not as it was written, and FileNotFoundError where there is no manifest.
    """
    found = _read(folder)
    signature = _signature(folder)
    if _checked.get(folder) != signature:
        for name, wanted in found["files"].items():
            if _sha256(folder / name) != wanted["sha256"]:
                raise Damaged(f"the content of {name} has changed")
        _checked[folder] = signature
    return found["content"]


def _sha256(path: Path) -> str:
    """Raises OSError with the file's name, which a read that fails does not tell."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    described = path.stat()
    if not stat.S_ISREG(described.st_mode) or described.st_size > MAX_BYTES:
        raise Damaged(f"{MANIFEST} is no manifest")
    try:
        whole = json.loads(path.read_bytes())
        told = whole.pop("digest")
        same = told == digest(whole)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise Damaged(f"{MANIFEST} cannot be read") from None
    if not same:
        raise Damaged(f"the content of {MANIFEST} has changed")
    _compare(folder, whole["files"])
    return whole


def _compare(folder: Path, wanted: dict[str, Any]) -> None:
    found = dict.fromkeys(_names(folder))
    for name, one in wanted.items():
        if name not in found:
            raise Damaged(f"{name} is missing")
        described = (folder / name).stat()
        if not stat.S_ISREG(described.st_mode) or described.st_size != one["bytes"]:
            raise Damaged(f"{name} has {described.st_size} bytes of {one['bytes']}")
    if more := sorted(found.keys() - wanted.keys()):
        raise Damaged(f"{more[0]} was not there")


def _names(folder: Path) -> list[str]:
    """The files of a folder but its manifest, with the folders that they lie in."""
    names = []
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names += [(Path(at) / name).relative_to(folder).as_posix() for name in files if not name.startswith(".")]
    return sorted(name for name in names if name != MANIFEST)


def _signature(folder: Path) -> _Signature:
    described = ((name, (folder / name).stat()) for name in (*_names(folder), MANIFEST))
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in described)
