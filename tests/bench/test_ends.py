"""How a command ends where the system says no or a signal comes: in one line, and with the exit code that says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STUCK = """
import importlib, sys, time
from bench.cli import main
def command(as_json: bool = False) -> None:
    print("READY", file=sys.stderr, flush=True)
    time.sleep(60)
name = sys.argv[1]
importlib.import_module(f"bench.cli.{name}").command = command
sys.argv = ["bench", name]
main.main()
"""
DEAF = """
import multiprocessing, signal, sys
from bench.core.processes import deaf_children
def heard(): sys.exit(10 + (signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])))
if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        with deaf_children():
            child = multiprocessing.get_context(method).Process(target=heard)
            child.start()
        child.join()
        print(child.exitcode)
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


@pytest.mark.parametrize(
    ("name", "signum", "code", "told"),
    [
        ("list", signal.SIGINT, 130, "nothing is left half written; the same command starts again"),
        ("run", signal.SIGTERM, 143, "progress is saved; the same command goes on"),
    ],
)
def test_a_signal_ends_any_command_in_one_line(name: str, signum: signal.Signals, code: int, told: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, name], env=environment(), text=True, stderr=subprocess.PIPE
    )
    assert process.stderr is not None and process.stderr.readline() == "READY\n"
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert [line for line in said.splitlines() if line] == [f"bench: stopped: {told}"]


def test_children_do_not_hear_of_ctrl_c(tmp_path: Path) -> None:
    script = tmp_path / "deaf.py"
    script.write_text(DEAF)
    done = subprocess.run([sys.executable, script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["11", "11", "False"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_takes_no_more_is_one_line() -> None:
    command = [sys.executable, "-m", "bench", "schema", "record"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=environment(), text=True, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "the output cannot be written; in stdout; found No space left on device" in done.stderr
    read, write = os.pipe()
    os.close(read)  # nobody listens
    done = subprocess.run(command, env=environment(), text=True, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Broken pipe" in done.stderr


def test_doctor_tells_where_a_check_may_not_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bench.cli import checks

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    def closed() -> str:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.delenv("BENCH_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(checks.registry, "find", closed)
    rows = {row["name"]: row for row in checks.checks()}
    assert not rows["cache folder"]["ok"] and rows["cache folder"]["fix"] == "export BENCH_HOME=FOLDER"
    assert "Permission denied" in rows["papers"]["found"] and not rows["papers"]["ok"]
