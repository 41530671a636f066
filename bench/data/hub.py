"""The Hugging Face hub as a source, at pinned revisions, through `datasets` (which caches what it fetched)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from bench.core import hub
from bench.core.errors import DataError
from bench.data.rows import Rows, check_count, check_names, check_split, content_sha256, read_columns
from bench.data.tasks import Task

FOLDER = "use --data FOLDER with <task>/<split>.parquet, or --data synthetic"
COMMIT = re.compile("[0-9a-f]{40}")


class HubSource:
    """Reads splits at the task table's repositories and revisions."""

    name = "hub"

    def rows(self, task: Task, split: str) -> Rows:
        """The verified rows of a split.

        Raises DataError where the hub does not give them and they are not cached, where the cache holds another
        revision, or where the data is not the task's.
        """
        check_split(task, split)
        repository, configuration, revision = task.hub
        where = f"{repository} {configuration}/{split}@{revision[:8]}"
        data = _fetched(task, split, where)
        table = data.with_format("arrow")[:]
        found = read_columns(table, task, split, where)
        feature = data.features.get(task.answer_column)
        names = getattr(getattr(feature, "feature", feature), "names", None)  # a list's are those of what it holds
        if names is not None:
            check_names(names, task, where)
        check_count(len(found), task, split, where, fix="the pinned revision has changed: report it")
        digest = content_sha256((*found.columns, ["\n".join(accepted) for accepted in found.answers]), found.labels)
        return Rows(np.arange(len(found)), found.columns, found.labels, f"hub:{repository}", revision, digest,
                    partial=False, answers=found.answers)  # fmt: skip


def _fetched(task: Task, split: str, where: str) -> Any:
    """The split as the library has it: from its cache, or fetched now. Raises DataError as `HubSource.rows`."""
    # Takes over a second to import: only a run that reads the hub pays for it.
    import datasets

    datasets.disable_progress_bars()
    repository, configuration, revision = task.hub
    try:
        data = hub.patiently(lambda: datasets.load_dataset(repository, configuration, split=split, revision=revision))
    except Exception as error:  # the library raises its own classes, and those of the libraries under it
        told = hub.trouble(error, f"datasets/{repository}", revision)
        raise DataError("the hub has not given the data", where=where, found=told.found,
                        fix=f"{told.fix}; or {FOLDER}" if told.fix else FOLDER) from error  # fmt: skip
    assert isinstance(data, datasets.Dataset), type(data)
    # Where the hub does not answer, the library takes what it cached last, of whatever revision that is. A folder of
    # its cache has the name of the revision.
    found = [Path(file["filename"]).parent.name for file in data.cache_files]
    if COMMIT.fullmatch(revision) and set(found) - {revision}:
        raise DataError("the cached data is of another revision", where=where, found=found[0], expected=revision,
                        fix=f"connect to fetch it; or {FOLDER}")  # fmt: skip
    return data
