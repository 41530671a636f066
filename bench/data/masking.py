"""Dynamic masking for masked-LM training: each position on its own, or a draw over the batch by words' weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bench.data.batches import Batch
from bench.data.positions import flat

IGNORED = -100
"""The label of a position that carries no masked-LM loss (torch's default ignore index)."""


@dataclass(frozen=True, slots=True)
class Masking:
    """Corrupts a batch for masked-LM training and adds `labels` [B, L], the true ids at chosen positions.

    Where those are says `masked_at`, see `bench.data.positions`.

    With `weights` [V], of how often each word is drawn, ceil(probability * real tokens) positions are drawn over the
    whole batch without replacement, as DistilBERT does; without, each non-special position is drawn on its own (BERT).
    80% of the chosen become [MASK], 10% stay, 10% become a random id.
    """

    mask_id: int
    vocabulary: int
    special: frozenset[int]
    probability: float = 0.15
    weights: np.ndarray | None = None

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        ids = batch["input_ids"].numpy()
        real = batch["attention_mask"].numpy().astype(bool)
        chosen = self._each(ids, real, rng) if self.weights is None else self._over_batch(ids, real, rng)
        fate = rng.random(ids.shape)
        corrupted = np.where(chosen & (fate < 0.8), self.mask_id, ids)
        corrupted = np.where(chosen & (fate >= 0.9), rng.integers(0, self.vocabulary, ids.shape), corrupted)
        labels = np.where(chosen, ids, IGNORED)
        return {**batch, "input_ids": torch.from_numpy(corrupted), "labels": torch.from_numpy(labels),
                "masked_at": flat(chosen)}  # fmt: skip

    def _each(self, ids: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        eligible = real & ~np.isin(ids, list(self.special))
        return eligible & (rng.random(ids.shape) < self.probability)

    def _over_batch(self, ids: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        assert self.weights is not None
        weights = np.where(real, self.weights[ids], 0.0).ravel()
        count = min(int(np.ceil(self.probability * real.sum())), int((weights > 0).sum()))
        chosen = np.zeros(weights.size, dtype=bool)
        if count:
            chosen[rng.choice(weights.size, size=count, replace=False, p=weights / weights.sum())] = True
        return chosen.reshape(ids.shape)
