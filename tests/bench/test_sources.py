"""The folder, hub and synthetic sources and the corpus reader: what they give, and what they refuse. No network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import datasets.config
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.exceptions import DatasetsError

from bench.core.errors import BenchError, DataError, SpecError
from bench.data.corpus import corpus_sha256, corpus_texts
from bench.data.rows import Rows
from bench.data.sources import open_source
from bench.data.tasks import Task, get_task

SST2 = {"sentence": ["good", "bad", "fine"], "label": [1, 0, 1]}


def write(path: Path, columns: dict[str, Any], schema: pa.Schema | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path)
    return path


def small(name: str, split: str, rows: int) -> Task:
    """A task whose split is officially this small."""
    task = get_task(name)
    return replace(task, splits={**task.splits, split: rows})


def read(folder: Path, task: Task | str = "sst2", split: str = "train") -> Rows:
    return open_source(str(folder)).rows(get_task(task) if isinstance(task, str) else task, split)


def refuses(folder: Path, task: Task | str = "sst2", split: str = "train") -> str:
    """The one line with which the folder is refused; nothing in it may have changed."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(DataError) as caught:
        read(folder, task, split)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folder_gives_texts_labels_and_the_hash_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "sst2" / "train_subset.parquet", SST2)
    rows = read(tmp_path)
    assert rows.columns == (["good", "bad", "fine"],)
    assert rows.labels.tolist() == [1, 0, 1]
    assert rows.labels.dtype == np.int64
    assert rows.ids.tolist() == [0, 1, 2]
    assert rows.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (rows.source, rows.revision, len(rows)) == ("folder", "", 3)


def test_folder_gives_pairs_in_the_tasks_column_order(tmp_path: Path) -> None:
    write(tmp_path / "mnli" / "validation_mismatched_subset1k.parquet",
          {"label": [2], "hypothesis": ["h"], "premise": ["p"], "idx": [0]})  # fmt: skip
    rows = read(tmp_path, "mnli", "validation_mismatched")
    assert rows.columns == (["p"], ["h"])
    assert rows.partial


def test_folder_reads_imdb_and_scores(tmp_path: Path) -> None:
    write(tmp_path / "imdb" / "unsupervised_subset.parquet", {"text": ["a film"], "label": [-1]})
    assert read(tmp_path, "imdb", "unsupervised").labels.tolist() == [-1]
    scores = pa.array([0.0, 2.5, 5.0], pa.float32())
    write(tmp_path / "stsb" / "train_subset.parquet", {"sentence1": list("abc"), "sentence2": list("def"),
                                                       "label": scores})  # fmt: skip
    rows = read(tmp_path, "stsb")
    assert rows.labels.dtype == np.float32
    assert rows.labels.tolist() == [0.0, 2.5, 5.0]


def test_full_name_is_whole_and_preferred(tmp_path: Path) -> None:
    write(tmp_path / "sst2" / "train.parquet", SST2)
    write(tmp_path / "sst2" / "train_subset.parquet", {"sentence": ["part"], "label": [0]})
    rows = read(tmp_path, small("sst2", "train", 3))
    assert len(rows) == 3
    assert not rows.partial


def test_full_name_with_other_rows_than_official(tmp_path: Path) -> None:
    write(tmp_path / "sst2" / "train.parquet", SST2)
    line = refuses(tmp_path)
    assert "found 3" in line
    assert "expected 67349" in line
    assert "name it train_subset.parquet" in line


def test_two_parts_of_one_split(tmp_path: Path) -> None:
    write(tmp_path / "sst2" / "train_subset.parquet", SST2)
    write(tmp_path / "sst2" / "train_subset1k.parquet", SST2)
    assert "train_subset.parquet, train_subset1k.parquet" in refuses(tmp_path)


