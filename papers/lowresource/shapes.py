"""The students of low-resource distillation at the size in which they are trained: they have no smaller one.

The BiLSTM's 0.66 million and the bag of words' 80 thousand are from the first author's blog series of 2021. The sizes
of their parts are ours and were chosen to meet these totals, so that a total agrees says nothing about the paper.
No source at hand gives a size of the convolutional network.

They read word by word (D4), which is part of what they save: `bench measure` times their tokenizer, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from transformers import PreTrainedTokenizerFast

from bench.data import synthetic
from bench.data.rows import Texts
from bench.models.shape import Shape
from papers.lowresource import student
from papers.lowresource.student import BiLstmConfig, CbowFfnConfig, CnnConfig
from papers.lowresource.vocabulary import vocabulary

SENTENCES = 3000
"""Of the made-up language, enough for nearly all its words; it has fewer than a vocabulary of 5,000 holds."""


def words() -> PreTrainedTokenizerFast:
    """A student's tokenizer as a run makes it, of made-up text: looking a word up takes as long in any vocabulary."""
    sentences = synthetic.corpus(SENTENCES)
    return vocabulary(Texts((sentences,), np.empty(0)), 5000)


SHAPES: Mapping[str, Shape] = {
    "bilstm": Shape(
        "a BiLSTM of 2 layers of width 80 over 5,000 words of width 80: sizes ours, in all the 0.66 million printed",
        lambda: student.BiLstmForSequenceClassification(BiLstmConfig()),
        partial(student.bilstm_flops, BiLstmConfig()),
        guessed="its widths are ours, chosen to meet the printed total",
        words=words,
    ),
    "cbow-ffn": Shape(
        "the mean of 5,000 words' vectors of width 16, and one hidden layer: about 80 thousand parameters",
        lambda: student.CbowFfnForSequenceClassification(CbowFfnConfig()),
        partial(student.cbow_ffn_flops, CbowFfnConfig()),
        guessed="its widths are ours, chosen to meet the printed total",
        words=words,
    ),
    "cnn": Shape(
        "100 filters each of widths 3, 4 and 5 over 5,000 words of width 80: sizes ours, no source gives any",
        lambda: student.CnnForSequenceClassification(CnnConfig()),
        partial(student.cnn_flops, CnnConfig()),
        guessed="no source gives its sizes",
        words=words,
    ),
}
