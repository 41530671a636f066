"""`bench run --minutes`: no run starts that would end later; and profiles of several parts, one after another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import commands
import pytest
import words

from bench.cli import main as cli
from bench.core import store
from bench.core.errors import SpecError
from bench.run import deadline, forecast
from bench.run.deadline import Deadline

folder, tokenizer = commands.folder, words.tokenizer  # fixtures

PROFILE = """
    scale = "smoke"
    task = ["sst2"]
    [set]
    fine_tune.epochs = 2
    [[part]]
    says = "the reference"
    paper = ["bert"]
    [[part]]
    paper = ["distilbert"]
    set.general.corpus_tokens = 400
"""


def here(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> int:
    """The exit code of `bench run` on the profile, in this process."""
    (folder / "evidence.toml").write_text(PROFILE)
    given = ["--teacher", str(folder / "teacher"), "--data", str(folder / "data"),
             "--corpus", str(folder / "corpus.txt"), "--results", str(folder / "results")]  # fmt: skip
    monkeypatch.setenv("BENCH_HOME", str(folder / "home"))
    monkeypatch.setattr(sys, "argv", ["bench", "run", str(folder / "evidence.toml"), *given, *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def made(folder: Path) -> list[str]:
    return sorted(record.spec.variant for record in store.read_records(folder / "results"))


def dear(monkeypatch: pytest.MonkeyPatch, paper: str) -> None:
    """A run of this paper is expected to take days."""
    real = forecast.costs

    def costs(plan: Any) -> Any:
        found = real(plan)
        for job in found["jobs"]:
            job["finish_s"] += 1e6 * (job["spec"]["paper"] == paper)
        return found

    monkeypatch.setattr(forecast, "costs", costs)


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_for_which_there_is_no_time_are_left_and_made_by_the_same_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    with monkeypatch.context() as patch:
        dear(patch, "distilbert")
        assert here(patch, folder, "--minutes", "60", "--workers", str(workers)) == 0
    assert made(folder) == ["bert"]
    told = capsys.readouterr().err
    assert "part 1 of 2: the reference" in told
    assert "bench: part 2 of 2\n" in told
    assert "no time for 1 of the runs; next: the same command goes on" in told
    assert here(monkeypatch, folder, "--minutes", "60", "--workers", str(workers)) == 0
    assert made(folder) == ["bert", "distilbert"]
    assert "no time" not in capsys.readouterr().err


@pytest.mark.parametrize("workers", [1, 2])
def test_what_needs_a_run_that_is_left_is_left_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    dear(monkeypatch, "bert")
    assert here(monkeypatch, folder, "--minutes", "60", "--workers", str(workers)) == 2
    assert made(folder) == []
    last = capsys.readouterr().err.splitlines()[-1]
    assert "there is no time for any run; in --minutes; found 60; expected at least" in last
    assert "the shortest of 2" in last


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_minutes_that_cannot_be_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], minutes: str
) -> None:
    assert here(monkeypatch, folder, "--minutes", minutes) == 2
    assert "--minutes" in capsys.readouterr().err
    assert not (folder / "results").exists()


def test_minutes_and_again_exclude_each_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here(monkeypatch, folder, "--minutes", "5", "--again") == 2
    assert "--again keeps no time; in --minutes; found 5" in capsys.readouterr().err


def test_what_was_made_corrects_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(deadline.time, "monotonic", lambda: now)
    given = Deadline(10.0)
    assert given.fits(600.0)
    assert not given.fits(601.0)
    given.took(expected=50.0, seconds=100.0)
    now = 100.0
    assert given.fits(250.0)
    assert not given.fits(251.0)
    given.check()


def test_no_run_at_all_is_wrong_input() -> None:
    given = Deadline(1.0)
    assert not given.fits(90.0)
    given.left.add("a run")
    with pytest.raises(SpecError, match=r"--minutes; found 1; expected at least 1\.5 for the shortest of 1"):
        given.check()
