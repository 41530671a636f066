"""TinyBERT through the command line with a tiny given teacher: what is recorded, what is shared, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import ROWS, Call, Result, config, refused
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

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
