"""Questions with long contexts: cut into windows that a model can read, and answers found again in its logits.

A window is [CLS] question [SEP] part of the context [SEP]. As in BERT's own script, each next window begins `stride`
tokens of the context after the one before, so neighbours share the rest; a training window that does not hold the
whole answer points to [CLS].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from bench.core.errors import ModelError, SpecError
from bench.data.batches import Encoded, Vocabulary
from bench.data.rows import Rows, Texts

AROUND = 3
"""[CLS], and [SEP] after the question and after the context."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The W windows of a split as a model reads them; their labels [W, 2] are the answer's first and last token."""

    encoded: Encoded
    rows: np.ndarray
    """int64 [W]: the example that each window is of; every example has one or more"""
    begins: np.ndarray
    """int32 [total]: where each token begins in its context, in characters; -1 for what is not of the context"""
    ends: np.ndarray
    """int32 [total]: where it ends; -1 the same"""


@dataclass(frozen=True, slots=True)
class _Passage:
    """A tokenised context; all are int32 [tokens]."""

    tokens: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


def check_windows(length: int, stride: int, most_question: int) -> None:
    """Raises SpecError where windows would leave out a part of a context."""
    room = length - most_question - AROUND
    if room < 1:
        raise SpecError(
            "the windows leave no room for a context", where="max_length", found=length,
            expected=f"{most_question + AROUND + 1} or more, with a question of {most_question}",
            fix="set a smaller windows.question, or a larger max_length",
        )  # fmt: skip
    if not 0 < stride <= room:
        raise SpecError(
            "the windows do not cover a context", where="windows.stride", found=stride,
            expected=f"1 to {room}, what a window of {length} tokens leaves beside a question of {most_question}",
            fix="set a smaller windows.stride or windows.question, or a larger max_length",
        )  # fmt: skip


def windows(
    rows: Rows | Texts, tokenizer: PreTrainedTokenizerBase, length: int, stride: int, most_question: int
) -> Windows:
    """Cut every example into windows of at most `length` tokens; the question keeps its first `most_question`.

    Raises SpecError as `check_windows` does, ModelError for a tokenizer that does not say where its tokens stand.
    """
    check_windows(length, stride, most_question)
    questions, contexts = rows.columns
    asked = tokenizer(questions, add_special_tokens=False, truncation=True, max_length=most_question)["input_ids"]
    passages, words = _passages(contexts, tokenizer), Vocabulary.of(tokenizer)
    tokens, segments, begins, ends, labels, of = [], [], [], [], [], []
    for row, (question, context) in enumerate(zip(asked, contexts, strict=True)):
        passage, room, before = passages[context], length - len(question) - AROUND, len(question) + 2
        answer = _tokens_of(passage, *rows.labels[row])
        for start in _starts(len(passage.tokens), room, stride):
            part = slice(start, start + room)
            tokens.append(np.concatenate([[words.cls, *question, words.sep], passage.tokens[part], [words.sep]]))
            segments.append(np.repeat((0, 1), (before, len(tokens[-1]) - before)))
            begins.append(np.pad(passage.begins[part], (before, 1), constant_values=-1))
            ends.append(np.pad(passage.ends[part], (before, 1), constant_values=-1))
            whole = answer is not None and start <= answer[0] and answer[1] < start + room
            labels.append([place - start + before for place in answer] if answer and whole else [0, 0])
            of.append(row)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(one) for one in tokens])])
    encoded = Encoded(np.concatenate(tokens).astype(np.int32), np.concatenate(segments).astype(np.uint8), offsets,
                      np.array(labels, np.int64), np.arange(len(of)), words.pad)  # fmt: skip
    return Windows(encoded, np.array(of), np.concatenate(begins), np.concatenate(ends))


def _passages(contexts: list[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, _Passage]:
    """Each different context once: SQuAD asks about five questions of each."""
    if not tokenizer.is_fast:
        raise ModelError("the tokenizer does not say where its tokens stand", found=type(tokenizer).__name__,
                         expected="a fast tokenizer", fix="give the checkpoint a tokenizer.json")  # fmt: skip
    different = list(dict.fromkeys(contexts))
    out = tokenizer(different, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    passages = {}
    for context, ids, places in zip(different, out["input_ids"], out["offset_mapping"], strict=True):
        spread = np.array(places, np.int32).reshape(-1, 2)
        passages[context] = _Passage(np.array(ids, np.int32), spread[:, 0], spread[:, 1])
    return passages


def _tokens_of(passage: _Passage, begin: int, end: int) -> tuple[int, int] | None:
    """The first and the last token that share a character with [begin, end); None where there is none."""
    touched = np.flatnonzero((passage.begins < end) & (passage.ends > begin))
    return (int(touched[0]), int(touched[-1])) if len(touched) else None


def _starts(tokens: int, room: int, stride: int) -> range:
    """Where windows begin: the last one is the first that reaches the end."""
    return range(0, max(1, tokens - room + stride), stride)


def best_answers(logits: np.ndarray, windows: Windows, contexts: list[str], n_best: int, most_tokens: int) -> list[str]:
    """Each example's answer: the span of the largest start plus end logit over all its windows, cut from its context.

    Spans have at most `most_tokens` tokens and begin and end at one of a window's `n_best` likeliest places. Empty
    where a context has no token.
    Shapes: `logits` [W, 2 L], start and end of each token side by side, as `bench.train.predict` gives them.
    """
    count, length = len(windows.rows), logits.shape[1] // 2
    mask = np.arange(length)[None, :] < windows.encoded.lengths[:, None]
    begins, ends = np.full((2, count, length), -1)
    begins[mask], ends[mask] = windows.begins, windows.ends
    both = np.where((begins >= 0)[..., None], logits.reshape(count, length, 2), -np.inf)
    likely = np.argsort(-both, axis=1, kind="stable")[:, :n_best]
    best = np.take_along_axis(both, likely, axis=1)
    firsts, lasts = likely[:, :, None, 0], likely[:, None, :, 1]
    total = best[:, :, None, 0] + best[:, None, :, 1]
    total[(lasts < firsts) | (lasts - firsts >= most_tokens)] = -np.inf
    chosen = total.reshape(count, -1).argmax(1)
    answers, highest = [""] * len(contexts), np.full(len(contexts), -np.inf)
    for window, (row, flat) in enumerate(zip(windows.rows, chosen, strict=True)):
        i, j = divmod(int(flat), likely.shape[1])
        if total[window, i, j] > highest[row]:
            highest[row] = total[window, i, j]
            first, last = likely[window, i, 0], likely[window, j, 1]
            answers[row] = contexts[row][begins[window, first] : ends[window, last]]
    return answers
