"""A deterministic little language: a corpus for masked-LM training and GLUE-shaped tasks that need what they name.

About 1,500 words with agreement, negation, graded sentiment, synonyms, kinds and quantifiers. Nothing is read or
fetched, and the same words come out everywhere, so runs on it need no data and can be compared.
"""

from bench.data.synthetic.lexicon import vocabulary
from bench.data.synthetic.tasks import VERSION, rows
from bench.data.synthetic.text import corpus
from bench.data.synthetic.tokenizer import write_tokenizer

__all__ = ["VERSION", "corpus", "rows", "vocabulary", "write_tokenizer"]
