"""Stacks of variants through the command line with a tiny given teacher: what is made, recorded, refused, exported."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Result, measured, refused
from transformers import AutoModelForSequenceClassification

from bench.cli import main as cli
from bench.core.errors import SpecError
from bench.models import load
from bench.models.shape import find_shape
from bench.run import plan
from bench.run.plan import Planner
from bench.run.request import Request
from bench.run.stack import chosen_stacks
from papers.lowresource.student import BiLstmConfig, BiLstmForSequenceClassification
from papers.qbert.scheme import Scheme
from papers.qbert.student import from_float

Call = Callable[..., Result]


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`bench run smoke --variant ... --json` on the tiny task, or another command as it is given."""

    def run(*arguments: str, command: tuple[str, ...] = ()) -> Result:
        given = ["run", "smoke", "--task", "sst2", "--teacher", str(folder / "teacher"), "--data", str(folder / "data"),
                 "--corpus", str(folder / "corpus.txt"), "--set", "fine_tune.epochs=12", "--set", "fine_tune.lr=3e-3",
                 "--json", *arguments]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["bench", *(command or given)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out = capsys.readouterr()
        return int(stopped.value.code or 0), out.out, out.err

    return run


def records(result: Result) -> dict[str, Any]:
    code, out, error = result
    assert code == 0, error
    return {record["spec"]["variant"]: record for record in json.loads(out)}


TINY = {
    "tinybert-4-no-da+qbert-w4": ("--set", "student.every=2", "--set", "general.corpus_tokens=400"),
    "distilbert+qbert-w4": ("--set", "general.corpus_tokens=400"),
    "bilstm+qbert-w8": ("--set", "least_steps=20"),
}
"""Stack -> what makes it small."""


@pytest.mark.parametrize("name", TINY)
def test_a_stack_starts_from_the_finished_model_below(name: str, call: Call) -> None:
    found = records(call("--variant", name, *TINY[name]))
    below, _ = name.split("+")
    assert set(found) == {"bert", below, name}, "the reference and the lower model have records of their own"
    stack, lower = found[name], found[below]
    assert stack["spec"]["paper"] == "qbert" and stack["teacher"]["record"] == found["bert"]["id"]
    names = [stage["name"] for stage in stack["stages"]]
    own = [stage["name"] for stage in lower["stages"]]
    assert names[: len(own)] == [f"{below}: {one}" for one in own] and names[len(own)] == "start_from_base"
    assert set(stack["code"]["stage_hashes"]) == set(names)
    changed = {TINY[name][place + 1].partition("=")[0] for place in range(0, len(TINY[name]), 2)}
    assert {f"base.{path}" for path in changed} <= set(stack["overrides"]), "what was changed below is told"
    assert stack["hyper"]["base"]["variant"] == below and set(stack["hyper"]["base"]["teacher"]) == {
        "fine_tune.epochs", "fine_tune.lr"}  # fmt: skip
    assert {f"base.{part}" for part in lower["hyper"]["budget"]} - {"base.limit"} <= set(stack["hyper"]["budget"])
    assert stack["hyper"]["max_length"] == lower["hyper"]["max_length"], "a row is read as the model below read it"
    # The price of a stack is that of all its models; the reference, which others share, is not in it.
    assert measured(stack, "training_seconds")["all"] >= measured(lower, "training_seconds")["all"]
    dev = "validation"
    kept = measured(stack, "accuracy")[dev] / measured(found["bert"], "accuracy")[dev]
    assert measured(stack, "retention")[dev] == pytest.approx(kept)
    assert measured(stack, "packed_difference")[dev] == 0.0, "the packed file answers as the model"
    assert measured(stack, "size_bytes")["packed-file"] < measured(lower, "size_bytes")["artefact"]
    assert measured(stack, "parameters")["all"] == measured(lower, "parameters")["all"]


def loaded(target: Path) -> Any:
    """The model that the lines of an export's card give."""
    code = (target / "README.md").read_text().split("```python\n")[1].split("```")[0].replace("FOLDER", str(target))
    assert 3 <= len(code.strip().splitlines()) <= 4
    space: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), space)
    return space["model"]


def answers(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([[7, 8, 9]])).logits


@pytest.mark.parametrize("name", ["bilstm", "distilbert"])
def test_an_export_of_floats_loads_with_the_lines_of_its_card(name: str, call: Call, folder: Path) -> None:
    record = records(
        call("--variant", name, *next(small for stack, small in TINY.items() if stack.startswith(f"{name}+")))
    )[name]
    code, _, error = call(command=("export", record["id"], str(folder / "exported")))
    assert code == 0, error
    sha = record["artefacts"][0]["sha256"]
    assert hashlib.sha256((folder / "exported" / "model.safetensors").read_bytes()).hexdigest() == sha
    assert torch.isfinite(answers(loaded(folder / "exported"))).all()


