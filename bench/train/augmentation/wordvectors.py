"""Nearest words by cosine: from a file of word vectors, or from a teacher's own input embeddings.

A file is text in GloVe's format, one word and its numbers per line; a first line of two whole numbers is a header.
A line that does not fit is an error with its number, never skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bench.core import files
from bench.core.errors import DataError

QUERIES = 256
"""Words that are looked up in one matrix product."""


class Neighbours(Protocol):
    """Something that knows the words nearest to a word."""

    def nearest(self, words: Sequence[str], count: int) -> list[tuple[str, ...]]:
        """Up to `count` words for each word, without itself, in a fixed order; none where a word is not known."""
        ...


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Words of a file and their unit vectors."""

    words: tuple[str, ...]
    index: Mapping[str, int]
    matrix: np.ndarray
    """float32 [W, D], rows of length 1 (or 0)"""

    def nearest(self, words: Sequence[str], count: int) -> list[tuple[str, ...]]:
        """See `Neighbours`; a word that the file does not have has none."""
        known = [word for word in dict.fromkeys(words) if word in self.index]
        places = np.array([self.index[word] for word in known], dtype=np.int64)
        found = dict(zip(known, top(self.matrix, self.matrix[places], places, count), strict=True))
        return [tuple(self.words[i] for i in found[word]) if word in found else () for word in words]


@dataclass(frozen=True, slots=True)
class PieceVectors:
    """Nearest single-piece words of a teacher's vocabulary, for words of several pieces (ours).

    A word's vector is the mean of its pieces' input embeddings.
    """

    words: tuple[str, ...]
    matrix: np.ndarray
    """float32 [W, H]: the single-piece words, rows of length 1"""
    embeddings: np.ndarray
    """float32 [V, H]: all pieces"""
    pieces: Callable[[str], tuple[int, ...]]

    def nearest(self, words: Sequence[str], count: int) -> list[tuple[str, ...]]:
        """See `Neighbours`."""
        vectors = [self.embeddings[list(self.pieces(word))].mean(axis=0) for word in words]
        if not vectors or not self.words:
            return [() for _ in words]
        index = {word: i for i, word in enumerate(self.words)}
        own = np.array([index.get(word, -1) for word in words], dtype=np.int64)
        return [tuple(self.words[i] for i in row) for row in top(self.matrix, unit(np.stack(vectors)), own, count)]


def piece_vectors(
    tokens: Sequence[str], embeddings: np.ndarray, special: frozenset[int], pieces: Callable[[str], tuple[int, ...]]
) -> PieceVectors:
    """Neighbours by input embeddings [V, H] of the pieces `tokens` (by id): words are pieces made of letters only."""
    chosen = [i for i, token in enumerate(tokens) if token.isalpha() and i not in special]
    return PieceVectors(tuple(tokens[i] for i in chosen), unit(embeddings[chosen]), embeddings, pieces)


def unit(matrix: np.ndarray) -> np.ndarray:
    """Rows of length 1, as float32 [N, D]; a row of zeros stays."""
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.where(length > 0, length, 1)).astype(np.float32)


def top(matrix: np.ndarray, queries: np.ndarray, own: np.ndarray, count: int) -> list[np.ndarray]:
    """For each query [Q, D] the places of the `count` rows of `matrix` nearest to it, ascending, without `own` [Q].

    `own` is -1 where the query is no row of the matrix. Shapes: `matrix` [W, D]; each answer [count] or less.
    """
    found: list[np.ndarray] = []
    for start in range(0, len(queries), QUERIES):
        scores = queries[start : start + QUERIES] @ matrix.T
        mine = own[start : start + QUERIES]
        inside = np.flatnonzero(mine >= 0)
        scores[inside, mine[inside]] = -np.inf
        for row, score in zip(mine, scores, strict=True):
            many = min(count, len(score) - int(row >= 0))
            # Ascending places, not nearest first: the order must not depend on the rounding of near ties.
            chosen = np.argpartition(-score, many - 1)[:many] if 0 < many < len(score) else np.arange(len(score))[:many]
            found.append(np.sort(chosen))
    return found


def file_sha256(path: Path, expected: str = "") -> str:
    """The sha256 of a file. Raises: DataError where there is none or it is not the expected one."""
    if not path.is_file():
        raise DataError("the word-vector file does not exist", where=path, fix="give an existing file, or no file")
    found = files.file_sha256(path)
    if expected and found != expected.lower():
        raise DataError("the word-vector file is another one", where=path, found=f"sha256 {found}",
                        expected=f"sha256 {expected}", fix="fetch the file again, or correct the sha256")  # fmt: skip
    return found


def read_word_vectors(path: Path, limit: int) -> WordVectors:
    """The first `limit` vectors of a file (of a word that comes twice the first one).

    Raises: DataError with file and line for a line that is not a word and as many finite numbers as the first line
    (or the header) says, and for a file without vectors.
    """
    words: dict[str, int] = {}
    vectors: list[np.ndarray] = []
    width, read = 0, 0
    with path.open("rb") as handle:
        for number, raw in enumerate(handle, start=1):
            where = f"{path}, line {number}"
            line = _decoded(raw, where)
            if number == 1:
                width, is_header = _width(line, where)
                if is_header:
                    continue
            word, vector = _parsed(line, width, where)
            if word not in words:
                words[word] = len(vectors)
                vectors.append(vector)
            read += 1
            if read == limit:
                break
    if not vectors:
        raise DataError("no word vectors", where=path, found="no lines", expected="a word and its numbers per line")
    return WordVectors(tuple(words), words, unit(np.stack(vectors)))


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8").rstrip("\r\n ")
    except UnicodeDecodeError as error:
        raise DataError("a word vector cannot be read", where=where, found="bytes that are no UTF-8",
                        expected="text in UTF-8", fix="fetch the file again") from error  # fmt: skip


def _width(line: str, where: str) -> tuple[int, bool]:
    """How many numbers the lines of a file have, by its first one, and whether that one is a header."""
    fields = line.split(" ")
    if len(fields) == 2 and all(field.isdecimal() for field in fields):
        if int(fields[1]) < 1:
            raise DataError("a header without a dimension", where=where, found=repr(line), expected="words, dimension")
        return int(fields[1]), True
    if len(fields) < 2:
        raise DataError("a malformed word vector", where=where, found=repr(line[:40]),
                        expected="a word and its numbers, separated by blanks", fix="fetch the file again")  # fmt: skip
    return len(fields) - 1, False


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parsed(line: str, width: int, where: str) -> tuple[str, np.ndarray]:
    """Word and vector of a line. A word may hold blanks (GloVe 840B has such), but must not end in a number."""
    word, *fields = line.rsplit(" ", width)
    values = [_number(field) for field in fields]
    wrong = next((f for f, v in zip(fields, values, strict=True) if v is None or not math.isfinite(v)), None)
    extra = " " in word and _number(word.rsplit(" ", 1)[1]) is not None
    if len(fields) < width or extra:
        raise DataError("a word vector of another dimension", where=where, found=f"{line.count(' ')} numbers",
                        expected=f"{width}, as the first line says", fix="fetch the file again")  # fmt: skip
    if wrong is not None or not word:
        raise DataError("a malformed word vector", where=where, found=repr((line if wrong is None else wrong)[:40]),
                        expected=f"a word and {width} finite numbers", fix="fetch the file again")  # fmt: skip
    return word, np.array(values, dtype=np.float32)
