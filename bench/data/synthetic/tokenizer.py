"""A WordPiece tokenizer trained on the language, the same to the last byte on every machine."""

from __future__ import annotations

import json
from pathlib import Path

from bench.data.synthetic.lexicon import NOUN_ENDING, VERB_ENDING, inflected, vocabulary
from bench.data.synthetic.text import corpus

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PUNCTUATION = (".", "?")
PIECES = 2000
"""Most pieces that training may make; there are fewer, for it stops when every stem is one."""
SENTENCES = 20_000
"""Corpus that it is trained on."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _train() -> list[str]:
    """The pieces by id."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer()
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers inner letters in the order of a hash map, and ties between merges go by number: naming the
    # letters beforehand is what makes the result the same every time.
    letters = [*PUNCTUATION, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    letters += [f"##{ending}" for ending in (NOUN_ENDING, VERB_ENDING) if len(ending) > 1]
    trainer = trainers.WordPieceTrainer(
        vocab_size=PIECES, special_tokens=[*SPECIAL, *letters], show_progress=False, min_frequency=1
    )
    # It reads stems, so that an inflected word is its stem and its ending: number shows, and both forms share a stem.
    stems = inflected()
    texts = (" ".join(stems.get(word.strip(".?"), word) for word in text.split()) for text in corpus(SENTENCES))
    learner.train_from_iterator([*texts, *(stems.get(word, word) for word in vocabulary())], trainer)
    pieces = learner.get_vocab()
    return sorted(pieces, key=pieces.__getitem__)


def write_tokenizer(folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and vocab.txt into the folder, which is made.

    `transformers.AutoTokenizer` and `BertTokenizerFast` load it; [PAD] has id 0.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = _train()
    ids = {piece: i for i, piece in enumerate(pieces)}
    assert tuple(pieces[: len(SPECIAL)]) == SPECIAL, pieces[: len(SPECIAL)]
    final = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]", max_input_chars_per_word=100))
    final.normalizer = normalizers.BertNormalizer()
    final.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    final.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    final.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )  # fmt: skip
    final.add_special_tokens(list(SPECIAL))
    folder.mkdir(parents=True, exist_ok=True)
    final.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512,
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
