"""What a paper package offers: a frozen recipe, whose variants are data and whose stages are plain functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from bench.core.errors import ModelError
from bench.data.batches import Batches, Encoded, Transform, Vocabulary
from bench.data.rows import Texts
from bench.data.tasks import Task
from bench.models.load import Checkpoint
from bench.train.fit import FitLog, Loss
from bench.train.settings import Group, Settings, Training, Windowing

Need = Literal["task", "corpus", "pairs", "lm_head"]
"""`pairs` is a corpus of several documents; `lm_head` a corpus, too, but only where the given encoder has no masked-LM
head."""
Asked = Literal["base", "pretrained", "fine_tuned", "lent"]
"""The finished model that a run starts from; its teacher before and after fine-tuning on the task; the finished model
of the run on another task that its variant borrows from."""


@dataclass(frozen=True, slots=True)
class State:
    """What travels from stage to stage: models by name (the last stage leaves "model") and small facts.

    A fact that maps splits to lists of numbers (layer0: [...]) becomes a measurement of that name in the record.
    """

    models: Mapping[str, nn.Module] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: PreTrainedTokenizerBase | None = None
    """Set by a student that reads text in its own way: later stages and the evaluation read with it."""

    @property
    def model(self) -> nn.Module:
        """The model that the stages build."""
        return self.models["model"]

    def having(self, model: nn.Module, **facts: Any) -> State:
        """The same with another model, and more facts."""
        return replace(self, models={**self.models, "model": model}, facts={**self.facts, **facts})


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What a recipe may know of the pre-trained encoder before anything is loaded."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int
    lm_head: bool = False
    """Whether it comes with a masked-LM head, and not fine-tuned (such a one is loaded without)."""
    positions: int = 512
    """Rows of its position table: the longest input in tokens."""
    types: int | None = 2
    """Rows of its token-type table; pairs of texts need two. None where it reads no token types."""
    kind: str = ""
    """Its architecture: transformers' `model_type`; empty of an encoder that the reference makes."""

    def expect(self, kind: str) -> None:
        """Refuse an encoder of another architecture than a method takes apart. Raises ModelError."""
        if self.kind not in ("", kind):
            raise ModelError("the teacher is of another architecture", found=f"model_type {self.kind}", expected=kind,
                             fix="give one, or choose a method that reads a teacher's answers alone")  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """What is read of a teacher in place of its logits."""

    of: Callable[[nn.Module], nn.Module]
    """(teacher) -> a module whose logits [B, D] it is; a function of the paper, whose code is part of what shaped it"""
    key: str
    """A name, and the hash of what else shapes it beside the teacher."""


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
        """The pre-trained encoder given by the user, checked; None where the reference makes its own (smoke)."""
        ...

    @property
    def released(self) -> Checkpoint | None:
        """The checkpoint that the authors released, checked, for a variant that starts from it."""
        ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The run's tokenizer: that of the encoder."""
        ...

    def train_rows(self, max_length: int, windows: Windowing | None = None) -> Encoded:
        """The labelled training rows, tokenised; `windows` for a task of spans."""
        ...

    def train_texts(self) -> Texts:
        """The labelled training rows as text: at most as many as the user gives labels for."""
        ...

    def all_texts(self) -> Texts:
        """All in-domain text: training rows with a label or without (UNLABELLED), then the user's unlabelled file."""
        ...

    def encode(self, texts: Texts, max_length: int, tokenizer: PreTrainedTokenizerBase | None = None) -> Encoded:
        """Rows of the task as text, tokenised as the training rows are, or by a tokenizer of the student's own."""
        ...

    def kept(self, name: str) -> Path:
        """A folder of the cache for data that a stage makes and keeps by a key of its own."""
        ...

    def teacher_logits(self, rows: Encoded | Texts, view: View | None = None) -> np.ndarray:
        """The fine-tuned teacher's answers, as `bench.train.predict` gives them, in the order of the rows.

        Of a `view` it is what that reads of the teacher.

        `Texts` the teacher reads with its own tokenizer, so that the student may read them otherwise; `Encoded` are
        read as they are. Made once per teacher and rows, whatever runs ask for them; mapped into memory. [N, C]
        """
        ...

    def sentence_pairs(self, max_tokens: int, max_length: int, short: float = 0.1) -> Encoded:
        """Text for pre-training on pairs of sentence runs, of which half belong together; see `bench.data.pairs`."""
        ...

    def corpus(self, max_tokens: int, max_length: int, min_length: int = 1) -> Encoded:
        """Text for masked-LM training: pieces of `min_length` to `max_length` tokens, `max_tokens` in all."""
        ...

    def base(self) -> nn.Module:
        """The finished model that the run starts from: the fine-tuned reference, or the one before it in a stack."""
        ...

    def teacher(self) -> nn.Module:
        """The pre-trained teacher: the user's encoder, or the one that its recipe made."""
        ...

    def fine_tuned_teacher(self) -> nn.Module:
        """The teacher fine-tuned on this task with this seed, over its floor."""
        ...

    def lent(self) -> nn.Module:
        """The finished model of the run, on another task, that the variant borrows from."""
        ...

    def batches(self, rows: Encoded, training: Training, transform: Transform | None = None) -> Batches:
        """Training batches of `rows`, as large as `training` says, shuffled by the stage's seed."""
        ...

    def fit(
        self, model: nn.Module, loss: Loss, batches: Batches, training: Training, groups: Sequence[Group] = ()
    ) -> FitLog:
        """Train with the one loop; checkpointed, resumed and logged by the bench. `groups` have rates of their own."""
        ...

    def dev_score(self, model: nn.Module) -> float:
        """The task's primary metric on its first scored split; every use is counted and recorded."""
        ...


