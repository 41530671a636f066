"""`--deterministic`: recorded and hashed, no time among its numbers, and one line for an operation that cannot."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
import words

from bench.cli import main as cli
from bench.core import steering
from bench.core.errors import SpecError, TrainError
from bench.run import job
from bench.train import deterministic

folder, tokenizer = commands.folder, words.tokenizer  # fixtures


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing asks for it before, and nothing after."""
    with monkeypatch.context() as patch:
        for name in (steering.DETERMINISTIC, steering.WORKSPACE):
            patch.setenv(name, "1")
            patch.delenv(name)
        yield
    job._where.cache_clear()
    deterministic.settle()


def ended(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_a_run_says_so_and_holds_no_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "smoke", "--paper", "bert", "--task", "sst2", "--teacher", str(folder / "teacher"), "--data",
               str(folder / "data"), "--set", "fine_tune.epochs=1", "--json"]  # fmt: skip
    found: list[dict[str, Any]] = []
    for more in ([], ["--deterministic"]):
        job._where.cache_clear()  # a process asks once
        assert ended(monkeypatch, *command, *more) == 0
        assert torch.are_deterministic_algorithms_enabled() == bool(more)
        found += json.loads(capsys.readouterr().out)
    usual, asked = found
    assert "steering" not in usual["environment"]
    assert asked["environment"]["steering"] == {steering.DETERMINISTIC: "1", steering.WORKSPACE: ":4096:8"}
    assert asked["environment"]["machine"].startswith(usual["environment"]["machine"] + "-e")
    assert asked["hash"] != usual["hash"] and not any(stage["cached"] for stage in asked["stages"])
    timed = {m["metric"] for m in usual["measurements"]} - {m["metric"] for m in asked["measurements"]}
    assert timed == {"latency_s", "throughput", "aa_ratio", "training_seconds"}


def test_an_operation_without_a_deterministic_form_is_named() -> None:
    steering.ask_for_deterministic()
    deterministic.settle()
    where = torch.tensor([0, 0])
    with pytest.raises(TrainError, match=r"found put_; next: leave out --deterministic$"), deterministic.told():
        torch.zeros(2).put_(where, torch.ones(2))
    with pytest.raises(RuntimeError, match="another"), deterministic.told():
        raise RuntimeError("another failure stays what it is")


def test_nothing_is_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    steering.ask_for_deterministic()
    assert ended(monkeypatch, "measure", "--variant", "tinybert-4", "--quick") == 2
    told = capsys.readouterr().err
    assert "their times say nothing; in BENCH_DETERMINISTIC" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [(steering.DETERMINISTIC, "yes", "bench run --deterministic sets it"),
     (steering.WORKSPACE, ":0:0", "expected :4096:8 or :16:8")],
)  # fmt: skip
def test_what_would_not_be_deterministic_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(steering.DETERMINISTIC, "1")
    monkeypatch.setenv(name, value)
    with pytest.raises(SpecError, match=told):
        steering.steering()
