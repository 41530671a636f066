"""Tables as other programs write them: read for what they hold, or refused with what is wrong and what to do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.core.errors import DataError
from bench.data import parquet
from bench.data.corpus import corpus_texts
from bench.data.rows import Rows
from bench.data.shards import shards
from bench.data.sources import open_source
from bench.data.tasks import check_classes, floor, get_task

TEXTS = ["good", "bad", "gut"]


def write(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def read(folder: Path, task: str = "sst2") -> Rows:
    return open_source(str(folder)).rows(get_task(task), "train")


@pytest.mark.parametrize(
    "column",
    [pa.array(TEXTS).dictionary_encode(), pa.array(TEXTS, pa.large_string()), pa.array(TEXTS).cast(pa.string_view())],
    ids=["dictionary", "large", "view"],
)
def test_text_of_every_kind_is_text(tmp_path: Path, column: pa.Array) -> None:
    labels = pa.array([1, 0, 1]).dictionary_encode()
    write(tmp_path / "sst2/train_subset.parquet", pa.table({"sentence": column, "label": labels}))
    rows = read(tmp_path)
    assert rows.columns == (TEXTS,) and rows.labels.tolist() == [1, 0, 1] and rows.labels.dtype == np.int64
    assert list(corpus_texts(write(tmp_path / "c.parquet", pa.table({"text": column})))) == TEXTS


BAD_BYTES = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32).tobytes()), pa.py_buffer(b"\xff")]
)


@pytest.mark.parametrize(
    ("names", "columns", "message"),
    [
        (["sentence", "label", "label"], [["a"], [0], [1]], "'label' stands there more than once"),
        (["sentence", "sentence", "label"], [["a"], ["b"], [1]], "'sentence' stands there more than once"),
        (["sentence", "label"], [BAD_BYTES, [0]], r"not text.*field sentence.*UTF-?8"),
        (["sentence", "label"], [[b"a"], [0]], r"not text.*binary.*next: write the column"),
        (["sentence", "label"], [["a"], pa.array([2**64 - 1], pa.uint64())], "label outside the names"),
    ],
)
def test_what_no_program_should_write(tmp_path: Path, names: list[str], columns: list[Any], message: str) -> None:
    write(tmp_path / "sst2/train_subset.parquet", pa.table(columns, names))
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("metadata", [b"{", b"\xff", b"[1]", b'{"info": {"features": {"label": {"names": "ab"}}}}'])
def test_metadata_of_another_form(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"sentence": ["a"], "label": [0]}).replace_schema_metadata({"huggingface": metadata})
    write(tmp_path / "sst2/train_subset.parquet", table)
    with pytest.raises(DataError, match=r"label names in the file's metadata cannot be read.*next: write the file"):
        read(tmp_path)


@pytest.mark.parametrize(
    "answers",
    [[{"text": "c", "answer_start": 0}], {"text": [b"c"], "answer_start": [0]}, {"text": [1], "answer_start": [0]},
     {"text": ["c"], "answer_start": ["0"]}, {"text": ["c"]}],
)  # fmt: skip
def test_answers_of_another_form(tmp_path: Path, answers: Any) -> None:
    table = pa.table({"question": ["q"], "context": ["c"], "answers": [answers]})
    write(tmp_path / "squad/train_subset.parquet", table)
    with pytest.raises(DataError, match=r"not answers.*expected struct<text"):
        read(tmp_path, "squad")


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 10_000_000)
    table = pa.table({"sentence": pa.array(["x" * 100_000] * 200).dictionary_encode(), "label": [0, 1] * 100})
    path = write(tmp_path / "sst2/train_subset.parquet", table)
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError, match="unpacks to more than any split holds"):
        read(tmp_path)


def wnli(rows: int) -> pa.Table:
    return pa.table({"sentence1": [f"a{i}" for i in range(rows)], "sentence2": ["b"] * rows,
                     "label": [i % 2 for i in range(rows)]})  # fmt: skip


@pytest.mark.parametrize("ending", ["", "-0123456789abcdef"])
def test_shards_are_read_in_order_and_all_of_them(tmp_path: Path, ending: str) -> None:
    whole = wnli(635)
    for i, part in enumerate((whole.slice(0, 300), whole.slice(300))):
        write(tmp_path / f"wnli/train-{i:05}-of-00002{ending}.parquet", part)
    rows = read(tmp_path, "wnli")
    assert not rows.partial and rows.columns[0] == whole["sentence1"].to_pylist()
    (tmp_path / f"wnli/train-00000-of-00002{ending}.parquet").unlink()
    with pytest.raises(DataError, match=r"parts of a split are not complete.*train-00001-of-00002"):
        read(tmp_path, "wnli")


def test_shards_of_two_kinds_or_twice_are_refused() -> None:
    for names in (["train-00000-of-00001", "train-00001-of-00002"], ["train-0-of-2", "train-00-of-2", "train-1-of-2"]):
        with pytest.raises(DataError, match="not complete"):
            shards([Path(f"{name}.parquet") for name in names], "train", "here")
    assert shards([Path("train-0-of-0.txt"), Path("training-0-of-1.parquet")], "train", "here") == []


def test_files_that_no_split_is_read_from_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = pa.table({"sentence": TEXTS, "label": [1, 0, 1]})
    write(tmp_path / "sst2/train_subset.parquet", table)
    write(tmp_path / "train.parquet", table)
    (tmp_path / "sst2/train.csv").write_text("a,b")
    with caplog.at_level(logging.INFO, "bench"):
        source = open_source(str(tmp_path))
        for _ in range(2):
            source.rows(get_task("sst2"), "train")
    assert caplog.text.count("passed_over='train.parquet'") == 1 and caplog.text.count("passed_over='train.csv'") == 1


def test_a_broken_link_and_a_mistyped_folder_are_told(tmp_path: Path) -> None:
    (tmp_path / "glue/sst2").mkdir(parents=True)
    (tmp_path / "glue/sst2/train.parquet").symlink_to("../../blobs/0123")
    with pytest.raises(DataError, match=r"a link that leads nowhere.*broken link to \.\./\.\./blobs/0123"):
        read(tmp_path / "glue")
    with pytest.raises(DataError, match=r"no such data folder.*there is .*/glue\)"):
        read(tmp_path / "gleu")
    with pytest.raises(DataError, match=r"no corpus there.*broken link"):
        corpus_texts(tmp_path / "glue/sst2/train.parquet")


@pytest.mark.parametrize(("task", "labels"), [("sst2", [1, 1]), ("mnli", [2, 2]), ("stsb", [3.0, 3.0]), ("cola", [0])])
def test_a_split_of_one_class_is_refused(task: str, labels: list[float]) -> None:
    with pytest.raises(DataError, match=f"all rows have one .*{task} train"):
        check_classes(get_task(task), "train", np.array(labels), "folder")


def test_no_floor_is_out_of_reach() -> None:
    for name in ("sst2", "mrpc", "cola", "rte", "wnli", "qqp"):
        for positive in (1, 50, 97, 99):
            assert floor(get_task(name), (np.arange(100) < positive).astype(int)) < 1.0, (name, positive)
    assert floor(get_task("sst2"), np.array([0, 1])) == 0.55, "as it was where there is room"
