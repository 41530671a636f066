"""Windows of long contexts, the places of answers in them, and the search for answers, against plain code."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

from bench.core.errors import SpecError
from bench.data.rows import Texts
from bench.data.spans import Windows, best_answers, check_windows, windows
from bench.train.losses import attended_only, span_loss, supervised
from bench.train.predict import predict

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = string.ascii_lowercase


def letters() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that takes words to pieces of one letter, or of two that begin with a vowel."""
    pieces = [*SPECIAL, *string.punctuation, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces += [f"{start}{vowel}{letter}" for start in ("", "##") for vowel in "aeiou" for letter in LETTERS]
    raw = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


TOKENIZER = letters()
PIECES = TOKENIZER.get_vocab()


def rows(*examples: tuple[str, str, str]) -> Texts:
    """(question, context, answer) as rows; the answer is the first part of the context that reads so."""
    begins = [context.index(answer) for _, context, answer in examples]
    labels = np.array([(b, b + len(answer)) for b, (_, _, answer) in zip(begins, examples, strict=True)])
    return Texts(([q for q, _, _ in examples], [c for _, c, _ in examples]), labels, tuple((a,) for *_, a in examples))


def shown(made: Windows, window: int) -> list[str]:
    encoded = made.encoded
    names = {i: piece for piece, i in PIECES.items()}
    return [names[i] for i in encoded.tokens[encoded.offsets[window] : encoded.offsets[window + 1]]]


def test_a_short_example_is_one_window() -> None:
    made = windows(rows(("q r s", "X-y, Été z.", "Été")), TOKENIZER, 16, 3, 2)
    assert shown(made, 0) == ["[CLS]", "q", "r", "[SEP]", "x", "-", "y", ",", "et", "##e", "z", ".", "[SEP]"]
    assert made.encoded.segments.tolist() == [0] * 4 + [1] * 9 and made.rows.tolist() == [0]
    assert made.encoded.labels.tolist() == [[8, 9]]
    assert made.begins.tolist() == [-1] * 4 + [0, 1, 2, 3, 5, 7, 9, 10, -1]
    assert made.ends.tolist() == [-1] * 4 + [1, 2, 3, 4, 7, 8, 10, 11, -1]


def test_windows_begin_a_stride_apart_and_an_answer_outside_points_to_cls() -> None:
    made = windows(rows(("q", "b c d f g h j", "f g"), ("q r", "b", "b")), TOKENIZER, 8, 2, 2)
    assert [shown(made, i)[3:-1] for i in range(3)] == [list("bcdf"), list("dfgh"), list("ghj")]
    assert shown(made, 3) == ["[CLS]", "q", "r", "[SEP]", "b", "[SEP]"]
    assert made.rows.tolist() == [0, 0, 0, 1]
    assert made.encoded.labels.tolist() == [[0, 0], [4, 5], [0, 0], [4, 4]], "half an answer is none"
    assert made.encoded.ids.tolist() == [0, 1, 2, 3]


def test_the_answer_may_be_a_part_of_a_token_or_of_none() -> None:
    made = windows(rows(("q", "b ex c", "x c"), ("q", "b  c", "  ")), TOKENIZER, 12, 4, 4)
    assert made.encoded.labels.tolist() == [[4, 5], [0, 0]]


@pytest.mark.parametrize(("length", "stride", "question"), [(384, 128, 64), (128, 64, 48), (64, 32, 24), (10, 1, 6)])
def test_windows_that_cover(length: int, stride: int, question: int) -> None:
    check_windows(length, stride, question)
    with pytest.raises(
        SpecError, match=r"do not cover a context; in windows.stride; found \d+; expected 1 to"
    ) as error:
        check_windows(length, length - question - 2, question)
    assert "\n" not in str(error.value)


WORDS = st.text(alphabet="abcdeé.,-'XZ ", min_size=1, max_size=40).filter(lambda text: text.strip() != "")


@given(context=WORDS, question=st.text(alphabet="abc ", max_size=12), length=st.integers(12, 80), data=st.data())
@settings(max_examples=150, deadline=None)
def test_gold_places_give_the_gold_text_again(context: str, question: str, length: int, data: Any) -> None:
    """Of an answer of whole tokens, from the windows that hold it; and all windows together show every token."""
    places = TOKENIZER(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    first = data.draw(st.integers(0, len(places) - 1))
    last = data.draw(st.integers(first, len(places) - 1))
    begin, end = places[first][0], places[last][1]
    stride = data.draw(st.integers(1, length - 4 - 3))
    made = windows(Texts(([question], [context]), np.array([[begin, end]])), TOKENIZER, length, stride, 4)
    encoded, seen = made.encoded, set()
    holding = 0
    for window in range(len(encoded)):
        part = slice(encoded.offsets[window], encoded.offsets[window + 1])
        begins, ends, (start, stop) = made.begins[part], made.ends[part], encoded.labels[window]
        assert len(begins) == len(encoded.tokens[part]) <= length
        spread = [(int(a), int(b)) for a, b in zip(begins, ends, strict=True) if a >= 0]
        seen |= set(spread)
        whole = set(places[first : last + 1]) <= set(spread)
        assert (start > 0) == whole
        if whole:
            holding += 1
            assert context[begins[start] : ends[stop]] == context[begin:end]
    assert seen == set(places) and (holding > 0 or len(encoded) > 1)
    if holding:
        logits = np.zeros((len(encoded), int(encoded.lengths.max()), 2), np.float32)
        for window, (start, stop) in enumerate(encoded.labels):
            if start:
                logits[window, start, 0] = logits[window, stop, 1] = 1.0
        assert best_answers(logits.reshape(len(encoded), -1), made, [context], 99, 99) == [context[begin:end]]


# The search


def brute_force(logits: np.ndarray, made: Windows, contexts: list[str], n_best: int, most: int) -> list[str]:
    best: dict[int, tuple[float, str]] = {}
    for window, row in enumerate(made.rows):
        offset, count = made.encoded.offsets[window], made.encoded.lengths[window]
        inside = [t for t in range(count) if made.begins[offset + t] >= 0]
        starts, ends = (sorted(inside, key=lambda t: -logits[window, 2 * t + k])[:n_best] for k in (0, 1))
        for i in starts:
            for j in ends:
                value = float(logits[window, 2 * i] + logits[window, 2 * j + 1])
                if 0 <= j - i < most and value > best.get(int(row), (-np.inf, ""))[0]:
                    text = contexts[row][made.begins[offset + i] : made.ends[offset + j]]
                    best[int(row)] = value, text
    return [best.get(row, (0.0, ""))[1] for row in range(len(contexts))]


@pytest.mark.parametrize(("n_best", "most"), [(1, 30), (2, 3), (5, 2), (20, 1), (99, 99)])
def test_the_best_span_is_the_best_of_all(n_best: int, most: int) -> None:
    rng = np.random.default_rng(n_best)
    contexts = ["".join(rng.choice(list("abcdef ,"), 30)) + "x" for _ in range(25)]
    given_rows = Texts((["ab"] * 25, contexts), np.tile((0, 1), (25, 1)))
    made = windows(given_rows, TOKENIZER, 14, 5, 4)
    assert len(made.rows) > 60
    for _ in range(5):
        logits = rng.normal(size=(len(made.rows), 2 * int(made.encoded.lengths.max()))).astype(np.float32)
        assert best_answers(logits, made, contexts, n_best, most) == brute_force(logits, made, contexts, n_best, most)


def test_without_an_allowed_span_the_answer_is_empty() -> None:
    made = windows(rows(("q", "b c", "b")), TOKENIZER, 10, 2, 4)
    logits = np.zeros((1, 6, 2), np.float32)
    logits[0, 4, 0] = logits[0, 3, 1] = 5.0  # ends before it starts
    assert best_answers(logits.reshape(1, -1), made, ["b c"], 1, 30) == [""]
    assert best_answers(logits.reshape(1, -1), made, ["b c"], 2, 30) != [""]
    logits[0, 1] = 9.0  # the question is no part of the context
    assert best_answers(logits.reshape(1, -1), made, ["b c"], 1, 30) == [""]


# What a model does with them


def model() -> BertForQuestionAnswering:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(PIECES), num_hidden_layers=1, hidden_size=16, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32, initializer_range=0.5)  # fmt: skip
    return BertForQuestionAnswering(config).eval()


def test_predictions_per_token_come_back_in_order() -> None:
    made = windows(rows(("q", "b c d f g h j k l", "f g"), ("q r", "b", "b")), TOKENIZER, 9, 3, 2)
    logits = predict(model(), made.encoded, Accelerator(cpu=True)).reshape(len(made.rows), -1, 2)
    assert logits.shape[1] == made.encoded.lengths.max()
    for window, length in enumerate(made.encoded.lengths):
        part = slice(made.encoded.offsets[window], made.encoded.offsets[window] + length)
        ids, types = (torch.from_numpy(a[part].astype(np.int64))[None] for a in
                      (made.encoded.tokens, made.encoded.segments))  # fmt: skip
        with torch.no_grad():
            out = model()(ids, token_type_ids=types)
        assert np.allclose(logits[window, :length, 0], out.start_logits[0], atol=1e-5)
        assert np.allclose(logits[window, :length, 1], out.end_logits[0], atol=1e-5)


def test_the_loss_is_the_mean_of_start_and_end() -> None:
    logits = torch.zeros(2, 4, 2)
    logits[0, 1, 0] = 2.0
    labels = torch.tensor([[1, 3], [0, 0]])
    start = [np.log(np.exp(2) + 3) - 2, np.log(4)]
    assert span_loss(logits, labels).item() == pytest.approx((np.mean(start) + np.log(4)) / 2, rel=1e-6)
    outside = torch.tensor([[1, 4], [-1, 9]])
    assert span_loss(logits, outside).item() == pytest.approx(start[0], rel=1e-6)
    assert span_loss(logits, torch.full((2, 2), 4)).item() == 0.0


def test_padding_does_not_change_the_loss() -> None:
    loss, made = supervised("span"), model()
    ids, labels = torch.arange(40, 48).view(1, 8), torch.tensor([[2, 5]])
    alone = loss(made, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})["task"]
    padded = torch.cat([ids, torch.zeros(1, 5, dtype=torch.long)], 1)
    beside = loss(made, {"input_ids": padded, "attention_mask": (padded > 0).long(), "labels": labels})["task"]
    assert beside.item() == pytest.approx(alone.item(), rel=1e-5)
    kept = attended_only(torch.zeros(1, 3, 2), torch.tensor([[1, 1, 0]])).softmax(1)
    assert kept[0, :, 0].tolist() == [0.5, 0.5, 0.0]
