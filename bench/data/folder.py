"""A folder of parquet files as a source: `FOLDER/<task>/<split>.parquet`, as in the Hugging Face data sets.

A split may come in parts, as the hub names them. `<split>_subset*.parquet` stands in for a full split and is marked
partial; what has the full name must be complete.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.core.errors import DataError
from bench.data.parquet import read_table
from bench.data.reading import listed, missing, name_passed_over, unreadable
from bench.data.rows import Rows, Texts, check_count, check_names, check_split, joined, read_columns
from bench.data.shards import NAME, shards
from bench.data.tasks import Task


class FolderSource:
    """Reads splits from one folder; paths never enter what it returns, only names inside the folder."""

    name = "folder"

    def __init__(self, folder: Path) -> None:
        """Raises DataError where there is no such folder."""
        if not folder.is_dir():
            raise DataError(
                "no such data folder", where="--data", found=missing(folder), expected="a folder, hub or synthetic",
                fix="give a folder with <task>/<split>.parquet, for example --data data/glue",
            )  # fmt: skip
        self.folder = folder
        self._named: set[Path] = set()
        name_passed_over(folder, [path for path in listed(folder) if not path.is_dir()],
                         "rows are read from <task>/<split>.parquet")  # fmt: skip

    def rows(self, task: Task, split: str) -> Rows:
        """The verified rows of a split. Raises DataError naming the file, the field, what was found and expected."""
        check_split(task, split)
        paths, partial = self._find(task, split)
        parts = [_part(path, task, split) for path in paths]
        found = joined([texts for texts, _ in parts])
        if not partial:
            check_count(
                len(found), task, split, ", ".join(map(str, paths)),
                fix=f"name it {split}_subset.parquet if it is only a part of the split",
            )  # fmt: skip
        digest = _digest([(path, sha256) for path, (_, sha256) in zip(paths, parts, strict=True)])
        return Rows(np.arange(len(found)), found.columns, found.labels, self.name, "", digest, partial, found.answers)

    def _find(self, task: Task, split: str) -> tuple[list[Path], bool]:
        """The files of a split in order, and whether they are only a part of it."""
        folder = self.folder / task.name
        if not folder.is_dir():
            here = [path.name for path in listed(self.folder) if path.is_dir()]
            raise DataError(
                f"no folder for task {task.name!r}", where=self.folder, found=", ".join(here) or "no folders",
                expected=f"{task.name}/{split}.parquet", fix="add it, or choose another --task",
            )  # fmt: skip
        there = listed(folder)
        self._name_passed_over(folder, there, task)
        full = folder / f"{split}.parquet"
        if full in there:  # a link whose target is gone is told as one when it is read
            return [full], False
        whole = shards(there, split, folder)
        if whole:
            return whole, False
        parts = [path for path in there if _is_part(path, split)]
        if len(parts) != 1:
            found = ", ".join(path.name for path in parts or there)
            raise DataError(
                "more than one part of a split" if parts else f"split {split!r} is missing", where=folder,
                found=found or "no files", expected=f"{split}.parquet, or one {split}_subset*.parquet",
                fix="keep one of them" if parts else "add it, call the file so, or choose another --data",
            )  # fmt: skip
        return parts, True

    def _name_passed_over(self, folder: Path, there: list[Path], task: Task) -> None:
        """Once a folder: files that no split of the task is read from."""
        if folder in self._named:
            return
        self._named.add(folder)
        used: set[Path] = set()
        for split in task.splits:
            named = [path for path in there if (match := NAME.fullmatch(path.name)) and match["split"] == split]
            parts = [path for path in there if _is_part(path, split)]
            full = [path for path in there if path.name == f"{split}.parquet"]
            used.update(full or named or parts)
        name_passed_over(folder, [path for path in there if path not in used], "no split of the task, or one of two")


def _is_part(path: Path, split: str) -> bool:
    return path.name.startswith(f"{split}_subset") and path.suffix == ".parquet"


def _part(path: Path, task: Task, split: str) -> tuple[Texts, str]:
    """What one file holds, verified, and the hash of the very bytes that were parsed."""
    raw, where = _read(path), str(path)
    table = read_table(raw, (*task.columns, task.answer_column), where)
    found = read_columns(table, task, split, where)
    names = _label_names(table.schema, task.answer_column, where)
    if names is not None:
        check_names(names, task, where)
    return found, hashlib.sha256(raw).hexdigest()


def _digest(parts: list[tuple[Path, str]]) -> str:
    """The hash of a split: its file's, or one over those of its parts and their names."""
    if len(parts) == 1:
        return parts[0][1]
    return hashlib.sha256("".join(f"{sha256}  {path.name}\n" for path, sha256 in parts).encode()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def _label_names(schema: pa.Schema, column: str, where: str) -> list[str] | None:
    """The label names that the Hugging Face writer leaves in a file's metadata; None where there are none.

    Raises DataError for metadata of that name that it did not write: the order of its labels is not known.
    """
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    try:
        found: Any = ((json.loads(raw).get("info") or {}).get("features") or {}).get(column) or {}
        if isinstance(found, list):  # how older files say that the column holds lists
            found = found[0] if found else {}
        names = found.get("names") or (found.get("feature") or {}).get("names")  # the second is that of a list
        if names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            return names
        told = f"names {names!r:.60}"
    except (ValueError, AttributeError, RecursionError) as error:
        told = f"{raw[:40]!r} ({error})"
    raise DataError("the label names in the file's metadata cannot be read", where=f"{where}, metadata huggingface",
                    found=told, expected="what the datasets library writes",
                    fix="write the file again, without that metadata")  # fmt: skip
