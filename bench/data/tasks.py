"""The task table: one frozen row per task says columns, label names, splits and metrics.

Label names are in the order of the Hugging Face data sets, so a label id means the same here and there.
Splits and row counts are the official ones. The GLUE test splits carry no public labels (-1), except MRPC's, whose
labels are not to be scored: published test numbers come from the GLUE server.
A task of spans (squad) has no labels but answers, which are parts of its second column; one of tags (conll2003) has a
label for every word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np

from bench.core.errors import DataError, SpecError
from bench.core.spec import GLUE as GLUE  # re-exported: recipes name their tasks by it

_GLUE = ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c")
_IMDB = ("stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31")
_SQUAD = ("rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f")
_CONLL = ("lhoestq/conll2003", "19edcb426bfd625c275c17b9a99b2239243f4377")
"""Parquet files of the official data set, whose own repository is a script that `datasets` no longer runs."""
Kind = Literal["label", "score", "span", "tags"]
"""What a model answers: one of some labels, a number, a part of a text, or a tag for every word of it."""
SCORE_RANGE = (0.0, 5.0)
"""Lowest and highest label of a regression task (the STS-B annotation scale)."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task; `splits` are the official row counts, `scored` the evaluation splits whose labels are public."""

    name: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    splits: Mapping[str, int] = field(hash=False)
    scored: tuple[str, ...]
    metrics: tuple[str, ...]
    primary: str
    train: str = "train"
    """The training split; empty for a diagnostic set, which is only predicted."""
    hub: tuple[str, str, str] = field(default=("", "", ""))
    """(hub id, configuration, pinned revision)"""
    margin: float = 0.05
    """How far above the majority class's primary score a fine-tuned teacher has to be (ours), as a fraction."""
    spans: bool = False
    """Whether an answer is a part of the second column; `labels` then names the two outputs per token."""
    tags: bool = False
    """Whether every word has one of the labels, the first of which stands for no entity."""
    cased: bool = False
    """Whether it takes a vocabulary with capitals: names are told by them."""

    @property
    def kind(self) -> Kind:
        return "span" if self.spans else "tags" if self.tags else "label" if self.labels else "score"

    @property
    def regression(self) -> bool:
        return not self.labels

    @property
    def answer_column(self) -> str:
        """What the Hugging Face data set calls the column of the right answers."""
        return "answers" if self.spans else "ner_tags" if self.tags else "label"

    @property
    def outputs(self) -> int:
        """Width of the classifier: one per label, one score, or a span's start and end for every token."""
        return max(1, len(self.labels))

    def labelled(self, split: str) -> bool:
        """Whether every row of the split must carry a label: it is trained on or scored."""
        return split == self.train or split in self.scored


SINGLE = ("sentence",)
PAIR = ("sentence1", "sentence2")
NLI = ("premise", "hypothesis")
NLI_LABELS = ("entailment", "neutral", "contradiction")


def _glue(name: str, columns: tuple[str, ...], labels: tuple[str, ...], rows: tuple[int, int, int],
          metrics: tuple[str, ...], margin: float = 0.05) -> Task:  # fmt: skip
    """A GLUE task with train, validation and test; its primary metric is the first one."""
    splits: Mapping[str, int] = MappingProxyType({"train": rows[0], "validation": rows[1], "test": rows[2]})
    return Task(
        name, columns, labels, splits, ("validation",), metrics, metrics[0],
        hub=(_GLUE[0], name, _GLUE[1]), margin=margin,
    )  # fmt: skip


