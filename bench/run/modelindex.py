"""The front matter of a model card: what a run scored, in the form that the Hugging Face hub reads (`model-index`)."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.record import Data, Measurement, Record
from bench.data.tasks import Task, get_task

_TASK_TYPES = {"label": "text-classification", "score": "text-classification", "span": "question-answering",
               "tags": "token-classification"}  # fmt: skip
_METRICS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}
"""Our name -> the hub's, where it is another."""


def front_matter(record: Record, scores: Sequence[Measurement] | None = None) -> list[str]:
    """Lines between two `---`: the scores of the record, or those given in their place; none where nothing is scored.

    A data set is named by its id on the hub only where the rows were those; made-up ones are called so.
    """
    task = get_task(record.spec.task)
    found = record.measurements if scores is None else scores
    told = [one for one in found if one.metric in task.metrics and one.split in task.scored and one.value is not None]
    if not told or record.data is None:
        return []
    from huggingface_hub import EvalResult, ModelCardData

    kind, name, configuration, revision = _dataset(record.data, task)
    results = [
        EvalResult(
            task_type=_TASK_TYPES[task.kind], task_name=task.name, dataset_type=kind, dataset_name=name,
            dataset_config=configuration, dataset_split=one.split, dataset_revision=revision,
            metric_type=_METRICS.get(one.metric, one.metric), metric_value=round(float(one.value or 0.0), 6),
            metric_name=f"{one.metric} ({one.n:,} rows)",
        )
        for one in told
    ]  # fmt: skip
    card = ModelCardData(model_name=f"{record.spec.variant} on {task.name}", eval_results=results)
    return ["---", *card.to_yaml().splitlines(), "---", ""]


def _dataset(data: Data, task: Task) -> tuple[str, str, str | None, str | None]:
    """Which rows were scored, as an evaluation result names them: id, name, configuration and revision."""
    identifier, configuration, _ = task.hub
    if data.source == "synthetic":
        return "synthetic", f"made-up rows in the form of {task.name}", None, None
    own = data.source == "hub"
    told = [task.name, *([] if own else ["read from a folder"]), *(["a part of it"] if data.partial else [])]
    return identifier, ", ".join(told), configuration, (data.revision or None) if own else None
