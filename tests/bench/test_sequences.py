"""A budget of tokens holds, whatever a corpus looks like; the corpus is checked before anything is made of it."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from bench.core.errors import DataError
from bench.data import corpus
from bench.data.corpus import LONGEST, check_corpus, corpus_texts, gathered
from bench.data.sequences import Packed, lines_of, pairs, sequences, usable
from bench.run.inputs import Inputs
from bench.run.request import Request

LENGTH = 16
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(50))]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                   sep_token="[SEP]", mask_token="[MASK]")  # fmt: skip


def text(between: str, lines: int = 3000) -> str:
    return between.join(" ".join(WORDS[5 + (i + j) % 50] for j in range(6)) for i in range(lines))


def written(folder: Path, between: str, kind: str) -> Path:
    path = folder / f"corpus.{kind}"
    if kind == "txt":
        path.write_bytes(text(between).encode())
    else:
        pq.write_table(pa.table({"text": [text(between)]}), path)
    return path


@pytest.mark.parametrize("kind", ["txt", "parquet"])
@pytest.mark.parametrize("between", [" ", "\n", "\r\n", "\n\n", "\t"])
def test_the_budget_holds(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, between: str, kind: str) -> None:
    path = written(tmp_path, between, kind)
    assert all(len(document) <= LONGEST for document in corpus_texts(path))
    made = sequences(Packed(lines_of(corpus_texts(path))), tokenizer, 500, LENGTH, 1, path)
    assert 500 <= len(made.tokens) < 500 + LENGTH and max(made.lengths) <= LENGTH
    paired = pairs(Packed(corpus_texts(path)), tokenizer, 500, LENGTH, 0.1)
    assert 0 < len(paired.tokens) < 500 + LENGTH and max(paired.lengths) <= LENGTH


def test_no_word_is_lost_where_a_text_is_cut(tmp_path: Path) -> None:
    for kind in ("txt", "parquet"):
        for between in (" ", "\n"):
            path = written(tmp_path, between, kind)
            assert " ".join(corpus_texts(path)).split() == text(between).split()
    (tmp_path / "one.txt").write_text("x" * (3 * LONGEST + 7))
    assert [len(part) for part in corpus_texts(tmp_path / "one.txt")] == [LONGEST] * 3 + [7]


def test_packed_texts_come_back_and_take_little_room() -> None:
    texts = [f"line {i} é" for i in range(20_000)]
    size = sum(len(one.encode()) for one in texts)
    tracemalloc.start()
    packed = Packed(texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [packed[i] for i in range(len(packed))] == texts
    assert peak < 2.5 * size, "eight bytes a line, and these lines are short"


def test_short_lines_are_read_together(tokenizer: PreTrainedTokenizerFast) -> None:
    lines = ["w1 w2 w3"] * 10
    assert not usable(lines, tokenizer, LENGTH, 12) and usable(gathered(lines, " "), tokenizer, LENGTH, 12)
    assert not usable(["unheard of"] * 10, tokenizer, LENGTH, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("good text".encode("utf-16"), r"not text.*byte 0xff.*UTF-8"),
        ("good text".encode("utf-16-le"), r"not text.*zero bytes"),
        (b"good\n" * 50_000 + b"caf\xe9", r"not text.*byte 0xe9"),
        (b" \n \n", r"no text"),
        (b"", r"no text"),
    ],
)
def test_a_corpus_that_is_no_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        check_corpus(path)


def test_a_corpus_is_verified_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read, chunks = tmp_path / "a.txt", list[Path](), corpus.text_chunks

    def counted(file: Path) -> Iterator[str]:
        read.append(file)
        return chunks(file)

    monkeypatch.setattr(corpus, "text_chunks", counted)
    path.write_text("one\n\ntwo\n")
    check_corpus(path)
    once = len(read)
    check_corpus(path)
    assert len(read) == 2 * once - 1, "the first documents are looked at again, the whole is not"
    path.write_bytes(b"caf\xe9 and more")
    with pytest.raises(DataError, match="byte 0xe9"):
        check_corpus(path)


def test_what_is_passed_over_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.txt", "b.TXT", "c.md", "d.jsonl", ".hidden"):
        (tmp_path / name).write_text(name)
    (tmp_path / "sub").mkdir()
    with caplog.at_level(logging.INFO, "bench"):
        assert check_corpus(tmp_path) == 2
    assert "'c.md, d.jsonl, sub/'" in caplog.text and "hidden" not in caplog.text
    pq.write_table(pa.table({"text": ["one"]}), tmp_path / "train-00000-of-00001.parquet")
    with caplog.at_level(logging.INFO, "bench"):
        assert check_corpus(tmp_path) == 1
    assert "a.txt, b.TXT" in caplog.text and "train is the corpus" in caplog.text


def test_inputs_refuse_a_corpus_that_would_give_a_stage_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("only one document")
    inputs = Inputs(Request(corpus=str(tmp_path / "a.txt")))
    with pytest.raises(DataError, match="sentence pairs need several documents"):
        inputs.check_corpus(tmp_path, LENGTH, 1, True)
