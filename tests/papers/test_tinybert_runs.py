"""TinyBERT through the command line with a tiny given teacher: what is recorded, what is shared, what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from commands import ROWS, Call, Result, config, refused
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from bench.models import load


@pytest.fixture
def call(bench_run: Call, folder: Path) -> Call:
    def run(*arguments: str, teacher: str = "teacher") -> Result:
        given = ["--corpus", str(folder / "corpus.txt"), "--set", "general.corpus_tokens=500",
                 "--set", "pretrain.corpus_tokens=500"]  # fmt: skip
        if not any(argument.startswith("student.every") for argument in arguments):
            given += ["--set", "student.every=2"]
        return bench_run("tinybert", *given, *arguments, teacher=teacher)

    return run


def test_a_run_and_what_the_second_one_shares(call: Call, folder: Path) -> None:
    code, out, error = call("--variant", "tinybert-4-no-da", "--json")
    assert code == 0, error
    teacher, record = json.loads(out)
    assert (teacher["spec"]["paper"], record["spec"]["variant"]) == ("bert", "tinybert-4-no-da")
    assert set(teacher["overrides"]) == {"fine_tune.epochs", "fine_tune.lr"}, "its own, not the student's"
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
    assert len(list((folder / "home" / "augmented").rglob("manifest.json"))) == 1, "made once for both phases"


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


def test_a_teacher_with_a_language_head_needs_no_text(
    bench_run: Call, folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    load.save(BertForMaskedLM(config()), folder / "with_head", tokenizer)
    arguments = ("--variant", "tinybert-4-no-gd", "--set", "student.every=2")
    refused(bench_run("tinybert", *arguments), folder, "no corpus is given", "prepare_words")
    code, _, error = bench_run("tinybert", *arguments, teacher="with_head")
    assert code == 0, error


GOOD = "film 1 0\nbook 0 1\n"


@pytest.mark.parametrize(
    ("text", "named", "words"),
    [
        (None, "", ("the word-vector file does not exist", "vectors.txt")),
        (GOOD, "", ("named without their sha256", "augmentation.word_vectors_sha256=")),
        (GOOD, "0" * 64, ("is another one", "expected sha256 0000")),
        ("film 1 0\nbook 0 one\n", "its own", ("malformed word vector", "line 2", "'one'")),
        ("2 3\nfilm 1 0\n", "its own", ("of another dimension", "line 2", "expected 3")),
    ],
)
def test_bad_word_vectors_are_refused(
    call: Call, folder: Path, text: str | None, named: str, words: tuple[str, ...]
) -> None:
    path = folder / "vectors.txt"
    if text is not None:
        path.write_text(text)
        named = hashlib.sha256(text.encode()).hexdigest() if named == "its own" else named
    given = ["--set", f"augmentation.word_vectors={path}"]
    given += ["--set", f"augmentation.word_vectors_sha256={named}"] if named else []
    refused(call("--variant", "tinybert-4", *given), folder, *words)


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


def test_a_released_student_that_reads_other_words_is_refused(
    call: Call, folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The ids are as many as the teacher's and mean other words."""
    load.save(BertModel(config(layers=1)), folder / "released", tokenizer)
    file = folder / "released" / "tokenizer.json"
    content = json.loads(file.read_text())
    ids = content["model"]["vocab"]
    ids["w0"], ids["w1"] = ids["w1"], ids["w0"]
    file.write_text(json.dumps(content))
    result = call("--variant", "tinybert-4-released", "--set", f"released={folder / 'released'}")
    refused(result, folder, "reads other word pieces than the teacher", "next:")


def test_a_fine_tuned_teacher_that_stands_in_for_the_pre_trained_one_is_told(
    call: Call, folder: Path, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    load.save(BertForSequenceClassification(config(num_labels=2)), folder / "tuned", tokenizer)
    call("--variant", "tinybert-4-no-da", teacher="tuned")
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1 and "distil_general" in told[0] and "give its pre-trained encoder" in told[0]
