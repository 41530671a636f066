"""The record store: plain JSON files under results/, each written once, atomically, and never changed.

A reader never sees half a file, and two benches may write to one folder: a file appears under its name only when
it is whole, and a name that is taken is never taken over. Answers that would make a record too large lie beside it,
in a file that is named by the hash of what it holds.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from bench.core import files, meaning, names
from bench.core.collection import no_collection
from bench.core.errors import RecordError, UnwritableError
from bench.core.record import FORMATS, Code, Record
from bench.core.sidecar import FIX, answers_name, read_file, take_out
from bench.core.spec import RECORD_SCALES, Spec
from bench.core.trouble import FULL

log = logging.getLogger(__name__)

MAX_BYTES = 64_000
"""What a record may weigh; a larger one is kept all the same (hours went into it), and complained about."""

_DEPTH = 3
"""Of the folders below a scale: paper, variant, task."""
_told: set[str] = set()


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

    def _of(self, spec: Spec, hash_: str) -> Iterator[Record]:
        """The records of a job, the newest first: a record's file is named by its job's hash and seed."""
        folder = _folder(self.results, spec.scale, spec.paper, spec.variant, spec.task)
        for path in sorted(folder.glob(f"*-{hash_[:8]}-s{spec.seed}*.json"), reverse=True):
            try:
                record = read_record(path)
            except RecordError as error:
                _leave_out(error)
                continue
            if record.hash == hash_:
                yield record


def _folder(results: Path, scale: str, *parts: str) -> Path:
    return results.joinpath(scale, *map(_checked, parts))


def folder_of(results: Path, record: Record) -> Path:
    """The folder of a record and of the files beside it. Raises RecordError for a name that is no part of a path."""
    spec = record.spec
    return _folder(results, spec.scale, spec.paper, spec.variant, spec.task)


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new one, never a part; replaces what is there.

    Raises RecordError when the folder cannot be written.
    """
    with _writing(path):
        files.write_atomic(path, text)


def write_record(results: Path, record: Record) -> Path:
    """Write a record to its own path and return that path. Never overwrites.

    Where another bench has already written a record of the same job and second, this one's id gets a number
    ("-2"), in the file too. Answers that do not fit are written first, each in a file beside the record. Raises
    RecordError when the folder cannot be written, and for a record that could not be read back: a value that is not
    JSON (a NaN), a number that means nothing.
    """
    folder = folder_of(results, record)
    _checked(record.id)
    record, beside = take_out(record, lambda one: len(_as_json(one).encode()) - MAX_BYTES)
    for number in itertools.count(1):
        numbered = record if number == 1 else record.model_copy(update={"id": f"{record.id}-{number}"})
        path, text = folder / f"{_checked(numbered.id)}.json", _as_json(numbered)
        if len(text.encode()) > MAX_BYTES:
            log.warning("record=%s bytes=%d limit=%d", numbered.id, len(text.encode()), MAX_BYTES)
        parsed(path, text.encode())
        for sha256, content in beside.items():
            with _writing(path, late=True):
                files.write_atomic(folder / answers_name(sha256), content)  # whoever was first wrote the same
        with suppress(FileExistsError), _writing(path, late=True):
            files.create_atomic(path, text)
            return path
    raise AssertionError("unreachable: the count has no end")


def check_writable(results: Path) -> None:
    """Make the results folder and prove that a file can be written there, before hours of work depend on it.

    What killed processes left half written goes first. Raises RecordError.
    """
    for scale in RECORD_SCALES:
        for folder in (results / scale).glob("*/*/*"):
            files.sweep_dead(folder)
    files.sweep_dead(results)
    probe = results / f"probe-{os.getpid()}"
    with _writing(probe), files.staged_file(probe) as staging:
        files.write_atomic(staging, "")


def read_record(path: Path | str) -> Record:
    """One record. Raises RecordError, naming the file, when it is not JSON, not of a known format, or means nothing.

    What is no file is never waited for.
    """
    return parsed(path, read_file(path, "the record"))


def parsed(path: Path | str, content: bytes) -> Record:
    """A record that lies, or is to lie, at this path. Raises: as `read_record`."""
    try:
        record = Record.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise _explained(path, content, error) from error
    spec = record.spec
    *_, scale, paper, variant, task, name = ["", "", "", "", *os.fspath(path).split(os.sep)]
    told = (spec.scale, spec.paper, spec.variant, spec.task, f"{record.id}.json")
    if told != (scale, paper, variant, task, name):
        raise RecordError("the record is not at its place", where=path, found=os.sep.join(told),
                          expected="a path that ends so", fix=FIX)  # fmt: skip
    if found := meaning.wrong(record):
        raise RecordError("the record means nothing", where=path, found=found, fix=FIX)
    return record


