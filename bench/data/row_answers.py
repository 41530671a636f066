"""What a model answered to each row of a scored split, as a record keeps it; see `bench.core.answers`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.core.answers import answers_of
from bench.core.record import Answers
from bench.data import answers
from bench.data.entities import NO_WORD
from bench.data.rows import Rows, content_sha256
from bench.data.tasks import Task

Said = np.ndarray | list[str]
"""A model's answers in the order of the rows: label ids [N], scores [N], tags [N, W]; of a task of spans N texts."""

OF_LABELS = {"f1", "matthews"}
"""Metrics that the share of right rows does not give: they are made of the labels themselves."""


def each_answer(task: Task, said: Said, rows: Rows) -> Answers:
    """The answers to the rows of a split, packed."""
    same = rows_sha256(rows)
    if task.kind == "span":
        best = [[max(score(text, one) for one in accepted) for score in (answers.exact_match, answers.f1)]
                for text, accepted in zip(said, rows.answers, strict=True)]  # fmt: skip
        exact, f1 = np.array(best).T
        return answers_of(same, exact, f1=f1)
    assert isinstance(said, np.ndarray), "only an answer of a task of spans is a text"
    if task.kind == "score":
        return answers_of(same, predictions=said)
    right = said == rows.labels
    if task.kind == "tags":
        there = rows.labels != NO_WORD
        f1 = [entities_f1(*(_named(tags[words], task.labels) for tags in pair))
              for *pair, words in zip(said, rows.labels, there, strict=True)]  # fmt: skip
        return answers_of(same, (right | ~there).all(1), f1=np.array(f1))
    kept = said if OF_LABELS & set(task.metrics) else None
    return answers_of(same, right, kept, labels=len(task.labels))


def rows_sha256(rows: Rows) -> str:
    """A hash of what is scored: the same rows have the same one, whatever source they come from."""
    accepted = [[repr(each) for each in rows.answers]] if rows.answers else []
    return content_sha256((*rows.columns, *accepted), rows.labels)


def entities_f1(said: list[str], truth: list[str]) -> float:
    """F1 of one sentence's entities, as `bench.data.entities.scores` counts them; 1 where neither side has one."""
    from seqeval.metrics.sequence_labeling import get_entities  # only a run of such a task pays for it

    mine, theirs = (set(get_entities(tags)) for tags in (said, truth))
    return 2 * len(mine & theirs) / (len(mine) + len(theirs)) if mine or theirs else 1.0


def _named(tags: np.ndarray, names: Sequence[str]) -> list[str]:
    return [names[int(tag)] for tag in tags]
