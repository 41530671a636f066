"""The students' own tokenizer: the most frequent words of the in-domain text, read word by word."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from bench.data.rows import Texts

PAD, UNKNOWN, CLS, SEPARATOR, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"


def vocabulary(texts: Texts, size: int, mask: str = MASK) -> PreTrainedTokenizerFast:
    """A tokenizer of lower-cased words and punctuation marks; padding is token 0.

    The five special tokens come first, then the `size` - 5 most frequent words, of equally frequent ones the first by
    the alphabet. `mask` is how a masked word is written in texts that the teacher reads, too. A row is read as
    "text [SEP]", a pair as "one [SEP] other": no row is without a token, be its texts empty.
    Source: ours, see D4.
    """
    special = [PAD, UNKNOWN, CLS, SEPARATOR, mask]
    raw = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    raw.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(vocab_size=size, min_frequency=1, special_tokens=special, show_progress=False)
    words: Iterable[str] = chain.from_iterable(texts.columns)
    raw.train_from_iterator(words, trainer, length=sum(map(len, texts.columns)))
    raw.post_processor = processors.TemplateProcessing(
        single=f"$A {SEPARATOR}", pair=f"$A {SEPARATOR} $B:1",
        special_tokens=[(SEPARATOR, special.index(SEPARATOR))],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=PAD, unk_token=UNKNOWN, cls_token=CLS, sep_token=SEPARATOR, mask_token=mask,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
