"""Sentence pairs for pre-training: two runs of sentences from one document, or the second from another one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from bench.core.errors import DataError
from bench.data.batches import Encoded

Sentences = list[list[int]]
"""The sentences of one document as token ids, none of them empty."""

_END = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(document: str) -> list[str]:
    """A document cut after full stops, question and exclamation marks, and at the ends of lines."""
    return [part.strip() for part in _END.split(document) if part.strip()]


def sentence_pairs(
    documents: Sequence[Sentences], cls: int, sep: int, max_length: int, max_tokens: int, seed: int,
    short: float = 0.1, random_next: float = 0.5,
) -> Encoded:  # fmt: skip
    """[CLS] A [SEP] B [SEP] of up to `max_length` tokens, segments 0 and 1, until `max_tokens` are gathered.

    Sentences are gathered up to a target length, which with probability `short` is drawn between 2 and the largest;
    a random prefix of them is A. B is the rest, or with probability `random_next` (and always where A took all) a run
    of another document; what B then leaves unused is taken up again. Documents come in a fixed random order.
    Source: Devlin et al. 2019 (arXiv 1810.04805v2), appendix A.2, and BERT's data script.
    Raises DataError where there are not two documents with text.
    """
    usable = [document for document in documents if document]
    if len(usable) < 2:
        raise DataError("sentence pairs need several documents", found=f"{len(usable)} with text", expected="2 or more",
                        fix="separate documents by blank lines, or give a larger corpus")  # fmt: skip
    rng = np.random.default_rng(seed)
    tokens: list[list[int]] = []
    segments: list[list[int]] = []
    total = 0
    drawn = (pair for number in rng.permutation(len(usable))
             for pair in _of_document(usable, int(number), rng, max_length - 3, short, random_next))  # fmt: skip
    for a, b in drawn:
        _cut(a, b, max_length - 3, rng)
        tokens.append([cls, *a, sep, *b, sep])
        segments.append([0] * (len(a) + 2) + [1] * (len(b) + 1))
        total += len(tokens[-1])
        if total >= max_tokens:
            break
    return Encoded.from_lists(tokens, segments, np.empty(0))


def _of_document(
    documents: Sequence[Sentences], number: int, rng: np.random.Generator, longest: int, short: float,
    random_next: float,
) -> Iterator[tuple[list[int], list[int]]]:  # fmt: skip
    document, at, chunk = documents[number], 0, []
    target = _target(rng, longest, short)
    while at < len(document):
        chunk.append(document[at])
        at += 1
        if at < len(document) and sum(map(len, chunk)) < target:
            continue
        split = 1 if len(chunk) == 1 else int(rng.integers(1, len(chunk)))
        a = [token for sentence in chunk[:split] for token in sentence]
        if len(chunk) == 1 or rng.random() < random_next:
            b = _elsewhere(documents, number, rng, target - len(a))
            at -= len(chunk) - split
        else:
            b = [token for sentence in chunk[split:] for token in sentence]
        yield a, b
        chunk, target = [], _target(rng, longest, short)


def _target(rng: np.random.Generator, longest: int, short: float) -> int:
    return int(rng.integers(2, longest + 1)) if rng.random() < short else longest


def _elsewhere(documents: Sequence[Sentences], number: int, rng: np.random.Generator, length: int) -> list[int]:
    """A run of sentences of another document, from a random one on, of about `length` tokens."""
    other = int(rng.integers(len(documents) - 1))
    document = documents[other + (other >= number)]
    found: list[int] = []
    for sentence in document[int(rng.integers(len(document))) :]:
        found += sentence
        if len(found) >= length:
            break
    return found


def _cut(a: list[int], b: list[int], longest: int, rng: np.random.Generator) -> None:
    """Shorten in place to `longest` tokens in all: the longer side loses a token at its front or back by chance."""
    while len(a) + len(b) > longest:
        side = a if len(a) > len(b) else b
        del side[0 if rng.random() < 0.5 else -1]
