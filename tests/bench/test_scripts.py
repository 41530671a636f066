"""`bench plan --jobs`: scripts that bash reads, that make exactly the plan's runs, each after what it needs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import pytest
import typer
import words

from bench.cli import main as cli
from bench.cli import run as run_command
from bench.core import store
from bench.run import plan as planning
from bench.run import scripts

folder, tokenizer = commands.folder, words.tokenizer  # fixtures


@pytest.fixture
def write(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`bench plan smoke --jobs KIND` on the tiny task, whose folder has a name that a shell would misread."""
    odd = folder / "it's $(touch gone) *"
    if not odd.exists():
        (folder / "data").rename(odd)

    def call(kind: str, *arguments: str) -> tuple[int, str, str]:
        words_ = ["bench", "plan", "smoke", "--paper", "bert", "--paper", "distilbert", "--task", "sst2",
                  "--seeds", "2", "--teacher", "../teacher", "--data", str(odd), "--corpus", "../corpus.txt",
                  "--set", "fine_tune.epochs=4", "--set", "fine_tune.lr=3e-3", "--set", "general.corpus_tokens=400",
                  "--jobs", kind, *arguments]  # fmt: skip
        monkeypatch.setattr(sys, "argv", words_)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def bench_words(script: Path) -> list[str]:
    """What a script gives to `bench`."""
    line = next(line for line in script.read_text().splitlines() if line.startswith("exec "))
    python, module, name, *rest = shlex.split(line.removeprefix("exec "))
    assert (python, module, name) == (sys.executable, "-m", "bench")
    return rest


def hashes(script: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The jobs that a script's command would make, as the command line itself reads it."""
    found: set[str] = set()
    single: Any = typer.Typer()
    single.command()(run_command.command)

    def made(plans: list[planning.Plan], make: object) -> list[Any]:
        found.update(job.hash for plan in plans for job in plan.jobs)
        return []

    monkeypatch.setattr(run_command, "_made", made)
    typer.main.get_command(single).main(bench_words(script)[1:], standalone_mode=False)
    return found


def test_the_shell_form_makes_the_plan(write: Callable[..., Any], folder: Path) -> None:
    code, out, err = write("shell")
    assert code == 0, err
    made = sorted(path.name for path in Path("jobs").iterdir())
    assert made == ["001-bert-bert-sst2.sh", "002-distilbert-distilbert-sst2.sh", "run.sh"]
    assert out.splitlines() == [f"jobs/{name}" for name in made] + ["next: bash jobs/run.sh"]
    for name in made:
        assert subprocess.run(["bash", "-n", f"jobs/{name}"], check=False).returncode == 0
    done = subprocess.run(["bash", "jobs/run.sh", "cpu", "cpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = store.read_records(Path("results"))
    assert len(records) == 4 and {record.status for record in records} == {"ok"}
    assert done.stdout.count("cpu 00") == 2 and not list(folder.rglob("gone"))
    assert write("shell")[0] == 0 and [path.name for path in Path("jobs").iterdir()] == ["run.sh"], "all is made"


def test_each_command_makes_its_group_and_what_that_needs(
    write: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[planning.Plan] = []
    make = planning.make
    monkeypatch.setattr(planning, "make", lambda *given: plans.append(make(*given)) or plans[-1])
    assert write("slurm", "--out", "one")[0] == 0
    jobs = {job.spec.paper: {one.hash for one in plans[0].jobs if one.spec.paper == job.spec.paper}
            for job in plans[0].jobs}  # fmt: skip
    first, second = sorted(Path("one").glob("0*.sh"))
    assert hashes(first, monkeypatch) == jobs["bert"] and len(jobs["bert"]) == 2
    assert hashes(second, monkeypatch) == jobs["bert"] | jobs["distilbert"] and len(jobs["distilbert"]) == 2


def test_slurm_is_told_of_needs_time_and_memory(
    write: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write("slurm", "--out", "jobs here")[0] == 0
    fake = folder / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s|" "$@" >> ../calls; echo >> ../calls\necho "$(wc -l < ../calls);x"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    words_ = ["bash", "jobs here/submit.sh", "--partition=a b"]
    done = subprocess.run(words_, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = Path("calls").read_text().splitlines()
    assert first == "--parsable|--partition=a b|001-bert-bert-sst2.sh|"
    assert second == ("--parsable|--dependency=afterok:1|--kill-on-invalid-dep=yes|--partition=a b|"
                      "002-distilbert-distilbert-sst2.sh|")  # fmt: skip
    head = [line for line in Path("jobs here/001-bert-bert-sst2.sh").read_text().splitlines() if "#SBATCH" in line]
    assert [line.split("=")[0] for line in head] == [f"#SBATCH --{name}" for name in (
        "job-name", "time", "mem", "nodes", "ntasks")]  # fmt: skip
    assert int(head[1].split("=")[1]) >= 15 and int(head[2].split("=")[1].rstrip("M")) >= 4000
    gpu = scripts._slurm(scripts.Group(1, "x", [], seconds=7200.0, bytes=2e9), gpu=True)
    assert "#SBATCH --gres=gpu:1" in gpu and "#SBATCH --time=255" in gpu and "#SBATCH --mem=7295M" in gpu


def test_what_it_has_not_written_stays(write: Callable[..., Any]) -> None:
    mine = Path("jobs") / "run.sh"
    mine.parent.mkdir()
    mine.write_text("#!/bin/sh\necho mine\n")
    code, out, err = write("shell")
    assert code == 2 and "a file is in the way; in jobs/run.sh" in err and err.count("\n") == 1 and out == ""
    assert [path.name for path in Path("jobs").iterdir()] == ["run.sh"] and mine.read_text().endswith("mine\n")


@pytest.mark.parametrize(
    ("arguments", "says"), [(["pbs"], "expected slurm or shell"), (["shell", "--out", "/dev/null/x"], "cannot be")]
)
def test_what_cannot_be_written(write: Callable[..., Any], arguments: list[str], says: str) -> None:
    code, out, err = write(*arguments)
    assert code == 2 and says in err and err.count("\n") == 1 and out == ""


def test_a_later_group_waits_for_who_makes_what_it_shares() -> None:
    first, second = scripts.Group(1, "a", ["true"]), scripts.Group(2, "b", ["true"], {1: None})
    third = scripts.Group(3, "c", ["true"])
    waves = [line for line in scripts._run([first, second, third]) if line.startswith("wave ")]
    assert waves == ["wave 001-a.sh 003-c.sh", "wave 002-b.sh"]
