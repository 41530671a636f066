"""MobileBERT through the command line: what a run and its teacher record and share, what runs, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from commands import ROWS, Call, Result, config, measured, refused
from transformers import BertModel, MobileBertConfig, PreTrainedTokenizerFast

from bench.models import load

QUICK = {
    "stream.hidden_size": 32, "stream.embedding_size": 16, "stream.initializer_range": 0.1,
    "teacher.intra_bottleneck_size": 32, "teacher.intermediate_size": 64,
    "student.intra_bottleneck_size": 16, "student.intermediate_size": 32, "corpus.corpus_tokens": 1000,
}  # fmt: skip
"""A narrow pair that reads little."""


@pytest.fixture
def call(bench_run: Call, folder: Path) -> Call:
    def run(variant: str, *arguments: str, **places: str) -> Result:
        given = [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]
        return bench_run("mobilebert", "--variant", variant, "--corpus", str(folder / "corpus.txt"), *given, *arguments,
                         tuning="fine_tune.training", **places)  # fmt: skip

    return run


def ran(result: Result) -> list[dict[str, Any]]:
    """The records of a run that went well."""
    code, out, error = result
    assert code == 0, error
    return json.loads(out)


@pytest.fixture
def checkpoint(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[..., str]:
    """Save a MobileBERT of transformers, with all of its heads, in the folder; says what names it as the released."""

    def save(**fields: Any) -> str:
        torch.manual_seed(0)
        small = MobileBertConfig(
            vocab_size=60, max_position_embeddings=128, embedding_size=16, hidden_size=32, intra_bottleneck_size=16,
            num_hidden_layers=2, intermediate_size=32, initializer_range=0.1, **fields,
        )  # fmt: skip
        load.save(transformers.MobileBertForPreTraining(small), folder / "released", tokenizer)
        return f"released={folder / 'released'}"

    return save


def test_a_run_and_what_the_second_one_shares(call: Call) -> None:
    lamb = ("--set", "transfer.training.optimizer=lamb")
    reference, teacher, record = ran(call("mobilebert", *lamb, "--json"))
    assert [one["spec"]["variant"] for one in (reference, teacher, record)] == ["bert", "ib-bert-large", "mobilebert"]
    assert [stage["name"] for stage in teacher["stages"]] == ["pretrain_teacher", "fine_tune"]
    stages = {stage["name"]: stage for stage in record["stages"]}
    assert list(stages) == ["initialise_student", "transfer", "distil_words", "fine_tune"]
    pairs = teacher["stages"][0]["examples"]
    assert stages["transfer"]["examples"] + stages["distil_words"]["examples"] == pairs
    assert stages["transfer"]["examples"] == int(240 / 740 * pairs) and stages["transfer"]["steps"] == 2, "one a layer"
    assert stages["fine_tune"]["examples"] == 12 * ROWS
    assert record["teacher"]["record"] == teacher["id"] and teacher["teacher"]["record"] == reference["id"]
    assert record["hyper"]["transfer"]["training"]["optimizer"] == "lamb"
    assert record["dev_looks"] == 0, "one point, so that no score is looked at before the last"
    _, shared, other = ran(call("mobilebert-joint", *lamb, "--json"))
    assert shared["id"] == teacher["id"] == other["teacher"]["record"], "made once"
    assert other["stages"][1]["steps"] == 1, "one phase of all layers"


@pytest.mark.parametrize(
    ("variant", "stages"),
    [
        ("mobilebert-tiny", 4), ("mobilebert-no-opt", 4), ("mobilebert-auxiliary", 3), ("mobilebert-no-opt-bare", 3),
        ("mobilebert-no-opt-pd", 3), ("mobilebert-no-opt-pd-fmt", 4), ("mobilebert-quant", 5),
        ("mobilebert-tiny-quant", 5),
    ],
)  # fmt: skip
def test_a_variant_runs(call: Call, variant: str, stages: int) -> None:
    record = ran(call(variant, "--json"))[-1]
    assert record["spec"]["variant"] == variant and len(record["stages"]) == stages


def test_every_try_is_a_look_at_dev(call: Call) -> None:
    found = ran(call("ib-bert-large", "--set", "fine_tune.tries=2", "--json"))[-1]
    assert found["dev_looks"] == 2
    chosen = measured(found, "chosen")
    assert chosen == {"batch_size": 32.0, "lr": 3e-3, "epochs": 12.0, "diverged": 0.0}, (
        "the other rate is too small for this task"
    )


@pytest.mark.parametrize("pooler", [True, False], ids=["with a pooler", "like the released one"])
def test_a_released_checkpoint_is_fine_tuned(call: Call, checkpoint: Callable[..., str], pooler: bool) -> None:
    given = ("--set", checkpoint(classifier_activation=pooler))
    record = ran(call("mobilebert-released", *given, "--json"))[-1]
    assert [stage["name"] for stage in record["stages"]] == ["load_released", "fine_tune"]
    assert measured(record, "accuracy")["validation"] > 0.9


# Refusals


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("student.num_hidden_layers=3", ("number of layers", "found 3 layers", "expected 2")),
        ("student.num_attention_heads=2", ("number of heads", "found 2 heads", "expected 4")),
        ("fine_tune.training.precision=fp16", ("fine_tune.training.precision", "fp16 overflows", "65504")),
        ("corpus.max_length=256", ("position table", "corpus.max_length", "at most", "128")),
        ("max_length=256", ("position table", "max_length", "128")),
    ],
)
def test_what_cannot_be_is_refused(call: Call, folder: Path, change: str, words: tuple[str, ...]) -> None:
    refused(call("mobilebert", "--set", change), folder, *words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"key_query_shared_bottleneck": True, "use_bottleneck_attention": True}, ("no MobileBERT", "one of the two")),
        ({"hidden_act": "silu"}, ("no MobileBERT", "hidden_act", "found silu")),
    ],
)
def test_an_unknown_layout_is_refused(
    call: Call, folder: Path, checkpoint: Callable[..., str], fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    refused(call("mobilebert-released", "--set", checkpoint(**fields)), folder, *words, "next:")


def test_another_kind_of_checkpoint_is_refused(call: Call, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    load.save(BertModel(config()), folder / "released", tokenizer)
    result = call("mobilebert-released", "--set", f"released={folder / 'released'}")
    refused(result, folder, "is no MobileBERT", "model_type bert")


def test_an_input_longer_than_the_checkpoints_positions_is_refused(
    call: Call, folder: Path, checkpoint: Callable[..., str]
) -> None:
    result = call("mobilebert-released", "--set", checkpoint(), "--set", "max_length=256")
    refused(result, folder, "position table", "max_length", "128")


def test_too_little_text_for_a_phase_a_layer_is_told(call: Call) -> None:
    code, _, error = call("mobilebert", "--set", "transfer.share=0.02")
    assert code != 0 and error.count("\n") == 1, error
    assert all(word in error for word in ("too short for the transfer", "found 1 pairs", "expected 2 or more", "next:"))
