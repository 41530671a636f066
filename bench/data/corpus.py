"""Plain text for masked-LM training: a text file, a parquet file, or a folder of them, as documents in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.core.errors import DataError

BATCH_ROWS = 64
"""Parquet rows held at a time: a row can be a whole novel."""


def corpus_texts(path: Path) -> Iterator[str]:
    """The documents of a corpus in order, without empty ones.

    A document is a row of a parquet file (column `text`, or its only text column) or a block of a .txt file between
    blank lines. In a folder `train.parquet` is the corpus if there is one; else all its files are, by name.
    Raises DataError: at once where a file is missing or has no text column, and at the end where all was empty.
    """
    files = _files(path)
    columns = [None if file.suffix == ".txt" else _text_column(file) for file in files]
    return _documents(path, files, columns)


def corpus_sha256(path: Path) -> str:
    """The hash of a corpus: of the file's bytes, or of the hashes and names where it is several files."""
    files = _files(path)
    digests = [_file_sha256(file) for file in files]
    if len(files) == 1:
        return digests[0]
    lines = (f"{digest}  {file.name}\n" for digest, file in zip(digests, files, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        train = path / "train.parquet"
        files = [train] if train.is_file() else sorted(p for p in path.iterdir() if p.suffix in (".txt", ".parquet"))
        if files:
            return files
    elif path.is_file() and path.suffix in (".txt", ".parquet"):
        return [path]
    raise DataError(
        "no corpus there", where="--corpus", found=path, expected="a .txt or .parquet file, or a folder of them",
        fix="give one with --corpus FILE_OR_FOLDER",
    )  # fmt: skip


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _text_column(path: Path) -> str:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    if "text" in texts:
        return "text"
    if len(texts) != 1:
        raise DataError(
            "no column to read text from", where=path, found=", ".join(schema.names) or "no columns",
            expected="a column `text`, or a single text column", fix="rename the column",
        )  # fmt: skip
    return texts[0]


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        "not a readable parquet file", where=path, found=error, expected="a complete parquet file",
        fix="copy or download it again",
    )  # fmt: skip


def _documents(path: Path, files: list[Path], columns: list[str | None]) -> Iterator[str]:
    empty = True
    for file, column in zip(files, columns, strict=True):
        for text in _blocks(file) if column is None else _cells(file, column):
            empty = False
            yield text
    if empty:
        raise DataError("no text", where=path, found="only empty documents", expected="at least one", fix="fill it")


def _cells(path: Path, column: str) -> Iterator[str]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[column]):
                yield from (text for text in batch.column(0).to_pylist() if text and not text.isspace())
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _blocks(path: Path) -> Iterator[str]:
    lines: list[str] = []
    try:
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                if not line.isspace():
                    lines.append(line.strip())
                elif lines:
                    yield " ".join(lines)
                    lines = []
    except UnicodeDecodeError as error:
        raise DataError("not text", where=path, found=error, expected="UTF-8", fix="convert the file") from error
    if lines:
        yield " ".join(lines)
