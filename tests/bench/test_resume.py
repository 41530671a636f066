"""Killed at any moment, a run goes on where it was and ends with the same numbers; two benches share one folder."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import damage
import pytest

from bench.core import store
from bench.core.record import Record

PROFILE = damage.PROFILE.replace("0.005", "0.0002")
"""Checkpoints after nearly every step."""


def start(folder: Path, home: Path, *more: str) -> subprocess.Popen[str]:
    environment = os.environ | {"BENCH_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench", "run", "profile.toml", "--json", *more]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str]) -> Record:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-2000:]
    return Record.model_validate(json.loads(out)[0])


def killed_after(
    process: subprocess.Popen[str], home: Path, checkpoints: int, signum: signal.Signals = signal.SIGKILL
) -> bool:
    """Kill a run when it has written so many checkpoints more; False where it ends before that."""
    seen = set(home.glob("progress/*/*/step-*"))
    wanted = len(seen) + checkpoints
    while process.poll() is None:
        seen.update(home.glob("progress/*/*/step-*"))
        if len(seen) >= wanted:
            process.send_signal(signum)
            return True
        time.sleep(0.002)
    return False


def assert_nothing_half_written(folder: Path, home: Path) -> None:
    """Every record under its name is whole, and every cache entry has its manifest."""
    store.read_records(folder / "results", ("smoke",))
    for entry in home.glob("stages/*/[!.]*"):
        assert (entry / "manifest.json").is_file(), entry
    for step in home.glob("progress/*/*/step-*"):
        assert {"progress.json", "state.safetensors", "random-0.safetensors"} <= {p.name for p in step.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "profile.toml").write_text(PROFILE)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "profile.toml").write_text(PROFILE)
    return finish(start(folder, folder / "home"))


def test_a_killed_run_resumes_and_ends_with_the_same_numbers(folder: Path, whole: Record) -> None:
    chance, killed = random.Random(0), 0
    for signum in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        process = start(folder, folder / "home")
        hit = killed_after(process, folder / "home", chance.randint(3, 8), signum)
        said = process.communicate()[1]
        if hit and signum == signal.SIGTERM:
            assert process.returncode == 143 and "Traceback" not in said
            assert said.splitlines()[-1] == "bench: stopped: progress is saved; the same command goes on"
        killed += hit
        assert_nothing_half_written(folder, folder / "home")
    assert killed >= 2, "too few runs were killed: the test showed nothing"
    resumed = finish(start(folder, folder / "home"))
    assert damage.numbers(resumed) == damage.numbers(whole) and len(whole.measurements) >= 5
    again = finish(start(folder, folder / "home"))
    assert again.id == resumed.id, "what is done is not done again"
    assert len(list((folder / "results").rglob("*.json"))) == 1


@pytest.mark.parametrize("count", [2, 3])
def test_several_benches_in_one_folder_do_not_corrupt_it(folder: Path, whole: Record, count: int) -> None:
    several = [start(folder, folder / "home") for _ in range(count)]
    records = [finish(process) for process in several]
    assert all(damage.numbers(record) == damage.numbers(whole) for record in records)
    assert_nothing_half_written(folder, folder / "home")
    stored = store.read_records(folder / "results", ("smoke",))
    assert [record.hash for record in stored] == [whole.hash], "one of them makes it, the others wait for its record"


def test_the_command_under_a_launcher_of_two_processes_writes_one_record(folder: Path) -> None:
    environment = os.environ | {
        "BENCH_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "bench", "run", "profile.toml", "--json"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    record = finish(process)  # its output is one JSON document, not one per process
    assert record.environment["processes"] == 2
    assert {("accuracy", "validation"), ("latency_s", "batch1-length128")} <= {
        (m.metric, m.split) for m in record.measurements
    }
    assert [r.id for r in store.read_records(folder / "results", ("smoke",))] == [record.id]
    assert_nothing_half_written(folder, folder / "home")