def read_records(results: Path, scales: tuple[str, ...] = RECORD_SCALES) -> list[Record]:
    """All records of these scales; see `each_record`. A missing folder has none."""
    if not results.exists():
        return []
    with no_collection():
        return list(each_record(results, scales))


def each_record(results: Path, scales: tuple[str, ...] = RECORD_SCALES) -> Iterator[Record]:
    """The records of these scales, ordered by scale, paper, variant, task and time; see `each_file`."""
    return (record for _, _, record in each_file(results, scales))


def each_file(
    results: Path, scales: tuple[str, ...] = RECORD_SCALES, but: Container[str] = ()
) -> Iterator[tuple[str, bytes, Record]]:
    """(path below the folder, content, record) of the records of these scales, without the paths in `but`.

    Ordered by scale, paper, variant, task and time; read one by one. Files that are being written are passed over.
    What is no record, or has the id of another, is named in a warning and left out.
    Raises RecordError for a folder that is not there, or in which nothing else lies.
    """
    if not results.is_dir():
        found = "a file" if results.exists() else "no such folder"
        raise RecordError("the results are not a folder", where=results, found=found, fix="give --results FOLDER")
    ids: set[str] = set()
    first: RecordError | None = None
    for path in _paths(results, scales, but):
        whole = os.path.join(results, path)
        try:
            content = read_file(whole, "the record")
            record = parsed(whole, content)
        except RecordError as error:
            first = first or error
            _leave_out(error)
            continue
        if record.id in ids:
            _leave_out(RecordError("two records have one id", where=whole, found=record.id, fix=FIX))
            continue
        ids.add(record.id)
        yield path, content, record
    if first is not None and not ids:
        raise first


def _paths(results: Path, scales: Iterable[str], but: Container[str]) -> Iterator[str]:
    """The paths of what should be records, below the results folder, in order."""
    start = len(os.path.join(results, ""))
    for scale in scales:
        found = (path[start:] for path in _files(str(results / scale), _DEPTH))
        yield from sorted((path for path in found if path not in but), key=_order)


def _leave_out(error: RecordError) -> None:
    """Say once in a process that a record is left out."""
    text = str(error)
    if text not in _told:
        _told.add(text)
        log.warning("left out: %s", text)


def _order(path: str) -> list[str]:
    """Folder by folder, and "x" before "x-2": comparing whole paths would do neither."""
    return path.removesuffix(".json").split(os.sep)


def _files(folder: str, depth: int) -> Iterator[str]:
    """Paths of what should be records, so many folders deep and no deeper: a loop of links has an end."""
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
            if _is_folder(entry):
                if depth:
                    yield from _files(entry.path, depth - 1)
                else:
                    _leave_out(RecordError("a folder where records lie", where=entry.path, fix=FIX))
            elif entry.name.endswith(".json"):
                yield entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _explained(path: Path | str, content: bytes, error: ValidationError) -> RecordError:
    fix = FIX
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        shown = content[:40].decode(errors="replace") or "an empty file"
        return RecordError("the record is not JSON", where=path, found=shown, expected="one JSON object", fix=fix)
    if not isinstance(found, dict):
        return RecordError("the record is not an object", where=path, found=type(found).__name__, fix=fix)
    if found.get("format") not in FORMATS:
        given = repr(found["format"]) if "format" in found else "no key format"
        known = " or ".join(map(str, FORMATS))
        return RecordError("the record's format is unknown", where=path, found=given, expected=f"format {known}",
                           fix="use the bench that wrote it, or move it out of the results folder")  # fmt: skip
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the record"
    return RecordError("the record is malformed", where=f"{path}, field {field}", found=first["msg"], fix=fix)


def _checked(name: str) -> str:
    if not names.stays_in_folder(name):
        raise RecordError("a name cannot be part of a path", found=repr(name), expected=names.EXPECTED)
    return name


def _as_json(record: Record) -> str:
    try:
        text = json.dumps(record.model_dump(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        text.encode()  # half a letter, of a file's name say, is no text
        return text
    except (ValueError, TypeError) as error:
        raise RecordError("the record holds a value that is not JSON", where=record.id, found=error) from error


@contextmanager
def _writing(path: Path, late: bool = False) -> Iterator[None]:
    """Errors of the system, explained; `late` where the folder could be written before."""
    try:
        yield
    except FileExistsError as error:
        # mkdir says this, too, when a folder's name is taken by a file: that is no clash of two records.
        if not path.parent.is_dir():
            raise _unwritable(path, error, late) from error
        raise
    except OSError as error:
        raise _unwritable(path, error, late) from error


def _unwritable(path: Path, error: OSError, late: bool) -> RecordError:
    machine = late or error.errno in FULL
    fix = "free space there, or give another folder" if error.errno in FULL else "make it writable, or give another one"
    return (UnwritableError if machine else RecordError)(
        "the folder cannot be written", where=path.parent, found=error.strerror or str(error), fix=fix)  # fmt: skip
