"""The text of low-resource distillation: the students' own tokenizer, and new text made of the old."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bench.data.batches import Vocabulary, encode
from bench.data.rows import Texts
from bench.models import load
from papers.lowresource.augment import Augmentation, augmented
from papers.lowresource.settings import BiLstm, CbowFfn, Cnn
from papers.lowresource.student import BiLstmForSequenceClassification
from papers.lowresource.vocabulary import vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def texts(*columns: Sequence[str]) -> Texts:
    return Texts(tuple(map(list, columns)), np.zeros(len(columns[0]), np.int64))


FILM = texts(["The film, the end.", "A film! the END", ""])


# Vocabulary


def test_words_come_by_frequency_then_by_the_alphabet() -> None:
    found = vocabulary(FILM, 100)
    assert found.convert_ids_to_tokens(list(range(len(found)))) == [*SPECIAL, "the", "end", "film", "!", ",", ".", "a"]
    fewer = vocabulary(FILM, 8)
    assert len(fewer) == 8 and fewer.convert_ids_to_tokens([7]) == ["film"]
    assert fewer("a film").input_ids == [1, 7, 3]


@settings(max_examples=30, deadline=None)
@given(rows=some.lists(some.text("abcD .", max_size=20), min_size=1, max_size=8), size=some.integers(6, 12))
def test_the_most_frequent_words_whatever_the_text(rows: list[str], size: int) -> None:
    words = Counter(word for row in rows for word in row.lower().replace(".", " . ").split())
    wanted = sorted(words, key=lambda word: (-words[word], word))[: size - 5]
    found = vocabulary(texts(rows), size)
    assert found.convert_ids_to_tokens(list(range(len(found)))) == SPECIAL + wanted
    back = vocabulary(texts(rows[::-1]), size)
    assert back.get_vocab() == found.get_vocab(), "the order of the rows does not matter"


def test_how_texts_are_read() -> None:
    found = vocabulary(FILM, 100)

    def tokens(*row: str) -> str:
        return " ".join(found.convert_ids_to_tokens(found(*row).input_ids))

    assert tokens("The  END...") == "the end . . . [SEP]"
    assert tokens("a film", "unseen end") == "a film [SEP] [UNK] end"
    assert tokens("a [MASK] film") == "a [MASK] film [SEP]", "what augmentation writes is one token"
    assert tokens("") == tokens("  ") == tokens("", "") == "[SEP]", "no row is without a token"


def test_another_mask_is_one_token_too() -> None:
    found = vocabulary(FILM, 100, "<mask>")
    assert found("a <mask>").input_ids == [11, 4, 3] and found.mask_token_id == 4


def test_it_reads_a_task_within_a_length() -> None:
    pairs = texts(["the film " * 9, "", "a"], ["the end", "", "film " * 30])
    found = encode(pairs, vocabulary(pairs, 50), 8)
    assert found.lengths.tolist() == [8, 1, 8]
    assert Vocabulary.of(vocabulary(pairs, 50)).pad == 0 and found.tokens.min() > 0


@pytest.mark.parametrize("sizes", [None, BiLstm(vocabulary=40), CbowFfn(vocabulary=40), Cnn(vocabulary=40)])
def test_it_is_saved_and_read_again(sizes: Any, tmp_path: Path) -> None:
    """Also beside a config of a kind of model that transformers does not know."""
    saved = vocabulary(FILM, 40)
    if sizes is not None:
        sizes.config().save_pretrained(tmp_path)
    saved.save_pretrained(tmp_path)
    again = load.tokenizer(tmp_path)
    assert again.get_vocab() == saved.get_vocab() and Vocabulary.of(again) == Vocabulary.of(saved)
    for row in (("A film [MASK], the end.",), ("",), ("the end", "unseen")):
        assert again(*row).input_ids == saved(*row).input_ids
    assert load.lowers(again)


def test_a_student_is_saved_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    student, words = BiLstmForSequenceClassification(BiLstm(vocabulary=40).config()), vocabulary(FILM, 40)
    load.save(student, tmp_path, words)
    assert len(load.tokenizer(tmp_path)) == len(words) and load.is_saved_in(load.load_saved(tmp_path), tmp_path)
    assert not caplog.records, "a library warned of an architecture that it does not know"


# Augmentation

WORDS = some.text(string.ascii_lowercase, min_size=1, max_size=3)
LINES = some.lists(WORDS, max_size=9).map(" ".join)
CHOICES = some.builds(
    Augmentation, augmentation=some.integers(1, 4), mask=some.floats(0, 0.5), replace=some.floats(0, 0.5),
    ngram=some.floats(0, 1), longest=some.integers(1, 5),
)  # fmt: skip


def made(columns: Sequence[Sequence[str]], chosen: Augmentation, seed: int = 0) -> list[tuple[str, ...]]:
    return list(zip(*augmented(tuple(columns), chosen, "[MASK]", seed), strict=True))


@settings(max_examples=80, deadline=None)
@given(lines=some.lists(LINES, min_size=1, max_size=8), chosen=CHOICES, seed=some.integers(0, 9))
def test_copies_are_new_made_of_known_words_and_not_longer(lines: list[str], chosen: Augmentation, seed: int) -> None:
    rows = [row for (row,) in made([lines], chosen, seed)]
    assert len(set(rows)) == len(rows) <= chosen.augmentation * len(lines) and not set(rows) & set(lines)
    known = {word for line in lines for word in line.split()} | {"[MASK]"}
    longest = max(len(line.split()) for line in lines)
    assert all(row and set(row.split()) <= known and len(row.split()) <= longest for row in rows)
    assert [row for (row,) in made([lines], chosen, seed)] == rows, "a seed gives the same copies"


@settings(max_examples=50, deadline=None)
@given(pairs=some.lists(some.tuples(LINES, LINES), min_size=1, max_size=8), chosen=CHOICES)
def test_of_a_pair_one_side_changes(pairs: list[tuple[str, str]], chosen: Augmentation) -> None:
    one, other = ({pair[side] for pair in pairs} for side in (0, 1))
    for row in made([[a for a, _ in pairs], [b for _, b in pairs]], chosen):
        assert row not in pairs and (row[0] in one or row[1] in other)


ALPHABET = " ".join(string.ascii_lowercase)


def test_each_side_of_a_pair_changes_as_often() -> None:
    rows = made([[ALPHABET] * 2000, [ALPHABET.upper()] * 2000], Augmentation(augmentation=1, ngram=0.0))
    left = sum(row[0] != ALPHABET for row in rows)
    assert len(rows) > 1900 and abs(left / len(rows) - 0.5) < 0.05  # 4.4 standard deviations
    assert all((row[0] != ALPHABET) != (row[1] != ALPHABET.upper()) for row in rows)


def test_without_any_change_nothing_is_new() -> None:
    still = Augmentation(augmentation=5, mask=0.0, replace=0.0, ngram=0.0)
    assert made([["a  b", "", " c "]], still) == [] == made([[""]], Augmentation())
    assert made([["a  b", "c"], ["d  e", ""]], still) == [], "other spaces are no change"


def test_all_masked() -> None:
    assert made([["a b", "c d", "e"]], Augmentation(mask=1.0, ngram=0.0)) == [("[MASK] [MASK]",), ("[MASK]",)]


def test_how_often_words_are_masked_and_replaced() -> None:
    """Of 26 letters that are equally frequent, a replacement is by chance the letter itself in one of 26."""
    rows = made([[ALPHABET + f" {i}" for i in range(4000)]], Augmentation(augmentation=1, ngram=0.0))
    words = np.array([row.split()[:26] for (row,) in rows])
    assert abs((words == "[MASK]").mean() - 0.1) < 0.005
    changed = (words != np.array(ALPHABET.split())) & (words != "[MASK]")
    assert abs(changed.mean() - 0.1) < 0.005


def test_replacements_follow_the_frequency_of_words() -> None:
    lines = [f"a a a b {i} " * 8 for i in range(1000)]
    rows = made([lines], Augmentation(augmentation=1, mask=0.0, replace=1.0, ngram=0.0))
    found = Counter(word for (row,) in rows for word in row.split())
    total = sum(found.values())
    assert abs(found["a"] / total - 0.6) < 0.02 and abs(found["b"] / total - 0.2) < 0.02


def test_how_copies_are_cut() -> None:
    lines = [" ".join(f"{i}.{place}" for place in range(26)) for i in range(8000)]
    rows = [row.split() for (row,) in made([lines], Augmentation(augmentation=1, mask=0.0, replace=0.0))]
    lengths = Counter(map(len, rows))
    assert set(lengths) == {1, 2, 3, 4, 5}, "whole copies are not new"
    assert all(330 < count < 470 for count in lengths.values())  # 0.25 * 8000 / 5, 3.5 standard deviations
    assert all(" ".join(row) in lines[int(row[0].split(".")[0])] for row in rows)
    assert {int(row[0].split(".")[1]) for row in rows if len(row) == 5} == set(range(22)), "a run begins anywhere"
    every = made([["a b"]], Augmentation(augmentation=50, mask=0.0, replace=0.0, ngram=1.0))
    assert set(every) == {("a",), ("b",)}, "no longer than the text"


def test_seeds_and_rounds_differ() -> None:
    lines = [ALPHABET] * 3
    first, other = (made([lines], Augmentation(augmentation=2), seed) for seed in (0, 1))
    assert first != other and len(first) == len(set(first)) >= 5
