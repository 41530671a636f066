"""SQuAD through the command line with a tiny given teacher: every paper that has it, its verdicts, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import Call, Result, add_task, config, measured, refused
from transformers import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    DistilBertForQuestionAnswering,
    PreTrainedTokenizerFast,
)

from bench.core import answers
from bench.core.record import Record
from bench.models import load
from papers.distilbert.losses import soft_spans
from papers.qbert import packed

WINDOWS = ("--set", "max_length=16", "--set", "windows.stride=6", "--set", "windows.question=2")
ROWS = 160


def table(count: int, seed: int) -> pa.Table:
    """Contexts of up to 18 words with one w2 and one w3 among them; the question names one, which is its own answer."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        words = [f"w{i}" for i in rng.integers(10, 50, rng.integers(4, 17))]
        for marker in ("w2", "w3"):
            words.insert(int(rng.integers(0, len(words) + 1)), marker)
        asked, context = ("w2", "w3")[number % 2], " ".join(words)
        begin = f" {context} ".index(f" {asked} ")
        rows.append({"id": str(number), "title": "", "context": context, "question": asked,
                     "answers": {"text": [asked], "answer_start": [begin]}})  # fmt: skip
    return pa.Table.from_pylist(rows)


@pytest.fixture
def call(bench_run: Call, folder: Path) -> Call:
    """`bench run SCALE --paper PAPER --task squad` on made-up windows of 16 tokens."""
    add_task(folder, "squad", table, ROWS, 40)

    def run(paper: str, *arguments: str, **options: str) -> Result:
        return bench_run(paper, *WINDOWS, *arguments, task="squad", **options)

    return run


