"""Parquet files that anybody may have written: read, with text of every kind as plain strings, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.core.errors import DataError
from bench.data.reading import unreadable

MOST_BYTES = 2**32
"""What the columns of one split may unpack to; the largest official one is under a twentieth of that."""
CELL_BYTES = 8
"""Room of a number, or of where a text begins."""


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Turns whatever the library raises for a damaged file into a DataError: it has no one class for that."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the system's no, not the library's
            raise unreadable(Path(str(where)), error) from error
        raise DataError(
            "not a readable parquet file", where=where, found=error, expected="a complete parquet file",
            fix="copy or download it again",
        ) from error  # fmt: skip


def read_table(raw: bytes, columns: tuple[str, ...], where: str) -> pa.Table:
    """The named columns of a file's bytes, and its metadata.

    Raises DataError for columns that are not there once each, bytes that are no parquet, and a small file that would
    fill the memory.
    """
    with reading(where):
        file = pq.ParquetFile(pa.BufferReader(raw))
        names = file.schema_arrow.names
    check_columns(names, columns, where)
    with reading(where):
        _check_room(file.metadata, columns, where)
        texts = [name for name in columns if is_text(file.schema_arrow.field(name).type)]
        # As a dictionary a text that stands in a million rows is held once: so its true size is known in time.
        table = pq.ParquetFile(pa.BufferReader(raw), read_dictionary=texts).read(columns=list(columns))
        table = table.select(list(columns))
        _check_texts(table, where)
        return table


def check_columns(names: list[str], wanted: tuple[str, ...], where: object) -> None:
    """Raises DataError where a wanted column is not there, or more than once."""
    for name in wanted:
        if name not in names:
            raise DataError(
                f"column {name!r} is missing", where=where, found=", ".join(names) or "no columns",
                expected=", ".join(wanted), fix="write the columns of the Hugging Face data set",
            )  # fmt: skip
        check_once(name, names, where)


def check_once(name: str, names: list[str], where: object) -> None:
    """Raises DataError where several columns have the name."""
    if names.count(name) > 1:
        raise DataError(f"column {name!r} stands there more than once", where=where, found=", ".join(names),
                        expected="one column of that name", fix="drop or rename the others")  # fmt: skip


def _check_room(metadata: pq.FileMetaData, wanted: tuple[str, ...], where: str) -> None:
    total = 0
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            if chunk.path_in_schema.split(".")[0] in wanted or chunk.path_in_schema in wanted:
                total += max(chunk.total_uncompressed_size, CELL_BYTES * chunk.num_values)
    _check_bytes(max(total, CELL_BYTES * metadata.num_rows), where)


def _check_texts(table: pa.Table, where: str) -> None:
    total = 0
    for column in table.columns:
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            if is_text(chunk.type):
                lengths = pc.call_function("binary_length", [chunk.dictionary.cast(pa.large_string())])
                total += pc.call_function("sum", [lengths.take(chunk.indices)]).as_py() or 0
    _check_bytes(total, where)


def _check_bytes(total: int, where: object) -> None:
    if total > MOST_BYTES:
        raise DataError("the file unpacks to more than any split holds", where=where, found=f"{total / 1e9:,.1f} GB",
                        expected=f"at most {MOST_BYTES / 1e9:.1f} GB", fix="give a part of it")  # fmt: skip


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is text, in whatever way a writer keeps it: pandas as a dictionary, polars as views."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists, in whatever way."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
             pa.types.is_large_list_view)  # fmt: skip
    return any(test(kind) for test in tests)


def as_text(column: Any, where: object) -> Any:
    """A column of text as plain strings. Raises DataError for another type, or bytes that are not UTF-8."""
    if not is_text(column.type):
        raise DataError("not text", where=where, found=column.type, expected="string",
                        fix="write the column as strings")  # fmt: skip
    try:
        plain = column.cast(pa.large_string())
        plain.validate(full=True)
    except Exception as error:  # as above
        raise DataError("not text", where=where, found=error, expected="UTF-8", fix="write the column again") from error
    return plain


def as_values(column: Any) -> Any:
    """A column with its values written out where it is a dictionary of them."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def as_python(column: Any, where: object) -> list[Any]:
    """A nested column as Python has it. Raises DataError for bytes that are not UTF-8, or double names of fields."""
    try:
        column.validate(full=True)
        return column.to_pylist()
    except Exception as error:  # as above
        raise DataError("a column that cannot be read", where=where, found=error, expected=column.type,
                        fix="write the column again") from error  # fmt: skip


def text_column(path: Path) -> str:
    """The column that a corpus is read from: `text`, or the only one of text. Raises DataError where there is none."""
    with reading(path):
        schema = pq.read_schema(path)
        names, kinds = schema.names, schema.types
    texts = [name for name, kind in zip(names, kinds, strict=True) if is_text(kind)]
    if "text" in names:
        check_once("text", names, path)
        kind = kinds[names.index("text")]
        if "text" not in texts:
            raise DataError("not text", where=f"{path}, field text", found=kind, expected="string",
                            fix="write the column as strings")  # fmt: skip
        return "text"
    if len(texts) != 1:
        shown = ", ".join(f"{name} ({kind})" for name, kind in zip(names, kinds, strict=True))
        raise DataError(
            "no column to read text from", where=path, found=shown or "no columns",
            expected="a column `text`, or a single text column", fix="rename the column",
        )  # fmt: skip
    return texts[0]


def text_batches(path: Path, column: str, rows: int) -> Iterator[Any]:
    """A column of text, `rows` cells at a time, as checked plain strings. Raises DataError for a damaged file."""
    with reading(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=rows, columns=[column]):
            yield as_text(batch.column(batch.schema.get_field_index(column)), f"{path}, field {column}")


def unpacked_bytes(path: Path) -> int:
    """What all columns of a file unpack to, as it says itself. Raises DataError for a file that is no parquet."""
    with reading(path):
        metadata = pq.read_metadata(path)
        return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
