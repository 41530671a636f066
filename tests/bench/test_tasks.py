"""The task table against the published data sets, and the floor against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.errors import DataError, SpecError
from bench.data.metrics import METRICS
from bench.data.tasks import TASKS, floor, get_task

OFFICIAL = {  # Wang et al. 2019 (arXiv 1804.07461v3, table 1) in rows; Maas et al. 2011 for imdb
    "cola": {"train": 8551, "validation": 1043, "test": 1063},
    "sst2": {"train": 67349, "validation": 872, "test": 1821},
    "mrpc": {"train": 3668, "validation": 408, "test": 1725},
    "stsb": {"train": 5749, "validation": 1500, "test": 1379},
    "qqp": {"train": 363846, "validation": 40430, "test": 390965},
    "mnli": {
        "train": 392702, "validation_matched": 9815, "validation_mismatched": 9832,
        "test_matched": 9796, "test_mismatched": 9847,
    },
    "qnli": {"train": 104743, "validation": 5463, "test": 5463},
    "rte": {"train": 2490, "validation": 277, "test": 3000},
    "wnli": {"train": 635, "validation": 71, "test": 146},
    "ax": {"test": 1104},
    "imdb": {"train": 25000, "test": 25000, "unsupervised": 50000},
    "conll2003": {"train": 14041, "validation": 3250, "test": 3453},  # Tjong Kim Sang and De Meulder 2003, table 1
    "squad": {"train": 87599, "validation": 10570},  # Rajpurkar et al. 2016, as the Hugging Face data set has it
}  # fmt: skip


def test_all_tasks_with_their_official_row_counts() -> None:
    assert {name: dict(task.splits) for name, task in TASKS.items()} == OFFICIAL


def test_every_row_of_the_table_is_consistent() -> None:
    visited = 0
    for name, task in TASKS.items():
        assert task.name == name
        assert task.primary in task.metrics
        assert set(task.metrics) <= ({"f1", "exact_match"} if task.spans else set(METRICS))
        assert task.spans == (name == "squad") and task.tags == task.cased == (name == "conll2003")
        assert set(task.scored) <= set(task.splits)
        assert len(task.columns) in (1, 2)
        assert task.regression == (name == "stsb")
        assert task.hub[0] in ("nyu-mll/glue", "stanfordnlp/imdb", "rajpurkar/squad", "lhoestq/conll2003")
        assert len(task.hub[2]) == 40, "a revision is pinned by its whole commit hash"
        assert int(task.hub[2], 16) >= 0
        assert (task.train in task.splits) == (name != "ax")
        visited += 1
    assert visited == 13


def test_scored_splits_have_public_labels() -> None:
    scored = {name: task.scored for name, task in TASKS.items()}
    assert scored["mnli"] == ("validation_matched", "validation_mismatched")
    assert scored["imdb"] == ("test",)
    assert scored["ax"] == ()
    assert all("test" not in splits for name, splits in scored.items() if name != "imdb")
    mrpc = TASKS["mrpc"]
    assert mrpc.labelled("train")
    assert mrpc.labelled("validation")
    assert not mrpc.labelled("test")


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("cola", ("unacceptable", "acceptable")),
        ("sst2", ("negative", "positive")),
        ("mrpc", ("not_equivalent", "equivalent")),
        ("qqp", ("not_duplicate", "duplicate")),
        ("mnli", ("entailment", "neutral", "contradiction")),
        ("ax", ("entailment", "neutral", "contradiction")),
        ("qnli", ("entailment", "not_entailment")),
        ("rte", ("entailment", "not_entailment")),
        ("wnli", ("not_entailment", "entailment")),
        ("imdb", ("neg", "pos")),
        ("squad", ("start", "end")),
    ],
)
def test_label_names_in_the_data_sets_order(task: str, names: tuple[str, ...]) -> None:
    assert get_task(task).labels == names
    assert get_task(task).outputs == len(names)


def test_regression_has_one_output() -> None:
    assert get_task("stsb").outputs == 1


def test_unknown_task_lists_what_it_could_have_been() -> None:
    with pytest.raises(SpecError, match=r"unknown task; found 'sst'; expected one of cola, sst2, .*imdb") as caught:
        get_task("sst")
    assert "\n" not in str(caught.value)


def test_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TASKS["cola"] = TASKS["sst2"]  # pyright: ignore[reportIndexIssue]
    with pytest.raises(TypeError):
        TASKS["cola"].splits["train"] = 1  # pyright: ignore[reportIndexIssue]


def test_floor_is_the_majority_class_and_a_margin() -> None:
    labels = np.array([0, 1, 1, 1])
    assert floor(get_task("sst2"), labels) == pytest.approx(0.75 + 0.05)
    # all positive: precision 3/4, recall 1, F1 = 2 * 0.75 / 1.75
    assert floor(get_task("mrpc"), labels) == pytest.approx(6 / 7 + 0.005)
    assert floor(get_task("cola"), labels) == pytest.approx(0.05)
    assert floor(get_task("stsb"), np.array([0.0, 5.0])) == pytest.approx(0.2)
    assert floor(get_task("mnli"), np.array([0, 1, 2])) == pytest.approx(1 / 3 + 0.05)


def test_floor_lets_published_wnli_scores_pass() -> None:
    labels = np.array([0] * 40 + [1] * 31)  # its real validation split
    assert 0.25 < floor(get_task("wnli"), labels) < 0.437  # 43.7%: a published BERT-base score


def test_floor_without_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="no labels"):
        floor(get_task("sst2"), np.array([], dtype=np.int64))