Spoil = dict[str, Any]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": ["a"], "label": [0]}, ["column 'sentence' is missing", "found text, label", "sentence, label"]),
        ({"sentence": ["a"]}, ["column 'label' is missing", "found sentence"]),
        ({"sentence": ["a", "b"], "label": [0, 2]}, ["outside the names", "2 in row 1", "0 negative, 1 positive"]),
        ({"sentence": ["a", "b"], "label": [0, -1]}, ["without a label (-1)", "1 of 2 rows", "train, validation"]),
        ({"sentence": ["a", "b"], "label": [0, -2]}, ["outside the names", "-2 in row 1"]),
        ({"sentence": pa.array([], pa.string()), "label": pa.array([], pa.int64())}, ["no rows", "at least 1"]),
        ({"sentence": ["a"], "label": ["positive"]}, ["wrong type of label", "found string", "1 positive"]),
        ({"sentence": ["a"], "label": [0.5]}, ["wrong type of label", "found double", "expected int64"]),
        ({"sentence": [1], "label": [0]}, ["not text", "field sentence", "found int64"]),
        ({"sentence": ["a", None], "label": [0, 1]}, ["empty cells", "field sentence", "first in row 1"]),
        ({"sentence": ["a", "b"], "label": [0, None]}, ["empty cells", "field label"]),
    ],
)
def test_bad_tables(tmp_path: Path, columns: Spoil, expected: list[str]) -> None:
    path = write(tmp_path / "sst2" / "validation_subset.parquet", columns)
    line = refuses(tmp_path, split="validation")
    assert str(path) in line
    assert len(expected) >= 2
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([5.1], pa.float32()), "found 5.09.* in row 0; expected 0.0 to 5.0"),
        (pa.array([float("nan")], pa.float32()), "found nan in row 0"),
        (pa.array([-1.0], pa.float32()), r"without a label \(-1\)"),
        (pa.array([3], pa.int64()), "found int64; expected float32"),
    ],
)
def test_bad_scores(tmp_path: Path, labels: pa.Array, message: str) -> None:
    write(tmp_path / "stsb" / "train_subset.parquet", {"sentence1": ["a"], "sentence2": ["b"], "label": labels})
    with pytest.raises(DataError, match=message):
        read(tmp_path, "stsb")


def test_hidden_labels_are_allowed_only_where_nothing_is_scored(tmp_path: Path) -> None:
    write(tmp_path / "sst2" / "test_subset.parquet", {"sentence": ["a", "b"], "label": [-1, -1]})
    assert read(tmp_path, split="test").labels.tolist() == [-1, -1]


def test_label_names_in_another_order(tmp_path: Path) -> None:
    features = datasets.Features({"sentence": datasets.Value("string"),
                                  "label": datasets.ClassLabel(names=["positive", "negative"])})  # fmt: skip
    path = tmp_path / "sst2" / "train_subset.parquet"
    path.parent.mkdir()
    table = datasets.Dataset.from_dict(SST2, features=features).data.table
    pq.write_table(table, path)
    line = refuses(tmp_path)
    assert "['positive', 'negative']" in line
    assert "expected ['negative', 'positive']" in line


@pytest.mark.parametrize("keep", [0, 3, 200, -20])
def test_truncated_file(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "sst2" / "train_subset.parquet", SST2)
    path.write_bytes(path.read_bytes()[:keep])
    line = refuses(tmp_path)
    assert "not a readable parquet file" in line
    assert str(path) in line


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "sst2" / "train_subset.parquet").mkdir(parents=True)
    assert "a file that cannot be read" in refuses(tmp_path)


def test_damaged_pages(tmp_path: Path) -> None:
    path = tmp_path / "sst2" / "train_subset.parquet"
    path.parent.mkdir()
    table = pa.table({"sentence": [f"sentence {i}" for i in range(500)], "label": [0] * 500})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    raw = bytearray(path.read_bytes())
    raw[40:400] = bytes(360)
    path.write_bytes(raw)
    assert "not a readable parquet file" in refuses(tmp_path)


