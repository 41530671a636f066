"""What a stage sees of the bench: the one implementation of `bench.train.recipe.Context`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from bench.core.errors import SpecError
from bench.core.paths import home
from bench.core.spec import digest
from bench.data.batches import Batches, Encoded, Transform, Vocabulary, encode
from bench.data.rows import Texts, content_sha256
from bench.data.tasks import Task
from bench.models.load import Checkpoint
from bench.run import logits
from bench.run.codehash import code_hash, module_hash
from bench.run.inputs import Reading
from bench.run.plan import Job, StagePlan
from bench.train.checkpoint import Checkpointer
from bench.train.fit import FitLog, Loss, fit
from bench.train.predict import predict
from bench.train.progress import Bars, silent
from bench.train.recipe import Asked, View
from bench.train.settings import Group, Training, Windowing
from bench.train.tracking import Run, watched

Ask = Callable[[Asked], tuple[nn.Module, Path]]
"""Which model a stage asks for -> the model, and the folder of the tokenizer that it reads with."""


class StageContext:
    """One stage's view; it also collects what the stage trained and how often it looked at the dev set."""

    def __init__(
        self, job: Job, plan: StagePlan, *, accelerator: Accelerator, tokenizer_folder: Path, progress_folder: Path,
        ask: Ask, bars: Bars,
    ):  # fmt: skip
        self.logs: list[FitLog] = []
        self._fits = 0
        self.dev_looks = 0
        self.corpus_tokens: int | None = None
        self.teacher_logits_from: Literal["made", "cache"] | None = None
        self._job, self._plan, self._inputs = job, plan, job.inputs
        self._accelerator, self._ask, self._bars = accelerator, ask, bars
        self._tokenizer_folder, self._progress_folder = tokenizer_folder, progress_folder

    @property
    def task(self) -> Task:
        return self._job.task

    @property
    def scale(self) -> str:
        return self._job.spec.scale

    @property
    def seed(self) -> int:
        return self._plan.seed

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self._job.encoder

    @property
    def released(self) -> Checkpoint | None:
        return self._job.released

    @property
    def device(self) -> torch.device:
        return self._accelerator.device

    @property
    def label(self) -> str:
        """What is going on, for a progress bar and an error."""
        spec = self._job.spec
        return f"{spec.variant} {spec.task} s{spec.seed} {self._plan.stage.name}"

    @property
    def vocabulary(self) -> Vocabulary:
        return self._inputs.vocabulary(self._tokenizer_folder)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._inputs.tokenizer(self._tokenizer_folder)

    def train_rows(self, max_length: int, windows: Windowing | None = None) -> Encoded:
        return self._inputs.encoded(self.task, self.task.train, Reading(self._tokenizer_folder, max_length, windows))

    def train_texts(self) -> Texts:
        rows = self._inputs.used(self.task, self.task.train)
        return Texts(rows.columns, rows.labels, rows.answers)

    def all_texts(self) -> Texts:
        return self._inputs.all_texts(self.task)

    def kept(self, name: str) -> Path:
        return home() / name

    def encode(self, texts: Texts, max_length: int, tokenizer: PreTrainedTokenizerBase | None = None) -> Encoded:
        return encode(texts, tokenizer or self.tokenizer, max_length)

    def teacher_logits(self, rows: Encoded | Texts, view: View | None = None) -> np.ndarray:
        """Kept by teacher and content of the rows; `logits` says for the record whether they were there."""
        teacher = self._job.teachers[0]
        if isinstance(rows, Texts):
            content = [content_sha256(rows.columns, np.empty(0)), teacher.reading.max_length]
        else:
            content = [rows.sha256]
        if view is not None:
            content += [view.key, code_hash(view.of)]
        key = digest([teacher.key, module_hash("bench.train.predict"), *content])

        def make() -> np.ndarray:
            model, folder = self._ask("fine_tuned")
            encoded = rows
            if isinstance(encoded, Texts):
                encoded = encode(encoded, self._inputs.tokenizer(folder), teacher.reading.max_length)
            return predict(view.of(model) if view else model, encoded, self._accelerator)

        found, made = logits.kept(key, len(rows), make, self._accelerator)
        self.teacher_logits_from = "made" if made else "cache"
        return found

    def sentence_pairs(self, max_tokens: int, max_length: int, short: float = 0.1) -> Encoded:
        self._need_corpus()
        return self._counted(self._inputs.sentence_pairs(self._tokenizer_folder, max_tokens, max_length, short))

    def corpus(self, max_tokens: int, max_length: int, min_length: int = 1) -> Encoded:
        self._need_corpus()
        return self._counted(self._inputs.corpus(self._tokenizer_folder, max_tokens, max_length, min_length))

    def _counted(self, corpus: Encoded) -> Encoded:
        self.corpus_tokens = (self.corpus_tokens or 0) + len(corpus.tokens)
        return corpus

    def _need_corpus(self) -> None:
        if self._inputs.corpus_identity is None:
            raise SpecError("a stage needs a corpus and there is none", where=self.label,
                            fix="add --corpus FILE_OR_FOLDER")  # fmt: skip

    def base(self) -> nn.Module:
        return self._ask("base")[0]

    def teacher(self) -> nn.Module:
        return self._ask("pretrained")[0]

    def fine_tuned_teacher(self) -> nn.Module:
        return self._ask("fine_tuned")[0]

    def lent(self) -> nn.Module:
        return self._ask("lent")[0]

    def batches(self, rows: Encoded, training: Training, transform: Transform | None = None) -> Batches:
        return Batches(rows, training.batch_size, self.seed, tokens=training.batch_tokens, transform=transform)

    def fit(
        self, model: nn.Module, loss: Loss, batches: Batches, training: Training, groups: Sequence[Group] = ()
    ) -> FitLog:
        """Each fit of a stage has its own checkpoint folder, numbered in order; one that fails keeps its number."""
        folder = self._progress_folder / f"fit-{self._fits}"
        checkpointer = Checkpointer(folder, self._inputs.request.checkpoint_minutes * 60.0)
        bars = self._bars(self.label) if self._accelerator.is_main_process else silent
        run = self._tracked(training)
        self._fits += 1
        with watched(run, checkpointer, bars) as (checkpointer, progress):
            log = fit(model, loss, batches, training, self._accelerator, groups=groups, checkpointer=checkpointer,
                      progress=progress)  # fmt: skip
        self.logs.append(log)
        return log

    def _tracked(self, training: Training) -> Run | None:
        """The tracker's run for the next fit, where one is asked for; one process speaks for all."""
        if self._inputs.tracking is None or not self._accelerator.is_main_process:
            return None
        stage, spec = self._plan.stage, self._job.spec
        settings = {name: getattr(self._job.hyper, name) for name in stage.uses}
        said = {"run": spec.as_dict(), "stage": stage.name, "fit": self._fits, "training": training}
        return self._inputs.tracking.run(f"{spec}/{stage.name}-{self._fits}", said | {"settings": settings})

    def dev_score(self, model: nn.Module) -> float:
        self.dev_looks += 1
        split, reading = self.task.scored[0], replace(self._job.reading, tokenizer_folder=self._tokenizer_folder)
        found = predict(model, self._inputs.encoded(self.task, split, reading), self._accelerator)
        said = self._inputs.said(self.task, split, reading, found)
        score = self._inputs.scores(self.task, split, said)[self.task.primary]
        return float("nan") if score is None else score
