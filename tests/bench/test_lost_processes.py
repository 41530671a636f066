"""A process that dies, or fails alone, ends the run in all; the same command then goes on to the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.core import store
from bench.core.record import Record

PROGRAM = Path(__file__).with_name("faulty.py")
PROFILE = """
scale = "smoke"
paper = ["bert"]
task = ["sst2"]
limit = 256
checkpoint_minutes = 0.0002
[set]
"pretrain.corpus_tokens" = 12000
"pretrain.hidden" = 32
"pretrain.ffn" = 64
"pretrain.layers" = 2
"pretrain.training.epochs" = 2
"fine_tune.epochs" = 2
"""
TIMED = {"latency_s", "teacher_latency_s", "throughput", "speedup", "aa_ratio", "training_seconds",
         "training_peak_bytes"}  # fmt: skip


def run(folder: Path, fault: str, processes: int) -> tuple[int, str, list[psutil.Process]]:
    """The exit code of the launcher, all that was said, and the processes that it had started."""
    folder.mkdir(exist_ok=True)
    (folder / "profile.toml").write_text(PROFILE)
    environment = os.environ | {"BENCH_HOME": str(folder / "home"), "ACCELERATE_USE_CPU": "true", "FAULT": fault}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), str(PROGRAM)]
    with (folder / "said").open("w") as said:
        started = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, stdout=said, stderr=said)
        ranks: list[psutil.Process] = []
        while started.poll() is None:
            ranks = psutil.Process(started.pid).children() or ranks
            time.sleep(0.05)
    return started.returncode, (folder / "said").read_text(), ranks


def records(folder: Path) -> list[Record]:
    return store.read_records(folder / "results", ("smoke",)) if (folder / "results").exists() else []


def numbers(record: Record) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.split): m.value for m in record.measurements if m.metric not in TIMED}


def undisturbed(folder: Path, processes: int) -> Record:
    code, said, _ = run(folder, "none::", processes)
    assert code == 0, said[-3000:]
    (record,) = [one for one in records(folder) if one.status == "ok"]
    assert record.environment["processes"] == processes
    return record


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """What two processes find that nobody disturbs."""
    return undisturbed(tmp_path_factory.mktemp("plain") / "run", 2)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["train:1:raise", "train:0:raise", "predict:1:raise", "train:1:kill", "train:0:kill",
                                   "predict:1:kill", "train:1:full", "train:1:launcher"])  # fmt: skip
def test_the_run_ends_and_goes_on(fault: str, plain: Record, tmp_path: Path) -> None:
    code, said, ranks = run(tmp_path, fault, 2)
    _, rank, how = fault.split(":")
    gone, alive = psutil.wait_procs(ranks, timeout=60)
    assert len(gone) + len(alive) == len(ranks) <= 2 and not alive, "none is left behind"
    assert code != 0
    failed = [record for record in records(tmp_path) if record.status == "failed"]
    if how == "raise":
        assert [record.reason for record in failed] == ["ValueError: made to fail"]
        assert "made to fail" in said
    else:
        assert not failed, "the machine is to blame, not the run"
    told = [line for line in said.splitlines() if line.startswith("bench: ")]
    assert len(told) <= 1, told
    if how == "full":
        assert "No space left on device" in told[0]
    if how == "kill" and rank != "0":
        assert "another process of this run was lost" in told[0] or "stopped" in told[0]
    assert numbers(undisturbed(tmp_path, 2)) == numbers(plain)
