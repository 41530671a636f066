"""A literal [MASK], [SEP] or [UNK] in a text is one word to TinyBERT's augmentation, as it is to the tokenizer."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.rows import Texts
from bench.train.augmentation.candidates import Splitter
from tests.papers.test_tinybert_augment import SPECIAL, TOKENIZER, make

TEXT = "the [MASK] runs[SEP]slow  [UNK] dog [mask] FILM"


def test_the_words_are_those_that_the_tokenizer_reads() -> None:
    sentence = Splitter(TOKENIZER)(TEXT)
    assert sentence.words == ("the", "[MASK]", "runs", "[SEP]", "slow", "[UNK]", "dog", "[", "mask", "]", "film")
    flat = [piece for pieces in sentence.pieces for piece in pieces]
    assert flat == TOKENIZER(TEXT, add_special_tokens=False)["input_ids"]
    assert Splitter(TOKENIZER)("[MASK][MASK]").words == ("[MASK]", "[MASK]")


@pytest.mark.parametrize("rules", [{}, {"letters_only": False, "skip_stop_words": False}])
def test_they_stay_in_every_variant_and_nothing_new_comes_in(rules: dict) -> None:
    machine = make({"augmentation": 20, "probability": 1.0, **rules})
    text = "the [MASK] runs [SEP] slow [UNK] dog"
    (shard,) = machine.shards(Texts(([text],), np.zeros(1, int)))
    assert len(shard) > 5
    for variant in shard.columns[0]:
        words = variant.split(" ")
        assert [(i, word) for i, word in enumerate(words) if word in SPECIAL] == [
            (1, "[MASK]"),
            (3, "[SEP]"),
            (5, "[UNK]"),
        ]
        assert len(words) == 7 and len(TOKENIZER.tokenize(variant)) >= 7