def test_missing_folder_task_and_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such data folder; in --data; found .*/nowhere"):
        open_source(str(tmp_path / "nowhere"))
    write(tmp_path / "sst2" / "train_subset.parquet", SST2)
    line = refuses(tmp_path, "cola")
    assert "no folder for task 'cola'" in line
    assert "found sst2" in line
    line = refuses(tmp_path, split="validation")
    assert "split 'validation' is missing" in line
    assert "found train_subset.parquet" in line
    with pytest.raises(DataError, match=r"no such split; in sst2; found '\.\./secret'"):
        read(tmp_path, split="../secret")


def test_the_hash_of_rows_follows_their_content_and_not_their_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "sst2" / "train_subset.parquet", SST2)
    one, two = (read(tmp_path / name).sha256 for name in ("one", "two"))
    assert one == two
    write(tmp_path / "two" / "sst2" / "train_subset.parquet", {**SST2, "label": [0, 0, 0]})
    assert read(tmp_path / "two").sha256 != one


def rows_of(count: int) -> Rows:
    return Rows(np.arange(count), ([str(i) for i in range(count)],), np.arange(count) % 2, "s", "r", "h", False)


def test_take_is_one_fixed_sample_in_order() -> None:
    rows = rows_of(100)
    ten = rows.take(10)
    assert len(ten) == 10
    assert ten.ids.tolist() == sorted(ten.ids.tolist())
    assert ten.ids.tolist() != list(range(10)), "a sample, not the first rows"
    assert ten.columns[0] == [str(i) for i in ten.ids]
    assert ten.labels.tolist() == (ten.ids % 2).tolist()
    assert np.array_equal(ten.ids, rows.take(10).ids)
    assert set(ten.ids) <= set(rows.take(20).ids), "a smaller sample is part of a larger one"
    assert rows.take(None) is rows
    assert rows.take(1000) is rows
    with pytest.raises(SpecError, match="in --limit; found 0"):
        rows.take(0)


# hub


def hub_data(labels: list[int], names: list[str] | None = None) -> datasets.Dataset:
    features = datasets.Features({
        "sentence": datasets.Value("string"),
        "label": datasets.ClassLabel(names=names or ["negative", "positive"]),
        "idx": datasets.Value("int32"),
    })  # fmt: skip
    columns = {"sentence": [f"s{i}" for i in range(len(labels))], "label": labels, "idx": list(range(len(labels)))}
    return datasets.Dataset.from_dict(columns, features=features)


def fake_hub(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], datasets.Dataset]) -> list[tuple]:
    calls: list[tuple] = []

    def load_dataset(path: str, name: str, *, split: str, revision: str) -> datasets.Dataset:
        calls.append((path, name, split, revision))
        return answer()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_hub_asks_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_hub(monkeypatch, lambda: hub_data([0, 1, 1]))
    rows = open_source("hub").rows(small("sst2", "validation", 3), "validation")
    revision = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
    assert calls == [("nyu-mll/glue", "sst2", "validation", revision)]
    assert rows.columns == (["s0", "s1", "s2"],)
    assert rows.labels.tolist() == [0, 1, 1]
    assert (rows.source, rows.revision, rows.partial) == ("hub:nyu-mll/glue", revision, False)
    assert len(rows.sha256) == 64
    fake_hub(monkeypatch, lambda: hub_data([0, 1, 0]))
    assert open_source("hub").rows(small("sst2", "validation", 3), "validation").sha256 != rows.sha256


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: hub_data([0]), "wrong number of rows.*found 1; expected 872"),
        (lambda: hub_data([0, -1]), r"without a label \(-1\)"),
        (lambda: hub_data([0], ["positive", "negative"]), "label names differ"),
        (lambda: hub_data([0]).rename_column("sentence", "text"), "column 'sentence' is missing"),
    ],
)
def test_hub_data_is_verified(
    monkeypatch: pytest.MonkeyPatch, data: Callable[[], datasets.Dataset], message: str
) -> None:
    calls = fake_hub(monkeypatch, data)
    with pytest.raises(DataError, match=message):
        open_source("hub").rows(get_task("sst2"), "validation")
    assert len(calls) == 1


