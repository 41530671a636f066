"""TinyBERT through the command line with a tiny given teacher: what is recorded, what is shared, what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from bench import cli
from bench.models import load

ROWS = 96
Call = Callable[..., tuple[int, str, str]]


def config(layers: int = 2, **fields: Any) -> BertConfig:
    return BertConfig(vocab_size=60, num_hidden_layers=layers, hidden_size=16, num_attention_heads=2,
                      intermediate_size=32, max_position_embeddings=128, initializer_range=0.2, **fields)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher, a task whose label is its first word, and a corpus, made of 55 words."""
    torch.manual_seed(0)
    load.save(BertModel(config()), tmp_path / "teacher", tokenizer)
    for split, count in (("train_subset", ROWS), ("validation_subset", 32)):
        path = tmp_path / "data" / "sst2" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"w{i % 2} w{5 + i % 40} w{7 + i % 30}" for i in range(count)]
        table = {"sentence": texts, "label": [i % 2 for i in range(count)], "idx": list(range(count))}
        pq.write_table(pa.table(table), path)
    lines = [f"w{i % 50} w{i % 41} w{i % 7} . w{i % 50} w{i % 43} w{i % 5} ." for i in range(60)]
    (tmp_path / "corpus.txt").write_text("\n\n".join(lines))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`bench run smoke --paper tinybert` on the tiny task; returns exit code, stdout, stderr."""

    def run(*arguments: str, teacher: str = "teacher") -> tuple[int, str, str]:
        command = [
            "bench", "run", "smoke", "--paper", "tinybert", "--task", "sst2", "--teacher", str(folder / teacher),
            "--data", str(folder / "data"), "--corpus", str(folder / "corpus.txt"),
            "--set", "general.corpus_tokens=500",
            "--set", "pretrain.corpus_tokens=500", "--set", "fine_tune.epochs=12", "--set", "fine_tune.lr=3e-3",
            *arguments,
        ]  # fmt: skip
        if not any(argument.startswith("student.every") for argument in arguments):
            command += ["--set", "student.every=2"]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out = capsys.readouterr()
        return int(stopped.value.code or 0), out.out, out.err

    return run


def test_a_run_and_what_the_second_one_shares(call: Call, folder: Path) -> None:
    code, out, error = call("--variant", "tinybert-4-no-da", "--json")
    assert code == 0, error
    teacher, record = json.loads(out)
    assert (teacher["spec"]["paper"], record["spec"]["variant"]) == ("bert", "tinybert-4-no-da")
    stages = {stage["name"]: stage for stage in record["stages"]}
    assert list(stages) == [
        "prepare_words", "initialise_student", "distil_general", "distil_intermediate", "distil_prediction",
    ]  # fmt: skip
    assert [stage["teacher_logits"] for stage in stages.values()] == [None, None, None, None, "made"]
    assert stages["distil_prediction"]["examples"] == 2 * ROWS
    files = list((folder / "home" / "logits").rglob("*.npy"))
    assert len(files) == 1 and files[0].stat().st_size == ROWS * 2 * 4 + 128, "fp32 [N, C] and the header"
    code, out, error = call("--variant", "tinybert-4-no-embd", "--set", "augmentation.use=false", "--json")
    assert code == 0, error
    stages = {stage["name"]: stage for stage in json.loads(out)[-1]["stages"]}
    assert stages["initialise_student"]["cached"] and not stages["distil_general"]["cached"]
    assert stages["distil_prediction"]["teacher_logits"] == "cache"
    code, out, error = call("--variant", "tinybert-4", "--set", "augmentation.letters_only=false", "--json")
    assert code == 0, error
    stages = {stage["name"]: stage for stage in json.loads(out)[-1]["stages"]}
    assert stages["distil_general"]["cached"] and stages["augment_rows"]["seconds"] > 0
    assert ROWS < stages["distil_intermediate"]["examples"] <= 2 * ROWS
    assert stages["distil_prediction"]["teacher_logits"] == "made", "of other rows"


@pytest.mark.parametrize(
    "variant", ["tinybert-6", "tinybert-4-no-gd", "tinybert-4-no-td", "tinybert-4-no-pred", "tinybert-4-init-bert"]
)
def test_a_variant_runs(call: Call, variant: str) -> None:
    code, out, error = call("--variant", variant, "--json")
    assert code == 0, error
    assert json.loads(out)[-1]["status"] == "ok"


def test_a_released_student_runs(call: Call, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    load.save(BertModel(config(layers=1)), folder / "released", tokenizer)
    arguments = ("--variant", "tinybert-4-released", "--set", f"released={folder / 'released'}")
    code, out, error = call(*arguments, "--json")
    assert code == 0, error
    names = [stage["name"] for stage in json.loads(out)[-1]["stages"]]
    assert names == ["prepare_words", "load_released", "augment_rows", "distil_intermediate", "distil_prediction"]


def refused(result: tuple[int, str, str], folder: Path, *words: str) -> None:
    code, out, error = result
    assert code == 2 and out == "" and error.count("\n") == 1 and error.startswith("bench: "), error
    assert all(word in error for word in words), error
    assert not (folder / "work" / "results").exists() and not (folder / "home" / "stages").exists()


def test_a_raw_teacher_is_refused(call: Call, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    raw = BertForSequenceClassification(config(num_labels=2))
    with torch.no_grad():
        raw.classifier.bias.copy_(torch.tensor([9.0, -9.0]))  # says the same of everything, as a head by chance may
    load.save(raw, folder / "raw", tokenizer)
    refused(call("--variant", "tinybert-4-no-da", teacher="raw"), folder, "teacher", "floor", "fine-tuned")


def test_layers_that_do_not_divide_are_refused(call: Call, folder: Path) -> None:
    result = call("--variant", "tinybert-4-no-da", "--set", "student.every=3")
    refused(result, folder, "layers do not divide", "found 2 layers", "multiple of 3", "next:")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"vocab_size": 61}, "vocabulary"),
        ({"hidden_size": 32}, "hidden size"),
        ({"num_attention_heads": 4}, "number of heads"),
    ],
)
def test_a_teacher_that_does_not_fit_a_released_student_is_refused(
    call: Call, folder: Path, tokenizer: PreTrainedTokenizerFast, change: dict[str, int], word: str
) -> None:
    other = BertConfig.from_dict(config(layers=1).to_dict() | change)
    load.save(BertModel(other), folder / "released", tokenizer)
    result = call("--variant", "tinybert-4-released", "--set", f"released={folder / 'released'}")
    refused(result, folder, f"the teacher's {word} does not fit", "next:")
