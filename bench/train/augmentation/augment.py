"""Data augmentation by words that fit: each training text again, up to N times, with some of its words replaced.

A word of one piece is replaced by what the pre-trained teacher's masked LM guesses in its place, any other by words
with similar vectors. What a row becomes depends on its own texts and the seed alone, not on the order or number of
rows. Source: Jiao et al. 2020, arXiv 1909.10351v5, Algorithm 1; the authors' data_augmentation.py where it is silent.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from bench.core.errors import SpecError
from bench.data.rows import Texts
from bench.train.augmentation.candidates import Candidates, MaskedWords, Sentence, Splitter
from bench.train.augmentation.wordvectors import Neighbours, file_sha256, piece_vectors, read_word_vectors
from bench.train.precision import choose
from bench.train.settings import Budget, Format, Settings

SHARD_ROWS = 2048
"""Original rows per shard: what a killed run may lose."""


Known = dict[str, tuple[Sentence, dict[int, tuple[str, ...]]]]
"""Text -> its words, and the candidates by word place."""


class Augmentation(Settings):
    """How training texts are multiplied."""

    use: bool = True
    """Whether they are: off in the rows without data augmentation, whose declared budget stays that of the others."""
    augmentation: Annotated[int, Budget()] = Field(default=20, ge=0, le=100_000)
    """N_a: rounds of replacement per text, each of which gives one variant if it is new."""
    probability: float = Field(default=0.4, ge=0, le=1)
    """p_t: with which each word is replaced."""
    candidates: int = Field(default=15, ge=1, le=100_000)
    """K: likeliest pieces or nearest words per word, before pieces that are no whole words are dropped."""
    word_vectors: str = ""
    """A text file of GloVe vectors; empty takes the teacher's input embeddings instead."""
    word_vectors_sha256: str = ""
    """What that file has to be: a run with such a file needs it, so that its settings say which words it took."""
    max_words: int = Field(default=100_000, ge=1, le=100_000_000)
    """Vectors read of the file, the first ones."""
    skip_stop_words: bool = True
    """Leave the released code's stop words alone; the paper does not mention them."""
    letters_only: bool = True
    """Leave words with anything but a to z alone, as the released code does; the paper does not mention it."""
    pairs: Literal["fixed", "released"] = "fixed"
    """The partner of a varied text: `fixed` is the original; in `released`, while the second text varies, the first is
    stuck at its last variant, and that row comes twice."""
    precision: Format = "auto"
    """Of the masked LM's encoder; `auto` is bf16 where the hardware has it. The rows are kept by what was used."""


@dataclass(frozen=True, slots=True)
class Augmenter:
    """What is needed to augment: settings, candidates, and a seed."""

    settings: Augmentation
    candidates: Candidates
    seed: int

    def shards(self, texts: Texts, first: int = 0, shard_rows: int = SHARD_ROWS) -> Iterator[Texts]:
        """The augmented rows, a shard of `shard_rows` original rows at a time, from shard number `first` on.

        Each original row is followed by its variants. A shard's texts are guessed by themselves, so that the rows are
        the same whoever made the shards before: in bf16 a guess depends on what stands beside it in its batch.
        Source: arXiv 1909.10351v5, Algorithm 1.
        """
        digests = self._row_seeds(texts)
        for start in range(first * shard_rows, len(texts), shard_rows):
            places, known = range(start, min(start + shard_rows, len(texts))), Known()
            if self.settings.augmentation:
                here = list(dict.fromkeys(column[i] for column in texts.columns for i in places))
                known.update(zip(here, self.candidates.find(here), strict=True))
            yield _shard(texts, [row for i in places for row in self._row(texts, i, known, digests[i])])

    def _row(self, texts: Texts, place: int, known: Known, digest: bytes) -> Iterator[tuple[int, tuple[str, ...]]]:
        """A row and its variants, as (original row, texts): one column varies at a time."""
        row = tuple(column[place] for column in texts.columns)
        yield place, row
        if not self.settings.augmentation:
            return
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        released = self.settings.pairs == "released"
        base = row  # what stands beside a variant; only `released` ever changes it
        for column, text in enumerate(row):
            if released and column:
                yield place, base  # the released code writes each column's text before its variants
            sentence, candidates = known[text]
            made = variants(text, sentence, candidates, self.settings, rng)
            for variant in made:
                yield place, (*base[:column], variant, *base[column + 1 :])
            if released and made:
                base = (*base[:column], made[-1], *base[column + 1 :])

    def _row_seeds(self, texts: Texts) -> list[bytes]:
        """A seed per row from its texts; the second of two equal rows has another one than the first."""
        seen: Counter[bytes] = Counter()
        seeds: list[bytes] = []
        for row in zip(*texts.columns, strict=True):
            digest = hashlib.blake2b(repr((self.seed, row)).encode(), digest_size=16).digest()
            again = seen[digest]
            seen[digest] += 1
            seeds.append(digest + again.to_bytes(4, "little"))
        return seeds