@pytest.mark.parametrize("error", [ConnectionError, ValueError, FileNotFoundError, DatasetsError])
def test_hub_out_of_reach_says_what_mends_it(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail() -> datasets.Dataset:
        raise error("Couldn't reach\n'nyu-mll/glue' on the Hub")

    fake_hub(monkeypatch, fail)
    with pytest.raises(DataError) as caught:
        open_source("hub").rows(get_task("sst2"), "validation")
    line = str(caught.value)
    assert "\n" not in line
    assert "nyu-mll/glue sst2/validation@bcdcba79" in line
    assert "--data FOLDER" in line
    assert "--data synthetic" in line


def test_hub_reads_a_local_repository_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write(tmp_path / "repository" / "validation-00000-of-00001.parquet", {**SST2, "idx": [0, 1, 2]})
    task = replace(small("sst2", "validation", 3), hub=(str(tmp_path / "repository"), "default", "main"))
    rows = open_source("hub").rows(task, "validation")
    assert rows.columns == (["good", "bad", "fine"],)
    assert rows.labels.tolist() == [1, 0, 1]


# synthetic


def fake_language(monkeypatch: pytest.MonkeyPatch, labels: list[Any]) -> None:
    monkeypatch.setattr("bench.data.synthetic.VERSION", "7")
    monkeypatch.setattr("bench.data.synthetic.rows", lambda task, split: ((["a", "b"],), labels))


def test_synthetic_rows_have_a_version_and_a_hash_of_their_content(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_language(monkeypatch, [0, 1])
    rows = open_source("synthetic").rows(get_task("sst2"), "train")
    assert rows.columns == (["a", "b"],)
    assert rows.labels.dtype == np.int64
    assert (rows.source, rows.revision, rows.partial) == ("synthetic", "7", False)
    fake_language(monkeypatch, [0, 0])
    assert open_source("synthetic").rows(get_task("sst2"), "train").sha256 != rows.sha256


def test_synthetic_labels_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_language(monkeypatch, [0, 2])
    with pytest.raises(DataError, match="outside the names; in synthetic sst2/train"):
        open_source("synthetic").rows(get_task("sst2"), "train")


# corpus


def test_corpus_of_a_text_file_is_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n two \n\n \nthree\n", encoding="utf-8")
    assert list(corpus_texts(path)) == ["one two", "three"]
    assert corpus_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_corpus_of_a_parquet_file_is_its_text_column(tmp_path: Path) -> None:
    named = write(tmp_path / "named.parquet", {"title": ["t"] * 3, "text": ["one", " ", "two"]})
    assert list(corpus_texts(named)) == ["one", "two"]
    only = write(tmp_path / "only.parquet", {"line": [f"l{i}" for i in range(200)], "n": list(range(200))})
    assert list(corpus_texts(only)) == [f"l{i}" for i in range(200)]


def test_corpus_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", {"text": ["second"]})
    (tmp_path / "a.txt").write_text("first", encoding="utf-8")
    (tmp_path / "README.md").write_text("not text to train on", encoding="utf-8")
    assert list(corpus_texts(tmp_path)) == ["first", "second"]
    both = corpus_sha256(tmp_path)
    train = write(tmp_path / "train.parquet", {"text": ["train"]})
    assert list(corpus_texts(tmp_path)) == ["train"]
    assert corpus_sha256(tmp_path) == corpus_sha256(train) != both


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "no corpus there; in --corpus"),
        (lambda folder: folder, "no corpus there"),
        (
            lambda folder: write(folder / "a.parquet", {"a": ["x"], "b": ["y"]}),
            r"no column to.*found a \(string\), b",
        ),
        (lambda folder: write(folder / "a.parquet", {"text": ["", " "]}), "no text; in .*a.parquet"),
    ],
)
def test_bad_corpus(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        list(corpus_texts(make(tmp_path)))


def test_corpus_that_is_truncated_or_not_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["x"]})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a readable parquet file"):
        corpus_texts(path)
    text = tmp_path / "a.txt"
    text.write_bytes(b"caf\xe9 latin-1")
    with pytest.raises(DataError, match=r"not text; in .*a\.txt.*UTF-8"):
        list(corpus_texts(text))