@pytest.mark.parametrize("name", ["bilstm+qbert-w8", "qbert-w8"])
def test_an_export_loads_as_the_very_model_that_was_scored(name: str, call: Call, folder: Path) -> None:
    stack = records(call("--variant", name, *TINY.get(name, ())))[name]
    target = folder / "exported"
    code, _, error = call(command=("export", stack["id"], str(target)))
    assert code == 0, error
    assert {file.name for file in target.glob("*.safetensors")} == {"packed.safetensors"}
    with pytest.raises((ValueError, OSError)):
        AutoModelForSequenceClassification.from_pretrained(target)
    card = (target / "README.md").read_text()
    score = measured(stack, "accuracy")["validation"]
    assert f"accuracy {score:.4f} on 32 rows of validation" in card
    saved = [load.load_saved(path.parent) for path in (folder / "home" / "stages").glob("*/*/models/model/config.json")
             if "scheme" in json.loads(path.read_text())]  # fmt: skip
    assert len(saved) == 1
    assert torch.equal(answers(loaded(target)), answers(saved[0]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qbert-w4+qbert-w2", ("a stack takes each paper once",)),
        ("tinybert-4+qbert-w4+tinybert-6", ("starts from no finished one",)),
        ("qbert-w4+distilbert", ("distilbert trains a model of its own", "bench list")),
        ("bert+qbert-w4", ("qbert starts from bert by itself",)),
        ("tinybert-4+qbert-w5", ("unknown variant", "qbert-w5")),
        ("tinybert-4+", ("unknown variant",)),
    ],
)
def test_what_cannot_be_stacked_is_refused(name: str, words: tuple[str, ...], call: Call, folder: Path) -> None:
    refused(call("--variant", name), folder, *words)


def test_a_quantised_lstm_rounds_padded_rows_as_it_rounds_packed_ones() -> None:
    torch.manual_seed(0)
    model = BiLstmForSequenceClassification(BiLstmConfig(vocab_size=30, embedding_size=8, hidden_size=8))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    made = from_float(model, Scheme(layers=(2,), groups=4, embedding_groups=4))
    ids = torch.randint(1, 30, (4, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [4], [6], [2]])).long()
    made.train()(input_ids=ids, attention_mask=mask)  # the ranges of activations
    made.eval()
    with torch.no_grad():
        padded = made(input_ids=ids, attention_mask=mask).logits
        single = torch.cat([made(input_ids=ids[i : i + 1, : int(mask[i].sum())]).logits for i in range(4)])
        plain = model.eval()(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(padded, single, atol=1e-6) and not torch.allclose(padded, plain, atol=1e-3)


def test_a_mixture_of_one_layer_is_refused(call: Call, folder: Path) -> None:
    with pytest.raises(SpecError, match="a mixture takes two layers or more"):
        find_shape("cbow-ffn+qbert-mp23")
    code, out, _ = call("--variant", "bilstm+qbert-mp23", "--set", "least_steps=20", "--json")
    assert code == 1
    assert "a mixture takes two layers" in {r["spec"]["variant"]: r["reason"] for r in json.loads(out)}[
        "bilstm+qbert-mp23"]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"", "é".encode("latin-1"), b"a\tb\n"])
def test_bad_unlabelled_text_is_told_before_anything_runs(content: bytes | None, call: Call, folder: Path) -> None:
    file = folder / "more.txt"
    if content is not None:
        file.write_bytes(content)
    refused(call("--variant", "bilstm", "--unlabelled", str(file)), folder, "more.txt")


def test_more_labels_than_rows_are_refused(call: Call, folder: Path) -> None:
    refused(call("--variant", "bilstm", "--labels", "97"), folder, "--labels", "found 97", "1 to 96")


def test_a_stack_at_paper_size_weighs_less_and_runs_as_the_model_below() -> None:
    key, shape = find_shape("tinybert-4+qbert-w4")
    _, below = find_shape("tinybert-4")
    assert key == ("qbert", "tinybert-4+qbert-w4") and shape.build is below.build
    with torch.device("meta"):
        floats = sum(p.numel() for p in below.build().parameters()) * 4  # pyright: ignore[reportOptionalCall]
    assert floats / 8 < shape.packed["packed"] < floats / 4, "4 bits in the layers, 8 in the tables"


def test_a_named_variant_chooses_its_own_paper_alone() -> None:
    stacks, chosen = chosen_stacks(Request(variant=("tinybert-4",)))
    assert [one.variant for stack in stacks for one in stack] == ["tinybert-4"] and list(chosen) == ["tinybert"]
    stacks, chosen = chosen_stacks(Request(variant=("tinybert-4",), paper=("bert", "tinybert")))
    assert [one.variant for stack in stacks for one in stack] == ["bert", "tinybert-4"]
    assert set(chosen) == {"bert", "tinybert"}


def test_the_hash_of_a_run_holds_the_model_that_it_is_compared_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))

    def made(**given: str) -> str:
        asked = Request(variant=("bilstm-supervised",), task=("sst2",), set=given)
        return next(job.hash for job in Planner(asked).build().jobs if job.spec.paper == "lowresource")

    assert made() == made() != made(**{"fine_tune.lr": "1e-3"})  # which only its reference has


def test_another_metric_makes_what_was_scored_by_it_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))

    def made() -> dict[str, str]:
        jobs = Planner(Request(variant=("mobilebert",), task=("sst2",))).build().jobs
        (job,) = (one for one in jobs if one.spec.variant == "mobilebert")
        return {"hash": job.hash, **{stage.stage.name: stage.key for stage in job.stages}}

    before, real = made(), plan.module_hash
    monkeypatch.setattr(plan, "module_hash", lambda name: real(name) + "x" * (name == "bench.data.metrics"))
    after = made()
    changed = {name for name, key in after.items() if key != before[name]}
    assert {"hash", "fine_tune"} <= changed and "initialise_student" not in changed, "text has no metric"
