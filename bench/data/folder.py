"""A folder of parquet files as a source: `FOLDER/<task>/<split>.parquet`, as in the Hugging Face data sets.

`<split>_subset*.parquet` stands in for a full split and is marked partial; a file under the full name must be complete.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.core.errors import DataError
from bench.data.rows import Rows, check_count, check_names, check_split, read_columns
from bench.data.tasks import Task


class FolderSource:
    """Reads splits from one folder; paths never enter what it returns, only names inside the folder."""

    name = "folder"

    def __init__(self, folder: Path) -> None:
        """Raises DataError where there is no such folder."""
        if not folder.is_dir():
            raise DataError(
                "no such data folder", where="--data", found=folder, expected="a folder, hub or synthetic",
                fix="give a folder with <task>/<split>.parquet, for example --data data/glue",
            )  # fmt: skip
        self.folder = folder

    def rows(self, task: Task, split: str) -> Rows:
        """The verified rows of a split. Raises DataError naming the file, the field, what was found and expected."""
        check_split(task, split)
        path = self._find(task, split)
        where, partial = str(path), path.name != f"{split}.parquet"
        raw = _read(path)  # once, so that the hash is of the very bytes that are parsed
        table = _parse(raw, where)
        found = read_columns(table, task, split, where)
        names = _label_names(table.schema, task.answer_column)
        if names is not None:
            check_names(names, task, where)
        if not partial:
            check_count(
                len(found), task, split, where,
                fix=f"name it {split}_subset.parquet if it is only a part of the split",
            )  # fmt: skip
        digest = hashlib.sha256(raw).hexdigest()
        return Rows(np.arange(len(found)), found.columns, found.labels, self.name, "", digest, partial, found.answers)

    def identity(self) -> str:
        """A name for exactly this content: a hash over all `<task>/<split>.parquet` files and their names."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*/*.parquet")):
            content = hashlib.sha256(_read(path)).hexdigest()
            digest.update(f"{content}  {path.parent.name}/{path.name}\n".encode())
        return f"folder:{digest.hexdigest()}"

    def _find(self, task: Task, split: str) -> Path:
        folder = self.folder / task.name
        if not folder.is_dir():
            here = sorted(path.name for path in self.folder.iterdir() if path.is_dir())
            raise DataError(
                f"no folder for task {task.name!r}", where=self.folder, found=", ".join(here) or "no folders",
                expected=f"{task.name}/{split}.parquet", fix="add it, or choose another --task",
            )  # fmt: skip
        full = folder / f"{split}.parquet"
        if full.is_file():
            return full
        parts = sorted(folder.glob(f"{split}_subset*.parquet"))
        if len(parts) != 1:
            found = ", ".join(sorted(path.name for path in parts or folder.iterdir()))
            raise DataError(
                "more than one part of a split" if parts else f"split {split!r} is missing", where=folder,
                found=found or "no files", expected=f"{split}.parquet, or one {split}_subset*.parquet",
                fix="keep one of them" if parts else "add it, or choose another --data",
            )  # fmt: skip
        return parts[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            "a file that cannot be read", where=path, found=error.strerror, expected="a readable file",
            fix="check its permissions",
        ) from error  # fmt: skip


def _parse(raw: bytes, where: str) -> pa.Table:
    try:
        return pq.ParquetFile(pa.BufferReader(raw)).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            "not a readable parquet file", where=where, found=f"{len(raw)} bytes ({error})",
            expected="a complete parquet file", fix="copy or download it again",
        ) from error  # fmt: skip


def _label_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The label names that the Hugging Face writer leaves in a file's metadata; None where there are none."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    found: Any = (json.loads(raw).get("info", {}).get("features") or {}).get(column, {})
    if isinstance(found, list):  # how older files say that the column holds lists
        found = found[0] if found else {}
    return found.get("names") or found.get("feature", {}).get("names")  # the second is that of a list
