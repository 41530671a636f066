"""Plain text for masked-LM training: a text file, a parquet file, or a folder of them, as documents in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

from bench.core import environment
from bench.core.errors import DataError
from bench.core.files import file_sha256
from bench.data.parquet import text_batches, text_column, unpacked_bytes
from bench.data.reading import listed, missing, name_passed_over, text_chunks, unreadable
from bench.data.shards import shards

BATCH_ROWS = 64
"""Parquet rows held at a time: a row can be a whole novel."""
LONGEST = 20_000
"""Characters of the longest document (ours): one that is longer is read as several, so that a budget can hold and a
random order has something to choose from. A paragraph of any encyclopaedia is shorter, a novel is not."""
KINDS = (".txt", ".parquet")


def corpus_texts(path: Path) -> Iterator[str]:
    """The documents of a corpus in order, without empty ones.

    A document is a row of a parquet file (column `text`, or its only text column) or a block of a .txt file between
    blank lines; of more than LONGEST characters it is cut at the end of a line, else between words. In a folder
    `train.parquet`, or its shards as the hub names them, are the corpus if they are there; else all its files, by name.
    Raises DataError: at once where a file is missing or has no text column, and at the end where all was empty.
    """
    files = _files(path)
    columns = [None if file.suffix.lower() == ".txt" else text_column(file) for file in files]
    return _documents(path, files, columns)


def corpus_sha256(path: Path) -> str:
    """The hash of a corpus: of the file's bytes, or of the hashes and names where it is several files."""
    files = _files(path)
    digests = [_file_sha256(file) for file in files]
    if len(files) == 1:
        return digests[0]
    lines = (f"{digest}  {file.name}\n" for digest, file in zip(digests, files, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_corpus(path: Path) -> int:
    """How many documents a corpus has, 2 for two or more; every byte of it is read and verified, none is kept.

    Says in the log which files of a folder are passed over. Raises DataError for what `corpus_texts` would not read,
    and for text that does not fit in memory.
    """
    files = _files(path)
    if path.is_dir():
        others = [other for other in listed(path) if other not in files]
        train = all(file.name.startswith("train") for file in files) and any(map(_is_text, others))
        name_passed_over(path, others, "train is the corpus" if train else f"not {' or '.join(KINDS)}")
    columns = [None if file.suffix.lower() == ".txt" else text_column(file) for file in files]
    total = sum(_size(file, column) for file, column in zip(files, columns, strict=True))
    room = environment.free_bytes()
    if 1.25 * total > room:  # a buffer that grows has some of its room to spare
        raise DataError("the corpus does not fit in memory", where=path, found=f"{total / 1e9:.1f} GB of text",
                        expected=f"at most {room / 1e9:.1f} GB", fix="give a part of it")  # fmt: skip
    return sum(1 for _ in islice(_documents(path, files, columns), 2))


def about_bytes(path: Path) -> int:
    """About how much text a corpus has, by the sizes of its files alone. Raises DataError where there is none."""
    return sum(file.stat().st_size if file.suffix.lower() == ".txt" else unpacked_bytes(file) for file in _files(path))


def _size(file: Path, column: str | None) -> int:
    """Bytes of a file's text, all of which is verified on the way: once, as long as the file stays as it is."""
    try:
        found = file.stat()
    except OSError as error:
        raise unreadable(file, error) from error
    return _size_of(file, column, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _size_of(file: Path, column: str | None, _bytes: int, _changed_ns: int) -> int:
    if column is None:
        return sum(len(chunk.encode()) for chunk in text_chunks(file))
    return sum(cells.nbytes for cells in text_batches(file, column, BATCH_ROWS))


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            there = [file for file in listed(path) if _is_text(file)]
            train = path / "train.parquet"
            files = [train] if train in there else shards(there, "train", path) or there
            if files:
                return files
        elif path.is_file() and path.suffix.lower() in KINDS:
            return [path]
        found = path if path.exists() else missing(path)
    except OSError as error:
        raise unreadable(path, error) from error
    raise DataError("no corpus there", where="--corpus", found=found, fix="give one with --corpus FILE_OR_FOLDER",
                    expected="a .txt or .parquet file, or a folder of them")  # fmt: skip


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in KINDS and not path.is_dir()


def _file_sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise unreadable(path, error) from error


def _documents(path: Path, files: list[Path], columns: list[str | None]) -> Iterator[str]:
    empty = True
    for file, column in zip(files, columns, strict=True):
        for text in _blocks(text_chunks(file)) if column is None else _cells(file, column):
            empty = False
            yield text
    if empty:
        raise DataError("no text", where=path, found="only empty documents", expected="at least one", fix="fill it")


def _cells(path: Path, column: str) -> Iterator[str]:
    for cells in text_batches(path, column, BATCH_ROWS):
        for cell in cells:
            text = cell.as_py()
            if text and not text.isspace():
                yield from [text] if len(text) <= LONGEST else _parts(_lines([text]))


def _parts(lines: Iterable[str]) -> Iterator[str]:
    """The lines of one document, as parts of it that are not too long."""
    return gathered((line for line in lines if line.strip()), "\n")


def _blocks(chunks: Iterable[str]) -> Iterator[str]:
    """The blocks of a text between blank lines, as one line each; those that are too long in parts."""
    return gathered(_lines(chunks), " ")


def gathered(lines: Iterable[str], between: str) -> Iterator[str]:
    """Lines joined until a blank one comes, or as many as fit in LONGEST characters."""
    held: list[str] = []
    size = 0
    for line in (line.strip() for line in lines):
        if held and (not line or size + len(line) > LONGEST):
            yield between.join(held)
            held, size = [], 0
        if line:
            held.append(line)
            size += len(line) + len(between)
    if held:
        yield between.join(held)


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces; one that is too long is cut between words, or where it must be."""
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        for line in whole:
            yield from _short(line)
        while len(rest) > LONGEST:
            head, rest = _cut(rest)
            yield head
    yield from _short(rest)


def _short(line: str) -> Iterator[str]:
    while len(line) > LONGEST:
        head, line = _cut(line)
        yield head
    yield line


def _cut(line: str) -> tuple[str, str]:
    end = max(line.rfind(" ", 1, LONGEST + 1), line.rfind("\t", 1, LONGEST + 1))
    return (line[:end], line[end:]) if end > 0 else (line[:LONGEST], line[LONGEST:])
