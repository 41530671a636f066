"""Sentences whose every word has a tag, for the names in them: read and verified, and scored as CoNLL-2003 is.

A sentence is kept as one text with single spaces between its words, its tags as a row of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from bench.core.errors import DataError
from bench.data.parquet import as_python, is_list, is_text

NO_WORD = -1
"""Stands in a row of tags behind a sentence's last word."""


def read_words(column: pa.ChunkedArray, where: str) -> list[str]:
    """The sentences of a column of lists of words, each with single spaces between its words.

    Raises DataError naming `where`, the field and the row: another type, no words, or a word with a space in it.
    """
    _check_lists(column, is_text, "list<string>", where)
    sentences = []
    for row, words in enumerate(as_python(column, where)):
        if not words or any(not word or " " in word for word in words):
            raise DataError(
                "not a list of words", where=where, found=f"{words!r:.60} in row {row}",
                expected="one word or more, none empty or with a space in it", fix="remove the row",
            )  # fmt: skip
        sentences.append(" ".join(words))
    return sentences


def read_tags(column: pa.ChunkedArray, sentences: Sequence[str], names: Sequence[str], where: str) -> np.ndarray:
    """Tags by id, int64 [N, W], NO_WORD behind the last word of a sentence.

    Raises DataError naming `where` and the row: another type, not one tag per word, or a tag that the task has not.
    """
    _check_lists(column, pa.types.is_integer, "list<int64>", where)
    counts = [sentence.count(" ") + 1 for sentence in sentences]
    tags = np.full((len(sentences), max(counts)), NO_WORD, np.int64)
    for row, (given, count) in enumerate(zip(as_python(column, where), counts, strict=True)):
        if given is None or len(given) != count:
            raise DataError("words and tags do not pair up", where=where, expected=f"{count} tags",
                            found=f"{len(given or ())} in row {row}", fix="remove the row")  # fmt: skip
        wrong = [tag for tag in given if tag is None or not 0 <= tag < len(names)]
        if wrong:
            legend = ", ".join(f"{i} {name}" for i, name in enumerate(names))
            raise DataError("a tag outside the names", where=where, found=f"{wrong[0]} in row {row}", expected=legend)
        tags[row, :count] = given
    return tags


def _check_lists(column: pa.ChunkedArray, holds: Callable[[pa.DataType], bool], expected: str, where: str) -> None:
    kind = column.type
    if not is_list(kind) or not holds(kind.value_type):
        raise DataError("wrong type of column", where=where, found=kind, expected=expected,
                        fix="write the columns of the Hugging Face data set")  # fmt: skip


def scores(said: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """F1 over entities (type, first and last word must all be right), as conlleval counts them, as a fraction.

    None where neither side has an entity.
    Shapes: both are [N, W] tags by id; words that are not there have NO_WORD in `truth`.
    Raises DataError where there is nothing to score, or not one tag per word.
    """
    from seqeval.metrics import f1_score  # only a run of such a task pays for it

    if said.shape != truth.shape or len(truth) == 0:
        raise DataError("predictions and tags do not pair up", found=f"{said.shape} and {truth.shape}",
                        expected="two arrays [N, W], and at least 1 row")  # fmt: skip
    by_name = [
        [[names[tag] for tag in row[there]] for row, there in zip(tags, truth != NO_WORD, strict=True)]
        for tags in (truth, said)
    ]
    if not any(tag != "O" for side in by_name for row in side for tag in row):
        return {"f1": None}
    return {"f1": float(f1_score(*by_name, zero_division=0))}  # pyright: ignore[reportArgumentType]
