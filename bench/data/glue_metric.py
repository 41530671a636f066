"""A task's metrics behind the interface of the package `evaluate`, for programs that take one.

Examples are kept in memory: with evaluate's cache files two processes at once would wait for each other's locks. Runs
do not import this: evaluate takes seconds to load.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from bench.core.errors import SpecError
from bench.data.metrics import compute
from bench.data.tasks import get_task


class GlueMetric(evaluate.Metric):
    """A task's metrics as an `evaluate.Metric`: `GlueMetric("mrpc").compute(predictions=..., references=...)`."""

    def __init__(self, task: str, **options: Any) -> None:
        """`options` are evaluate's own. Raises SpecError for an unknown task, and for one without a label per row."""
        self.task = get_task(task)
        if self.task.kind not in ("label", "score"):
            raise SpecError("the task has no label per row", found=task, expected="a task of GLUE, or imdb",
                            fix="use the scores of bench.data.answers or bench.data.entities")  # fmt: skip
        super().__init__(config_name=task, **{"keep_in_memory": True, "seed": 0, **options})

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("float32" if self.task.regression else "int64")
        return evaluate.MetricInfo(
            description=f"{', '.join(self.task.metrics)} of the task {self.task.name}.",
            citation="",
            inputs_description="predictions and references: label ids, or scores for a regression task.",
            features=datasets.Features({"predictions": kind, "references": kind}),
            format="numpy",
        )

    def _compute(self, *, predictions: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        return compute(self.task, predictions, references)
