"""TinyBERT's data augmentation: candidates against the one-word-at-a-time procedure, variants, shards, bad files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from bench.core.errors import DataError, SpecError
from bench.data.rows import Texts
from bench.train.augmentation import shards
from bench.train.augmentation.augment import Augmentation, Augmenter, augmenter, variants
from bench.train.augmentation.candidates import STOP_WORDS, MaskedWords, Splitter, replaceable
from bench.train.augmentation.shards import Augmented, augmented, entry_key
from bench.train.augmentation.wordvectors import read_word_vectors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("film", "movie", "great", "awful", "plot", "actor", "the", "is", "not", "dog", "cat", "runs", "slow", "fast")
VOCABULARY = (*SPECIAL, "[unused0]", ".", "!", "'", *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS)


def _tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                   sep_token="[SEP]", mask_token="[MASK]")  # fmt: skip


def _model(seed: int = 0, positions: int = 64) -> BertForMaskedLM:
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=positions)  # fmt: skip
    model = BertForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


TOKENIZER, MODEL = _tokenizer(), _model()
TEXTS = ["The film is great!", "a slow dog runs", "the plot is not awful .", "actor's movie", "fast", "it is the", "",
         "zebra film, quick cat"]  # fmt: skip


def make(changes: dict | None = None, seed: int = 0, **arguments) -> Augmenter:
    settings = Augmentation(**{"augmentation": 5, "precision": "fp32", **(changes or {})})
    return augmenter(settings, TOKENIZER, MODEL, seed, **arguments)


def originals(*columns: list[str], labels: Sequence[float] | None = None) -> Texts:
    """Rows whose labels, where none are given, say which row it is."""
    return Texts(columns, np.arange(len(columns[0])) if labels is None else np.array(labels))


def rows_of(machine: Augmenter, texts: Texts, **arguments) -> list[tuple]:
    """(label, texts) of everything that comes out."""
    return [
        (shard.labels[i].item(), tuple(column[i] for column in shard.columns))
        for shard in machine.shards(texts, **arguments)
        for i in range(len(shard))
    ]


def one_at_a_time(text: str, place: int, count: int) -> set[str]:
    """The words that the released procedure finds: one forward pass of one masked sentence, all positions projected."""
    pieces = TOKENIZER.tokenize(text)
    ids = TOKENIZER.convert_tokens_to_ids(pieces)
    starts = [i for i, piece in enumerate(pieces) if not piece.startswith("##")]
    masked = list(ids)
    masked[starts[place]] = TOKENIZER.mask_token_id
    row = [2, *masked, 3, *ids, 3][:64]
    if 1 + starts[place] >= 64:
        return set()
    segments = ([0] * (len(ids) + 2) + [1] * (len(ids) + 1))[:64]
    with torch.no_grad():
        logits = MODEL(input_ids=torch.tensor([row]), token_type_ids=torch.tensor([segments])).logits
    best = torch.argsort(logits[0, 1 + starts[place]], descending=True)[:count].tolist()
    words = TOKENIZER.convert_ids_to_tokens(best)
    return {word for word in words if not word.startswith("##") and not (word[0] == "[" and len(word) > 1)}


@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_batched_candidates_are_those_of_one_word_at_a_time(batch_tokens: int):
    machine = make(batch_tokens=batch_tokens)
    compared = 0
    long = " ".join(["slow dog"] * 40)  # 80 words: cut within the second copy, and some beyond the first
    for text, (sentence, found) in zip([*TEXTS, long], machine.candidates.find([*TEXTS, long]), strict=True):
        for place, word in enumerate(sentence.words):
            if not replaceable(word, True, True):
                assert place not in found
            elif len(sentence.pieces[place]) == 1:
                assert set(found.get(place, ())) == one_at_a_time(text, place, 15), (text, word)
                compared += 1
    assert compared == 12 + 80


def test_replacements_are_drawn_evenly_and_with_the_given_probability():
    [(_, found)] = make({"candidates": 8}).candidates.find(["slow dog runs"])
    # Distinct variants hide how often each word came; one round at a time shows it.
    once = Augmentation(augmentation=1, candidates=8)
    sentence = Splitter(TOKENIZER)("slow dog runs")
    expected = one_at_a_time("slow dog runs", 1, 8)
    assert set(found[1]) == expected
    counts: Counter[str] = Counter()
    rounds = 6000
    for i in range(rounds):
        made = variants("", sentence, {1: found[1]}, once, np.random.default_rng(i))
        counts[made[0].split(" ")[1] if made else "dog"] += 1
    for word in expected - {"dog"}:
        share, exact = counts[word] / rounds, 0.4 / len(expected)
        assert abs(share - exact) < 4 * (exact * (1 - exact) / rounds) ** 0.5, word


def test_a_pair_varies_one_text_with_the_other_at_its_original():
    texts = originals(["slow dog runs"], ["great film"])
    rows = [row for _, row in rows_of(make(), texts)]
    assert rows[0] == ("slow dog runs", "great film")
    first, second = [r for r in rows[1:] if r[0] != rows[0][0]], [r for r in rows[1:] if r[1] != rows[0][1]]
    assert first and second and len(first) + len(second) == len(rows) - 1
    assert {r[1] for r in first} == {"great film"}
    assert {r[0] for r in second} == {"slow dog runs"}


def test_released_pairs_keep_the_first_text_at_its_last_variant():
    texts = originals(["slow dog runs"], ["great film"])
    rows = [row for _, row in rows_of(make({"pairs": "released"}), texts)]
    start = next(i for i in range(1, len(rows)) if rows[i][0] == rows[i - 1][0])
    stuck = rows[start - 1][0]
    assert stuck != "slow dog runs"
    assert {a for a, _ in rows[start:]} == {stuck}
    assert rows[start] == rows[start - 1]  # the released code writes that row twice


def test_stop_words_and_other_than_letters_stay_unless_asked():
    assert len(STOP_WORDS) == 173 and all(word == word.lower() for word in STOP_WORDS)
    [(sentence, found)] = make().candidates.find(["the dog2 film ."])
    assert [sentence.words[i] for i in found] == ["film"]
    [(sentence, found)] = make({"skip_stop_words": False, "letters_only": False}).candidates.find(["the film ."])
    assert [sentence.words[i] for i in found] == ["the", "film", "."]


def test_words_of_several_pieces_take_near_embeddings():
    [(sentence, found)] = make({"candidates": 3}).candidates.find(["zebra"])
    assert len(sentence.pieces[0]) == 5 and len(found[0]) == 3
    table = MODEL.get_input_embeddings().weight.detach()
    mine = table[list(sentence.pieces[0])].mean(0)
    scores = {w: torch.cosine_similarity(mine, table[VOCABULARY.index(w)], dim=0).item() for w in (*WORDS, *LETTERS)}
    assert set(found[0]) == set(sorted(scores, key=lambda w: -scores[w])[:3])


def test_words_of_several_pieces_take_word_vectors_when_a_file_is_given(tmp_path: Path):
    path = tmp_path / "vectors.txt"
    path.write_text("zebra 1 0\nhorse 0.9 0.1\nmule 0.8 0.2\nstone -1 0\nhot dog 1 0.01\n")
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    machine = make({"candidates": 3, "word_vectors": str(path), "word_vectors_sha256": sha})
    found = machine.candidates.find(["zebra quagga"])[0][1]
    assert found == {0: ("horse", "mule")}  # "hot dog" is two words; quagga is not in the file and stays
    cased = machine.candidates
    cased._look_up({"Zebra"})
    assert cased._near["Zebra"] == ()


def test_title_case_is_restored():
    class Near:
        def nearest(self, words, count):
            return [("horse", "mule") for _ in words]

    candidates = make().candidates
    candidates._neighbours, candidates._near = Near(), {}
    candidates._look_up({"Zebra", "zebra"})
    assert candidates._near == {"Zebra": ("Horse", "Mule"), "zebra": ("horse", "mule")}


odd = st.sampled_from([*WORDS, "zebra", "Œuvre", ".", "?!", "[MASK]", "é", "日本"])
anything = st.text(max_size=30) | st.lists(odd, max_size=90).map(" ".join)


@rules(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=4),
       st.integers(0, 4), st.booleans(), st.integers(0, 3))  # fmt: skip
def test_whatever_the_rows(rows: list[tuple[str, str]], rounds: int, everything: bool, seed: int):
    choices = {"augmentation": rounds, "skip_stop_words": not everything, "letters_only": not everything}
    texts = originals([a for a, _ in rows], [b for _, b in rows])
    out = rows_of(make(choices, seed), texts)
    splitter = Splitter(TOKENIZER)
    assert {label for label, _ in out} == {*range(len(rows))}
    for number, (a, b) in enumerate(rows):
        mine = [row for label, row in out if label == number]
        assert 1 <= len(mine) <= 1 + 2 * rounds
        assert mine[0] == (a, b)
        assert len({*mine}) == len(mine)
        for row in mine[1:]:
            changed = [column for column in (0, 1) if row[column] != (a, b)[column]]
            assert len(changed) == 1
            words = splitter((a, b)[changed[0]]).words
            assert len(row[changed[0]].split(" ")) == len(words)
            assert row[changed[0]] != " ".join(words)
    assert out == rows_of(make(choices, seed), texts, shard_rows=2)


def test_a_row_becomes_the_same_whatever_stands_beside_it():
    whole, turned = originals(TEXTS), originals(TEXTS[::-1], labels=range(len(TEXTS))[::-1])
    by_label = {label: [row for found, row in rows_of(make(), whole) if found == label] for label in range(8)}
    other = rows_of(make(batch_tokens=30), turned, shard_rows=3)
    assert by_label == {label: [row for found, row in other if found == label] for label in range(8)}
    assert rows_of(make(seed=1), whole) != rows_of(make(), whole)
    # Two equal rows do not become twice the same.
    twice = rows_of(make(), originals(["slow dog runs", "slow dog runs"]))
    assert {row for label, row in twice if label == 0} != {row for label, row in twice if label == 1}


def looked_up(monkeypatch: pytest.MonkeyPatch, **given: int) -> list[list[str]]:
    """The texts whose words are guessed together, call by call."""
    asked: list[list[str]] = []
    find = MaskedWords.find
    with monkeypatch.context() as patch:
        patch.setattr(MaskedWords, "find", lambda self, w, n: (asked.append([" ".join(s.words) for s, _ in w]),
                                                               find(self, w, n))[1])  # fmt: skip
        texts = originals(["a dog", "a cat", "a dog"], ["a film", "a dog", "a cat"])
        list(make().shards(texts, **given))
    return asked


def test_a_text_that_comes_again_is_looked_up_once_a_shard(monkeypatch: pytest.MonkeyPatch):
    (asked,) = looked_up(monkeypatch, shard_rows=3)
    assert sorted(asked) == ["a cat", "a dog", "a film"]


def test_what_is_guessed_together_does_not_depend_on_where_a_run_goes_on(monkeypatch: pytest.MonkeyPatch):
    whole = looked_up(monkeypatch, shard_rows=1)
    assert len(whole) == 3 and looked_up(monkeypatch, shard_rows=1, first=1) == whole[1:]


def entry(folder: Path, **changes) -> Augmented:
    given = {"texts": originals(TEXTS, labels=[0.5 * i for i in range(8)]),
             "settings": Augmentation(augmentation=3, precision="fp32"), "tokenizer": TOKENIZER,
             "masked_lm": MODEL, "seed": 0, "shard_rows": 3}  # fmt: skip
    return augmented(**{**given, **changes}, folder=folder)


def test_shards_hold_what_was_made_and_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[tuple[int, int]] = []
    first = entry(tmp_path, progress=lambda done, of: told.append((done, of)))
    assert told == [(3, 8), (6, 8), (8, 8)] and len(first.shards) == 3
    texts = first.texts()
    made = [(label.item(), (text,)) for label, text in zip(texts.labels, *texts.columns, strict=True)]
    machine = make({"augmentation": 3})
    assert made == rows_of(machine, originals(TEXTS, labels=[0.5 * i for i in range(8)]))
    assert first.rows == len(made) and first.originals == 8
    monkeypatch.setattr(shards, "augmenter", None)  # not needed again
    assert entry(tmp_path) == first


def test_a_killed_run_goes_on_after_its_last_whole_shard(tmp_path: Path):
    class KilledError(Exception):
        pass

    def die(done: int, of: int) -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        entry(tmp_path / "killed", progress=die)
    [staging] = (tmp_path / "killed").glob("*/.writing-*")
    half = staging / ".part-00002.parquet.0.writing"
    half.write_bytes(b"half a shard")
    stamps = {path.name: path.stat().st_mtime_ns for path in staging.glob("part-*")}
    assert len(stamps) == 2
    told: list[int] = []
    resumed = entry(tmp_path / "killed", progress=lambda done, of: told.append(done))
    assert told == [8]
    assert {path.name: path.stat().st_mtime_ns for path in resumed.shards[:2]} == stamps
    assert not (resumed.folder / half.name).exists()
    whole = entry(tmp_path / "whole")
    assert [p.read_bytes() for p in whole.shards] == [p.read_bytes() for p in resumed.shards]


def test_the_key_holds_what_shapes_the_rows(tmp_path: Path):
    texts, plain = originals(TEXTS), Augmentation()
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("dog 1 2\n")
    (tmp_path / "c.txt").write_text("dog 1 3\n")
    vectors = [Augmentation(word_vectors=str(tmp_path / name)) for name in ("a.txt", "b.txt", "c.txt")]
    keys = [
        entry_key(texts, plain, TOKENIZER, MODEL, 0),
        entry_key(texts, plain, TOKENIZER, MODEL, 1),
        entry_key(texts, plain, TOKENIZER, _model(seed=1), 0),
        entry_key(texts, Augmentation(probability=0.3), TOKENIZER, MODEL, 0),
        entry_key(originals(TEXTS[::-1]), plain, TOKENIZER, MODEL, 0),
        entry_key(dataclasses.replace(texts, labels=texts.labels[::-1]), plain, TOKENIZER, MODEL, 0),
        *(entry_key(texts, choice, TOKENIZER, MODEL, 0) for choice in vectors),
    ]
    assert keys[6] == keys[7] and len(set(keys)) == len(keys) - 1
    TOKENIZER(TEXTS, truncation=True, max_length=7)
    assert entry_key(texts, plain, TOKENIZER, MODEL, 0) == keys[0], "whatever the tokenizer was last asked for"


def test_a_damaged_entry_is_told_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made = entry(tmp_path)
    whole = [path.read_bytes() for path in made.shards]
    spoils: dict[str, Callable[[], object]] = {
        "part-00000.parquet has 20 bytes": lambda: os.truncate(made.shards[0], 20),
        "part-00001.parquet is missing": lambda: made.shards[1].unlink(),
        "content of part-00002.parquet has changed": lambda: made.shards[2].write_bytes(bytes(len(whole[2]))),
    }
    for told, spoil in spoils.items():
        spoil()
        caplog.clear()
        assert [path.read_bytes() for path in entry(tmp_path).shards] == whole
        assert len(caplog.messages) >= 1 and told in caplog.messages[0]
    with pytest.raises(DataError, match="nothing to augment"):
        entry(tmp_path, texts=originals([]))


def test_a_damaged_shard_of_a_killed_run_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    whole = [path.read_bytes() for path in entry(tmp_path / "whole").shards]

    def die(done: int, of: int) -> None:
        if done == 6:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        entry(tmp_path / "killed", progress=die)
    [shard] = (tmp_path / "killed").glob("*/.writing-*/part-00001.parquet")
    shard.write_bytes(bytes(len(whole[1])))
    assert [path.read_bytes() for path in entry(tmp_path / "killed").shards] == whole
    assert any("part-00001.parquet are damaged" in message for message in caplog.messages)


def test_an_encoder_in_bf16_finds_nearly_the_same_words(monkeypatch):
    monkeypatch.setattr("bench.train.precision.native_bf16", lambda device: True)  # emulated where it is not
    full, half = (make({"precision": precision}).candidates.find(TEXTS) for precision in ("fp32", "bf16"))
    shared = [len(set(a[i]) & set(b[i])) / len(a[i]) for (_, a), (_, b) in zip(full, half, strict=True) for i in a]
    assert len(shared) == 14 and np.mean(shared) > 0.9


def test_the_amount_is_a_budget():
    assert Augmentation().budget() == {"augmentation": 20}


BAD = {
    "a word alone": ("dog 1 2\ncat\n", "line 2.*0 numbers.*expected 2"),
    "no number": ("dog 1 2\ncat 1 x\n", "line 2.*'x'"),
    "not finite": ("dog 1 2\ncat 1 nan\n", "line 2.*'nan'"),
    "too few": ("dog 1 2 3\ncat 1 2\n", "line 2.*2 numbers.*expected 3"),
    "too many": ("dog 1 2\ncat 1 2 3\n", "line 2.*3 numbers.*expected 2"),
    "other than the header": ("2 3\ndog 1 2\n", "line 2.*2 numbers.*expected 3"),
    "an empty line": ("dog 1 2\n\ncat 1 2\n", "line 2"),
    "no word": ("dog 1 2\n 1 2\n", "line 2"),
    "first line": ("dog\n", "line 1"),
    "nothing": ("", "no word vectors"),
    "a header alone": ("2 3\n", "no word vectors"),
    "no dimension": ("2 0\n", "header without a dimension.*line 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_word_vector_file_is_told_with_its_line(tmp_path: Path, name: str):
    content, message = BAD[name]
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_word_vectors(path, 100)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_word_vector_files_of_both_kinds(tmp_path: Path):
    path = tmp_path / "vectors.txt"
    path.write_text("3 2\ndog 3 4\nat home 0 0\ndog 9 9\ncat 1 0\n")
    vectors = read_word_vectors(path, 3)
    assert vectors.words == ("dog", "at home")
    np.testing.assert_allclose(vectors.matrix, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    path.write_bytes(b"dog 1 2\n\xff\xfe 1 2\n")
    with pytest.raises(DataError, match="line 2"):
        read_word_vectors(path, 3)
    assert read_word_vectors(path, 1).words == ("dog",)


def test_another_file_than_the_named_one_is_told(tmp_path: Path):
    path = tmp_path / "vectors.txt"
    path.write_text("dog 1 2\n")
    with pytest.raises(DataError, match="another one"):
        make({"word_vectors": str(path), "word_vectors_sha256": "0" * 64})
    with pytest.raises(DataError, match="does not exist"):
        make({"word_vectors": str(tmp_path / "none.txt")})
    with pytest.raises(SpecError, match="without a file"):
        make({"word_vectors_sha256": "0" * 64})
