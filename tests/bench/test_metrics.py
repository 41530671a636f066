"""Metrics against values worked by hand, scikit-learn and scipy, in degenerate cases and from two processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bench.core.errors import DataError
from bench.data.glue_metric import GlueMetric
from bench.data.metrics import METRICS, compute
from bench.data.tasks import TASKS, get_task


def test_values_worked_by_hand() -> None:
    predictions, labels = np.array([1, 1, 0, 1, 0]), np.array([1, 0, 0, 1, 1])
    # true positives 2, false positives 1, false negatives 1, true negatives 1
    assert compute(get_task("mrpc"), predictions, labels) == pytest.approx({"f1": 2 / 3, "accuracy": 3 / 5})
    # (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2)
    assert compute(get_task("cola"), predictions, labels) == pytest.approx({"matthews": 1 / 6, "accuracy": 3 / 5})
    # deviations (-1, 0, 1) and (-5/3, 1/3, 4/3): 3 / sqrt(2 * 42/9); ranks are equal
    scores = compute(get_task("stsb"), np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 3.0]))
    assert scores == pytest.approx({"pearson": 3 / np.sqrt(28 / 3), "spearman": 1.0})


def test_spearman_gives_ties_their_mean_rank() -> None:
    # ranks (1.5, 1.5, 3) against (1, 2, 3): 1.5 / sqrt(1.5 * 2)
    value = METRICS["spearman"](np.array([1.0, 1.0, 4.0]), np.array([0.0, 1.0, 2.0]))
    assert value == pytest.approx(1.5 / np.sqrt(3))


def test_parity_with_sklearn_and_scipy() -> None:
    rng = np.random.default_rng(7)
    compared = 0
    for classes in (2, 3):
        predictions, labels = rng.integers(0, classes, 200), rng.integers(0, classes, 200)
        assert METRICS["accuracy"](predictions, labels) == pytest.approx(accuracy_score(labels, predictions))
        assert METRICS["matthews"](predictions, labels) == pytest.approx(matthews_corrcoef(labels, predictions))
        compared += 2
        if classes == 2:
            assert METRICS["f1"](predictions, labels) == pytest.approx(f1_score(labels, predictions))
            compared += 1
    x = rng.normal(size=200)
    y = np.clip(np.round(x + rng.normal(size=200), 1), 0, 5)
    assert METRICS["pearson"](x, y) == pytest.approx(stats.pearsonr(x, y)[0])
    assert METRICS["spearman"](x, y) == pytest.approx(stats.spearmanr(x, y)[0])
    assert compared == 5


def test_one_class_predicted() -> None:
    labels = np.array([0, 1, 1, 0])
    assert compute(get_task("cola"), np.ones(4, int), labels) == {"matthews": 0.0, "accuracy": 0.5}
    assert compute(get_task("mrpc"), np.zeros(4, int), labels) == {"f1": 0.0, "accuracy": 0.5}
    assert compute(get_task("ax"), np.array([2, 2]), np.array([0, 1])) == {"matthews": 0.0}


def test_one_class_in_the_labels() -> None:
    assert compute(get_task("cola"), np.array([0, 1]), np.array([1, 1])) == {"matthews": 0.0, "accuracy": 0.5}
    # class 1 neither present nor predicted: 0 / 0
    assert compute(get_task("mrpc"), np.zeros(3, int), np.zeros(3, int)) == {"f1": None, "accuracy": 1.0}


@pytest.mark.parametrize("scores", [[2.5, 2.5, 2.5], [0.0, 0.0, 0.0], [1.0, 1.0 + 1e-15, 1.0]])
def test_constant_scores_have_no_correlation(scores: list[float]) -> None:
    labels = np.array([0.0, 2.0, 5.0], dtype=np.float32)
    assert compute(get_task("stsb"), np.array(scores), labels) == {"pearson": None, "spearman": None}
    assert compute(get_task("stsb"), labels, np.array(scores)) == {"pearson": None, "spearman": None}


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "message"),
    [
        ("sst2", [], [], "nothing to score.*0 rows"),
        ("stsb", [], [], "nothing to score"),
        ("sst2", [0, 1], [0], "do not pair up"),
        ("sst2", [[0.1, 0.9]], [[0, 1]], "do not pair up"),
        ("sst2", [0, 1], [0, -1], "labels that cannot be scored.*found -1 in row 1"),
        ("mnli", [3], [0], "predictions that cannot be scored.*expected ids 0 to 2"),
        ("stsb", [1.0, float("nan")], [1.0, 2.0], "predictions that cannot be scored.*found nan in row 1"),
    ],
)
def test_what_cannot_be_scored_is_an_error(task: str, predictions: list, labels: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute(get_task(task), np.array(predictions), np.array(labels))


def test_evaluate_metric_gives_the_same_numbers_and_leaves_no_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    visited = 0
    for name, task in TASKS.items():
        if task.kind in ("span", "tags"):
            continue  # see test_answers.py and test_tags.py
        if task.regression:
            predictions, labels = rng.normal(size=20).astype(np.float32), (rng.random(20) * 5).astype(np.float32)
        else:
            predictions, labels = rng.integers(0, task.outputs, 20), rng.integers(0, task.outputs, 20)
        metric = GlueMetric(name, cache_dir=str(tmp_path))
        assert metric.compute(predictions=predictions, references=labels) == compute(task, predictions, labels)
        visited += 1
    assert visited == 11
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_evaluate_metric_takes_batches() -> None:
    metric = GlueMetric("sst2")
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add_batch(predictions=[1, 1], references=[1, 1])
    assert metric.compute() == {"accuracy": 0.75}


PROCESS = """
import sys
from bench.data.glue_metric import GlueMetric
metric = GlueMetric("mrpc", cache_dir=sys.argv[1])
metric.add_batch(predictions=[1, 1, 0], references=[1, 0, 0])
print("ready", flush=True)
sys.stdin.readline()  # both processes are in the middle of their work now
print(metric.compute()["accuracy"], flush=True)
"""


def test_two_processes_at_once_do_not_collide(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        answers = [process.communicate("go\n", timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [float(answer) for answer in answers] == [pytest.approx(2 / 3)] * 2
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "no cache or lock file to collide on"
