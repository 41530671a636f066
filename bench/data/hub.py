"""The Hugging Face hub as a source, at pinned revisions, through `datasets` (which caches what it fetched)."""

from __future__ import annotations

import numpy as np

from bench.core.errors import DataError
from bench.data.rows import Rows, check_count, check_names, check_split, content_sha256, read_columns
from bench.data.tasks import TASKS, Task

OFFLINE = (
    "connect once to fetch it (without HF_HUB_OFFLINE and HF_DATASETS_OFFLINE), "
    "or use --data FOLDER with <task>/<split>.parquet, or --data synthetic"
)


class HubSource:
    """Reads splits at the task table's repositories and revisions."""

    name = "hub"

    def rows(self, task: Task, split: str) -> Rows:
        """The verified rows of a split.

        Raises DataError where the hub cannot be reached and nothing is cached, or where the data is not the task's.
        """
        # Takes over a second to import: only a run that reads the hub pays for it.
        import datasets
        from datasets.exceptions import DatasetsError

        check_split(task, split)
        repository, configuration, revision = task.hub
        where = f"{repository} {configuration}/{split}@{revision[:8]}"
        try:
            data = datasets.load_dataset(repository, configuration, split=split, revision=revision)
            assert isinstance(data, datasets.Dataset), type(data)
            table = data.with_format("arrow")[:]
        # Offline it is a ConnectionError (an OSError), a ValueError where only other configurations are cached,
        # and a DatasetsError where a download is broken.
        except (OSError, ValueError, DatasetsError) as error:
            raise DataError("the hub has not given the data", where=where, found=str(error), fix=OFFLINE) from error
        found = read_columns(table, task, split, where)
        feature = data.features.get(task.answer_column)
        names = getattr(getattr(feature, "feature", feature), "names", None)  # a list's are those of what it holds
        if names is not None:
            check_names(names, task, where)
        check_count(len(found), task, split, where, fix="the pinned revision has changed: report it")
        digest = content_sha256((*found.columns, ["\n".join(accepted) for accepted in found.answers]), found.labels)
        return Rows(np.arange(len(found)), found.columns, found.labels, f"hub:{repository}", revision, digest,
                    partial=False, answers=found.answers)  # fmt: skip

    def identity(self) -> str:
        """The pinned revisions of everything that it can give."""
        return "hub:" + ",".join(sorted({f"{task.hub[0]}@{task.hub[2]}" for task in TASKS.values()}))
