"""Dynamic masking for masked-LM training: DistilBERT's frequency-smoothed draw, and BERT's standard one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

from bench.data.batches import Batch, Encoded

IGNORED = -100
"""The label of a position that carries no masked-LM loss (torch's default ignore index)."""


def smoothed(encoded: Encoded, vocabulary: int, special: Collection[int], exponent: float = 0.7) -> np.ndarray:
    """The draw weight of every token id: max(count, 1) ** -exponent, zero for special tokens. [V] float64.

    Source: DistilBERT's official training script (methods: frequency smoothing of Lample & Conneau 2019).
    """
    counts = np.bincount(encoded.tokens, minlength=vocabulary)
    weights = np.maximum(counts, 1).astype(np.float64) ** -exponent
    weights[list(special)] = 0.0
    return weights


@dataclass(frozen=True, slots=True)
class Masking:
    """Corrupts a batch for masked-LM training and adds `labels` [B, L], the true ids at chosen positions.

    With `weights` (from `smoothed`), ceil(probability * real tokens) positions are drawn over the whole batch
    without replacement, as DistilBERT does; without, each non-special position is drawn on its own (BERT).
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
        eligible = real & ~np.isin(ids, list(self.special))
        chosen = self._over_batch(ids, real) if self.weights is not None else None
        if chosen is None:
            chosen = eligible & (rng_uniform(rng, ids.shape) < self.probability)
        else:
            chosen = self._draw(chosen, real, rng)
        labels = np.where(chosen, ids, IGNORED)
        fate = rng_uniform(rng, ids.shape)
        corrupted = np.where(chosen & (fate < 0.8), self.mask_id, ids)
        random_ids = rng.integers(0, self.vocabulary, ids.shape)
        corrupted = np.where(chosen & (fate >= 0.9), random_ids, corrupted)
        return {**batch, "input_ids": torch.from_numpy(corrupted), "labels": torch.from_numpy(labels)}

    def _over_batch(self, ids: np.ndarray, real: np.ndarray) -> np.ndarray:
        """The draw weight of every position, zero at pads. [B, L]"""
        assert self.weights is not None
        return np.where(real, self.weights[ids], 0.0)

    def _draw(self, weights: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count = min(int(np.ceil(self.probability * real.sum())), int((weights > 0).sum()))
        chosen = np.zeros(weights.size, dtype=bool)
        if count:
            share = weights.ravel() / weights.sum()
            chosen[rng.choice(weights.size, size=count, replace=False, p=share)] = True
        return chosen.reshape(weights.shape)


def rng_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape)
