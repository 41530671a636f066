"""`bench run --workers N`: the same records as one process makes, whoever is killed or stopped meanwhile."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import commands
import psutil
import pytest
import torch
import words

from bench.cli import main as cli
from bench.core import store
from bench.core.environment import cores
from bench.core.errors import Stopped
from bench.core.record import Record
from bench.run import leases, watch, workers
from bench.train import stopping
from bench.train.progress import told

folder, tokenizer = commands.folder, words.tokenizer  # fixtures

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ("bert", "distilbert")


def command(folder: Path, results: str, *arguments: object, epochs: int = 12) -> list[str]:
    papers = [word for paper in PAPERS for word in ("--paper", paper)]
    return [
        sys.executable, "-m", "bench", "run", "smoke", *papers, "--task", "sst2", "--seeds", "2",
        "--teacher", str(folder / "teacher"), "--data", str(folder / "data"), "--corpus", str(folder / "corpus.txt"),
        "--set", f"fine_tune.epochs={epochs}", "--set", "fine_tune.lr=3e-3", "--set", "general.corpus_tokens=400",
        "--results", results, *map(str, arguments),
    ]  # fmt: skip


def settings(folder: Path, home: str) -> dict[str, str]:
    return os.environ | {"BENCH_HOME": str(folder / home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@contextmanager
def started(folder: Path, *arguments: object, epochs: int) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs, its output in out.txt; nothing of it is left after."""
    with (folder / "out.txt").open("w") as out:
        process = subprocess.Popen(command(folder, "results", *arguments, epochs=epochs), cwd=folder / "work",
                                   env=settings(folder, "home"), stdout=out, stderr=out, text=True,
                                   start_new_session=True)  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def holder(folder: Path, process: subprocess.Popen[str], but: int = 0) -> int:
    """The pid of a worker that makes a job, and that is not `but`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for path in (folder / "work" / "results" / leases.FOLDER).glob("*.json"):
            try:
                pid = json.loads(path.read_text())["pid"]
            except FileNotFoundError:
                continue
            if pid != but:
                return pid
        time.sleep(0.01)
    pytest.fail(f"no worker makes a job: {(folder / 'out.txt').read_text()}")


def made(results: Path) -> dict[str, Any]:
    """Run -> its hash, status and numbers; every run has one record."""
    records = store.read_records(results)
    out = {f"{r.spec.variant} s{r.spec.seed}": (r.hash, r.status, numbers(r)) for r in records}
    assert len(out) == len(records) == 4
    return out


def numbers(record: Record) -> list[object]:
    """Scores, losses and weights, to the last bit."""
    scores = [(m.metric, m.split, m.value) for m in record.measurements if m.unit == "fraction"]
    losses = [(stage.name, stage.first_loss, stage.last_loss) for stage in record.stages]
    return [*scores, *losses, *(file.sha256 for file in record.artefacts)]


def here(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command in this process, which has imported already what takes seconds to import."""
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def halved() -> Iterator[None]:
    """As many threads in this process as each of two workers has."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, cores() // 2))
    yield
    torch.set_num_threads(before)


def test_two_workers_make_the_records_of_one(folder: Path, monkeypatch: pytest.MonkeyPatch, halved: None) -> None:
    for count in (1, 2):
        monkeypatch.setenv("BENCH_HOME", str(folder / f"home-{count}"))
        assert here(monkeypatch, *command(folder, f"results-{count}", "--workers", count)[3:]) == 0
    one, two = (made(folder / "work" / f"results-{count}") for count in (1, 2))
    assert one == two and {status for _, status, _ in one.values()} == {"ok"}
    keys = [sorted(path.name for path in (folder / f"home-{count}" / "stages").glob("*/*")) for count in (1, 2)]
    assert keys[0] == keys[1] and len(keys[0]) >= 6
    assert list((folder / "work" / "results-2" / leases.FOLDER).iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="one core: there are no more threads to be given")
def test_a_stage_beside_which_nothing_is_made_has_the_bits_of_one_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"pretrain.corpus_tokens": 12000, "pretrain.hidden": 32, "pretrain.ffn": 64, "pretrain.layers": 2,
               "pretrain.training.epochs": 2, "fine_tune.epochs": 1}  # fmt: skip
    given = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    found = []
    for count in ("1", "2"):
        monkeypatch.setenv("BENCH_HOME", str(folder / f"home-{count}"))
        results = ["--results", f"results-{count}", "--workers", count]
        asked = ["run", "smoke", "--paper", "bert", "--task", "sst2", "--seeds", "2", "--limit", "64"]
        assert here(monkeypatch, *asked, *given, *results) == 0
        records = store.read_records(folder / "work" / f"results-{count}", ("smoke",))
        found.append(sorted((r.spec.seed, r.environment["threads"], numbers(r)) for r in records))
    assert found[0] == found[1] and len(found[0]) == 2


@pytest.mark.slow
def test_the_job_of_a_killed_worker_is_made_by_another(folder: Path) -> None:
    with started(folder, "--workers", 2, epochs=100) as process:
        os.kill(holder(folder, process), signal.SIGKILL)
        assert process.wait(300) == 0, (folder / "out.txt").read_text()
    text = (folder / "out.txt").read_text()
    assert {status for _, status, _ in made(folder / "work" / "results").values()} == {"ok"}
    assert len(re.findall(r"state=died exit_code=-9", text)) == 1 and "Traceback" not in text


@pytest.mark.slow
def test_two_deaths_at_one_job_end_the_plan_in_one_line(folder: Path) -> None:
    with started(folder, "--workers", 2, "--paper", "bert", "--seeds", 1, epochs=500) as process:
        first = holder(folder, process)
        os.kill(first, signal.SIGKILL)
        os.kill(holder(folder, process, but=first), signal.SIGKILL)
        assert process.wait(300) == 1
    text = (folder / "out.txt").read_text()
    assert "bench: 2 workers died at one piece of the plan; in bert/bert/sst2/smoke/s0; found exit code -9" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_children_of_a_killed_parent_end_and_the_same_command_goes_on(folder: Path) -> None:
    with started(folder, "--workers", 2, epochs=60) as process:
        holder(folder, process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert len(children) >= 2 and psutil.wait_procs(children, timeout=10)[1] == []
    with started(folder, "--workers", 2, epochs=60) as process:
        assert process.wait(300) == 0
    assert {status for _, status, _ in made(folder / "work" / "results").values()} == {"ok"}


@pytest.mark.slow
def test_a_signal_stops_all_and_the_same_command_goes_on(folder: Path) -> None:
    def stop(process: subprocess.Popen[str], number: int, kill: Callable[[int, int], None]) -> None:
        holder(folder, process)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        kill(process.pid, number)
        assert process.wait(120) == 128 + number
        text = (folder / "out.txt").read_text()
        assert text.splitlines()[-1] == "bench: stopped: progress is saved; the same command goes on"
        assert "Traceback" not in text and psutil.wait_procs(children, timeout=60)[1] == []

    with started(folder, "--workers", 2, epochs=60) as process:
        stop(process, signal.SIGINT, os.killpg)  # as a terminal does: to the children, too
    with started(folder, "--workers", 2, epochs=60) as process:
        stop(process, signal.SIGTERM, os.kill)
    with started(folder, "--workers", 2, epochs=60) as process:
        assert process.wait(300) == 0
    assert {status for _, status, _ in made(folder / "work" / "results").values()} == {"ok"}


class Child:
    """The process of a worker; while its parent ends it, the second signal that `timeout` sends comes."""

    sentinel = 0

    def __init__(self) -> None:
        self.heard: list[str] = []

    def terminate(self) -> None:
        self.heard.append("terminate")
        os.kill(os.getpid(), signal.SIGTERM)

    def join(self, timeout: float | None = None) -> None:
        self.heard.append("waited for" if timeout else "join")

    def kill(self) -> None:
        self.heard.append("kill")


def test_the_second_signal_of_timeout_leaves_children_the_time_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ECHO_S", 60.0)
    child = Child()
    pieces = SimpleNamespace(plan=SimpleNamespace(jobs=[]), records={}, all_handed_out=False)
    pool = workers.Pool(cast(Any, pieces))
    monkeypatch.setattr(pool, "_start", lambda number: workers._Child(number, child, cast(Any, io.BytesIO())))
    monkeypatch.setattr(pool, "_hear", lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        pool.make(1)
    assert child.heard == ["terminate", "waited for", "kill", "join"]


@pytest.mark.parametrize("count", ["0", "-1", "two"])
def test_a_number_of_workers_that_makes_no_sense(bench: Callable[..., Any], count: str) -> None:
    done = bench("run", "smoke", "--workers", count)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("bench: ") and "--workers" in done.stderr


def test_more_workers_than_cores_is_said_and_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here(monkeypatch, "run", "smoke", "--workers", str(cores() + 1), "--paper", "nobody") == 2
    warning, refusal = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"bench: warning: {cores() + 1} workers share {cores()} cores") and "nobody" in refusal


def test_workers_and_processes_that_train_together_exclude_each_other(bench: Callable[..., Any]) -> None:
    done = bench("run", "smoke", "--workers", "2", env={"WORLD_SIZE": "2", "RANK": "0"})
    assert done.returncode == 2 and "accelerate launch" in done.stderr


def test_children_share_cores_and_take_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.environment, "cores", lambda: 9)
    assert {workers.settings(0, 2, [])[name] for name in workers.THREADS} == {"4"}
    assert workers.settings(0, 20, [])["OMP_NUM_THREADS"] == "1" and "CUDA_VISIBLE_DEVICES" not in workers.settings(
        0, 2, []
    )
    assert [workers.settings(i, 3, ["4", "6"])["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["4", "6", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert workers._devices() == ["4", "6"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert workers._devices() == []


def test_the_environment_of_a_child_is_not_its_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with workers._environment({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_progress_is_told_at_the_first_step_and_the_last_and_now_and_then() -> None:
    heard: list[tuple[str, str, int, int]] = []
    with told(lambda *words: heard.append(words), every_s=3600)("bert s0")(10, 4) as advance:
        for _ in range(6):
            advance(1, "loss 1")
    assert heard == [("bert s0", "", 4, 10), ("bert s0", "loss 1", 10, 10)]
    heard.clear()
    with told(lambda *words: heard.append(words), every_s=0.0)("bert s0")(3, 0) as advance:
        for _ in range(3):
            advance(1, "")
    assert [step for _, _, step, _ in heard] == [0, 1, 2, 3]


def test_a_log_says_who_makes_what_and_how_many_are_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with watch.watch(4, 1, 2) as shown:  # no terminal here
        assert isinstance(shown, watch.Lines)
        shown.begins(1, "bert/bert/sst2/smoke/s0")
        shown.goes_on(1, "bert sst2 s0 fine_tune", "loss 0.5", 3, 10)  # too soon to say
        shown.says(2, logging.WARNING, "a warning")
        shown.ends(1, "bert/bert/sst2/smoke/s0", "ok", 2)
    assert caplog.messages == [
        "worker=1 makes=bert/bert/sst2/smoke/s0", "worker=2 a warning",
        "worker=1 makes=bert/bert/sst2/smoke/s0 state=ok jobs=2 of=4",
    ]  # fmt: skip


def test_a_terminal_has_a_line_per_worker() -> None:
    screen = watch.Screen(4, 1, 2)
    screen.begins(2, "bert/bert/sst2/smoke/s0")
    screen.goes_on(2, "bert sst2 s0 fine_tune", "loss 0.5", 3, 10)
    screen.ends(1, "bert/bert/sst2/smoke/s1", "ok", 2)
    lines = [(task.description, task.completed, task.total) for task in screen._progress.tasks]
    assert lines == [("jobs", 2, 4), ("1 waits", 0, None), ("2 bert sst2 s0 fine_tune", 3, 10)]
