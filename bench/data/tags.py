"""A tag for every word: spread over the word pieces that a model reads, and found again in its logits.

As in BERT (Devlin et al. 2019, arXiv 1810.04805v2, section 5.3) the first piece of a word carries its tag, and the
other pieces none. A word that has no piece, because the text was cut before it or because it holds nothing that the
tokenizer knows, is answered with the first tag, O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.core.errors import ModelError
from bench.data.batches import Encoded
from bench.data.masking import IGNORED
from bench.data.rows import Rows, Texts

OUTSIDE = 0
"""The tag of a word that is part of no entity."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """The N sentences of a split as a model reads them; labels [N, L] are tags on first pieces, else the ignored id."""

    encoded: Encoded
    places: np.ndarray
    """int32 [N, W]: the piece that each word begins with; -1 where it has none"""


def tagged(rows: Rows | Texts, tokenizer: Any, length: int) -> Tagged:
    """Tokenise sentences of words parted by single spaces, cut to `length` pieces.

    Raises ModelError for a tokenizer that does not say which word a piece is of.
    """
    (sentences,) = rows.columns
    if not tokenizer.is_fast:
        raise ModelError("the tokenizer does not say which word a piece is of", found=type(tokenizer).__name__,
                         expected="a fast tokenizer", fix="give the checkpoint a tokenizer.json")  # fmt: skip
    out = tokenizer([sentence.split(" ") for sentence in sentences], is_split_into_words=True, truncation=True,
                    max_length=length, return_attention_mask=False, return_token_type_ids=True)  # fmt: skip
    pieces = out["input_ids"]
    labels = np.full((len(pieces), max(map(len, pieces))), IGNORED)
    places = np.full(rows.labels.shape, -1, np.int32)
    for row in range(len(pieces)):
        for place, word in enumerate(out.word_ids(row)):
            if word is not None and places[row, word] < 0:
                places[row, word] = place
                labels[row, place] = rows.labels[row, word]
    return Tagged(Encoded.from_lists(pieces, out["token_type_ids"], labels, tokenizer.pad_token_id), places)


def best_tags(logits: np.ndarray, split: Tagged) -> np.ndarray:
    """Each word's likeliest tag, O where it has no piece. int64 [N, W]

    Shapes: `logits` [N, C L], the C of each piece side by side, as `bench.train.predict` gives them.
    """
    count, longest = len(split.encoded), int(split.encoded.lengths.max())
    per_piece = logits.reshape(count, longest, -1).argmax(2)
    return np.where(split.places >= 0, np.take_along_axis(per_piece, np.maximum(split.places, 0), 1), OUTSIDE)
