"""What methods that take a fine-tuned BERT apart ask of it first."""

from __future__ import annotations

from transformers import BertForSequenceClassification

from bench.core.errors import ModelError
from bench.train.recipe import Context


def fine_tuned_bert(ctx: Context) -> BertForSequenceClassification:
    """The run's fine-tuned teacher. Raises: ModelError for one that is no BERT classifier of this task."""
    teacher, outputs = ctx.fine_tuned_teacher(), max(1, len(ctx.task.labels))
    if not isinstance(teacher, BertForSequenceClassification) or teacher.config.num_labels != outputs:
        raise ModelError("the teacher is not fine-tuned on the task", where=ctx.task.name, found=type(teacher).__name__,
                         expected=f"a BERT classifier of {outputs} outputs",
                         fix="fine-tune it first: a raw BERT teaches nothing of a task")  # fmt: skip
    return teacher