StageFunction = Callable[[State, Any, Context], State]
"""(state, settings, context): the settings hold only the fields that the stage says it uses."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A named step of a method.

    `uses` are the hyper-parameter fields that the stage sees (and that its cache key holds); a `task_free` stage
    is made once for all tasks and seeds; `needs` is the data it reads; `asks` which models of other runs.
    """

    run: StageFunction
    uses: tuple[str, ...]
    task_free: bool = False
    needs: Need | None = "task"
    asks: tuple[Asked, ...] = ()
    encoder: Literal["given", "made"] | None = None
    """A stage that is only there where the user gave an encoder, or only where the reference makes its own."""
    when: Callable[[Any], bool] | None = None
    """(hyper) -> whether the stage is there; always where none is set."""
    keeps_states: bool = False
    """Whether the cache keeps a state of each of the teacher's layers for each training row: [N, K, H] on disk."""

    @property
    def name(self) -> str:
        return self.run.__name__  # pyright: ignore[reportFunctionMemberAccess]


@dataclass(frozen=True, slots=True)
class Variant:
    """One model that a paper builds, as data: nothing is read out of its name."""

    says: str
    """What it is, in one line."""
    stages: tuple[Stage, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Dotted settings -> values in which it differs from the paper's main model."""
    released: str = ""
    """The setting that names the checkpoint that its authors released, a hub id or folder (tier `checkpoint`)."""
    taught_by: str = ""
    """The variant of the same paper that it learns from, and is compared with, in place of the recipe's `teachers`."""
    borrows: tuple[str, str] | None = None
    """(variant of the same paper, task): the run of the same seed whose finished model its stages may ask for."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to use a further file of a model, scored and compared with the model itself."""

    name: str
    read: Callable[[Path], nn.Module]
    """(folder that `write` filled) -> a module that answers"""
    int8: bool = False
    """Whether its linear layers run by the processor's 8-bit kernels, and are timed."""


@dataclass(frozen=True, slots=True)
class Further:
    """A further file that is written of each finished model, beside its weights."""

    write: Callable[[nn.Module, Path], Mapping[str, int]]
    """(model, folder) -> bytes by split of `size_bytes`, the whole file's first; files end in .safetensors"""
    forms: tuple[Form, ...]
    usage: str = ""
    """Lines of Python that load the file of a folder named FOLDER, for a model card."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one paper makes its variants."""

    name: str
    variants: Mapping[str, Variant]
    """The first one is what `bench run` makes when no variant is named."""
    tasks: tuple[str, ...]
    hyper: Callable[[Variant, str, str, EncoderFacts | None], Settings]
    """(variant, task, scale, encoder given or None) -> frozen hyper-parameters, the variant's changes among them"""
    smoke_tasks: tuple[str, ...]
    """The tasks of the main job on embedded data."""
    base: str | None = None
    """The paper whose finished model a run starts from. Such a recipe can follow another one in a stack."""
    teachers: tuple[str, ...] = ()
    """The papers whose main model a run learns from; the first one is what it is compared with."""
    check: Callable[[Variant, Any, EncoderFacts | None, Checkpoint | None], None] | None = None
    """(variant, hyper, encoder or None, checkpoint or None) -> raises what is wrong, before any run.

    The encoder is the one given, or the one that the reference `makes`; none for the reference itself where it makes
    its own. The checkpoint is what the variant itself is loaded from: the authors' released one, or for the reference
    the encoder given. Not called for what stands on another variant in a stack."""
    makes: Callable[[Any], EncoderFacts | None] | None = None
    """(hyper) -> what the encoder will be that the reference makes itself, where none is given; the reference's only"""
    further: Further | None = None
    """Set where the finished model is also written, read back, scored and weighed as another file."""
    default_encoder: tuple[str, str] | None = None
    """(hub id, revision) of the encoder used at full scale when none is given; the reference's only"""
    cased_encoder: tuple[str, str] | None = None
    """The same for tasks that take a cased vocabulary"""

    @property
    def main_variant(self) -> str:
        return next(iter(self.variants))

    @property
    def is_reference(self) -> bool:
        """Whether it is the model that others start or learn from: it needs no other."""
        return self.base is None and not self.teachers
