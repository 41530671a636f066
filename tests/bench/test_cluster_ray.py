"""`bench run --cluster` on a real Ray cluster of nodes on this machine: slow, and skipped where Ray is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import commands
import psutil
import pytest
import test_workers
import words
from rehearsal.nodes import nodes

from bench.core import store

MISSING = importlib.util.find_spec("ray") is None
pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(MISSING, reason="Ray is missing: pip install -e '.[cluster]'"),
]  # fmt: skip
folder, tokenizer = commands.folder, words.tokenizer  # fixtures

MEMORY = {"training_peak_bytes"}


def made(results: Path) -> dict[str, Any]:
    """Run -> all that does not hang on the clock or on what else a process keeps in memory."""
    records = store.read_records(results)
    out = {
        str(r.spec): (r.hash, r.status, [a.sha256 for a in r.artefacts], r.answers,
                      [(m.metric, m.split, m.value) for m in r.measurements
                       if m.unit in ("fraction", "bytes") and m.metric not in MEMORY])
        for r in records
    }  # fmt: skip
    assert len(out) == len(records) == 4, "every record once"
    return out


@contextmanager
def started(folder: Path, address: str, epochs: int, log: Path) -> Iterator[subprocess.Popen[str]]:
    command = test_workers.command(folder, "results", "--cluster", address, epochs=epochs)
    with log.open("a") as out:
        process = subprocess.Popen(command, cwd=folder / "work", env=test_workers.settings(folder, "home"), stdout=out,
                                   stderr=out, text=True, start_new_session=True)  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def tasks() -> list[int]:
    """The processes that make pieces."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).startswith("ray::make"):
            found.append(process.pid)
    return found


def wait_for(text: str, log: Path, process: subprocess.Popen[str], count: int = 1) -> None:
    while log.read_text().count(text) < count:
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)


def test_a_node_is_killed_and_every_record_comes_once(folder: Path) -> None:
    single = test_workers.command(folder, "single", epochs=12)
    subprocess.run(single, cwd=folder / "work", env=test_workers.settings(folder, "home-1"), check=True)
    log = folder / "log.txt"
    with nodes(2) as cluster, started(folder, cluster.address, 12, log) as process:
        wait_for("/s0", log, process)
        assert cluster.kill() in ("1", "2")
        assert process.wait(900) == 0, log.read_text()
    assert made(folder / "work" / "results") == made(folder / "work" / "single")
    assert "state=lost" in log.read_text() and "Traceback" not in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_driver_is_ended_and_the_same_command_goes_on(folder: Path, number: int) -> None:
    log = folder / "log.txt"
    with nodes(2) as cluster:
        with started(folder, cluster.address, 60, log) as process:
            wait_for("/s0", log, process)
            while not tasks():
                time.sleep(0.2)
            began = time.monotonic()
            os.kill(process.pid, number)
            while tasks():
                assert time.monotonic() - began < 10, "its tasks end within ten seconds"
                time.sleep(0.1)
            assert process.wait(60) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        if number == signal.SIGTERM:
            assert log.read_text().splitlines()[-1] == "bench: stopped: progress is saved; the same command goes on"
        with started(folder, cluster.address, 60, log) as process:
            assert process.wait(900) == 0, log.read_text()
    assert len(made(folder / "work" / "results")) == 4


def test_a_cluster_of_its_own_is_local(folder: Path) -> None:
    command = test_workers.command(folder, "results", "--cluster", "local", "--json")
    done = subprocess.run(command, cwd=folder / "work", env=test_workers.settings(folder, "home"), check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == len(made(folder / "work" / "results")) == 4
