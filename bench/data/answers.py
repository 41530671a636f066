"""Answers that are parts of a text: read and verified, and scored as SQuAD v1.1 scores them.

The scores are those of Rajpurkar et al. 2016 (arXiv 1606.05250v3), section 6.1: case, punctuation, articles and
spacing do not count, and of several accepted answers the one that fits best.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bench.core.errors import DataError
from bench.data.parquet import as_python, as_values, is_list, is_text

Answers = tuple[tuple[str, ...], ...]
"""The accepted answers of each example."""

TYPE = "struct<text: list<string>, answer_start: list<int32>>"
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def read_answers(column: pa.ChunkedArray, contexts: Sequence[str], where: str) -> tuple[np.ndarray, Answers]:
    """Where each example's first answer begins and ends in its context [N, 2], in characters, and all its answers.

    Raises DataError naming `where`, the field and the row: another type, an empty context, no answers, or an answer
    that does not stand where it should.
    """
    column, field = as_values(column), f"{where}, field answers"
    if not _is_answers(column.type):
        raise DataError("not answers", where=field, found=column.type, expected=TYPE,
                        fix="write the columns of the Hugging Face data set")  # fmt: skip
    spans = np.zeros((len(column), 2), np.int64)
    answers = []
    for row, (context, given) in enumerate(zip(contexts, as_python(column, field), strict=True)):
        if not context.strip():
            raise DataError("an empty context", where=f"{where}, field context", found=f"{context!r} in row {row}",
                            expected="text", fix="remove the row")  # fmt: skip
        texts, starts = ((given or {}).get(name) or [] for name in ("text", "answer_start"))
        if not texts or len(texts) != len(starts):
            raise DataError("a row without answers" if not texts else "answers and offsets do not pair up", where=field,
                            found=f"{len(texts)} texts and {len(starts)} offsets in row {row}",
                            expected="one offset for each of one or more texts", fix="remove the row")  # fmt: skip
        for text, start in zip(texts, starts, strict=True):
            if not text or start is None or start < 0 or context[start : start + len(text)] != text:
                raise DataError("an answer that is not at its offset", where=field,
                                found=f"{text!r} at {start} in row {row}", expected="a part of the context",
                                fix="correct answer_start, which counts characters")  # fmt: skip
        spans[row] = starts[0], starts[0] + len(texts[0])
        answers.append(tuple(texts))
    return spans, tuple(answers)


def _is_answers(kind: pa.DataType) -> bool:
    """Whether a column holds a list of texts and one of numbers in each row."""
    if not pa.types.is_struct(kind):
        return False
    names = [kind.field(i).name for i in range(kind.num_fields)]
    if names.count("text") != 1 or names.count("answer_start") != 1:
        return False
    texts, starts = (kind.field(name).type for name in ("text", "answer_start"))
    holds = is_list(texts) and is_list(starts)
    return holds and is_text(texts.value_type) and pa.types.is_integer(starts.value_type)


def normalised(text: str) -> str:
    """A text as it is compared: lower case, without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(answer: str, accepted: str) -> float:
    """1 where both are the same once normalised, else 0."""
    return float(normalised(answer) == normalised(accepted))


def f1(answer: str, accepted: str) -> float:
    """Harmonic mean of precision and recall of the words, each as often as it occurs; 0 without a common one."""
    mine, theirs = normalised(answer).split(), normalised(accepted).split()
    common = (Counter(mine) & Counter(theirs)).total()
    return 2 * common / (len(mine) + len(theirs)) if common else 0.0


def scores(predictions: Sequence[str], answers: Answers) -> dict[str, float | None]:
    """Means over the examples of each one's best score over its accepted answers, as fractions.

    Raises DataError where there is nothing to score, or not one prediction per example.
    """
    if not answers or len(predictions) != len(answers):
        raise DataError("predictions and answers do not pair up", found=f"{len(predictions)} and {len(answers)}",
                        expected="as many of the one as of the other, and at least 1")  # fmt: skip
    best = [
        [max(score(said, one) for one in accepted) for score in (f1, exact_match)]
        for said, accepted in zip(predictions, answers, strict=True)
    ]
    means = np.mean(best, axis=0)
    return {"f1": float(means[0]), "exact_match": float(means[1])}
