"""Tiny data sets in the columns, splits and layout of the real ones on the hub: the cards, and parquet files.

Every row says its answer in words that a tiny model can tell apart, so that a teacher passes its floor.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from bench.data.tasks import TASKS, Task
from rehearsal.hub import Repository

SIGNS: Mapping[str, float] = {"good": 1.0, "bad": -1.0, "plain": 0.0}
"""Words that tell an answer, and what they count."""
OTHERS = ("the", "a", "it", "was", "film", "and", "we", "saw", "this", "day", "of", "in", "what", "where", "is", "on")
NAMES: Mapping[str, str] = {
    "Anna": "PER", "Bert": "PER", "Acme": "ORG", "Globex": "ORG", "Paris": "LOC", "Oslo": "LOC", "Latin": "MISC",
    "Easter": "MISC",
}  # fmt: skip
"""Names with the kind of what they name; a second one of a kind that follows the first belongs to it."""

TRAIN, HARDER, SCORED, OTHER = 16, 64, 32, 4
"""Rows of a training split (of a task that takes more to learn, or where guessing scores high), of one that is scored,
and of one that nobody reads."""


def counts(task: Task) -> dict[str, int]:
    """Rows by split: what the official numbers are here."""
    train = HARDER if task.spans or task.tags or task.name == "mrpc" else TRAIN
    return {split: train if split == task.train else SCORED if split in task.scored else OTHER for split in task.splits}


def table(task: Task, split: str) -> pa.Table:
    """The rows of a split."""
    chance, number = random.Random(f"{task.name} {split}"), counts(task)[split]
    columns: dict[str, Any] = {}
    if task.spans:
        columns = _answers(number, chance)
    elif task.tags:
        columns = _tags(task, number, chance)
    else:
        labels = _labels(task, number)
        for name in task.columns:
            columns[name] = [_sentence(task, label, chance) for label in labels]
        hidden = not task.labelled(split)
        columns["label"] = [-1 if hidden else label for label in labels]
        if task.regression:
            columns["label"] = pa.array(columns["label"], pa.float32())
    if not (task.spans or task.name == "imdb" or task.tags):
        columns["idx"] = list(range(number))
    return pa.table(columns)


def _labels(task: Task, number: int) -> list[float]:
    """Answers in turn; of MRPC, whose score takes the positive class for granted, as many as there are really."""
    if task.regression:
        return [float(i % 6) for i in range(number)]
    if task.name == "mrpc":
        return [int(i % 3 > 0) for i in range(number)]
    return [i % len(task.labels) for i in range(number)]


def _sentence(task: Task, label: float, chance: random.Random) -> str:
    """Six words of which five tell the answer, in any order."""
    if task.regression:
        told = ["good"] * int(label) + ["bad"] * (5 - int(label))
    else:
        told = [(["bad", "good"] if len(task.labels) == 2 else ["bad", "plain", "good"])[int(label)]] * 5
    words = [*told, "film"]
    chance.shuffle(words)
    return " ".join(words)


def _answers(number: int, chance: random.Random) -> dict[str, list[Any]]:
    """Questions whose answer is the one name in the context."""
    found: dict[str, list[Any]] = {name: [] for name in ("id", "title", "context", "question", "answers")}
    for i in range(number):
        words = [chance.choice(OTHERS) for _ in range(9)]
        name = chance.choice(list(NAMES))
        words[chance.randrange(9)] = name
        context = " ".join(words)
        row = {"id": str(i), "title": "a", "context": context, "question": "where is it",
               "answers": {"text": [name], "answer_start": [context.index(name)]}}  # fmt: skip
        for key, value in row.items():
            found[key].append(value)
    return found


def _tags(task: Task, number: int, chance: random.Random) -> dict[str, list[Any]]:
    """Sentences of names and other words."""
    found: dict[str, list[Any]] = {name: [] for name in ("id", "tokens", "pos_tags", "chunk_tags", "ner_tags")}
    for i in range(number):
        words = [chance.choice(list(NAMES)) if j % 2 else chance.choice(OTHERS) for j in range(8)]
        tags = [task.labels.index(f"B-{NAMES[word]}") if word in NAMES else 0 for word in words]
        for key, value in {"id": str(i), "tokens": words, "pos_tags": [0] * 8, "chunk_tags": [0] * 8,
                           "ner_tags": tags}.items():  # fmt: skip
            found[key].append(value)
    return found


def _features(task: Task, found: pa.Table) -> list[dict[str, Any]]:
    """The columns as the card of a data set tells them."""
    kinds = {pa.string(): "string", pa.int64(): "int64", pa.float32(): "float32"}
    names = {"class_label": {"names": {str(i): name for i, name in enumerate(task.labels)}}}
    features: list[dict[str, Any]] = []
    for name in found.column_names:
        if name == task.answer_column and task.spans:
            inner = [{"name": "text", "dtype": "string"}, {"name": "answer_start", "dtype": "int32"}]
            features.append({"name": name, "sequence": inner})
        elif pa.types.is_list(found.schema.field(name).type):
            held = "string" if name == "tokens" else names if name == task.answer_column else "int64"
            features.append({"name": name, "sequence": held})
        elif name == task.answer_column and task.labels:
            features.append({"name": name, "dtype": names})
        else:
            features.append({"name": name, "dtype": kinds[found.schema.field(name).type]})
    return features


def data_sets() -> list[Repository]:
    """The repositories of all tasks: a card that names files by configuration, and a parquet file a split."""
    of: dict[tuple[str, str], list[Task]] = {}
    for task in TASKS.values():
        of.setdefault((task.hub[0], task.hub[2]), []).append(task)
    return [_repository(name, revision, tasks) for (name, revision), tasks in of.items()]


def _repository(name: str, revision: str, tasks: Sequence[Task]) -> Repository:
    files: dict[str, bytes] = {}
    configs, infos = [], []
    for task in tasks:
        configuration = task.hub[1]
        folder = "data" if configuration == "default" else configuration
        splits = {split: table(task, split) for split in counts(task)}
        for split, found in splits.items():
            sink = io.BytesIO()
            pq.write_table(found, sink)
            files[f"{folder}/{split}-00000-of-00001.parquet"] = sink.getvalue()
        paths = [{"split": split, "path": f"{folder}/{split}-*"} for split in splits]
        configs.append({"config_name": configuration, "data_files": paths})
        features = _features(task, next(iter(splits.values())))
        sizes = [{"name": split, "num_bytes": found.nbytes, "num_examples": found.num_rows}
                 for split, found in splits.items()]  # fmt: skip
        infos.append({"config_name": configuration, "features": features, "splits": sizes,
                      "download_size": 1, "dataset_size": 1})  # fmt: skip
    card = yaml.safe_dump({"dataset_info": infos, "configs": configs}, sort_keys=False)
    return Repository("dataset", name, revision, {"README.md": f"---\n{card}---\n".encode(), **files})
