"""AdaBERT through the command line: what a run records and shares, a structure that is borrowed, what is refused."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from commands import ROWS, Call, Result, add_task, measured, refused
from searches import FOUND, in_a_file

from bench.cli import main as cli
from bench.models import load
from papers.adabert import recipe, student
from papers.adabert.structure import Structure, derived
from papers.adabert.student import OPERATIONS, AdaBertForSequenceClassification, Edge, Genotype

QUICK = {
    "student.hidden": 16, "student.max_cells": 2, "head.corpus_tokens": 500, "augmentation.letters_only": "false",
    "probes.training.epochs": 1, "search.training.epochs": 4, "retrain.training.epochs": 3,
    "search.training.lr": 5e-3, "retrain.training.lr": 5e-3,
}  # fmt: skip


@pytest.fixture
def call(bench_run: Call, folder: Path) -> Call:
    def run(*arguments: str, task: str = "sst2") -> Result:
        given = [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]
        return bench_run("adabert", "--corpus", str(folder / "corpus.txt"), *given, *arguments, task=task)

    return run


def ran(result: Result) -> dict[str, dict[str, Any]]:
    """The records of a run that went well, by variant and task."""
    code, out, error = result
    assert code == 0, error
    return {f"{one['spec']['variant']} {one['spec']['task']}": one for one in json.loads(out)}


def structure(record: dict[str, Any]) -> Genotype:
    """The structure that a record's measurements tell."""
    sources, names = measured(record, "edge_source"), measured(record, "edge_operation")
    edges = [Edge(int(sources[place]), OPERATIONS[int(names[place])]) for place in sorted(sources)]
    return Genotype(tuple(tuple(edges[i : i + 2]) for i in (0, 2, 4)), int(measured(record, "cells")["found"]))


def kept(folder: Path, record: dict[str, Any]) -> AdaBertForSequenceClassification:
    """The model of a record: the file in the cache whose hash it holds."""
    [weights] = record["artefacts"]
    [file] = [file for file in (folder / "home" / "stages").rglob("models/model/model.safetensors")
              if hashlib.sha256(file.read_bytes()).hexdigest() == weights["sha256"]]  # fmt: skip
    model = load.load_saved(file.parent)
    assert isinstance(model, AdaBertForSequenceClassification)
    return model


def rows(count: int, seed: int) -> pa.Table:
    """Pairs whose label is the first word of the second text."""
    first = [f"w{5 + i % 40} w{7 + i % 30}" for i in range(count)]
    second = [f"w{i % 2} w{9 + (i + seed) % 30}" for i in range(count)]
    return pa.table({"sentence1": first, "sentence2": second, "label": np.arange(count) % 2, "idx": range(count)})


