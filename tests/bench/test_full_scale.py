"""The full scale, rehearsed: the commands that a user with a network types, against a little hub on this machine.

Real ids, revisions, files and layouts, the papers' own settings; models and rows are tiny (`tests/rehearsal`). Every
variant and task goes through in tests/benchmarks/full_rehearsal.py, which takes an hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from rehearsal.corpus import write_corpus
from rehearsal.hub import Fault, serving
from rehearsal.models import models
from rehearsal.place import Place, Told, codes
from rehearsal.rows import data_sets

from bench.core.store import read_records


def documents(told: Told) -> list[Any]:
    """What commands with --json said."""
    parts = "\n".join("\0" if line.startswith("exit ") else line for line in told.stdout.splitlines()).split("\0")
    return [json.loads(part) for part in parts if part.strip().startswith(("{", "["))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("full")
    write_corpus(folder / "corpus.txt")
    with serving([*models(), *data_sets()]) as hub:
        yield Place(hub, folder)


@pytest.fixture(scope="module")
def whole(place: Place) -> Told:
    """What goes wrong at first; then a plan of everything, a few runs of it, and the report on them."""
    place.hub.faults.append(Fault("gated", "rajpurkar", 1))
    rte = ("--task", "rte", "--seeds", "1", "--variant", "qbert-w4", "--variant", "distilbert")
    return place.bench(
        "run", "full", "--paper", "bert", "--task", "squad", "--results", "none",
        "--", "plan", "full", "--paper", "distilbert",
        "--", "run", "full", "--teacher", "google/mobilebert-uncased", "--results", "none",
        "--", "plan", "full", "--corpus", "corpus.txt", "--json",
        "--", "run", "full", "--variant", "bert", "--variant", "distilbert-released", "--task", "sst2",
        "--", "run", "full", *rte, "--corpus", "corpus.txt", "--json",
        "--", "report", "--results", "results", "--reports", "reports",
    )  # fmt: skip


def test_what_goes_wrong_is_one_line_each(whole: Told, place: Place) -> None:
    assert codes(whole) == [2, 2, 2, 0, 0, 0, 0], whole.stderr[-3000:]
    gated, alone, other = [line for line in whole.stderr.splitlines() if line.startswith("bench: ")]
    assert "terms have to be accepted" in gated and "/datasets/rajpurkar/squad, then: hf auth login" in gated
    assert "no corpus is given" in alone and "next: add --corpus" in alone
    assert "the teacher is not a BERT" in other and "found model_type mobilebert" in other
    assert not (place.folder / "none").exists() and "Traceback" not in whole.stderr


def test_the_plan_of_everything(whole: Told) -> None:
    plan = documents(whole)[0]
    found = {(job["paper"], job["variant"]) for job in plan["jobs"]}
    assert found == {("adabert", "adabert"), ("bert", "bert"), ("distilbert", "distilbert"), ("lowresource", "bilstm"),
                     ("mobilebert", "ib-bert-large"), ("mobilebert", "mobilebert"), ("qbert", "qbert-mp23"),
                     ("tinybert", "tinybert-4")}  # fmt: skip
    tasks = {job["task"] for job in plan["jobs"] if job["paper"] == "bert"}
    assert len(tasks) == 11 and {job["seed"] for job in plan["jobs"]} == set(range(5))
    assert {"device", "device_hours", "memory_mb", "memory_free_mb", "disk_mb", "disk_free_mb"} <= plan["total"].keys()
    assert plan["total"]["jobs"] == len(plan["jobs"]) and plan["total"]["memory_mb"] > 0


def test_the_settings_are_the_papers_and_the_tiers_what_they_would_be(whole: Told, place: Place) -> None:
    records = {(r.spec.variant, r.spec.task, r.spec.seed): r for r in read_records(place.folder / "results", ("full",))}
    assert len(records) == 13 and all(record.status == "ok" for record in records.values())
    tiers = {variant: record.tier for (variant, _, _), record in records.items()}
    # The fixture's text is far less than what DistilBERT was made of.
    assert tiers == {"bert": "exact", "distilbert-released": "checkpoint", "qbert-w4": "exact", "distilbert": "reduced"}
    bert = records["bert", "sst2", 0]
    assert bert.hyper["fine_tune"] | {"epochs": 3, "batch_size": 32, "lr": 2e-5} == bert.hyper["fine_tune"]
    assert bert.data is not None and bert.data.source == "hub:nyu-mll/glue" and not bert.data.partial
    distilbert = records["distilbert", "rte", 0].hyper["general"]
    assert (distilbert["corpus_tokens"], distilbert["training"]["accumulation"]) == (3_300_000_000, 800)


def test_the_report_judges_both_tiers(whole: Told, place: Place) -> None:
    def verdicts(paper: str, tier: str) -> set[str]:
        lines = (place.folder / "reports" / f"{paper}.md").read_text().splitlines()
        return {word for line in lines if f"5 seeds, {tier}" in line for word in
                ("**reproduced**", "**exceeded**", "**not reproduced**") if word in line}  # fmt: skip

    assert verdicts("bert", "exact") and verdicts("distilbert", "checkpoint")
    assert "some scores were tested at the paper's scale" in (place.folder / "reports" / "README.md").read_text()


def test_offline_the_cache_serves_the_same_plan(whole: Told, place: Place) -> None:
    asked = len(place.hub.asked)
    again = place.bench("run", "full", "--variant", "distilbert-released", "--task", "sst2", "--json",
                        HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")  # fmt: skip
    assert codes(again) == [0], again.stderr[-2000:]
    assert len(documents(again)[0]) == 10 and "state=runs" not in again.stderr, "all is done"
    assert len(place.hub.asked) == asked