_ROWS = (
    _glue("cola", SINGLE, ("unacceptable", "acceptable"), (8551, 1043, 1063), ("matthews", "accuracy")),
    _glue("sst2", SINGLE, ("negative", "positive"), (67349, 872, 1821), ("accuracy",)),
    # All-positive predictions already reach F1 0.812 on the validation split: a wide margin would stop good teachers.
    _glue("mrpc", PAIR, ("not_equivalent", "equivalent"), (3668, 408, 1725), ("f1", "accuracy"), margin=0.005),
    _glue("stsb", PAIR, (), (5749, 1500, 1379), ("pearson", "spearman"), margin=0.2),
    _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), (363846, 40430, 390965),
          ("accuracy", "f1")),
    Task(
        "mnli", NLI, NLI_LABELS,
        MappingProxyType({
            "train": 392702, "validation_matched": 9815, "validation_mismatched": 9832,
            "test_matched": 9796, "test_mismatched": 9847,
        }),
        ("validation_matched", "validation_mismatched"), ("accuracy",), "accuracy",
        hub=(_GLUE[0], "mnli", _GLUE[1]),
    ),
    _glue("qnli", ("question", "sentence"), ("entailment", "not_entailment"), (104743, 5463, 5463), ("accuracy",)),
    # 277 rows and 2490 to learn from: small encoders are honestly only a few points above the majority class.
    _glue("rte", PAIR, ("entailment", "not_entailment"), (2490, 277, 3000), ("accuracy",), margin=0.01),
    # Built so that its validation split misleads: published BERT models score under the majority class (0.563).
    _glue("wnli", PAIR, ("not_entailment", "entailment"), (635, 71, 146), ("accuracy",), margin=-0.25),
    Task(
        "ax", NLI, NLI_LABELS, MappingProxyType({"test": 1104}), (), ("matthews",), "matthews",
        train="", hub=(_GLUE[0], "ax", _GLUE[1]),
    ),
    Task(
        "imdb", ("text",), ("neg", "pos"), MappingProxyType({"train": 25000, "test": 25000, "unsupervised": 50000}),
        ("test",), ("accuracy",), "accuracy", hub=(_IMDB[0], "plain_text", _IMDB[1]),
    ),
    Task(
        "squad", ("question", "context"), ("start", "end"), MappingProxyType({"train": 87599, "validation": 10570}),
        ("validation",), ("f1", "exact_match"), "f1", hub=(_SQUAD[0], "plain_text", _SQUAD[1]), margin=0.2, spans=True,
    ),
    Task(
        "conll2003", ("tokens",),
        ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"),
        MappingProxyType({"train": 14041, "validation": 3250, "test": 3453}), ("validation",), ("f1",), "f1",
        hub=(_CONLL[0], "default", _CONLL[1]), margin=0.2, tags=True, cased=True,
    ),
)  # fmt: skip

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ROWS})
"""All tasks by name. `ax` is diagnostic: models fine-tuned on mnli predict it, and its labels are not public."""


def get_task(name: str) -> Task:
    """The task of that name. Raises SpecError with the names it could have been."""
    if name not in TASKS:
        raise SpecError("unknown task", found=repr(name), expected="one of " + ", ".join(TASKS))
    return TASKS[name]


def check_classes(task: Task, split: str, labels: np.ndarray, where: object) -> None:
    """Raises DataError where all rows of a split [N, ...] have one answer: nothing can be learned or told from it."""
    if task.spans or len(labels) == 0:
        return
    if task.tags:
        if not (labels > 0).any():
            raise DataError("no row has an entity", where=f"{where}, {task.name} {split}", found="one class, O",
                            expected="two or more", fix=_MORE_CLASSES)  # fmt: skip
    elif (labels == labels[0]).all():
        what = "score" if task.regression else "class"
        name = labels[0] if task.regression else f"{labels[0]} {task.labels[int(labels[0])]}"
        raise DataError(f"all rows have one {what}", where=f"{where}, {task.name} {split}", expected="two or more",
                        found=f"{len(labels)} of {name}", fix=_MORE_CLASSES)  # fmt: skip


_MORE_CLASSES = "give rows of several classes; the first rows of a sorted file have one"


def floor(task: Task, labels: np.ndarray) -> float:
    """The lowest primary score that a fine-tuned teacher may have on these labels [N]: majority class plus a margin.

    The margin is at most half of what is left up to 1, so that rows of nearly one class leave something to reach.
    Raises DataError where there are no labels.
    """
    if len(labels) == 0:
        raise DataError("no labels to take a floor from", where=task.name, expected="at least one row")
    if task.kind in ("span", "tags") or task.primary in ("matthews", "pearson", "spearman"):
        constant = 0.0  # a constant correlates with nothing, one place or tag for all answers next to nothing
    elif task.primary == "f1":
        positive = float(np.mean(labels == 1))
        constant = 2 * positive / (1 + positive)  # recall 1, precision = share of positives
    else:
        constant = float(np.bincount(labels).max() / len(labels))
    return constant + min(task.margin, (1.0 - constant) / 2)