def test_a_run_and_what_the_second_one_shares(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ran(call("--variant", "adabert", "--json"))["adabert sst2"]
    stages = {stage["name"]: stage for stage in record["stages"]}
    assert list(stages) == ["prepare_words", "train_probes", "augment_rows", "search", "retrain"]
    said = [stage["teacher_logits"] for stage in stages.values()]
    assert said == [None, "made", None, "made", "cache"], "retraining asks the teacher nothing"
    files = {file.stat().st_size for file in (folder / "home" / "logits").rglob("*.npy")}
    augmented = stages["retrain"]["examples"] // 3
    assert ROWS < augmented <= 2 * ROWS and stages["search"]["examples"] == 4 * augmented
    assert files == {128 + ROWS * 2 * 16 * 4, 128 + augmented * 2 * 2 * 4}, "states [N, K, H], answers [N, K, C]"
    found, model = structure(record), kept(folder, record)
    assert student.genotype(model.config) == found and found.cells <= 2 and not model.config.pair
    assert measured(record, "parameters")["all"] == student.parameters(model.config)
    assert measured(record, "paper_parameters")["found"] == student.parameters(student.config(found, num_labels=2))
    assert measured(record, "probe_accuracy").keys() == {"layer1", "layer2"}
    assert measured(record, "accuracy")["validation"] > 0.9, "the label is the first word"
    assert record["teacher"]["score"] > 0.9 and record["dev_looks"] == 0
    assert record["hyper"]["knowledge"]["gamma"] == 0.8 and record["hyper"]["search"]["beta"] == 4.0

    stages = ran(call("--variant", "adabert-scratch", "--json"))["adabert-scratch sst2"]["stages"]
    assert [stage["cached"] for stage in stages] == [True] * 4 + [False], "the same search"

    monkeypatch.setattr(sys, "argv", ["bench", "export", record["id"], "exported"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code, capsys.readouterr().err
    exported = load.load_saved(Path("exported"))
    assert all((a == b).all() for a, b in zip(exported.parameters(), model.parameters(), strict=True))


def test_a_structure_is_borrowed_from_another_task(call: Call, folder: Path) -> None:
    add_task(folder, "rte", rows, 96, 32)
    plain = ("--set", "augmentation.use=false", "--set", "fine_tune.epochs=30")
    found = ran(call("--variant", "adabert-from-sst2", *plain, "--json", task="rte"))
    assert found.keys() == {"bert sst2", "bert rte", "adabert sst2", "adabert-from-sst2 rte"}
    assert list(found)[2:] == ["adabert sst2", "adabert-from-sst2 rte"], "the lender first"
    lender, borrower = found["adabert sst2"], found["adabert-from-sst2 rte"]
    assert [stage["name"] for stage in borrower["stages"]] == ["train_probes", "train_lent", "retrain"]
    assert structure(borrower) == structure(lender) == student.genotype(kept(folder, borrower).config)
    assert kept(folder, borrower).config.pair and not kept(folder, lender).config.pair
    assert borrower["teacher"]["record"] == found["bert rte"]["id"], "it is compared with its own task's teacher"
    assert "entropy" in {one["metric"] for one in lender["measurements"]} - {
        one["metric"] for one in borrower["measurements"]
    }
    again = ran(call("--variant", "adabert-from-sst2", *plain, "--set", "search.beta=0", "--json", task="rte"))
    assert again["adabert sst2"]["id"] != lender["id"]
    assert not again["adabert-from-sst2 rte"]["stages"][1]["cached"], "another structure may have been found"


def test_a_file_of_a_structure_is_trained(call: Call, folder: Path) -> None:
    given = [word for name, value in in_a_file(folder).items() for word in ("--set", f"{name}={value}")]
    record = ran(call(*given, "--set", "augmentation.use=false", "--json"))["adabert sst2"]
    assert structure(record) == FOUND and measured(record, "guarded_nodes") == {"found": 0.0}


def test_a_search_that_collapses_leaves_a_failed_record(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_zero(structure: Structure) -> tuple[Genotype, int]:
        with torch.no_grad():
            for scores in structure.edges:
                scores[OPERATIONS.index("zero")] = 9.0
        return derived(structure)

    monkeypatch.setattr(recipe, "derived", all_zero)
    code, _, error = call("--variant", "adabert-no-kd", "--set", "augmentation.use=false")
    assert code == 1 and error.splitlines()[-1].startswith("bench: 1 of 2 runs failed; the first: the search collapsed")
    [path] = (folder / "work" / "results").rglob("adabert/**/*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed" and "the search collapsed" in record["reason"]
    assert "next: lower search.beta" in record["reason"]


# Refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("knowledge.gamma=1.5",), ("knowledge.gamma", "found 1.5", "less than or equal to 1")),
        (("search.beta=-1",), ("search.beta", "found -1", "greater than or equal to 0")),
        (("search.temperature=[1, 0]",), ("search.temperature", "greater than 0")),
        (("architecture.origin=random",), ("belongs to the variant", "found random")),
        (("architecture.origin=file",), ("does not exist",)),
        (("architecture.origin=file", "architecture.file=FILE"), ("named without its sha256", "next: if that is")),
        (("architecture.file=FILE",), ("named and not read",)),
        (("architecture.file=WRONG", "architecture.sha256=WRONG", "architecture.origin=file"), ("wrong.json", "conv9")),
        (("max_length=256",), ("position table", "max_length", "128")),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call: Call, folder: Path, changes: Sequence[str], words: Sequence[str]) -> None:
    good = Path(in_a_file(folder)["architecture.file"])
    wrong = folder / "wrong.json"
    wrong.write_text(good.read_text().replace("conv5", "conv9"))
    places = {"architecture.file=FILE": f"architecture.file={good}", "architecture.file=WRONG":
              f"architecture.file={wrong}", "architecture.sha256=WRONG":
              f"architecture.sha256={hashlib.sha256(wrong.read_bytes()).hexdigest()}"}  # fmt: skip
    given = [word for change in changes for word in ("--set", places.get(change, change))]
    refused(call(*given), folder, *words)


def test_a_lender_without_data_is_refused(call: Call, folder: Path) -> None:
    refused(call("--variant", "adabert-from-mrpc"), folder, "no folder for task 'mrpc'")
