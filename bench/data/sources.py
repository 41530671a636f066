"""Where rows come from: the hub, a folder of parquet files, or the synthetic language, behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from bench.data import synthetic
from bench.data.folder import FolderSource
from bench.data.hub import HubSource
from bench.data.rows import Rows, check_labels, check_split, content_sha256
from bench.data.tasks import Task


class Source(Protocol):
    """Something that has the splits of tasks."""

    name: str

    def rows(self, task: Task, split: str) -> Rows:
        """The verified rows of a split. Raises DataError where there are none, or not what the task says."""
        ...


class SyntheticSource:
    """GLUE-shaped tasks in the little language of `bench.data.synthetic`; made on the spot, nothing is read."""

    name = "synthetic"

    def rows(self, task: Task, split: str) -> Rows:
        """The rows of a split; how many is the language's choice, not the official number."""
        check_split(task, split)
        texts, found = synthetic.rows(task.name, split)
        labels = np.asarray(found, dtype=np.float32 if task.regression else np.int64)
        assert len(texts) == len(task.columns), f"synthetic {task.name}: {len(texts)} text columns"
        assert all(len(column) == len(labels) > 0 for column in texts), f"synthetic {task.name}/{split}: lengths"
        answers = ()
        if task.spans:
            answers = tuple((text[start:end],) for text, (start, end) in zip(texts[1], found, strict=True))
        else:
            check_labels(labels, task, split, f"synthetic {task.name}/{split}")
        digest = content_sha256(texts, labels)
        return Rows(np.arange(len(labels)), texts, labels, self.name, synthetic.VERSION, digest, partial=False,
                    answers=answers)  # fmt: skip


def open_source(spec: str) -> Source:
    """The source that `--data` names: `hub`, `synthetic` or a folder. Raises DataError where that folder is missing."""
    if spec == "hub":
        return HubSource()
    if spec == "synthetic":
        return SyntheticSource()
    return FolderSource(Path(spec).expanduser())