def test_bert_learns_it_and_is_exported(call: Call, folder: Path) -> None:
    code, out, error = call("bert", "--json")
    assert code == 0, error
    (record,) = json.loads(out)
    assert record["hyper"]["max_length"] == 16 and record["overrides"]["windows.stride"] == "6"
    assert record["hyper"]["windows"] == {"stride": 6, "question": 2, "n_best": 20, "answer": 30}
    assert record["data"]["rows"] == {"train": ROWS, "validation": 40} and record["data"]["partial"]
    assert record["stages"][-1]["examples"] > 12 * ROWS, "windows, not rows, for 12 epochs"
    assert measured(record, "f1")["validation"] >= measured(record, "exact_match")["validation"] > 0.4
    assert {m["n"] for m in record["measurements"] if m["metric"] in ("f1", "exact_match")} == {40}
    assert not measured(record, "majority") and measured(record, "latency_s") and measured(record, "flops")
    kept = Record.model_validate(record)
    exact, f1 = (of(kept, "validation") for of in (answers.correct, answers.f1))
    assert exact is not None and exact.mean() == pytest.approx(measured(record, "exact_match")["validation"])
    assert f1 is not None and f1.mean() == pytest.approx(measured(record, "f1")["validation"], abs=5e-4)
    done = subprocess.run([sys.executable, "-m", "bench", "export", record["id"], "out"], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    exported = BertForQuestionAnswering.from_pretrained(folder / "work" / "out")
    assert exported.config.id2label == {0: "start", 1: "end"}
    refused_words = ("fine-tuned for another kind of task", "BertForQuestionAnswering", "one for sst2")
    again = call("bert", teacher="work/out")
    assert again[0] == 0, again[2]
    code, out, error = _with_task(call, "sst2", teacher="work/out")
    assert code == 2 and all(word in error for word in refused_words), error


def _with_task(call: Call, task: str, **options: str) -> Result:
    return call("bert", "--task", task, **options)


def test_students_and_their_verdicts(call: Call, folder: Path) -> None:
    given = ("--corpus", str(folder / "corpus.txt"), "--set", "head.corpus_tokens=500", "--set",
             "general.corpus_tokens=500", "--variant", "distilbert", "--variant", "distilbert-d", "--set",
             "second.training.epochs=12", "--set", "second.training.lr=3e-3", "--set",
             "general.min_length=1")  # fmt: skip
    code, out, error = call("distilbert", *given, "--json", "--seeds", "1", scale="small")
    assert code == 0, error
    teacher, plain, second = json.loads(out)
    assert [record["stages"][-1]["name"] for record in (plain, second)] == ["fine_tune", "distil_second"]
    assert second["stages"][-1]["teacher_logits"] == "made" and second["stages"][-2]["cached"]
    assert plain["hyper"].get("second") is None and second["hyper"]["second"]["temperature"] == 2.0
    assert second["teacher"] == {"record": teacher["id"], "score": measured(teacher, "f1")["validation"]}
    assert measured(second, "retention")["validation"] == pytest.approx(
        measured(second, "f1")["validation"] / measured(teacher, "f1")["validation"]
    )
    files = list((folder / "home" / "stages").glob("*/*/models/model/config.json"))
    heads = [json.loads(file.read_text())["architectures"] for file in files]
    assert heads.count([DistilBertForQuestionAnswering.__name__]) == 2
    done = subprocess.run([sys.executable, "-m", "bench", "claims", "--paper", "distilbert", "--json"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {one["id"]: one["verdict"] for one in json.loads(done.stdout) if ".t2." in one["id"]}
    judged = {name: found[f"distilbert.t2.{name}"] for name in (
        "bert.squad-f1", "bert.squad-em", "distilbert.squad-f1", "distilbert.squad-em", "distilbert-d.squad-f1",
        "distilbert-d.squad-em")}  # fmt: skip
    assert all(verdict not in ("not run", "out of reach") for verdict in judged.values()), judged


def test_qbert_is_sensed_rounded_and_packed(call: Call, folder: Path) -> None:
    code, out, error = call("qbert", "--variant", "qbert-mp23", "--json")
    assert code == 0, error
    record = json.loads(out)[-1]
    assert sorted(measured(record, "bits").values()) == [2, 3] and len(measured(record, "sensitivity")) == 2
    assert measured(record, "packed_score")["validation"] == measured(record, "f1")["validation"]
    assert measured(record, "packed_difference")["validation"] <= 1e-5
    (file,) = (folder / "home" / "further").glob("*")
    loaded = packed.load(file)
    assert type(loaded) is BertForQuestionAnswering and not loaded.training


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--set", "windows.stride=12"), ("windows do not cover a context", "found 12", "1 to 11")),
        (("--set", "windows.stride=0"), ("windows.stride", "found 0")),
        (("--set", "windows.step=3"), ("unknown field", "windows.step")),
    ],
)
def test_impossible_windows_are_refused(call: Call, folder: Path, changes: tuple[str, ...], words: Any) -> None:
    refused(call("bert", *changes), folder, *words)


def test_a_second_distillation_of_another_task_is_refused(bench_run: Call, folder: Path) -> None:
    refused(bench_run("distilbert", "--variant", "distilbert-d"), folder, "second distillation is of SQuAD", "sst2")


def test_a_classifier_is_no_teacher_for_spans(call: Call, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    load.save(BertForSequenceClassification(config()), folder / "classifier", tokenizer)
    refused(
        call("bert", teacher="classifier"), folder, "another kind of task", "BertForSequenceClassification", "squad"
    )


def test_a_bad_row_stops_the_run(call: Call, folder: Path) -> None:
    path = folder / "data" / "squad" / "validation_subset.parquet"
    rows = table(3, 5).to_pylist()
    rows[1]["answers"]["answer_start"] = [200]
    pq.write_table(pa.Table.from_pylist(rows), path)
    refused(call("bert"), folder, str(path), "field answers", "at 200 in row 1")


# The loss of the second distillation


def test_soft_spans_by_hand() -> None:
    teacher, student = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    teacher[0, 0, 0] = 2 * np.log(3)  # at T = 2 the start is 3/4 to 1/4; the end is even in both
    kl = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert soft_spans(student, teacher, 2.0).item() == pytest.approx(4 * kl / 2, rel=1e-5)
    assert soft_spans(teacher, teacher, 2.0).item() == pytest.approx(0.0, abs=1e-7)


def test_padding_counts_nothing_in_soft_spans() -> None:
    low = torch.finfo(torch.float32).min
    torch.manual_seed(0)
    teacher, student = torch.randn(3, 4, 2), torch.randn(3, 4, 2).requires_grad_()
    wide: Callable[[torch.Tensor], torch.Tensor] = lambda x: torch.cat([x, torch.full((3, 5, 2), low)], 1)  # noqa: E731
    padded = soft_spans(wide(student), wide(teacher), 2.0)
    assert padded.item() == pytest.approx(soft_spans(student, teacher, 2.0).item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(padded, student)
    assert bool(torch.isfinite(gradient).all()) and float(gradient.abs().sum()) > 0
