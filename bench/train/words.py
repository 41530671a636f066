"""While a model trains on texts, its word table holds the words of those texts alone.

A word that never occurs has no gradient: AdamW only decays its vector. A table of all words is filled with zeros,
clipped and moved in every step nevertheless, and on a CPU a small encoder's training takes a good part of its time for
that. tests/benchmarks/training_throughput.py trains the same steps with the whole table, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.batches import Batches
from bench.train.optimizer import rate_and_decay
from bench.train.settings import Group, Training


class Occurring(nn.Embedding):
    """The rows of a table that belong to some words, read by the ids that they have in the whole one.

    `words` [R] rises. Raises IndexError in forward for a word that is not among them.
    """

    weight: nn.Parameter  # pyright: ignore[reportIncompatibleVariableOverride]
    place: Tensor
    """[V]: of each word, its row here; of one that is not here, none."""

    def __init__(self, whole: nn.Embedding, words: Tensor):
        place = torch.full((whole.num_embeddings,), len(words))
        place[words] = torch.arange(len(words))
        padding = None if whole.padding_idx is None else int(place[whole.padding_idx])
        super().__init__(len(words), whole.embedding_dim, padding, _weight=whole.weight.detach()[words])
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("rest", whole.weight.detach())  # the same memory: a checkpoint holds and brings back all
        self.whole, self.words = [whole], words  # in a list: the whole one is no part of the model now
        self.decay = 1.0
        """By what the vectors of all other words are multiplied in the end."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.place[input])

    @torch.no_grad()
    def handed_back(self) -> nn.Embedding:
        """The whole table with the rows from here."""
        (whole,) = self.whole
        whole.weight.mul_(self.decay)
        whole.weight[self.words] = self.weight
        return whole


@contextmanager
def only_those_of(batches: Batches, model: nn.Module, training: Training) -> Iterator[Occurring | None]:
    """Inside, the word table of `model` holds the words of these batches; afterwards all again.

    Yields what stands in the table's place. Does nothing, and yields None, where a word could come from elsewhere,
    where something else reads the table (tied weights), and with another optimiser: LAMB asks for the norm of the
    whole table.
    """
    whole = table(model) if training.optimizer == "adamw" else None
    words = batches.words() if whole is not None else None
    if whole is None or words is None:
        yield None
        return
    ids = torch.from_numpy(words)
    if whole.padding_idx is not None:
        ids = torch.cat((ids, torch.tensor([whole.padding_idx])))
    occurring = Occurring(whole, ids.unique())
    model.set_input_embeddings(occurring)  # pyright: ignore[reportCallIssue]
    try:
        yield occurring
    finally:
        model.set_input_embeddings(occurring.handed_back())  # pyright: ignore[reportCallIssue]


def table(model: nn.Module) -> nn.Embedding | None:
    """The table that a model looks its words up in, where nothing else reads its weights and it is trained."""
    try:
        found: Any = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    except (AttributeError, NotImplementedError):
        return None
    plain = type(found) is nn.Embedding and found.max_norm is None and not found._forward_hooks
    if not plain or not found.weight.requires_grad:
        return None
    readers = [name for name, weight in model.named_parameters(remove_duplicate=False) if weight is found.weight]
    return found if len(readers) == 1 else None


def decay(training: Training, group: Group | None, steps: int) -> float:
    """By what AdamW multiplies a vector without a gradient in all steps of a training."""
    rate, share = rate_and_decay(training, group)
    return math.prod(1 - training.lr_at(step, steps) * rate * share for step in range(steps))
