"""What a paper package offers: a frozen recipe, whose tuple of stages is the method's table of contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.data.batches import Batches, Encoded, Vocabulary
from bench.data.rows import Texts
from bench.data.tasks import Task
from bench.models.load import Checkpoint
from bench.train.fit import FitLog, Loss
from bench.train.settings import Settings, Training, Windowing

Need = Literal["task", "corpus"]


@dataclass(frozen=True, slots=True)
class State:
    """What travels from stage to stage: models by name (the last stage leaves "model") and small facts.

    A fact that maps splits to lists of numbers (layer0: [...]) becomes a measurement of that name in the record.
    """

    models: Mapping[str, PreTrainedModel] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> PreTrainedModel:
        """The model that the stages build."""
        return self.models["model"]


@dataclass(frozen=True, slots=True)
class TeacherFacts:
    """What a recipe may know of the pre-trained teacher before anything is loaded."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int
    lm_head: bool = False
    """Whether it comes with a masked-LM head, and not fine-tuned (such a one is loaded without)."""


class Context(Protocol):
    """All that a stage sees of the bench."""

    @property
    def task(self) -> Task: ...
    @property
    def scale(self) -> str: ...
    @property
    def seed(self) -> int:
        """The stage's seed: the run's, or 0 in a stage that all seeds share."""
        ...

    @property
    def device(self) -> torch.device: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def checkpoint(self) -> Checkpoint | None:
        """The pre-trained encoder given by the user, checked; None where the teacher makes its own (smoke)."""
        ...

    @property
    def released(self) -> Checkpoint | None:
        """The checkpoint that the authors released, checked, for a variant that starts from it."""
        ...

    def train_rows(self, max_length: int, windows: Windowing | None = None) -> Encoded:
        """The task's training rows, tokenised, at most the user's limit of them; `windows` for a task of spans."""
        ...

    def train_texts(self) -> Texts:
        """The same rows as text, for a stage that makes new ones of them."""
        ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The run's tokenizer, for a stage that works on words."""
        ...

    def kept(self, name: str) -> Path:
        """A folder of the cache for data that a stage makes and keeps by a key of its own."""
        ...

    def encode(self, texts: Texts, max_length: int) -> Encoded:
        """Rows of the task as text, tokenised as the training rows are."""
        ...

    def teacher_logits(self, rows: Encoded) -> np.ndarray:
        """The fine-tuned teacher's answers to `rows`, as `bench.train.predict` gives them, mapped into memory.

        Made once per teacher and rows, whatever runs ask for them.
        """
        ...

    def sentence_pairs(self, max_tokens: int, max_length: int, short: float = 0.1) -> Encoded:
        """Text for pre-training on pairs of sentence runs, of which half belong together; see `bench.data.pairs`."""
        ...

    def corpus(self, max_tokens: int, max_length: int, min_length: int = 1) -> Encoded:
        """Text for masked-LM training: pieces of `min_length` to `max_length` tokens, `max_tokens` in all."""
        ...

    def teacher(self) -> PreTrainedModel:
        """The pre-trained teacher: the user's encoder, or the one that the teacher's recipe made."""
        ...

    def fine_tuned_teacher(self) -> PreTrainedModel:
        """The teacher fine-tuned on this task with this seed, over its floor."""
        ...

    def fit(self, model: nn.Module, loss: Loss, batches: Batches, training: Training) -> FitLog:
        """Train with the one loop; checkpointed, resumed and logged by the bench."""
        ...

    def dev_score(self, model: nn.Module) -> float:
        """The task's primary metric on its first scored split; every use is counted and recorded."""
        ...


@dataclass(frozen=True, slots=True)
class Packing:
    """How a paper stores its finished model smaller than as floats."""

    write: Callable[[PreTrainedModel, Path], Mapping[str, int]]
    """(model, folder) -> bytes by split of `size_bytes`, the whole file's first; files end in .safetensors"""
    read: Callable[[Path], PreTrainedModel]
    """The model of a folder that `write` filled; it answers as the model that was written."""
    floats: Callable[[Path], PreTrainedModel]
    """The same weights in a plain model, whose linear layers a low-precision kernel can take over."""


StageFunction = Callable[[State, Any, Context], State]


@dataclass(frozen=True, slots=True)
class Stage:
    """A named step of a method.

    `uses` are the hyper-parameter fields that the stage sees (and that its cache key holds); a `task_free` stage
    is made once for all tasks and seeds; `needs` is the data it reads; `teacher` which teacher it asks for.
    """

    run: StageFunction
    uses: tuple[str, ...]
    task_free: bool = False
    needs: Need | None = "task"
    teacher: Literal["pretrained", "fine_tuned"] | None = None

    @property
    def name(self) -> str:
        return self.run.__name__  # pyright: ignore[reportFunctionMemberAccess]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one paper makes its variants."""

    name: str
    variants: Mapping[str, str]
    """name -> what it is, in one line; the first one is what `bench run` makes when no variant is named."""
    tasks: tuple[str, ...]
    hyper: Callable[[str, str, str, TeacherFacts | None], Settings]
    """(variant, task, scale, teacher) -> frozen hyper-parameters"""
    stages: Callable[[str, TeacherFacts | None], tuple[Stage, ...]]
    """(variant, teacher given or None) -> its stages"""
    smoke_tasks: tuple[str, ...]
    """The tasks of the main job on embedded data."""
    teacher: str | None = None
    """The paper whose model is the teacher; None for the reference itself."""
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    """variant -> the hyper-parameter that names its released checkpoint, a hub id or folder (tier `checkpoint`)"""
    check: Callable[[str, Any, TeacherFacts | None, Checkpoint | None], None] | None = None
    """(variant, hyper, teacher given or None, released checkpoint or None) -> raises what is wrong, before any run"""
    packing: Packing | None = None
    """Set where the finished model is also written, read back, scored and weighed as a smaller file"""
    default_teacher: tuple[str, str] | None = None
    """(hub id, revision) of the encoder used at full scale when none is given; the reference's only"""
    cased_teacher: tuple[str, str] | None = None
    """The same for tasks that take a cased vocabulary"""

    @property
    def main_variant(self) -> str:
        return next(iter(self.variants))
