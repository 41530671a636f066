"""What is kept of each row of each kind of task, against cases worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.core.answers import unpack
from bench.core.record import Answers
from bench.data import answers as span_scores
from bench.data.entities import NO_WORD
from bench.data.row_answers import each_answer, entities_f1, rows_sha256
from bench.data.rows import Rows
from bench.data.tasks import TASKS, get_task

TAGS = {name: number for number, name in enumerate(get_task("conll2003").labels)}


def rows(labels: Any, **given: Any) -> Rows:
    labels = np.array(labels)
    texts = ([f"text {row}" for row in range(len(labels))],)
    content = {"ids": np.arange(len(labels)), "columns": texts, "labels": labels, "source": "folder", "revision": "",
               "sha256": "0" * 64, "partial": False}  # fmt: skip
    return Rows(**(content | given))


def kept(found: Answers, name: str) -> Any:
    packed = getattr(found, name)
    return None if packed is None else unpack(packed, found.n).tolist()


@pytest.mark.parametrize("task", ["sst2", "rte", "mnli", "qnli", "wnli", "imdb"])
def test_of_accuracy_the_right_rows_are_enough(task: str) -> None:
    found = each_answer(get_task(task), np.array([0, 1, 1, 0]), rows([0, 1, 0, 0]))
    assert kept(found, "correct") == [1, 1, 0, 1]
    assert found.predictions is found.f1 is None and found.n == 4


@pytest.mark.parametrize("task", ["cola", "mrpc", "qqp"])
def test_f1_and_matthews_need_the_labels_themselves(task: str) -> None:
    found = each_answer(get_task(task), np.array([0, 1, 1, 0]), rows([0, 1, 0, 0]))
    assert kept(found, "correct") == [1, 1, 0, 1] and kept(found, "predictions") == [0, 1, 1, 0]
    assert found.predictions is not None and found.predictions.code == "uint1"


def test_of_a_score_the_score_is_kept() -> None:
    found = each_answer(get_task("stsb"), np.array([0.5, 4.25], np.float32), rows(np.array([0.0, 5.0], np.float32)))
    assert kept(found, "predictions") == [0.5, 4.25] and found.correct is None


def test_of_a_span_the_best_accepted_answer_counts() -> None:
    accepted = (("a red house",), ("Paris", "in Paris"), ("two",))
    said = ["red house", "in paris!", "three"]
    found = each_answer(get_task("squad"), said, rows([[0, 1]] * 3, answers=accepted))
    assert kept(found, "correct") == [1, 1, 0] and kept(found, "f1") == [1.0, 1.0, 0.0]
    said = ["the red garden", "", "two or three"]  # F1 2·1/(2+2); 0; 2·1/(3+1)
    found = each_answer(get_task("squad"), said, rows([[0, 1]] * 3, answers=accepted))
    assert kept(found, "correct") == [0, 0, 0] and kept(found, "f1") == [0.5, 0.0, 0.5]
    assert np.mean(kept(found, "f1")) == pytest.approx(span_scores.scores(said, accepted)["f1"])


def test_of_tags_a_sentence_is_right_when_all_of_it_is() -> None:
    one, two, there = TAGS["B-PER"], TAGS["I-PER"], NO_WORD
    truth = [[one, two, 0], [one, 0, there], [0, 0, there], [0, one, there]]
    said = np.array([[one, two, 0], [one, one, 5], [0, 0, 0], [0, 0, one]])
    found = each_answer(get_task("conll2003"), said, rows(truth))
    assert kept(found, "correct") == [1, 0, 1, 0]
    assert kept(found, "f1") == [1.0, pytest.approx(2 / 3, abs=1e-3), 1.0, 0.0]


def test_an_entity_counts_by_its_type_and_ends() -> None:
    assert entities_f1(["B-PER", "I-PER", "O"], ["B-PER", "O", "O"]) == 0.0
    assert entities_f1(["B-PER", "O", "B-LOC"], ["B-PER", "O", "B-ORG"]) == 0.5


def test_every_scored_task_keeps_something() -> None:
    looked = 0
    for task in TASKS.values():
        if not task.scored or task.kind in ("span", "tags"):
            continue
        labels = np.array([0.0, 1.0], np.float32) if task.regression else np.array([0, 1])
        found = each_answer(task, labels, rows(labels))
        assert found.correct or found.predictions, task.name
        looked += 1
    assert looked == 10


def test_the_same_rows_have_one_hash_whatever_their_source() -> None:
    first = rows([0, 1, 0])
    assert rows_sha256(first) == rows_sha256(replace(first, source="hub", revision="r", sha256="1" * 64))
    others = [
        rows([0, 1, 1]),
        rows([0, 1]),
        first.take(2),
        replace(first, columns=(["text 1", "text 0", "text 2"],)),
        replace(first, answers=(("a",), ("b",), ("c",))),
        replace(first, answers=(("a", "x"), ("b",), ("c",))),
    ]
    assert len({rows_sha256(one) for one in (first, *others)}) == 7
