"""Labels withheld, and text that a user adds: who sees what of a task's rows, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.core.errors import DataError, SpecError
from bench.data.rows import UNLABELLED, Rows
from bench.data.tasks import get_task
from bench.data.unlabelled import read_unlabelled
from bench.judge.standing import budget_size
from bench.run.inputs import Inputs
from bench.run.request import Request

ROWS = 50


@pytest.fixture
def inputs(tmp_path: Path) -> Callable[..., Inputs]:
    """The inputs of a request on 50 made rows of SST-2."""
    for split in ("train_subset", "validation_subset"):
        path = tmp_path / "sst2" / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        rows = {"sentence": [f"{split} {i}" for i in range(ROWS)], "label": [i % 2 for i in range(ROWS)],
                "idx": list(range(ROWS))}  # fmt: skip
        pq.write_table(pa.table(rows), path)

    def make(**fields: object) -> Inputs:
        return Inputs(Request(scale="small", data=str(tmp_path), teacher="given", **fields))  # pyright: ignore

    return make


def test_labels_are_withheld_and_the_text_stays(inputs: Callable[..., Inputs]) -> None:
    task, given = get_task("sst2"), inputs(labels=10)
    labelled, everything = given.used(task, task.train), given.all_texts(task)
    assert len(labelled) == 10 and len(everything) == ROWS
    assert everything.columns[0][:10] == labelled.columns[0]
    assert (everything.labels[10:] == UNLABELLED).all() and np.array_equal(everything.labels[:10], labelled.labels)
    assert sorted(everything.columns[0]) == sorted(given.whole(task, task.train).columns[0])
    assert given.limits(task) == {"limit": None, "labels": 10}


def test_more_text_may_come_without_more_labels(inputs: Callable[..., Inputs]) -> None:
    task = get_task("sst2")
    few, many = inputs(labels=10, limit=20), inputs(labels=10)
    assert few.used(task, task.train).columns == many.used(task, task.train).columns, "the same rows keep their labels"
    assert (len(few.all_texts(task)), len(many.all_texts(task))) == (20, ROWS)
    plain = inputs()
    assert plain.limits(task) == {"limit": None} and len(plain.all_texts(task)) == ROWS
    assert len({one.data_identity(task) for one in (few, many, plain)}) == 3


def test_more_labels_than_rows_are_refused(inputs: Callable[..., Inputs]) -> None:
    task = get_task("sst2")
    inputs(labels=ROWS).check_labels(task)
    with pytest.raises(SpecError, match=r"--labels is more than the task has; in sst2; found 51; expected 1 to 50"):
        inputs(labels=ROWS + 1).check_labels(task)
    with pytest.raises(SpecError, match="expected 1 to 20"):
        inputs(labels=30, limit=20).check_labels(task)


def test_a_users_file_is_added(inputs: Callable[..., Inputs], tmp_path: Path) -> None:
    task, file = get_task("sst2"), tmp_path / "more.txt"
    file.write_text("one more\n\n  another  \n", encoding="utf-8")
    given = inputs(unlabelled=str(file))
    texts = given.all_texts(task)
    assert texts.columns[0][ROWS:] == ["one more", "another"] and (texts.labels[ROWS:] == UNLABELLED).all()
    before = given.data_identity(task)
    file.write_text("one more\n", encoding="utf-8")
    assert inputs(unlabelled=str(file)).data_identity(task) != before, "the content counts, not the name"


def made_rows(labels: np.ndarray, columns: int) -> Rows:
    texts = tuple([f"text {i}" for i in range(len(labels))] for _ in range(columns))
    return Rows(np.arange(len(labels)), texts, labels, "made", "", "", False)


def test_labels_of_spans_and_tags_are_withheld_like_others(
    inputs: Callable[..., Inputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    for task, columns in ((get_task("squad"), 2), (get_task("conll2003"), 1)):
        given = inputs(labels=10)
        monkeypatch.setattr(given, "whole", lambda *_, n=columns: made_rows(np.ones((ROWS, 2), np.int64), n))
        texts = given.all_texts(task)
        assert len(texts) == ROWS and texts.labels.shape == (ROWS, 2)
        assert (texts.labels[:10] == 1).all() and (texts.labels[10:] == UNLABELLED).all()


def test_tasks_of_spans_and_tags_refuse_a_users_file(
    inputs: Callable[..., Inputs], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = inputs(unlabelled=str(tmp_path / "more.txt"))
    monkeypatch.setattr(given, "whole", lambda *_: made_rows(np.ones((ROWS, 2), np.int64), 1))
    for name in ("squad", "conll2003"):
        with pytest.raises(
            SpecError, match=rf"read no unlabelled text; in --unlabelled, task {name}; found .*more\.txt"
        ):
            given.check(get_task(name))


def test_pairs_are_parted_by_tabs(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text("a b\tc\nd\te\n", encoding="utf-8")
    assert read_unlabelled(file, 2) == (["a b", "d"], ["c", "e"])


@pytest.mark.parametrize(
    ("content", "columns", "words"),
    [
        (b"", 1, "no text; in .*more.txt; found an empty file"),
        (b"\n \n", 1, "no text"),
        ("é".encode("latin-1"), 1, "not text; in .*more.txt.*expected UTF-8"),
        (b"one\ntwo\tthree\n", 1, r"more.txt, line 2; found 2 texts; expected 1"),
        (b"one\n", 2, r"line 1; found 1 texts; expected 2, parted by tabs"),
        (None, 1, "not a file"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: bytes | None, columns: int, words: str) -> None:
    file = tmp_path / "more.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=words) as found:
        read_unlabelled(file, columns)
    assert "\n" not in str(found.value)


def test_all_labels_are_a_larger_budget_than_some() -> None:
    sizes = [budget_size({"limit": None} | labels) for labels in ({"labels": 100}, {"labels": 1000}, {})]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    assert json.dumps(sizes)
