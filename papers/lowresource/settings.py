"""Every choice of low-resource distillation as frozen data.

No text of the paper was at hand. Each field says whether its value is from a later description of the paper (Galke et
al. 2022), the first author's blog series of 2021, another method's paper, or ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from bench.train.recipe import EncoderFacts, Variant
from bench.train.settings import Settings, Training
from papers.lowresource.augment import Augmentation
from papers.lowresource.student import BiLstmConfig, CbowFfnConfig, CnnConfig


class Student(Settings):
    """What all students have."""

    vocabulary: int = Field(default=5000, ge=6, le=10_000_000)
    """Rows of the table of word vectors, special tokens included: the blog's, of its MLP."""

    def config(self) -> BiLstmConfig | CbowFfnConfig | CnnConfig:
        """The sizes as the model takes them."""
        raise NotImplementedError


class BiLstm(Student):
    """The BiLSTM: sizes ours, in all the 0.66 million parameters that the blog prints."""

    kind: Literal["bilstm"] = "bilstm"
    """Which student it is."""
    embedding: int = Field(default=80, ge=1, le=100_000)
    """Width of a word vector; ours."""
    hidden: int = Field(default=80, ge=1, le=100_000)
    """Width of one direction; ours."""
    layers: int = Field(default=2, ge=1, le=1_000)
    """Layers; ours."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of embeddings, between layers and before the classifier; ours."""

    def config(self) -> BiLstmConfig:
        return BiLstmConfig(vocab_size=self.vocabulary, embedding_size=self.embedding, hidden_size=self.hidden,
                            num_hidden_layers=self.layers, dropout=self.dropout)  # fmt: skip


class CbowFfn(Student):
    """The average of word vectors with a feed-forward layer: the blog's MLP of about 80 thousand parameters."""

    kind: Literal["cbow-ffn"] = "cbow-ffn"
    """Which student it is."""
    embedding: int = Field(default=16, ge=1, le=100_000)
    """Width of a word vector; the blog's."""
    hidden: int = Field(default=16, ge=1, le=100_000)
    """Width of the one hidden layer; ours, as the blog gives the number of layers alone."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Before the classifier; ours."""

    def config(self) -> CbowFfnConfig:
        return CbowFfnConfig(vocab_size=self.vocabulary, embedding_size=self.embedding, hidden_size=self.hidden,
                             dropout=self.dropout)  # fmt: skip


class Cnn(Student):
    """The convolutional network, which lecture notes alone name: Kim's (arXiv 1408.5882v2, section 3.1)."""

    kind: Literal["cnn"] = "cnn"
    """Which student it is."""
    embedding: int = Field(default=80, ge=1, le=100_000)
    """Width of a word vector; ours, as in the BiLSTM."""
    widths: tuple[int, ...] = Field(default=(3, 4, 5), min_length=1)
    """Words that a filter sees; Kim's."""
    filters: int = Field(default=100, ge=1, le=100_000)
    """Filters of each width; Kim's."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Before the classifier; Kim's."""

    def config(self) -> CnnConfig:
        return CnnConfig(vocab_size=self.vocabulary, embedding_size=self.embedding, widths=self.widths,
                         filters=self.filters, dropout=self.dropout)  # fmt: skip


class Hyper(Settings):
    """All choices of low-resource distillation."""

    student: BiLstm | CbowFfn | Cnn = Field(default=BiLstm(), discriminator="kind")
    """Which student, and its sizes."""
    max_length: int = Field(default=128, ge=2, le=100_000)
    """Words of an example that are read; ours."""
    target: Literal["logits", "labels"] = "logits"
    """What is learnt: the teacher's logits of all text, as Galke et al. 2022 describe the paper, or the labels of the
    rows that have one. It belongs to the variant (its stages ask for a teacher or not) and is no switch for --set."""
    augment: Augmentation = Augmentation()
    """New text made of the text at hand, for the teacher to answer."""
    training: Training = Training(epochs=20, batch_size=64, lr=1e-3, weight_decay=0.0, warmup=0.0, precision="fp32")
    """Adam with a rate that falls to zero; all values ours. Small models gain nothing from bf16."""
    least_steps: int = Field(default=2000, ge=1, le=100_000_000)
    """Where the epochs are fewer steps than this, for few rows, the rows are passed more often; ours."""


_EPOCHS = {"small": 5, "smoke": 3}
_ROUNDS = {"small": 4, "smoke": 2}
_STEPS = {"smoke": 300}


def hyper(variant: Variant, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The settings of the full scale, fewer passes elsewhere (README, D9), and what the variant changes."""
    base = Hyper()
    changes: Mapping[str, object] = {
        "max_length": 256 if task == "imdb" else base.max_length,
        "training.epochs": _EPOCHS.get(scale, base.training.epochs),
        "augment.augmentation": _ROUNDS.get(scale, base.augment.augmentation),
        "least_steps": _STEPS.get(scale, base.least_steps),
    }
    return base.changed({**changes, **variant.changes})


def passes(training: Training, batches: int, least_steps: int) -> Training:
    """The same training with as many epochs of `batches` batches as `least_steps` take, where it has fewer."""
    steps = math.ceil(batches / training.accumulation)
    return training.model_copy(update={"epochs": max(training.epochs, math.ceil(least_steps / steps))})
