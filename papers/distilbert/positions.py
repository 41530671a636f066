"""Which positions of a batch DistilBERT's losses read, and how often a word is masked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

from bench.data.batches import Encoded
from bench.data.positions import flat


def smoothed(encoded: Encoded, vocabulary: int, special: Collection[int], exponent: float = 0.7) -> np.ndarray:
    """The draw weight of every token id: max(count, 1) ** -exponent, zero for special tokens. [V] float64.

    Source: the official DistilBERT training script (after XLM, Lample & Conneau 2019, arXiv 1901.07291v1).
    """
    counts = np.bincount(encoded.tokens, minlength=vocabulary)
    weights = np.maximum(counts, 1).astype(np.float64) ** -exponent
    weights[list(special)] = 0.0
    return weights


@dataclass(frozen=True, slots=True)
class Attended:
    """Adds to a batch the positions of its tokens, `attended_at`, and a share of them drawn at random, `drawn_at`.

    With `masked` those are drawn from the positions of `masked_at`. A share of 1 draws nothing: there is no `drawn_at`.
    """

    share: float = 1.0
    masked: bool = False

    def __call__(self, batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        at = flat(batch["attention_mask"].numpy())
        if self.share == 1.0:
            return {**batch, "attended_at": at}
        of = (batch["masked_at"] if self.masked else at).numpy()
        drawn = rng.choice(of, size=ceil(self.share * len(of)), replace=False)
        return {**batch, "attended_at": at, "drawn_at": torch.from_numpy(np.sort(drawn))}
