"""Batches: text is tokenised once into flat arrays; order and padding are pure functions of (seed, epoch)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.errors import DataError
from bench.data.rows import Rows, Texts

Batch = dict[str, Tensor]
"""`input_ids, attention_mask, token_type_ids` [B, L] int64; `example_id` [B]; `labels` [B], of spans [B, 2], of tags
and masked words [B, L]. A recipe adds `teacher_logits` [B, C], and `NAME_at` [P], see `bench.data.positions`."""

BUCKET = 4
"""Width of a length bin in tokens (DistilBERT's grouped sampler uses the same step)."""
GRAIN, LENGTHS = 8, 16
"""Of batches of few shapes: most lengths are multiples of the first, and there are at most so many."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The ids that batches and masking need of a tokenizer; `size` counts all of its tokens."""

    size: int
    pad: int
    unknown: int
    cls: int
    sep: int
    mask: int
    special: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """Read a tokenizer. Raises DataError when it lacks one of BERT's five special tokens."""
        names = ("pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
        ids = [getattr(tokenizer, name) for name in names]
        if None in ids:
            missing = ", ".join(name.removesuffix("_id") for name, i in zip(names, ids, strict=True) if i is None)
            raise DataError("the tokenizer lacks special tokens", found=f"no {missing}", expected="BERT's five",
                            fix="use the tokenizer of a BERT")  # fmt: skip
        return cls(len(tokenizer), *ids, special=frozenset(tokenizer.all_special_ids))


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokenised examples as flat arrays: example i is tokens[offsets[i]:offsets[i + 1]]."""

    tokens: np.ndarray
    """int32 [total]"""
    segments: np.ndarray
    """uint8 [total]: the token types"""
    offsets: np.ndarray
    """int64 [N + 1]"""
    labels: np.ndarray
    """int64 or float32 [N], or [N, ...] of spans and tags; empty for a corpus"""
    ids: np.ndarray
    """int64 [N]: the example's position in its split"""
    pad: int = 0
    """The id that fills up the shorter rows of a batch."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def sha256(self) -> str:
        """A hash of what a model reads: tokens, token types and where examples begin; not of labels or ids."""
        total = hashlib.sha256()
        for array in (self.tokens, self.segments, self.offsets):
            total.update(f"{array.dtype.str} {len(array)}\n".encode() + array.tobytes())
        return total.hexdigest()

    @classmethod
    def from_lists(
        cls, tokens: list[list[int]], segments: list[list[int]], labels: np.ndarray, pad: int = 0
    ) -> Encoded:
        lengths = np.fromiter((len(row) for row in tokens), dtype=np.int64, count=len(tokens))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        flat = np.fromiter((t for row in tokens for t in row), dtype=np.int32, count=int(offsets[-1]))
        types = np.fromiter((s for row in segments for s in row), dtype=np.uint8, count=int(offsets[-1]))
        return cls(flat, types, offsets, labels, np.arange(len(tokens)), pad)

    @classmethod
    def joined(cls, parts: Sequence[Encoded], labels: np.ndarray, pad: int = 0) -> Encoded:
        """Examples one after another, with the labels of all of them."""
        lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
        flat = np.concatenate([np.empty(0, np.int32), *(part.tokens for part in parts)])
        types = np.concatenate([np.empty(0, np.uint8), *(part.segments for part in parts)])
        return cls(flat, types, np.cumsum(lengths), labels, np.arange(len(lengths) - 1), pad)

    def between(self, start: int, stop: int) -> Encoded:
        """The examples from `start` up to `stop`, with the ids that they had."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        labels = self.labels[start:stop] if len(self.labels) else self.labels
        return Encoded(self.tokens[first:last], self.segments[first:last], self.offsets[start : stop + 1] - first,
                       labels, self.ids[start:stop], self.pad)  # fmt: skip


AT_ONCE = 65_536
"""Texts that the tokenizer is given at a time: its lists take far more room than the flat arrays made of them."""


def encode(rows: Rows | Texts, tokenizer: Any, max_length: int) -> Encoded:
    """Tokenise the rows of a task; a pair is cut longest first to `max_length` pieces."""
    assert rows.labels.ndim == 1, "spans and tags are read by modules of their own"
    texts = [list(column) for column in rows.columns]
    parts: list[Encoded] = []
    for start in range(0, len(rows.labels), AT_ONCE):
        out = tokenizer(
            *(column[start : start + AT_ONCE] for column in texts),
            truncation="longest_first" if len(texts) > 1 else True, max_length=max_length,
            return_attention_mask=False, return_token_type_ids=True,
        )  # fmt: skip
        parts.append(Encoded.from_lists(out["input_ids"], out["token_type_ids"], np.empty(0)))
    return Encoded.joined(parts, rows.labels, tokenizer.pad_token_id)


def pad(encoded: Encoded, indices: np.ndarray, allowed: tuple[int, ...] = ()) -> Batch:
    """The chosen examples as tensors, padded to the longest of them, or to the next length of those allowed."""
    lengths = encoded.offsets[indices + 1] - encoded.offsets[indices]
    columns = np.arange(int(_rounded(lengths, allowed).max()))
    mask = columns[None, :] < lengths[:, None]
    source = np.where(mask, encoded.offsets[indices][:, None] + columns[None, :], 0)
    batch = {
        "input_ids": torch.from_numpy(np.where(mask, encoded.tokens[source], encoded.pad).astype(np.int64)),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "token_type_ids": torch.from_numpy(np.where(mask, encoded.segments[source], 0).astype(np.int64)),
        "example_id": torch.from_numpy(encoded.ids[indices]),
    }
    if len(encoded.labels):
        batch["labels"] = torch.from_numpy(encoded.labels[indices])
    return batch


def _rounded(lengths: np.ndarray, allowed: tuple[int, ...]) -> np.ndarray:
    """Each length, or the next one of those allowed, which rise."""
    return np.array(allowed)[np.searchsorted(allowed, lengths)] if allowed else lengths


Transform = Callable[[Batch, np.random.Generator], Batch]


@dataclass(frozen=True, slots=True)
class InTurn:
    """A transform that applies several in turn, with one generator."""

    transforms: tuple[Transform, ...]

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        for transform in self.transforms:
            batch = transform(batch, rng)
        return batch


@dataclass(frozen=True, slots=True)
class WithLogits:
    """Adds `teacher_logits` [B, C] to a batch: the rows of `logits` [N, C] that its examples have, by `example_id`."""

    logits: np.ndarray

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return {**batch, "teacher_logits": torch.from_numpy(self.logits[batch["example_id"].numpy()])}


@dataclass(frozen=True, slots=True)
class Batches:
    """Length-bucketed training batches.

    `size` counts examples; with `tokens` set, a batch holds as many examples of similar length as fit that many
    padded tokens. `transform` (masking, for example) is applied to each whole batch with its own generator, so a
    batch is the same however many processes share it and wherever a run resumes.
    """

    encoded: Encoded
    size: int
    seed: int
    tokens: int | None = None
    transform: Transform | None = None
    bucket: bool = True
    allowed: tuple[int, ...] = ()
    """The lengths that batches may have, rising; any length where none is named."""

    def __post_init__(self) -> None:
        assert len(self.encoded) > 0, "no examples to train on"
        assert self.size > 0

    def of_few_shapes(self) -> Batches:
        """The same examples in batches of at most 16 lengths: multiples of 8, and that of the longest example."""
        longest = int(self.encoded.lengths.max())
        grain = GRAIN * -(-longest // (GRAIN * LENGTHS))
        return replace(self, allowed=(*range(grain, longest, grain), longest))

    def words(self) -> np.ndarray | None:
        """The ids that batches may hold, rising; None where the transform may bring others."""
        same = self.transform is None or isinstance(self.transform, WithLogits)
        return np.unique(np.append(self.encoded.tokens, self.encoded.pad)) if same else None

    def order(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch as arrays of example positions: every example once, shuffled, alike in length.

        Examples are shuffled, sorted by length bin (stable, so a bin stays shuffled), cut into batches and the
        batches shuffled. Leftovers of a bin fill up with neighbours of the next one.
        """
        rng = np.random.default_rng([self.seed, epoch, 0])
        order = rng.permutation(len(self.encoded))
        if self.bucket:
            lengths = self.encoded.lengths[order]
            bins = _rounded(lengths, self.allowed) if self.allowed else lengths // BUCKET
            order = order[np.argsort(bins, kind="stable")]
        batches = list(self._cut(order))
        return [batches[i] for i in rng.permutation(len(batches))] if self.bucket else batches

    def _cut(self, order: np.ndarray) -> Iterator[np.ndarray]:
        if self.tokens is None:
            for start in range(0, len(order), self.size):
                yield order[start : start + self.size]
            return
        lengths, start, longest = _rounded(self.encoded.lengths, self.allowed), 0, 0
        for stop, index in enumerate(order):
            longest = max(longest, int(lengths[index]))
            if stop > start and longest * (stop + 1 - start) > self.tokens:
                yield order[start:stop]
                start, longest = stop, int(lengths[index])
        yield order[start:]

    def batch(self, epoch: int, position: int, indices: np.ndarray) -> Batch:
        """The batch at a position of an epoch, a pure function of (seed, epoch, position)."""
        batch = pad(self.encoded, indices, self.allowed)
        if self.transform is not None:
            batch = self.transform(batch, np.random.default_rng([self.seed, epoch, 1, position]))
        return batch


def in_order(encoded: Encoded, size: int, tokens: int | None = None) -> Iterator[Batch]:
    """All examples once, sorted by length (longest first, so memory peaks at once), for evaluation.

    A batch has `size` examples, or, where `tokens` is given, as many as fit that many padded tokens.
    """
    order = np.argsort(-encoded.lengths, kind="stable")
    start = 0
    while start < len(order):
        count = size if tokens is None else max(1, tokens // int(encoded.lengths[order[start]]))
        yield pad(encoded, order[start : start + count])
        start += count
