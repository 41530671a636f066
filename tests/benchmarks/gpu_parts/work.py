"""What `gpu.py` works on: models with random weights, made-up rows, and how steps are timed."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from bench.data.batches import Batches, Encoded
from bench.train import meter
from bench.train.fit import FitLog, fit
from bench.train.progress import Advance
from bench.train.settings import Training
from bench.train.step import Loss


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    words: int
    base: dict[str, int]
    """The shape of BERT-base."""
    small: dict[str, int]
    """The shape of an encoder of 22.7 M parameters."""
    base_length: int
    steps: tuple[int, int, int]
    """Optimiser steps of a timed training: of BERT-base, of the small encoder, of distillation by the fewest tokens."""
    look: int
    """Steps between two looks at its losses, at most: a look empties the queue of the device."""
    equal_steps: int
    tokens: tuple[int, ...]
    """Padded tokens of a batch of distillation."""
    rows: int
    """Examples that are answered."""
    matmul: int
    shapes: tuple[str, ...]
    """Variants that are measured."""


FULL = Size(
    30_522,
    {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    128, (96, 320, 128), 32, 200, (4096, 16_384, 65_536), 20_000, 8192,
    ("distilbert", "tinybert-4", "tinybert-6", "mobilebert", "bilstm"),
)  # fmt: skip
TINY = Size(
    300,
    {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    16, (8, 8, 8), 4, 6, (64, 128), 100, 64, (),
)  # fmt: skip


class Work:
    """The device, and models and rows for it."""

    def __init__(self, size: Size):
        self.size, self.accelerator = size, Accelerator()
        self.device = self.accelerator.device
        self.gpu = self.device.type == "cuda"
        self.name = torch.cuda.get_device_name(self.device) if self.gpu else "cpu"
        self.engines = ("eager", "graph") if self.gpu else ("eager",)
        self.least_s = 15.0 if self.gpu else 0.0

    def tidy(self) -> None:
        """Nothing of a section is left for the next one."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def classifier(self, shape: dict[str, int], dropout: float = 0.1) -> nn.Module:
        torch.manual_seed(0)
        with self.device:
            return BertForSequenceClassification(self._config(shape, dropout))

    def masked_lm(self, shape: dict[str, int]) -> BertForMaskedLM:
        torch.manual_seed(0)
        with self.device:
            return BertForMaskedLM(self._config(shape, 0.1))

    def _config(self, shape: dict[str, int], dropout: float) -> BertConfig:
        return BertConfig(vocab_size=self.size.words, hidden_dropout_prob=dropout,
                          attention_probs_dropout_prob=dropout, **shape)  # pyright: ignore[reportArgumentType]  # fmt: skip

    def rows(self, count: int, shortest: int, longest: int) -> Encoded:
        """Random tokens, lengths evenly between two, labels of two classes."""
        rng = np.random.default_rng(0)
        lengths = rng.integers(shortest, longest + 1, count)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        tokens = rng.integers(5, self.size.words, offsets[-1]).astype(np.int32)
        return Encoded(tokens, np.zeros(len(tokens), np.uint8), offsets, rng.integers(0, 2, count), np.arange(count))

    def timed(
        self, model: nn.Module, loss: Loss, batches: Batches, training: Training, steps: int
    ) -> tuple[float, FitLog]:
        """Steps per second in about the second half of a training, and what the training says.

        At a look the device has done all that was sent before, so that a clock of the host is right there.
        """
        marks: dict[int, float] = {}
        every, done = min(self.size.look, steps // 2), 0

        @contextmanager
        def noted(total: int, before: int) -> Iterator[Advance]:
            def advance(steps: int, text: str) -> None:
                nonlocal done
                done += steps
                if done % every == 0:
                    marks[done] = time.perf_counter()

            yield advance

        before = dict(meter.EVERY)
        meter.EVERY[self.device.type] = every
        try:
            log = fit(model, loss, batches, training, self.accelerator, progress=noted)
        finally:
            meter.EVERY.clear()
            meter.EVERY.update(before)
        last = max(marks)
        first = min(marks, key=lambda done: abs(done - last // 2))
        return (last - first) / (marks[last] - marks[first]), log
