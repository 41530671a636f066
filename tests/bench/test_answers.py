"""SQuAD's answers: scored as published, by values worked by hand; read from a folder; and every kind of bad row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.core.errors import DataError, SpecError
from bench.data.answers import exact_match, f1, normalised, scores
from bench.data.glue_metric import GlueMetric
from bench.data.rows import Texts
from bench.data.sources import SyntheticSource, open_source
from bench.data.tasks import floor, get_task

SQUAD = get_task("squad")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("a  the\tAn", ""),
        ("theory of an analogue", "theory of analogue"),  # articles are whole words
        ("U.S.A.", "usa"),
        ("the-cat", "thecat"),  # punctuation goes first, so this is no article any more
        ("1,000,000 (approx)", "1000000 approx"),
        ("Café d'Été", "café dété"),
    ],
)
def test_what_does_not_count(text: str, told: str) -> None:
    assert normalised(text) == told


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "overlap"),
    [
        ("the Norman dynasty", "Norman dynasty!", 1.0, 1.0),
        ("in France", "France", 0.0, 2 / 3),  # precision 1/2, recall 1
        ("two two one", "two one one", 0.0, 2 / 3),  # one "two" and one "one" of three and three
        ("Paris", "London", 0.0, 0.0),
        ("", "London", 0.0, 0.0),
        ("the", "a", 1.0, 0.0),  # nothing is left of either: equal, but without a common word
        ("10th and 11th centuries", "in the 10th and 11th centuries", 0.0, 8 / 9),  # 1 and 4/5
    ],
)
def test_scores_of_one_answer(answer: str, accepted: str, exact: float, overlap: float) -> None:
    assert exact_match(answer, accepted) == exact
    assert f1(answer, accepted) == pytest.approx(overlap)


def test_the_best_accepted_answer_counts_and_each_metric_chooses_its_own() -> None:
    found = scores(["in France", "Paris", "x"], (("Germany", "France"), ("paris",), ("y", "z")))
    assert found == {"f1": pytest.approx((2 / 3 + 1 + 0) / 3), "exact_match": pytest.approx(1 / 3)}
    assert tuple(found) == SQUAD.metrics


@pytest.mark.parametrize(("said", "accepted"), [([], ()), (["a"], (("a",), ("b",)))])
def test_what_cannot_be_scored(said: list[str], accepted: Any) -> None:
    with pytest.raises(DataError, match="do not pair up"):
        scores(said, accepted)


def test_a_metric_of_labels_has_no_answers() -> None:
    with pytest.raises(SpecError, match="the task has no label per row; found squad"):
        GlueMetric("squad")


def test_the_floor_is_the_margin() -> None:
    assert floor(SQUAD, np.zeros((3, 2), np.int64)) == pytest.approx(0.2)


# Reading

ROW: dict[str, Any] = {
    "id": "1", "title": "t", "context": "Paris ist schön, sagt Zoë.", "question": "Wer?",
    "answers": {"text": ["Zoë", "schön, sagt Zoë"], "answer_start": [22, 10]},
}  # fmt: skip
ANSWERS = pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())})
SCHEMA = pa.schema({"id": pa.string(), "title": pa.string(), "context": pa.string(), "question": pa.string(),
                    "answers": ANSWERS})  # fmt: skip


def write(folder: Path, *changes: dict[str, Any], schema: pa.Schema = SCHEMA, name: str = "train_subset") -> Path:
    path = folder / "squad" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([ROW | change for change in changes], schema), path)
    return path


def test_rows_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, {}, {"answers": {"text": ["Paris"], "answer_start": [0]}})
    rows = open_source(str(tmp_path)).rows(SQUAD, "train")
    assert rows.partial and len(rows) == 2
    assert rows.columns == (["Wer?", "Wer?"], [ROW["context"]] * 2)
    assert rows.labels.tolist() == [[22, 25], [0, 5]] and rows.labels.dtype == np.int64
    assert rows.answers == (("Zoë", "schön, sagt Zoë"), ("Paris",))
    assert rows.take(1).answers in ((rows.answers[0],), (rows.answers[1],)) and rows.take(1).labels.shape == (1, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answers": {"text": ["Zoë"], "answer_start": [21]}},
         ("field answers", "an answer that is not at its offset", "'Zoë' at 21 in row 1")),
        ({"answers": {"text": ["Zoë"], "answer_start": [-4]}}, ("not at its offset", "'Zoë' at -4 in row 1")),
        ({"answers": {"text": [""], "answer_start": [3]}}, ("not at its offset", "'' at 3 in row 1")),
        ({"answers": {"text": ["Zoë", "Zoe"], "answer_start": [22, 22]}}, ("'Zoe' at 22 in row 1",)),
        ({"answers": {"text": [], "answer_start": []}}, ("a row without answers", "0 texts and 0 offsets in row 1")),
        ({"answers": None}, ("a row without answers", "row 1")),
        ({"answers": {"text": ["Zoë"], "answer_start": []}}, ("do not pair up", "1 texts and 0 offsets in row 1")),
        ({"context": " "}, ("field context", "an empty context", "' ' in row 1")),
        ({"question": None}, ("field question", "empty cells", "first in row 1")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, Any], words: tuple[str, ...], split: str) -> None:
    path = write(tmp_path, {}, change, name=f"{split}_subset")
    with pytest.raises(DataError) as error:
        open_source(str(tmp_path)).rows(SQUAD, split)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def test_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"answers": "Zoë"}, schema=SCHEMA.set(4, pa.field("answers", pa.string())))
    with pytest.raises(DataError, match=r"not answers.*field answers; found string; expected struct<text"):
        open_source(str(tmp_path)).rows(SQUAD, "train")
    write(tmp_path, {}, schema=SCHEMA.remove(4))
    with pytest.raises(DataError, match=r"column 'answers' is missing.*expected question, context, answers"):
        open_source(str(tmp_path)).rows(SQUAD, "train")


def test_a_whole_split_has_its_official_rows(tmp_path: Path) -> None:
    write(tmp_path, {}, name="validation")
    with pytest.raises(DataError, match=r"wrong number of rows.*found 1; expected 10570"):
        open_source(str(tmp_path)).rows(SQUAD, "validation")


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def data(repository: str, configuration: str, split: str, revision: str) -> datasets.Dataset:
        calls.append((repository, configuration, split, revision))
        return datasets.Dataset(pa.Table.from_pylist([ROW], SCHEMA))

    monkeypatch.setattr(datasets, "load_dataset", data)
    rows = open_source("hub").rows(replace(SQUAD, splits={"train": 9, "validation": 1}), "validation")
    assert calls == [("rajpurkar/squad", "plain_text", "validation", SQUAD.hub[2])]
    assert rows.labels.tolist() == [[22, 25]] and rows.answers == (("Zoë", "schön, sagt Zoë"),)
    before = rows.sha256
    monkeypatch.setitem(ROW["answers"], "text", ["Zoë", "schön"])
    again = open_source("hub").rows(replace(SQUAD, splits={"train": 9, "validation": 1}), "validation")
    assert again.sha256 != before, "every accepted answer counts"


def test_made_up_answers_stand_in_their_texts() -> None:
    rows = SyntheticSource().rows(SQUAD, "validation")
    kinds: dict[str, set[str]] = {}
    for question, context, (begin, end), accepted in zip(*rows.columns, rows.labels, rows.answers, strict=True):
        assert accepted == (context[begin:end],) and " " not in accepted[0]
        kinds.setdefault(question, set()).add(accepted[0])
    assert len(rows) == 400 and len(kinds) == 6
    assert not [one for one in kinds for other in kinds if one < other and kinds[one] & kinds[other]]
    whole = scores(rows.columns[1], rows.answers)["f1"]
    assert whole is not None and whole < SQUAD.margin, "the whole text is no answer"


def test_texts_carry_their_answers() -> None:
    assert Texts((["q"], ["c"]), np.zeros((1, 2), np.int64)).answers == ()
