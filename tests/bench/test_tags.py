"""Tags of words: read from a table, spread over pieces, found again in logits, scored by entities; by hand."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_spans import letters
from tokenizers import normalizers, processors
from transformers import PreTrainedTokenizerFast

from bench.core.errors import DataError
from bench.data.entities import NO_WORD, read_tags, read_words, scores
from bench.data.masking import IGNORED
from bench.data.rows import Texts
from bench.data.sources import open_source
from bench.data.tags import best_tags, tagged
from bench.data.tasks import floor, get_task
from bench.models.load import lowers
from bench.train.losses import tag_loss

TASK = get_task("conll2003")
NAMES = TASK.labels
OUT, B_PER, I_PER, B_ORG, I_ORG, B_LOC = range(6)


def bert_like() -> PreTrainedTokenizerFast:
    """The tokenizer of letters with [CLS] and [SEP] around a text."""
    words = letters()
    special = [(name, words.get_vocab()[name]) for name in ("[CLS]", "[SEP]")]
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=special
    )
    return words


TOKENIZER = bert_like()


def sentences(*texts: str, tags: list[list[int]]) -> Texts:
    longest = max(map(len, tags))
    return Texts((list(texts),), np.array([row + [NO_WORD] * (longest - len(row)) for row in tags]))


@pytest.mark.parametrize(
    ("said", "f1"),
    [
        ([B_PER, I_PER, OUT, B_ORG], 1.0),
        ([B_PER, OUT, OUT, B_ORG], 0.5),  # one entity cut short: 1 of 2 found, 1 of 2 right
        ([B_PER, I_PER, OUT, B_LOC], 0.5),  # the right words, another type
        ([OUT, OUT, OUT, B_ORG], 2 / 3),  # precision 1, recall 1/2
        ([I_PER, I_PER, OUT, B_ORG], 1.0),  # conlleval takes an inside without a beginning as a beginning
        ([B_PER, B_PER, OUT, B_ORG], 0.4),  # two entities in place of one: 1 of 3 right, 1 of 2 found
        ([OUT, OUT, OUT, OUT], 0.0),
    ],
)
def test_entities_by_hand(said: list[int], f1: float) -> None:
    truth = np.array([[B_PER, I_PER, OUT, B_ORG, NO_WORD]])
    assert scores(np.array([[*said, B_LOC]]), truth, NAMES) == {"f1": pytest.approx(f1)}


def test_entities_count_over_all_sentences() -> None:
    truth = np.array([[B_PER, NO_WORD], [B_ORG, I_ORG], [OUT, OUT]])
    assert scores(np.array([[B_PER, OUT], [B_LOC, OUT], [OUT, OUT]]), truth, NAMES)["f1"] == pytest.approx(0.5)
    with pytest.raises(DataError, match="do not pair up"):
        scores(truth[:2], truth, NAMES)
    assert scores(truth[2:], truth[2:], NAMES) == {"f1": None}, "no entity on either side"


def test_the_first_piece_of_a_word_carries_its_tag() -> None:
    made = tagged(sentences("xyz q", "q", tags=[[B_PER, OUT], [B_LOC]]), TOKENIZER, 16)
    assert made.encoded.lengths.tolist() == [6, 3]
    assert made.encoded.labels.tolist() == [
        [IGNORED, B_PER, IGNORED, IGNORED, OUT, IGNORED], [IGNORED, B_LOC, *[IGNORED] * 4]
    ]  # fmt: skip
    assert made.places.tolist() == [[1, 4], [1, -1]]


def test_words_without_a_piece_are_outside() -> None:
    cut = tagged(sentences("xyz xyz", tags=[[B_PER, B_PER]]), TOKENIZER, 5)
    assert cut.places.tolist() == [[1, -1]]
    nothing = tagged(sentences("x \u200d y", tags=[[B_PER, B_PER, B_LOC]]), TOKENIZER, 9)
    assert nothing.places.tolist() == [[1, -1, 2]]
    logits = np.zeros((1, 4, len(NAMES)))
    logits[..., B_PER] = 1.0
    assert best_tags(logits.reshape(1, -1), nothing).tolist() == [[B_PER, OUT, B_PER]]


@given(st.lists(st.lists(st.tuples(st.text("xyzaeQ.", min_size=1, max_size=4), st.integers(0, 8)), min_size=1,
                         max_size=6), min_size=1, max_size=4))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_logits_that_are_right_give_the_tags_back(rows: list[list[tuple[str, int]]]) -> None:
    texts = sentences(
        *(" ".join(word for word, _ in row) for row in rows), tags=[[tag for _, tag in row] for row in rows]
    )
    made = tagged(texts, TOKENIZER, 64)
    logits = np.random.default_rng(0).normal(size=(*made.encoded.labels.shape, len(NAMES)))
    for row, place in np.argwhere(made.encoded.labels != IGNORED):
        logits[row, place, made.encoded.labels[row, place]] = 9.0
    found = best_tags(logits.reshape(len(rows), -1), made)
    there = texts.labels != NO_WORD
    assert (made.places[there] > 0).all(), "every word has a piece"
    assert np.array_equal(found[there], texts.labels[there])


def test_the_loss_counts_only_tagged_pieces() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4), torch.full((2, 5), IGNORED)
    labels[0, 1], labels[1, 2] = 3, 0
    wanted = -(logits[0, 1].log_softmax(0)[3] + logits[1, 2].log_softmax(0)[0]) / 2
    assert tag_loss(logits, labels).item() == pytest.approx(wanted.item(), rel=1e-6)
    assert tag_loss(logits, torch.full((2, 5), IGNORED)).item() == 0.0


def table(words: object, tags: object) -> pa.Table:
    return pa.table({"tokens": words, "ner_tags": tags})


@pytest.mark.parametrize(
    ("words", "tags", "said"),
    [
        (["a b"], [[0]], ("wrong type of column", "tokens", "list<string>")),
        ([["a"]], [0], ("wrong type of column", "ner_tags", "list<int64>")),
        ([["a", "b c"]], [[0, 0]], ("not a list of words", "row 0")),
        ([["a"], []], [[0], []], ("not a list of words", "row 1")),
        ([["a", ""]], [[0, 0]], ("not a list of words",)),
        ([["a", "b"]], [[0]], ("do not pair up", "1 in row 0", "2 tags")),
        ([["a"], ["b"]], [[0], [9]], ("a tag outside the names", "9 in row 1", "8 I-MISC")),
        ([["a"]], [[-1]], ("a tag outside the names", "-1 in row 0")),
    ],
)
def test_bad_tables_are_refused(words: list, tags: list, said: tuple[str, ...]) -> None:
    given = table(words, tags)
    with pytest.raises(DataError) as caught:
        found = read_words(given["tokens"], "file, field tokens")
        read_tags(given["ner_tags"], found, NAMES, "file, field ner_tags")
    assert all(part in str(caught.value) for part in said), caught.value


def test_a_folder_is_read_and_its_names_checked(tmp_path: Path) -> None:
    (tmp_path / "conll2003").mkdir()

    def write(names: list[str]) -> None:
        features = datasets.Features({
            "id": datasets.Value("string"), "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        })  # fmt: skip
        rows = {"id": ["0", "1"], "tokens": [["Ada", "L.", "ran"], ["so"]], "ner_tags": [[1, 2, 0], [0]]}
        data = datasets.Dataset.from_dict(rows, features=features)
        data.to_parquet(tmp_path / "conll2003" / "validation_subset.parquet")

    write(list(NAMES))
    rows = open_source(str(tmp_path)).rows(TASK, "validation")
    assert rows.columns == (["Ada L. ran", "so"],) and rows.partial
    assert rows.labels.tolist() == [[1, 2, 0], [0, NO_WORD, NO_WORD]]
    assert rows.take(1).labels.shape == (1, 3)
    write([NAMES[0], *NAMES[3:], *NAMES[1:3]])
    with pytest.raises(DataError, match=r"label names differ.*field ner_tags"):
        open_source(str(tmp_path)).rows(TASK, "validation")


def test_the_floor_is_a_margin_above_nothing() -> None:
    assert floor(TASK, np.zeros((3, 2), np.int64)) == TASK.margin


def test_which_tokenizers_lower() -> None:
    assert lowers(TOKENIZER)
    cased = letters()
    cased.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    assert not lowers(cased)