def variants(
    text: str, sentence: Sentence, candidates: dict[int, tuple[str, ...]], settings: Augmentation,
    rng: np.random.Generator,
) -> list[str]:  # fmt: skip
    """Up to N distinct variants of a text, none of them the text itself, each with as many words as it.

    In each round each word that has candidates is replaced with probability p by one of them, drawn evenly.
    Source: arXiv 1909.10351v5, Algorithm 1; what counts as new is ours.
    """
    if not candidates:
        return []
    places = list(candidates)
    counts = np.array([len(candidates[place]) for place in places])
    # All draws at once, [rounds, places]: a round that gives nothing new takes as many random numbers as any other.
    shape = (settings.augmentation, len(places))
    replaced = rng.random(shape) < settings.probability
    chosen = (rng.random(shape) * counts).astype(np.int64)
    seen = {text, " ".join(sentence.words)}
    made: list[str] = []
    for number in range(settings.augmentation):
        words = list(sentence.words)
        for column in np.flatnonzero(replaced[number]):
            words[places[column]] = candidates[places[column]][chosen[number, column]]
        variant = " ".join(words)
        if variant not in seen:
            seen.add(variant)
            made.append(variant)
    return made


def _shard(texts: Texts, rows: list[tuple[int, tuple[str, ...]]]) -> Texts:
    columns = tuple([row[column] for _, row in rows] for column in range(len(texts.columns)))
    return Texts(columns, texts.labels[[place for place, _ in rows]])


def word_vectors_identity(settings: Augmentation) -> str:
    """The sha256 of the word-vector file, checked; empty where none is named.

    Raises: DataError where the file is missing or another one, SpecError for a sha256 without a file.
    """
    if not settings.word_vectors:
        if settings.word_vectors_sha256:
            raise SpecError("a sha256 without a file", where="word_vectors", found="no file", expected="a path",
                            fix="name the file of word vectors, or drop the sha256")  # fmt: skip
        return ""
    return file_sha256(Path(settings.word_vectors).expanduser(), settings.word_vectors_sha256)


def check_word_vectors(settings: Augmentation) -> None:
    """Refuse, before anything runs, a file of word vectors that is not the one said or cannot be read.

    Raises: DataError for a file that is missing, another one or malformed; SpecError where only one of file and
    sha256 is named.
    """
    if not settings.word_vectors:
        word_vectors_identity(settings)
    else:
        _check_file(settings.word_vectors, settings.word_vectors_sha256, settings.max_words)


@cache
def _check_file(name: str, sha256: str, words: int) -> None:
    """Reads the file once for all runs of a plan."""
    path = Path(name).expanduser()
    found = file_sha256(path, sha256)
    if not sha256:
        raise SpecError("word vectors are named without their sha256", where=name, found=f"sha256 {found}",
                        fix=f"if that is the file, --set augmentation.word_vectors_sha256={found}")  # fmt: skip
    read_word_vectors(path, words)


def augmenter(
    settings: Augmentation, tokenizer: Any, masked_lm: nn.Module, seed: int,
    device: torch.device | None = None, batch_tokens: int | None = None,
) -> Augmenter:  # fmt: skip
    """An augmenter with a pre-trained (not fine-tuned) masked LM, which is put into eval mode and frozen.

    `batch_tokens` are padded tokens per forward pass; they change rounding only.
    Raises: DataError and SpecError for a bad word-vector file, DeviceError for a bf16 that the device only emulates.
    Source: arXiv 1909.10351v5, Algorithm 1; see the README of the paper that uses it.
    """
    word_vectors_identity(settings)
    splitter = Splitter(tokenizer)
    device = device or torch.device("cpu")
    precision = choose(settings.precision, device).name
    masked = MaskedWords(masked_lm, tokenizer, device, precision=precision, batch_tokens=batch_tokens)
    neighbours: Neighbours
    if settings.word_vectors:
        neighbours = read_word_vectors(Path(settings.word_vectors).expanduser(), settings.max_words)
    else:
        table: Any = masked_lm.get_input_embeddings()  # pyright: ignore[reportCallIssue]
        embeddings = table.weight.detach().float().cpu().numpy()
        special = frozenset(tokenizer.all_special_ids)
        neighbours = piece_vectors(masked.vocabulary, embeddings, special, splitter.pieces)
    candidates = Candidates(splitter, masked, neighbours, settings.candidates, settings.skip_stop_words,
                            settings.letters_only)  # fmt: skip
    return Augmenter(settings, candidates, seed)
