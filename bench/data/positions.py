"""Which positions of a batch a loss reads, as flat numbers: found where the batch is made, not where it is used.

A mask [B, L] used as an index makes a device say how many positions it holds, and everything waits for the answer.
Positions are made on the host: `NAME_at` [P] int64 in a batch holds row * L + column. Filled up to a size that many
batches share, they stand beside `NAME_weight` [P] float32: 1 of a place, 0 of what fills up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

AT, WEIGHT = "_at", "_weight"
SIZES = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
"""Positions are filled up to one of these parts of a batch's positions: few, so that most batches of a length agree."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of a batch; `weight` is there where some of them only fill up."""

    at: Tensor
    """[P] int64"""
    weight: Tensor | None = None
    """[P] float32"""

    def __len__(self) -> int:
        return len(self.at)

    @property
    def count(self) -> Tensor | int:
        """How many there are, without those that fill up."""
        return len(self.at) if self.weight is None else self.weight.sum()

    def of(self, values: Tensor) -> Tensor:
        """What stands at the positions. [B, L, ...] -> [P, ...]"""
        return values.flatten(0, 1).index_select(0, self.at)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of one value a place, [P]; 0 without a place."""
        if self.weight is not None:
            return (values * self.weight).sum() / self.weight.sum().clamp(min=1.0)
        return values.mean() if len(values) else values.sum()


def positions(batch: Mapping[str, Tensor], name: str, mask: Tensor | None = None) -> Positions:
    """The positions called `name` of a batch, or else, where a mask [B, L] is given, those that it says."""
    if name + AT in batch or mask is None:
        return Positions(batch[name + AT], batch.get(name + WEIGHT))
    return Positions(mask.flatten().nonzero().squeeze(1))


def flat(mask: np.ndarray) -> Tensor:
    """The positions where a mask [B, L] of the host is true. [P]"""
    return torch.from_numpy(np.flatnonzero(mask))


def filled(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same batch with all its positions filled up, so that batches of one size have lists of few lengths."""
    out = dict(batch)
    for name, at in batch.items():
        if name.endswith(AT):
            positions = batch["input_ids"].numel()
            room = next(size for part in SIZES if (size := ceil(part * positions)) >= len(at)) - len(at)
            out[name] = torch.cat([at, at.new_zeros(room)])
            out[name.removesuffix(AT) + WEIGHT] = torch.cat([torch.ones(len(at)), torch.zeros(room)])
    return out


def of_rows(batch: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """These rows of a batch; positions go with the row that they stand in. `rows` are different ones, rising."""
    count, length = batch["input_ids"].shape
    number = torch.full((count,), -1)
    number[rows] = torch.arange(len(rows))
    out: dict[str, Tensor] = {}
    for name, tensor in batch.items():
        if name.endswith(AT):
            row = number[tensor // length]
            out[name] = (row * length + tensor % length)[row >= 0]
        else:
            out[name] = tensor[rows]
    return out
