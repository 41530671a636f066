"""Quality metrics over scikit-learn and scipy: nothing is fetched, nothing is written, no locks.

`bench.data.glue_metric` offers the same numbers behind the interface of `evaluate`.
Undefined is None, never 0 or NaN. The exception is `matthews`: it is 0 for constant predictions by convention
(scikit-learn's and the published CoLA scores').
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

from bench.core.errors import DataError
from bench.data.tasks import Task

NEAR_CONSTANT = 1e-13
"""Relative spread below which scipy calls an input nearly constant and its correlation inaccurate."""


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The share of equal ids."""
    return float(sklearn_metrics.accuracy_score(labels, predictions))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float | None:
    """Binary F1 of class 1; None where class 1 is neither present nor predicted."""
    value = float(sklearn_metrics.f1_score(labels, predictions, zero_division=np.nan))  # pyright: ignore[reportArgumentType]
    return None if math.isnan(value) else value


def matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation for two classes or more; 0 where either side is constant."""
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(sklearn_metrics.matthews_corrcoef(labels, predictions))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float | None:
    """Linear correlation; None where either side is constant."""
    return _correlation(stats.pearsonr, predictions, labels)


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float | None:
    """Rank correlation, ties sharing their mean rank; None where either side is constant."""
    return _correlation(stats.spearmanr, predictions, labels)


def _correlation(function: Callable[..., Any], predictions: np.ndarray, labels: np.ndarray) -> float | None:
    x, y = predictions.astype(np.float64), labels.astype(np.float64)
    if _constant(x) or _constant(y):
        return None
    return float(function(x, y).statistic)


def _constant(x: np.ndarray) -> bool:
    return bool(np.linalg.norm(x - x.mean()) <= NEAR_CONSTANT * abs(x.mean()))


METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float | None]] = MappingProxyType({
    "accuracy": accuracy, "f1": f1, "matthews": matthews, "pearson": pearson, "spearman": spearman,
})  # fmt: skip


def compute(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """All metrics of a task as fractions, in the task's order; None where one is undefined.

    Shapes: predictions [N] label ids (scores for a regression task), labels [N]. Answers that are texts are scored by
    `bench.data.answers`, tags by `bench.data.entities`.
    Raises DataError on no rows, unequal shapes, labels of -1, ids that the task has not, and non-finite scores.
    """
    assert task.kind in ("label", "score"), f"the answers of {task.name} are not one per row"
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    _check(task, predictions, labels)
    return {name: METRICS[name](predictions, labels) for name in task.metrics}


def _check(task: Task, predictions: np.ndarray, labels: np.ndarray) -> None:
    where = f"metrics of {task.name}"
    if predictions.shape != labels.shape or labels.ndim != 1:
        raise DataError(
            "predictions and labels do not pair up", where=where, found=f"{predictions.shape} and {labels.shape}",
            expected="two arrays [N]",
        )  # fmt: skip
    if len(labels) == 0:
        raise DataError("nothing to score", where=where, found="0 rows", expected="at least 1")
    for what, values in (("predictions", predictions), ("labels", labels)):
        if task.regression:
            good, expected = np.isfinite(values), "finite scores"
        else:
            good, expected = np.isin(values, np.arange(task.outputs)), f"ids 0 to {task.outputs - 1}"
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise DataError(f"{what} that cannot be scored", where=where, found=f"{values[row]} in row {row}",
                            expected=expected)  # fmt: skip
