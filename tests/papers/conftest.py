"""What the tests of recipes share: a tiny tokenizer and a stand-in for what a stage sees of the bench."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from commands import bench_run, folder  # noqa: F401  (fixtures)
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from bench.data.batches import Batches, Encoded, Transform, Vocabulary
from bench.data.batches import encode as encoded
from bench.data.rows import UNLABELLED, Texts
from bench.data.tasks import Task, get_task
from bench.models.load import Checkpoint
from bench.train.fit import FitLog, Loss, fit
from bench.train.predict import predict
from bench.train.recipe import View
from bench.train.settings import Group, Training, Windowing
from papers.distilbert.student import config

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = 60
"""Tokens of the tiny vocabulary, special ones included."""


def whole_words() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of 60 whole words, made here."""
    words = [*SPECIAL, *(f"w{i}" for i in range(WORDS - len(SPECIAL)))]
    raw = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return whole_words()


@dataclass
class FakeContext:
    """A stage's view of the bench, of which every request is written down; `trains` False only records a fit."""

    task: Task
    vocabulary: Vocabulary
    tokenizer: PreTrainedTokenizerFast
    folder: Path
    checkpoint: Checkpoint | None = None
    released: Checkpoint | None = None
    given: PreTrainedModel | None = None
    lender: nn.Module | None = None
    trains: bool = True
    scale: str = "smoke"
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    fitted: list[tuple[nn.Module, Loss, Batches, Training]] = field(default_factory=list)
    grouped: list[Sequence[Group]] = field(default_factory=list)
    logs: list[FitLog] = field(default_factory=list)

    def train_rows(self, max_length: int, windows: Windowing | None = None) -> Encoded:
        assert windows is None, "no test of spans works on these rows"
        self.asked.append(("train_rows", max_length))
        labels = np.arange(12) % max(2, len(self.task.labels))
        return self._examples(labels.astype(np.float32) if self.task.regression else labels)

    def train_texts(self) -> Texts:
        self.asked.append(("train_texts",))
        labels = self.train_rows(0).labels
        column = [" ".join(f"w{i + j}" for j in range(5)) for i in range(len(labels))]
        return Texts(tuple([column] * len(self.task.columns)), labels)

    def all_texts(self) -> Texts:
        """The labelled texts and as many without a label, of two words more."""
        self.asked.append(("all_texts",))
        given = self.train_texts()
        more = [" ".join(f"w{2 * i + j}" for j in range(7)) for i in range(len(given))]
        labels = np.concatenate([given.labels, np.full(len(given), UNLABELLED, given.labels.dtype)])
        return Texts(tuple([*column, *more] for column in given.columns), labels)

    def kept(self, name: str) -> Path:
        return self.folder / name

    def encode(self, texts: Texts, max_length: int, tokenizer: PreTrainedTokenizerBase | None = None) -> Encoded:
        self.asked.append(("encode", max_length))
        if tokenizer is not None:
            return encoded(texts, tokenizer, max_length)
        words = {f"w{i}": 5 + i for i in range(WORDS - 5)}
        rows = [[*[2, *(words[w] for w in text.split())][: max_length - 1], 3] for text in texts.columns[0]]
        return Encoded.from_lists(rows, [[0] * len(row) for row in rows], texts.labels)

    def teacher_logits(self, rows: Encoded | Texts, view: View | None = None) -> np.ndarray:
        self.asked.append(("teacher_logits", len(rows)))
        rows = encoded(rows, self.tokenizer, 24) if isinstance(rows, Texts) else rows
        teacher = self.fine_tuned_teacher()
        return predict(view.of(teacher) if view else teacher, rows, Accelerator(cpu=True))

    def lent(self) -> nn.Module:
        assert self.lender is not None
        return self.lender

    def sentence_pairs(self, max_tokens: int, max_length: int, short: float = 0.1) -> Encoded:
        self.asked.append(("sentence_pairs", max_tokens, max_length, short))
        return self._examples(np.arange(40) % 2)

    def corpus(self, max_tokens: int, max_length: int, min_length: int = 1) -> Encoded:
        self.asked.append(("corpus", max_tokens, max_length, min_length))
        return self._examples(np.empty(0, np.int64))

    def base(self) -> nn.Module:
        return self.teacher()

    def teacher(self) -> PreTrainedModel:
        assert self.given is not None
        return self.given

    def fine_tuned_teacher(self) -> PreTrainedModel:
        return self.teacher()

    def batches(self, rows: Encoded, training: Training, transform: Transform | None = None) -> Batches:
        return Batches(rows, training.batch_size, self.seed, training.batch_tokens, transform)

    def fit(
        self, model: nn.Module, loss: Loss, batches: Batches, training: Training, groups: Sequence[Group] = ()
    ) -> FitLog:
        self.fitted.append((model, loss, batches, training))
        self.grouped.append(groups)
        if self.trains:
            log = fit(model, loss, batches, training, Accelerator(cpu=True), groups=groups)
        else:
            log = FitLog(0, 0, 0.0, 0.0, 0.0, 0, "fp32", "eager")
        self.logs.append(log)
        return log

    def dev_score(self, model: nn.Module) -> float:
        raise AssertionError("no stage here looks at the dev set")

    @staticmethod
    def _examples(labels: np.ndarray) -> Encoded:
        """[CLS] words [SEP] of 8 to 14 tokens, in which a word is followed by the next one; 40 without labels."""
        rows = [[2, *range(5 + i % 30, 5 + i % 30 + 6 + i % 7), 3] for i in range(len(labels) or 40)]
        return Encoded.from_lists(rows, [[0] * len(row) for row in rows], labels)


@pytest.fixture
def context(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[..., FakeContext]:
    """Make a fake context; the task is RTE unless named."""

    def make(task: str = "rte", **fields: Any) -> FakeContext:
        return FakeContext(get_task(task), Vocabulary.of(tokenizer), tokenizer, tmp_path, **fields)

    return make


def scatter(model: nn.Module, seed: int) -> None:
    """Give every parameter its own random values, LayerNorms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


@pytest.fixture
def pair() -> Callable[..., tuple[DistilBertForMaskedLM, BertForMaskedLM]]:
    """Make a tiny DistilBERT and a BERT of twice its layers with nothing in common, in eval mode (no dropout)."""

    def make(layers: int = 4) -> tuple[DistilBertForMaskedLM, BertForMaskedLM]:
        shape = BertConfig(
            vocab_size=WORDS, num_hidden_layers=layers, hidden_size=16, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=24,
        )  # fmt: skip
        teacher, student = BertForMaskedLM(shape), DistilBertForMaskedLM(config(shape))
        scatter(teacher, 1)
        scatter(student, 2)
        return student.eval(), teacher.eval()

    return make
