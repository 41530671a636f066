"""New text of the domain, made of the text at hand: words are masked or replaced, some copies cut to a few words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from bench.train.settings import Budget, Settings

AT_ONCE = 16_384
"""Rows of which a round makes copies at a time: the arrays of one chunk stay in the processor's cache."""

Columns = tuple[Sequence[str], ...]


class Augmentation(Settings):
    """How text is multiplied; values of Tang et al. 2019, arXiv 1903.12136v1, section 3.2, for BiLSTM students."""

    use: bool = False
    """Whether it is; the rows without keep the number of rounds, so that all variants declare one budget."""
    augmentation: Annotated[int, Budget()] = Field(default=20, ge=1, le=100_000)
    """Rounds: copies of each text."""
    mask: float = Field(default=0.1, ge=0, le=1)
    """With which probability a word is masked."""
    replace: float = Field(default=0.1, ge=0, le=1)
    """With which probability a word is replaced by another one of the text, as often as that one comes (D6)."""
    ngram: float = Field(default=0.25, ge=0, le=1)
    """With which probability a copy is cut to a run of its words."""
    longest: int = Field(default=5, ge=1)
    """Words of the longest such run; the shortest is one."""


@dataclass(frozen=True, slots=True)
class _Words:
    """Texts as words: text i is ids[offsets[i]:offsets[i + 1]]."""

    spelled: np.ndarray
    """object [V]: the words, each once; the mask comes last"""
    ids: np.ndarray
    """int32 [total]"""
    offsets: np.ndarray
    """int64 [texts + 1]"""

    @classmethod
    def of(cls, texts: Sequence[str], mask: str) -> _Words:
        known: dict[str, int] = {}
        lists = [text.split() for text in texts]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(words) for words in lists], dtype=np.int64)])
        ids = np.fromiter((known.setdefault(w, len(known)) for words in lists for w in words), np.int32, offsets[-1])
        return cls(np.array([*known, mask], dtype=object), ids, offsets)

    def texts(self, ids: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[str]:
        """The words of `ids` from each start to its stop, with a space between them."""
        words = self.spelled[ids].tolist()
        return [" ".join(words[a:b]) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]


def augmented(columns: Columns, settings: Augmentation, mask: str, seed: int) -> tuple[list[str], ...]:
    """New rows, one list per text column: `augmentation` copies of each row, without what is there already.

    Of a pair one text changes in each copy, drawn evenly; the other stays as it is. A row whose text has no words
    gives no copy. Words are what stands between spaces; `mask` is written for a masked one.
    Source: Tang et al. 2019, arXiv 1903.12136v1, section 3.2; D6.
    """
    rows, sides = len(columns[0]), len(columns)
    words = _Words.of([text for column in columns for text in column], mask)
    same = words.texts(words.ids, words.offsets[:-1], words.offsets[1:])  # the originals, spaced as the copies are
    seen = set(zip(*(same[side * rows : (side + 1) * rows] for side in range(sides)), strict=True))
    made: list[tuple[str, ...]] = []
    for number in range(settings.augmentation):
        for start in range(0, rows, AT_ONCE):
            rng = np.random.default_rng([seed, number, start])
            places = np.arange(start, min(start + AT_ONCE, rows))
            side = rng.integers(sides, size=len(places))
            chosen = side * rows + places
            some = words.offsets[chosen + 1] > words.offsets[chosen]
            places, side, chosen = places[some], side[some], chosen[some]
            copies = _copies(words, chosen, settings, rng)
            for place, which, text in zip(places.tolist(), side.tolist(), copies, strict=True):
                row = (text,) if sides == 1 else tuple(
                    text if one == which else same[one * rows + place] for one in range(sides))  # fmt: skip
                if row not in seen:
                    seen.add(row)
                    made.append(row)
    return tuple([row[side] for row in made] for side in range(sides))


def _copies(words: _Words, chosen: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> list[str]:
    """One changed copy of each chosen text, none of which is without words."""
    first, lengths = words.offsets[chosen], np.diff(words.offsets)[chosen]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    ids = words.ids[np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - starts, lengths)]
    draw = rng.random(len(ids))
    masked = draw < settings.mask
    replaced = ~masked & (draw < settings.mask + settings.replace)
    ids[masked] = len(words.spelled) - 1
    ids[replaced] = words.ids[rng.integers(len(words.ids), size=int(replaced.sum()))]
    cut = rng.random(len(chosen)) < settings.ngram
    kept = np.where(cut, np.minimum(rng.integers(1, settings.longest + 1, size=len(chosen)), lengths), lengths)
    starts = starts + (rng.random(len(chosen)) * (lengths - kept + 1)).astype(np.int64)
    return words.texts(ids, starts, starts + kept)
