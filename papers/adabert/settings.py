"""Every choice of AdaBERT as frozen data.

Values are those of the paper (arXiv 2001.04246v2), as extracts of it and its authors' code give them; each field says
so, or that it is ours (README, section 3).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.train.augmentation.augment import Augmentation
from bench.train.mlm import HEADS, HeadTraining
from bench.train.recipe import EncoderFacts, Variant
from bench.train.settings import Settings, Training
from papers.adabert.losses import Weighing
from papers.adabert.names import MAX_CELLS

Heat = Annotated[float, Field(gt=0)]


class Student(Settings):
    """The sizes of a network; the search finds the rest."""

    hidden: int = Field(default=128, ge=2, le=100_000)
    """Width of every state."""
    max_cells: int = Field(default=MAX_CELLS, ge=1, le=MAX_CELLS)
    """K_max: the search chooses 1 to so many cells."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of embeddings, and before the classifiers; the released code's."""


class Architecture(Settings):
    """Where the structure of the network comes from."""

    origin: Literal["searched", "random", "lent", "file"] = "searched"
    """Searched on the task; drawn at random, as Table 3's control; of the run that the variant borrows from; a file.
    It belongs to the variant, but for `file`."""
    file: str = ""
    """A JSON file with `nodes` and `cells`, or the config.json of a network of this paper."""
    sha256: str = ""
    """What that file has to be, so that a run's settings say which structure it took."""


class Knowledge(Settings):
    """What is taken from the teacher, and how it is weighed against the labels (section 3.2)."""

    gamma: float = Field(default=0.8, ge=0, le=1)
    """Share of the distillation loss; the labels have the rest. At 0 the teacher is not asked what it says of a row; at
    1 labels only weigh the layers (`weights`)."""
    source: Literal["probes", "logits"] = "probes"
    """Probes on every layer, or the teacher's own answer alone (Table 4, Base-KD)."""
    temperature: float = Field(default=1.0, gt=0)
    """T of the softmax on both sides."""
    weights: Weighing = "batch"
    """Layers weighed by their probe's loss over the batch, or of each row (D4); even as in the released code."""


class Probing(Settings):
    """The teacher's probes: one set for all that learn from that teacher with the same rows before."""

    training: Training = Training(epochs=4, batch_size=32, lr=5e-3, weight_decay=0.0, warmup=0.1, precision="fp32")
    """Adam, the released code's values."""
    rows: int = Field(default=20_000, ge=1)
    """The first rows of the task, so many at most, are what they are trained on (D2): the states of all layers are kept
    on disk, 37 kB a row of BERT-base."""


class Search(Settings):
    """The search for a structure (section 3.3 and 3.4)."""

    beta: float = Field(default=4.0, ge=0)
    """Weight of the efficiency loss."""
    costs: Literal["computed", "released"] = "computed"
    """What an operation costs: from its own parameters and FLOPs, or the numbers in the released code."""
    temperature: tuple[Heat, Heat] = (1.0, 0.2)
    """Of the Gumbel softmax at the beginning and at the end; in between it falls exponentially, as in both codes."""
    steps: Literal["joint", "alternating"] = "joint"
    """Weights and structure move by the same step, as in the paper, or in turn, as in the released code."""
    gradient: Literal["sampled", "all"] = "all"
    """What the chances of the candidates learn from: the results of all of them, or that of the drawn one alone, which
    is many times cheaper and biased (D14)."""
    architecture_rate: float = Field(default=0.2, gt=0)
    """Rate of the structure's parameters as a share of the weights'; the released code's."""
    training: Training = Training(epochs=80, batch_size=128, lr=5e-4, weight_decay=3e-4, warmup=0.0,
                                  schedule="constant", clip=5.0)  # fmt: skip
    """80 epochs; Adam of the released code (D6)."""


class Retraining(Settings):
    """Training of the network that was found (section 4.1)."""

    start: Literal["inherited", "scratch"] = "inherited"
    """Whether it goes on with the weights that it had in the search."""
    training: Training = Training(epochs=20, batch_size=128, lr=1e-4, weight_decay=3e-4, warmup=0.1, clip=5.0)
    """How it is trained; ours (D7)."""


class Hyper(Settings):
    """All of AdaBERT's choices."""

    student: Student = Student()
    """Sizes of the network."""
    architecture: Architecture = Architecture()
    """Where its structure comes from."""
    probes: Probing = Probing()
    """How the teacher is read."""
    knowledge: Knowledge = Knowledge()
    """What it learns from the teacher."""
    head: HeadTraining = HeadTraining()
    """For a teacher without a masked-LM head, which has to guess words."""
    augmentation: Augmentation = Augmentation()
    """New rows made of the task's, by TinyBERT's procedure, as the paper has it."""
    search: Search = Search()
    """The search."""
    retrain: Retraining = Retraining()
    """Training of what was found."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Word pieces per example."""


def hyper(variant: Variant, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The paper's settings at full scale; its ratios to the encoder at hand, and declared budgets, elsewhere (D9)."""
    base = Hyper(head=HEADS[scale], max_length=64 if scale == "smoke" or task == "sst2" else 128)
    if scale == "small" and encoder is not None:
        base = base.changed(ratios(encoder.layers, encoder.hidden)).changed(SMALL)
    if scale == "smoke":
        base = base.changed(SMOKE)
    return base.changed(variant.changes)


def ratios(layers: int, hidden: int) -> dict[str, Any]:
    """The paper's ratios to a BERT of that many layers and width: a sixth as wide, at most two thirds as many cells."""
    return {"student.hidden": max(2, round(hidden / 6)), "student.max_cells": min(MAX_CELLS, math.ceil(layers * 2 / 3))}


SMALL: dict[str, Any] = {
    "augmentation.augmentation": 1,
    "search.training.epochs": 10, "search.training.batch_size": 32, "search.training.lr": 1e-3,
    "search.architecture_rate": 3.0,
    "retrain.training.epochs": 5, "retrain.training.batch_size": 32, "retrain.training.lr": 3e-4,
}  # fmt: skip
"""Two cores: few epochs of smaller batches, larger steps."""
SMOKE: dict[str, Any] = {
    "student.hidden": 64, "student.max_cells": 3, "augmentation.augmentation": 1, "probes.training.epochs": 2,
    "search.gradient": "sampled",
    "search.training.epochs": 2, "search.training.batch_size": 32, "search.training.lr": 2e-3,
    "search.architecture_rate": 5.0,
    "retrain.training.epochs": 2, "retrain.training.batch_size": 32, "retrain.training.lr": 1e-3,
}  # fmt: skip
"""A little network for the made-up language."""


def temperature(search: Search, share: float) -> float:
    """Of the Gumbel softmax when `share` of the search is done, in [0, 1]."""
    first, last = search.temperature
    return first * math.exp(math.log(last / first) * share)
