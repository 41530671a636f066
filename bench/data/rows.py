"""Rows: the verified text and labels of one split, whatever source they came from.

A table that is not what its task says is refused with the file, the field, what was found and what was expected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from bench.core.errors import DataError, SpecError
from bench.data.answers import Answers, read_answers
from bench.data.entities import NO_WORD, read_tags, read_words
from bench.data.parquet import as_text, as_values, check_columns
from bench.data.tasks import SCORE_RANGE, Task

UNLABELLED = -1
"""The label id of rows whose label is not public."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Examples as text, wherever they come from: one list of N texts per text column, and N labels."""

    columns: tuple[list[str], ...]
    labels: np.ndarray
    """int64 [N] label ids; float32 [N] scores for a regression task; int64 [N, 2] for a task of spans: where the first
    answer begins and ends, in characters of the context; int64 [N, W] for one of tags: each word's, then NO_WORD"""
    answers: Answers = ()
    """The accepted answers of each example, for a task of spans"""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one split: N examples with one or two texts each."""

    ids: np.ndarray
    """int64 [N]: the row's position in its split"""
    columns: tuple[list[str], ...]
    """one list of N texts per text column of the task"""
    labels: np.ndarray
    """as in `Texts`"""
    source: str
    revision: str
    sha256: str
    """of the file that was read; of the content where there is no file"""
    partial: bool
    """whether the source itself holds only a part of the official split"""
    answers: Answers = ()
    """as in `Texts`"""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, limit: int | None) -> Rows:
        """A fixed pseudo-random sample of `limit` rows, in the order of the split; the same for all runs.

        A smaller sample is a subset of a larger one. All rows where `limit` is None or not below their number.
        """
        if limit is not None and limit < 1:
            raise SpecError("a row limit that leaves nothing", where="--limit", found=limit, expected="1 or more")
        if limit is None or limit >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(0).permutation(len(self))[:limit])
        columns = tuple([column[i] for i in chosen] for column in self.columns)
        answers = tuple(self.answers[i] for i in chosen) if self.answers else ()
        return replace(self, ids=self.ids[chosen], columns=columns, labels=self.labels[chosen], answers=answers)


def content_sha256(texts: tuple[list[str], ...], labels: np.ndarray) -> str:
    """A hash of the texts and labels themselves, for sources that are not one file."""
    digest = hashlib.sha256(labels.dtype.str.encode() + labels.tobytes())
    for column in texts:
        for text in column:
            raw = text.encode()
            digest.update(len(raw).to_bytes(8, "little") + raw)  # the length keeps ("ab", "c") from ("a", "bc")
    return digest.hexdigest()


def check_split(task: Task, split: str) -> None:
    """Raises DataError where the task has no such split."""
    if split not in task.splits:
        known = ", ".join(task.splits)
        raise DataError("no such split", where=task.name, found=repr(split), expected=f"one of {known}")


def check_names(names: Sequence[str], task: Task, where: str) -> None:
    """Raises DataError where the label names that come with the data are not the task's, in the same order."""
    if tuple(names) != task.labels:
        raise DataError(
            "label names differ", where=f"{where}, field {task.answer_column}", found=list(names),
            expected=list(task.labels), fix="re-write the label ids in the expected order",
        )  # fmt: skip


def read_columns(table: pa.Table, task: Task, split: str, where: str) -> Texts:
    """The texts and labels of a table, verified against the task: columns, types, no gaps, label range, answers.

    Raises DataError naming `where` and the field.
    """
    check_columns(table.column_names, (*task.columns, task.answer_column), where)
    if table.num_rows == 0:
        raise DataError("no rows", where=where, found="0", expected="at least 1", fix="write the split again")
    if task.tags:
        sentences = read_words(table[task.columns[0]], f"{where}, field {task.columns[0]}")
        field = f"{where}, field {task.answer_column}"
        return Texts((sentences,), read_tags(table[task.answer_column], sentences, task.labels, field))
    texts = tuple(_texts(table, name, where) for name in task.columns)
    if task.spans:
        return Texts(texts, *read_answers(table["answers"], texts[1], where))
    return Texts(texts, _labels(table, task, split, where))


def joined(parts: Sequence[Texts]) -> Texts:
    """The examples of several files, one after another."""
    if len(parts) == 1:
        return parts[0]
    columns = tuple([text for part in parts for text in part.columns[i]] for i in range(len(parts[0].columns)))
    labels = [part.labels for part in parts]
    if labels[0].ndim == 2:  # of tags, whose rows are as long as the longest of their file
        width = max(one.shape[1] for one in labels)
        labels = [np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=NO_WORD) for one in labels]
    return Texts(columns, np.concatenate(labels), tuple(one for part in parts for one in part.answers))


def _texts(table: pa.Table, name: str, where: str) -> list[str]:
    column = as_text(table[name], f"{where}, field {name}")
    _check_gaps(column, f"{where}, field {name}")
    return column.to_pylist()


def _labels(table: pa.Table, task: Task, split: str, where: str) -> np.ndarray:
    where = f"{where}, field label"
    column = as_values(table["label"])
    wanted = pa.types.is_floating if task.regression else pa.types.is_integer
    if not wanted(column.type):
        raise DataError(
            "wrong type of label", where=where, found=column.type, expected="float32" if task.regression else "int64",
            fix="write scores" if task.regression else "write label ids: " + _legend(task),
        )  # fmt: skip
    _check_gaps(column, where)
    labels = column.to_numpy()
    check_labels(labels, task, split, where)  # before they are narrowed: what is too large would come out otherwise
    return labels.astype(np.float32 if task.regression else np.int64)


def _check_gaps(column: pa.ChunkedArray, where: str) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError("empty cells", where=where, found=f"{column.null_count}, first in row {row}", expected="none",
                        fix="fill them, or leave those rows out")  # fmt: skip


def _legend(task: Task) -> str:
    return ", ".join(f"{i} {name}" for i, name in enumerate(task.labels))


def check_labels(labels: np.ndarray, task: Task, split: str, where: str) -> None:
    """Raises DataError for a label outside the task's, and for -1 in a split that is trained on or scored."""
    if not task.labelled(split):
        allowed = labels == UNLABELLED
    else:
        allowed = np.zeros(len(labels), dtype=bool)
        hidden = int((labels == UNLABELLED).sum())
        if hidden:
            raise DataError(
                f"rows without a label (-1) in split {split!r}", where=where, found=f"{hidden} of {len(labels)} rows",
                expected="none", fix="use a split whose labels are public: " + ", ".join((task.train, *task.scored)),
            )  # fmt: skip
    low, high = SCORE_RANGE if task.regression else (0, len(task.labels) - 1)
    allowed |= (labels >= low) & (labels <= high)  # false for NaN
    if not allowed.all():
        row = int(np.flatnonzero(~allowed)[0])
        raise DataError(
            "label outside the range" if task.regression else "label outside the names", where=where,
            found=f"{labels[row]} in row {row}", expected=f"{low} to {high}" if task.regression else _legend(task),
        )  # fmt: skip


def check_count(rows: int, task: Task, split: str, where: str, fix: str) -> None:
    """Raises DataError where a whole split has not its official number of rows."""
    if rows != task.splits[split]:
        raise DataError("wrong number of rows", where=where, found=rows, expected=task.splits[split], fix=fix)
