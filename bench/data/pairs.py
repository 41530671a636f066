"""Sentence pairs for pre-training: two runs of sentences from one document, or the second from another one."""

from __future__ import annotations

import re
import textwrap
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bench.core.errors import DataError
from bench.data.batches import Encoded

Ids = Sequence[int]


class Documents:
    """Documents as the token ids of their sentences, packed; what is empty is left out."""

    def __init__(self, documents: Iterable[Iterable[Ids]] = ()):
        self._tokens, self._sentences, self._ends = array("i"), array("q", [0]), array("q", [0])
        for document in documents:
            self.append(document)

    def append(self, sentences: Iterable[Ids]) -> None:
        """One more document."""
        for sentence in sentences:
            if len(sentence):
                self._tokens.extend(sentence)
                self._sentences.append(len(self._tokens))
        if len(self._sentences) - 1 > self._ends[-1]:
            self._ends.append(len(self._sentences) - 1)

    @property
    def tokens(self) -> int:
        return len(self._tokens)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def sentences(self, document: int) -> int:
        """How many sentences a document has."""
        return self._ends[document + 1] - self._ends[document]

    def sentence(self, document: int, number: int) -> list[int]:
        at = self._ends[document] + number
        return self._tokens[self._sentences[at] : self._sentences[at + 1]].tolist()


_END = re.compile(r"(?<=[.!?])\s+|\n+")


LONGEST = 1000
"""Characters of the longest sentence (ours): text without stops is cut between words, or a pair would use a few words
of it and leave the rest."""


def sentences(document: str) -> list[str]:
    """A document cut after full stops, question and exclamation marks, and at the ends of lines."""
    parts = (part.strip() for part in _END.split(document))
    return [piece for part in parts if part for piece in ([part] if len(part) <= LONGEST else _cut_up(part))]


def _cut_up(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, LONGEST, break_on_hyphens=False)


def sentence_pairs(
    documents: Documents, cls: int, sep: int, max_length: int, max_tokens: int, seed: int,
    short: float = 0.1, random_next: float = 0.5,
) -> Encoded:  # fmt: skip
    """[CLS] A [SEP] B [SEP] of up to `max_length` tokens, segments 0 and 1, until `max_tokens` are gathered.

    Sentences are gathered up to a target length, which with probability `short` is drawn between 2 and the largest, for
    each pair anew (BERT's script draws it once a document; ours are as long as novels);
    a random prefix of them is A. B is the rest, or with probability `random_next` (and always where A took all) a run
    of another document; what B then leaves unused is taken up again. Documents come in a fixed random order. The label
    of a pair is 0 where B follows A, 1 where it is of another document.
    Source: Devlin et al. 2019 (arXiv 1810.04805v2), appendix A.2, and BERT's data script.
    Raises DataError where there are not two documents with text.
    """
    if len(documents) < 2:
        raise DataError("sentence pairs need several documents", found=f"{len(documents)} with text",
                        expected="2 or more",
                        fix="separate documents by blank lines, or give a larger corpus")  # fmt: skip
    rng = np.random.default_rng(seed)
    tokens, segments, ends, labels = array("i"), array("B"), array("q", [0]), array("q")
    drawn = (pair for number in rng.permutation(len(documents))
             for pair in _of_document(documents, int(number), rng, max_length - 3, short, random_next))  # fmt: skip
    for a, b, label in drawn:
        _cut(a, b, max_length - 3, rng)
        tokens.extend([cls, *a, sep, *b, sep])
        segments.extend([0] * (len(a) + 2) + [1] * (len(b) + 1))
        ends.append(len(tokens))
        labels.append(label)
        if len(tokens) >= max_tokens:
            break
    return Encoded(np.frombuffer(tokens, np.int32), np.frombuffer(segments, np.uint8), np.frombuffer(ends, np.int64),
                   np.frombuffer(labels, np.int64), np.arange(len(ends) - 1))  # fmt: skip


def _of_document(
    documents: Documents, number: int, rng: np.random.Generator, longest: int, short: float, random_next: float
) -> Iterator[tuple[list[int], list[int], int]]:
    count, at, chunk = documents.sentences(number), 0, []
    target = _target(rng, longest, short)
    while at < count:
        chunk.append(documents.sentence(number, at))
        at += 1
        if at < count and sum(map(len, chunk)) < target:
            continue
        split = 1 if len(chunk) == 1 else int(rng.integers(1, len(chunk)))
        a = [token for sentence in chunk[:split] for token in sentence]
        elsewhere = len(chunk) == 1 or rng.random() < random_next
        if elsewhere:
            b = _elsewhere(documents, number, rng, target - len(a))
            at -= len(chunk) - split
        else:
            b = [token for sentence in chunk[split:] for token in sentence]
        yield a, b, int(elsewhere)
        chunk, target = [], _target(rng, longest, short)


def _target(rng: np.random.Generator, longest: int, short: float) -> int:
    return int(rng.integers(2, longest + 1)) if rng.random() < short else longest


def _elsewhere(documents: Documents, number: int, rng: np.random.Generator, length: int) -> list[int]:
    """A run of sentences of another document, from a random one on, of about `length` tokens."""
    other = int(rng.integers(len(documents) - 1))
    other += other >= number
    found: list[int] = []
    count = documents.sentences(other)
    for at in range(int(rng.integers(count)), count):
        found += documents.sentence(other, at)
        if len(found) >= length:
            break
    return found


def _cut(a: list[int], b: list[int], longest: int, rng: np.random.Generator) -> None:
    """Shorten in place to `longest` tokens in all: the longer side loses a token at its front or back by chance."""
    while len(a) + len(b) > longest:
        side = a if len(a) > len(b) else b
        del side[0 if rng.random() < 0.5 else -1]
