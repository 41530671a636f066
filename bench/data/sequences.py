"""Text cut into what a model reads until a budget of tokens is gathered, in little more memory than the text itself.

Texts and tokens are packed: as a list of Python strings a corpus of short lines takes three times its size, as lists
of numbers ten times.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bench.core.errors import DataError
from bench.data.batches import Encoded, Vocabulary
from bench.data.pairs import Documents, sentence_pairs, sentences

LINES, CHARACTERS = 1000, 250_000
"""What the tokenizer is given at a time: its answers take a hundred bytes a token."""
FIRST = 16, 1000
"""The same where it is only asked whether a text holds anything: mostly the first line does."""


class Packed:
    """Many texts in one buffer."""

    def __init__(self, texts: Iterable[str]):
        self._bytes, self._ends = bytearray(), array("q", [0])
        for text in texts:
            self._bytes += text.encode()
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        return self._bytes[self._ends[number] : self._ends[number + 1]].decode()


def lines_of(documents: Iterable[str]) -> Iterator[str]:
    """The lines of documents, without blank ones."""
    return (line for text in documents for line in text.split("\n") if line.strip())


def sequences(
    lines: Packed, tokenizer: Any, max_tokens: int, max_length: int, min_length: int, where: object
) -> Encoded:
    """Lines in a fixed random order, cut into [CLS] ... [SEP] of up to `max_length`, until `max_tokens` are gathered.

    Pieces of which half or more is unknown are dropped, as the official DistilBERT script does. The last piece is
    whole, so that the budget is passed by less than `max_length`.
    Raises DataError where no piece is left.
    """
    words = Vocabulary.of(tokenizer)
    tokens, ends = array("i"), array("q", [0])
    shuffled = (lines[i] for i in np.random.default_rng(0).permutation(len(lines)))
    for body in _pieces(shuffled, tokenizer, words, max_length, min_length):
        tokens.append(words.cls)
        tokens.extend(body)
        tokens.append(words.sep)
        ends.append(len(tokens))
        if len(tokens) >= max_tokens:
            break
    if not tokens:
        raise no_usable_text(where, min_length)
    return Encoded(np.frombuffer(tokens, np.int32), np.zeros(len(tokens), np.uint8), np.frombuffer(ends, np.int64),
                   np.empty(0), np.arange(len(ends) - 1), words.pad)  # fmt: skip


def usable(lines: Iterable[str], tokenizer: Any, max_length: int, min_length: int) -> bool:
    """Whether `sequences` would find a piece; stops at the first."""
    words = Vocabulary.of(tokenizer)
    return next(_pieces(lines, tokenizer, words, max_length, min_length, FIRST), None) is not None


def no_usable_text(where: object, min_length: int) -> DataError:
    """The error for a corpus in which no piece of `min_length` tokens can be used."""
    return DataError("the corpus holds no usable text", where=where, found=f"not {min_length} tokens or more of words "
                     "that the teacher's vocabulary knows", expected="lines of text", fix="give more text, in "
                     "the teacher's language")  # fmt: skip


def _pieces(
    lines: Iterable[str], tokenizer: Any, words: Vocabulary, max_length: int, min_length: int,
    at_a_time: tuple[int, int] = (LINES, CHARACTERS),
) -> Iterator[list[int]]:  # fmt: skip
    for some in _batches(lines, *at_a_time):
        out = tokenizer(some, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False,
                        verbose=False)  # fmt: skip
        for ids in out["input_ids"]:
            for cut in range(0, len(ids), max_length - 2):
                body = ids[cut : cut + max_length - 2]
                if len(body) + 2 >= min_length and 2 * sum(i == words.unknown for i in body) < len(body):
                    yield body


def _batches(lines: Iterable[str], most_lines: int, most_characters: int) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if len(held) >= most_lines or size >= most_characters:
            yield held
            held, size = [], 0
    if held:
        yield held


def pairs(texts: Packed, tokenizer: Any, max_tokens: int, max_length: int, short: float) -> Encoded:
    """Pairs of sentence runs from documents in a fixed random order, until `max_tokens` are gathered.

    Only as many documents are tokenised as hold about twice the tokens that are asked for.
    Raises DataError where there are not two documents with text.
    """
    words, documents = Vocabulary.of(tokenizer), Documents()
    for number in np.random.default_rng(0).permutation(len(texts)):
        parts = sentences(texts[number])
        ids = tokenizer(parts, add_special_tokens=False, verbose=False)["input_ids"] if parts else []
        documents.append(ids)
        if documents.tokens >= 2 * max_tokens and len(documents) > 1:
            break
    del texts  # before the pairs take as much room again
    found = sentence_pairs(documents, words.cls, words.sep, max_length, max_tokens, 0, short)
    return replace(found, pad=words.pad)
