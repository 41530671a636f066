"""Sentence pairs: what is in them, how long they are, and that about half of them belong together."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.errors import DataError
from bench.data.pairs import Documents, sentence_pairs, sentences

CLS, SEP = 1, 2


def corpus(documents: int = 40, lengths: tuple[int, ...] = (7, 3, 5, 9, 4, 6, 8, 2)) -> list[list[list[int]]]:
    """Every token says its document and its place: 1000 * document + place."""
    out = []
    for number in range(1, documents + 1):
        places = iter(range(sum(lengths)))
        out.append([[1000 * number + next(places) for _ in range(length)] for length in lengths])
    return out


def split(row: np.ndarray) -> tuple[list[int], list[int]]:
    first, second = (int(i) for i in np.flatnonzero(row == SEP))
    assert row[0] == CLS and second == len(row) - 1
    return row[1:first].tolist(), row[first + 1 : second].tolist()


def rows(**changes) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    given = {"max_length": 24, "max_tokens": 10**9, "seed": 0} | changes
    found = sentence_pairs(Documents(corpus()), CLS, SEP, **given)
    edges = list(zip(found.offsets[:-1], found.offsets[1:], strict=True))
    for start, stop in edges:
        a, b = split(found.tokens[start:stop])
        assert found.segments[start:stop].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    return [split(found.tokens[start:stop]) for start, stop in edges], found.lengths.tolist()


def test_pairs_are_runs_of_one_document_each() -> None:
    pairs, lengths = rows()
    assert len(pairs) > 80 and max(lengths) == 24
    together = 0
    for a, b in pairs:
        assert a and b
        for side in (a, b):
            assert np.all(np.diff(side) == 1), "a run of neighbours"
        together += a[0] // 1000 == b[0] // 1000
        assert a[0] // 1000 != b[0] // 1000 or a[-1] < b[0]
    assert 0.3 < together / len(pairs) < 0.6


@pytest.mark.parametrize(("random_next", "least", "most"), [(0.0, 0.0, 0.3), (0.5, 0.4, 0.7), (1.0, 1.0, 1.0)])
def test_the_label_says_whether_the_second_run_follows_the_first(random_next: float, least: float, most: float) -> None:
    """Each token says its document and its place: B begins where A ends, but for what was cut off of either."""
    found = sentence_pairs(Documents(corpus()), CLS, SEP, 24, 10**9, 0, random_next=random_next)
    assert found.labels.shape == (len(found),) and found.labels.dtype == np.int64
    for start, stop, label in zip(found.offsets[:-1], found.offsets[1:], found.labels, strict=True):
        a, b = split(found.tokens[start:stop])
        follows = a[0] // 1000 == b[0] // 1000
        assert label == (0 if follows else 1)
        assert not follows or 1 <= b[0] - a[-1] < 9
    whole = sentence_pairs(Documents(corpus()), CLS, SEP, 1000, 10**9, 0, short=0.0, random_next=0.0)
    for start, stop, label in zip(whole.offsets[:-1], whole.offsets[1:], whole.labels, strict=True):
        a, b = split(whole.tokens[start:stop])
        assert label == 0 and b[0] == a[-1] + 1, "with nothing cut off it begins where the first ends"
    assert least <= found.labels.mean() <= most


def test_random_next_always_or_never() -> None:
    assert all(a[0] // 1000 != b[0] // 1000 for a, b in rows(random_next=1.0)[0])
    same = [a[0] // 1000 == b[0] // 1000 for a, b in rows(random_next=0.0, short=0.0)[0]]
    assert np.mean(same) > 0.7, "a lone sentence at a document's end has no next one"


def test_short_pairs_tokens_and_seeds() -> None:
    assert np.mean(rows(short=1.0)[1]) < np.mean(rows(short=0.0)[1])
    few = rows(max_tokens=200)[1]
    assert 200 <= sum(few) < 200 + max(few)
    assert rows(seed=1) == rows(seed=1) and rows(seed=1) != rows(seed=2)


def test_one_document_is_too_few() -> None:
    with pytest.raises(DataError, match="several documents"):
        sentence_pairs(Documents([[[5, 6]], []]), CLS, SEP, 24, 100, 0)


def test_a_document_is_cut_into_sentences() -> None:
    assert sentences("One is 1.5 high. Two? Three!\n\nfour") == ["One is 1.5 high.", "Two?", "Three!", "four"]
