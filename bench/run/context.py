"""What a stage sees of the bench: the one implementation of `bench.train.recipe.Context`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.core.errors import SpecError
from bench.core.spec import digest
from bench.data.batches import Batches, Encoded, Vocabulary, encode
from bench.data.rows import Texts
from bench.data.tasks import Task
from bench.models.load import Checkpoint
from bench.run import logits
from bench.run.cache import home
from bench.run.inputs import Inputs, Reading
from bench.train.checkpoint import Checkpointer
from bench.train.fit import FitLog, Loss, fit
from bench.train.predict import predict
from bench.train.progress import bar
from bench.train.settings import Training, Windowing


class StageContext:
    """One stage's view; it also collects what the stage trained and how often it looked at the dev set."""

    def __init__(
        self, *, task: Task, scale: str, seed: int, inputs: Inputs, accelerator: Accelerator, reading: Reading,
        checkpoint: Checkpoint | None, released: Checkpoint | None, progress_folder: Path,
        teachers: dict[str, Callable[[], PreTrainedModel]], teacher_key: str, label: str,
    ):  # fmt: skip
        self.task, self.scale, self.seed = task, scale, seed
        self.checkpoint, self.released = checkpoint, released
        self.logs: list[FitLog] = []
        self.dev_looks = 0
        self.teacher_logits_from: Literal["made", "cache"] | None = None
        self._teacher_key = teacher_key
        self._inputs, self._accelerator, self._reading = inputs, accelerator, reading
        self._tokenizer_folder = reading.tokenizer_folder
        self._progress_folder, self._teachers, self._label = progress_folder, teachers, label

    @property
    def device(self) -> torch.device:
        return self._accelerator.device

    @property
    def vocabulary(self) -> Vocabulary:
        return self._inputs.vocabulary(self._tokenizer_folder)

    def train_rows(self, max_length: int, windows: Windowing | None = None) -> Encoded:
        return self._inputs.encoded(self.task, self.task.train, Reading(self._tokenizer_folder, max_length, windows))

    def train_texts(self) -> Texts:
        rows = self._inputs.used(self.task, self.task.train)
        return Texts(rows.texts, rows.labels, rows.answers)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._inputs.tokenizer(self._tokenizer_folder)

    def kept(self, name: str) -> Path:
        return home() / name

    def encode(self, texts: Texts, max_length: int) -> Encoded:
        return encode(texts, self.tokenizer, max_length)

    def teacher_logits(self, rows: Encoded) -> np.ndarray:
        """Kept by teacher and content of the rows; `logits` says for the record whether they were there."""
        key = digest([self._teacher_key, rows.sha256])
        made = logits.missing(key, self._accelerator)
        self.teacher_logits_from = "made" if made else "cache"
        if made:
            answers_of = predict(self.fine_tuned_teacher(), rows, self.vocabulary.pad, self._accelerator)
            logits.write(key, answers_of, self._accelerator)
        return logits.read(key, len(rows))

    def _need_corpus(self) -> None:
        if self._inputs.corpus_identity is None:
            raise SpecError("a stage needs a corpus and there is none", where=self._label,
                            fix="add --corpus FILE_OR_FOLDER")  # fmt: skip

    def sentence_pairs(self, max_tokens: int, max_length: int, short: float = 0.1) -> Encoded:
        self._need_corpus()
        return self._inputs.sentence_pairs(self._tokenizer_folder, max_tokens, max_length, short)

    def corpus(self, max_tokens: int, max_length: int, min_length: int = 1) -> Encoded:
        self._need_corpus()
        return self._inputs.corpus(self._tokenizer_folder, max_tokens, max_length, min_length)

    def teacher(self) -> PreTrainedModel:
        return self._teachers["pretrained"]()

    def fine_tuned_teacher(self) -> PreTrainedModel:
        return self._teachers["fine_tuned"]()

    def fit(self, model: nn.Module, loss: Loss, batches: Batches, training: Training) -> FitLog:
        """Each fit of a stage has its own checkpoint folder, numbered in order."""
        folder = self._progress_folder / f"fit-{len(self.logs)}"
        minutes = self._inputs.request.checkpoint_minutes
        log = fit(
            model, loss, batches, training, self._accelerator,
            checkpointer=Checkpointer(folder, minutes * 60.0),
            progress=bar(self._label, self._accelerator.is_main_process),
        )  # fmt: skip
        self.logs.append(log)
        return log

    def dev_score(self, model: nn.Module) -> float:
        self.dev_looks += 1
        split = self.task.scored[0]
        encoded = self._inputs.encoded(self.task, split, self._reading)
        found = predict(model, encoded, self.vocabulary.pad, self._accelerator)
        score = self._inputs.scores(self.task, split, self._reading, found)[self.task.primary]
        return float("nan") if score is None else score
