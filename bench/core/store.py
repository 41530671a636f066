"""The record store: plain JSON files under results/, each written once, atomically, and never changed.

A reader never sees half a file, and two benches may write to one folder: a file appears under its name only when
it is whole, and a name that is taken is never taken over.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from bench.core import files
from bench.core.collection import no_collection
from bench.core.errors import RecordError
from bench.core.record import FORMAT, Code, Record
from bench.core.spec import RECORD_SCALES, Spec

log = logging.getLogger(__name__)

MAX_BYTES = 64_000
"""What a record may weigh; a larger one is kept all the same (hours went into it), and complained about."""

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}")


class Store:
    """The records of a results folder, as the runs that make them see them."""

    def __init__(self, results: Path):
        self.results = results

    def find(self, spec: Spec, hash_: str) -> Record | None:
        """The finished record of a job, the newest; None where there is none."""
        return next((record for record in self._of(spec, hash_) if record.status == "ok"), None)

    def failed_before(self, spec: Spec, hash_: str, reason: str, code: Code) -> Record | None:
        """A record of the same job that failed for the same reason in the same code."""
        return next((record for record in self._of(spec, hash_) if record.status == "failed"
                     and record.reason == reason and record.code == code), None)  # fmt: skip

    def write(self, record: Record) -> Path:
        """Write a record; see `write_record`."""
        return write_record(self.results, record)

    def check_writable(self) -> None:
        """Raises RecordError where no record could be written."""
        check_writable(self.results)

    def _of(self, spec: Spec, hash_: str) -> Iterator[Record]:
        """The records of a job, the newest first: a record's file is named by its job's hash and seed."""
        folder = _folder(self.results, spec.scale, spec.paper, spec.variant, spec.task)
        for path in sorted(folder.glob(f"*-{hash_[:8]}-s{spec.seed}*.json"), reverse=True):
            record = read_record(path)
            if record.hash == hash_:
                yield record


def _folder(results: Path, scale: str, *parts: str) -> Path:
    return results.joinpath(scale, *map(_checked, parts))


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new one, never a part; replaces what is there.

    Raises RecordError when the folder cannot be written.
    """
    with _writing(path):
        files.write_atomic(path, text)


def write_record(results: Path, record: Record) -> Path:
    """Write a record to its own path and return that path. Never overwrites.

    Where another bench has already written a record of the same job and second, this one's id gets a number
    ("-2"), in the file too. Raises RecordError when the folder cannot be written or a value is not JSON (a NaN).
    """
    spec = record.spec
    folder = _folder(results, spec.scale, spec.paper, spec.variant, spec.task)
    for number in itertools.count(1):
        numbered = record if number == 1 else record.model_copy(update={"id": f"{record.id}-{number}"})
        path = folder / f"{_checked(numbered.id)}.json"
        with suppress(FileExistsError), _writing(path):
            files.create_atomic(path, _as_json(numbered))
            return path
    raise AssertionError("unreachable: the count has no end")


def check_writable(results: Path) -> None:
    """Make the results folder and prove that a file can be written there, before hours of work depend on it.

    Raises RecordError.
    """
    probe = results / f"probe-{os.getpid()}"
    with _writing(probe), files.staged_file(probe) as staging:
        files.write_atomic(staging, "")


def read_record(path: Path | str) -> Record:
    """One record. Raises RecordError, naming the file, when it is not JSON or not of a known format."""
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.readall()
    except OSError as error:
        raise RecordError("the record cannot be read", where=path, found=error.strerror or error) from error
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        raise _explained(path, content, error) from error


def read_records(results: Path, scales: tuple[str, ...] = RECORD_SCALES) -> list[Record]:
    """All records of these scales; see `each_record`. A missing folder has none."""
    if not results.exists():
        return []
    with no_collection():
        return list(each_record(results, scales))


def each_record(results: Path, scales: tuple[str, ...] = RECORD_SCALES) -> Iterator[Record]:
    """The records of these scales, ordered by scale, paper, variant, task and time, read one by one.

    Files that are being written are passed over. Raises RecordError for a folder that is not there, or the first record
    that cannot be read.
    """
    if not results.is_dir():
        found = "a file" if results.exists() else "no such folder"
        raise RecordError("the results are not a folder", where=results, found=found, fix="give --results FOLDER")
    for scale in scales:
        for path in sorted(_files(str(results / scale)), key=_order):
            yield read_record(path)


def _order(path: str) -> list[str]:
    """Folder by folder, and "x" before "x-2": comparing whole paths would do neither."""
    return path.removesuffix(".json").split(os.sep)


def _files(folder: str) -> Iterator[str]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError("the results cannot be read", where=folder, found=error.strerror or error) from error
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.name.endswith(".json"):
                yield entry.path


def _explained(path: Path | str, content: bytes, error: ValidationError) -> RecordError:
    fix = "restore it from git, or move it out of the results folder"
    try:
        found = json.loads(content)
    except ValueError:
        shown = content[:40].decode(errors="replace") or "an empty file"
        return RecordError("the record is not JSON", where=path, found=shown, expected="one JSON object", fix=fix)
    if not isinstance(found, dict):
        return RecordError("the record is not an object", where=path, found=type(found).__name__, fix=fix)
    if found.get("format") != FORMAT:
        given = repr(found["format"]) if "format" in found else "no key format"
        return RecordError("the record's format is unknown", where=path, found=given, expected=f"format {FORMAT}",
                           fix="use the bench that wrote it, or move it out of the results folder")  # fmt: skip
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the record"
    return RecordError("the record is malformed", where=f"{path}, field {field}", found=first["msg"], fix=fix)


def _checked(name: str) -> str:
    if not _SAFE.fullmatch(name):
        raise RecordError("a name cannot be part of a path", found=repr(name), expected="letters, digits, . _ -")
    return name


def _as_json(record: Record) -> str:
    try:
        text = json.dumps(record.model_dump(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, TypeError) as error:
        raise RecordError("the record holds a value that is not JSON", where=record.id, found=error) from error
    if (size := len(text.encode())) > MAX_BYTES:
        log.warning("record=%s bytes=%d limit=%d", record.id, size, MAX_BYTES)
    return text


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        # mkdir says this, too, when a folder's name is taken by a file: that is no clash of two records.
        if not path.parent.is_dir():
            raise _unwritable(path, error) from error
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RecordError:
    return RecordError("the folder cannot be written", where=path.parent, found=error.strerror or str(error),
                       fix="give another folder, or make this one writable")  # fmt: skip
