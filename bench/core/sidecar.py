"""What does not fit into a record and lies beside it: packed answers, in files named by the hash of what they hold."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from bench.core.errors import RecordError
from bench.core.record import Answers, Packed, Record

FAR_TOO_LARGE = 16_000_000
"""Bytes that no file of a results folder has: it is not read."""
WORTH_A_FILE = 1_000
"""Letters of packed answers; to take out fewer would hardly make a record smaller."""
FIX = "restore it from git, or move it out of the results folder"
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""A pipe without a writer would be waited for."""


def read_file(path: Path | str, what: str) -> bytes:
    """All bytes of a file. Raises RecordError that says what it is; what is no file is never waited for."""
    try:
        descriptor = os.open(path, _READ)
        try:
            described = os.fstat(descriptor)
            if not stat.S_ISREG(described.st_mode):
                raise RecordError(f"{what} is not a file", where=path, fix=FIX)
            if described.st_size > FAR_TOO_LARGE:
                raise RecordError(f"{what} is too large", where=path, found=f"{described.st_size} bytes",
                                  expected=f"at most {FAR_TOO_LARGE}", fix=FIX)  # fmt: skip
            return os.read(descriptor, described.st_size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RecordError(f"{what} cannot be read", where=path, found=error.strerror or error, fix=FIX) from error


def answers_name(sha256: str) -> str:
    """The name of the file, in a record's folder, that holds answers of this hash."""
    return f"answers-{sha256[:16]}.bin"


def packed_bytes(packed: Packed, folder: Path | None) -> bytes:
    """Packed answers as bytes, from the record itself or from the file that it names in its folder.

    Raises RecordError where they are damaged, where the file is not there, and where no folder is given but needed.
    """
    if packed.base64:
        try:
            return base64.b64decode(packed.base64, validate=True)
        except ValueError as error:
            raise RecordError("the answers are damaged", found=error, expected="base64", fix=FIX) from error
    name = answers_name(packed.sha256)
    if folder is None:
        raise RecordError("the answers lie beside the record", found=f"no folder to look for {name} in",
                          expected="the results folder that the record is from")  # fmt: skip
    content = read_file(folder / name, "the file of answers")
    if (found := hashlib.sha256(content).hexdigest()) != packed.sha256:
        raise RecordError("the file of answers is damaged", where=folder / name, found=f"sha256 {found}",
                          expected=packed.sha256, fix=FIX)  # fmt: skip
    return content


def take_out(record: Record, excess: Callable[[Record], int]) -> tuple[Record, dict[str, bytes]]:
    """The record without its largest answers, so many that it has no excess; and those by their hash.

    `excess` says how many bytes a record is too large. What is left may have some: of other parts than answers.
    """
    outside: dict[str, bytes] = {}
    while excess(record) > 0:
        inside = [
            (len(packed.base64), split, name)
            for split, answers in record.answers.items()
            for name in Answers.model_fields
            if isinstance(packed := getattr(answers, name), Packed) and len(packed.base64) >= WORTH_A_FILE
        ]
        if not inside:
            break
        _, split, name = max(inside)
        answers = record.answers[split]
        content = packed_bytes(getattr(answers, name), None)
        sha256 = hashlib.sha256(content).hexdigest()
        outside[sha256] = content
        there = Packed(code=getattr(answers, name).code, sha256=sha256)
        record = record.model_copy(
            update={"answers": record.answers | {split: answers.model_copy(update={name: there})}}
        )
    return record, outside
