"""The driver of a cluster against nodes that are made up: every record once, whoever dies, and clear refusals."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
import words

from bench.cli import main as cli
from bench.core import store
from bench.core.errors import DataError, SpecError, TrainError
from bench.run import cluster, leases, nodes, pieces, plan, task
from bench.run.device import Device
from bench.run.plan import Plan
from bench.run.request import Request
from bench.train.stopping import Stopped

folder, tokenizer = commands.folder, words.tokenizer  # fixtures


class MadeUp:
    """Nodes of this process: a task is a number, made when somebody waits for it; `lose` says which are lost."""

    def __init__(self, slots: int = 2, lose: Callable[[int], bool] = lambda number: False):
        self.device, self.threads = Device.here(), 1
        self._slots, self._lose = slots, lose
        self.orders: list[dict[str, Any]] = []
        self.stopped: list[Any] = []
        self.at_once = 0

    def slots(self) -> int:
        return self._slots

    def start(self, order: dict[str, Any]) -> int:
        self.orders.append(json.loads(json.dumps(order)))
        return len(self.orders)

    def wait(self, tasks: list[int], timeout_s: float) -> list[int]:
        self.at_once = max(self.at_once, len(tasks))
        return [max(tasks)]  # the last one first

    def answer(self, task_: int) -> dict[str, Any]:
        if self._lose(task_):
            raise nodes.Lost("NodeDiedError")
        return json.loads(task.make(json.dumps(self.orders[task_ - 1])))

    def stop(self, tasks: list[int], at_once: Callable[[], bool]) -> None:
        self.stopped += tasks


@pytest.fixture
def tiny(folder: Path) -> Callable[..., Plan]:
    """The plan of two papers and two seeds on the tiny task."""

    def make(results: str = "results", **more: Any) -> Plan:
        task._planned.cache_clear()
        given: dict[str, Any] = {
            "scale": "smoke", "paper": ("bert", "distilbert"), "task": ("sst2",), "seeds": 2,
            "teacher": str(folder / "teacher"), "data": str(folder / "data"), "corpus": str(folder / "corpus.txt"),
            "set": {"fine_tune.epochs": "4", "fine_tune.lr": "3e-3", "general.corpus_tokens": "400"},
        }  # fmt: skip
        return plan.make(Request(**given | {"results": results} | more))

    return make


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Tasks that are made in this process set its threads: the next test has those of before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def left(results: str) -> list[str]:
    return [path.name for path in (Path(results) / leases.FOLDER).glob("*.json")]


def test_every_record_comes_once_also_of_lost_tasks(tiny: Callable[..., Plan], caplog: Any) -> None:
    made = tiny()
    lost = {3, 5}
    found = MadeUp(lose=lambda number: number in lost)
    records = cluster.run(made, found)
    kept = store.read_records(Path("results"))
    assert [record.hash for record in records] == [job.hash for job in made.jobs]
    assert sorted(record.hash for record in kept) == sorted(job.hash for job in made.jobs) and len(kept) == 4
    assert {record.status for record in kept} == {"ok"} and found.at_once == 2 and left("results") == []
    names = [(order["do"], order.get("key"), order["job"]) for order in found.orders]
    assert len(names) == len(set(names)) + len(lost), "what was lost is handed out once more, and nothing else twice"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("state=lost" in text for text in warnings) == len(lost)
    again = MadeUp()
    assert cluster.run(made, again) == records and again.orders == []
    ids = {record.hash: record.id for record in kept}
    students = [record for record in kept if record.teacher]
    assert students and {record.teacher.record for record in students if record.teacher} <= set(ids.values())


def test_a_piece_at_which_two_nodes_died_is_not_tried_again(tiny: Callable[..., Plan]) -> None:
    found = MadeUp(slots=1, lose=lambda number: number in (1, 2))
    with pytest.raises(TrainError, match=r"2 workers died at one piece of the plan; in bert/bert/\w+; found NodeDied"):
        cluster.run(tiny(), found)
    assert len(found.orders) == 2 and pieces.DEATHS == 2


def test_a_failed_run_is_written_once_and_what_needs_it_says_why(tiny: Callable[..., Plan]) -> None:
    made = tiny(set={"fine_tune.epochs": "1", "fine_tune.lr": "1e-9", "general.corpus_tokens": "400"}, seeds=1)
    first = cluster.run(made, MadeUp())
    assert [record.status for record in first] == ["ok", "failed"] and "below its floor" in first[1].reason
    second = cluster.run(made, MadeUp())
    assert [record.id for record in second] == [record.id for record in first], "failed as before: no second record"
    assert len(store.read_records(Path("results"))) == 2 and left("results") == []


@pytest.mark.parametrize("what", ["version", "code", "plan"])
def test_a_node_that_is_not_like_the_driver_is_refused(
    tiny: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    made, found = tiny(), MadeUp()
    monkeypatch.setattr(cluster, "agreed", lambda plan_: task.agreed(plan_) | {what: "another"})
    told = {"version": "another version", "code": "other code", "plan": "other runs in the same plan"}
    with pytest.raises(SpecError, match=rf"a node has {told[what]}.*; expected another; next: install the same"):
        cluster.run(made, found)
    assert store.read_records(Path("results")) == [] and left("results") == []


def test_a_node_without_the_data_is_named(tiny: Callable[..., Plan], folder: Path) -> None:
    made = tiny()
    found = MadeUp()
    (folder / "data").rename(folder / "elsewhere")
    with pytest.raises(DataError, match=r"no such data folder.*; on node ") as told:
        cluster.run(made, found)
    assert "\n" not in str(told.value) and left("results") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_tasks_and_leaves_no_lease(tiny: Callable[..., Plan], number: int) -> None:
    class Interrupted(MadeUp):
        def answer(self, task_: int) -> dict[str, Any]:
            answer = super().answer(task_)
            if "record" in answer:
                signal.raise_signal(number)
            return answer

    found = Interrupted()
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as told:
        cluster.run(tiny(), found)
    assert told.value.signum == number and left("results") == []
    assert signal.getsignal(number) is before and len(store.read_records(Path("results"))) == 1
    assert len(cluster.run(tiny(), MadeUp())) == 4


def test_a_job_that_another_bench_makes_is_waited_for(
    tiny: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "BUSY_S", 0.05)
    made = tiny(paper=("bert",), seeds=1, set={"fine_tune.epochs": "4", "fine_tune.lr": "3e-3"})
    other = leases.Leases(Path("results")).take(made.jobs[0].hash)
    assert other is not None

    class Late(MadeUp):
        looks = 0

        def slots(self) -> int:
            self.looks += 1
            if self.looks == 8:
                other.release()
            return super().slots()

    found = Late()
    assert [record.status for record in cluster.run(made, found)] == ["ok"] and found.looks >= 8
    assert [order["do"] for order in found.orders].count("job") == 1


def test_a_request_travels_with_whole_paths(tiny: Callable[..., Plan], folder: Path) -> None:
    given = Request(scale="small", teacher="../teacher", data="hub", corpus="../nowhere", results="mine")
    assert Path.cwd() == folder / "work"
    found = cluster.whole_paths(given)
    assert (found.teacher, found.data, found.corpus) == (str(folder / "teacher"), "hub", "../nowhere")
    assert found.results == str(folder / "work" / "mine")
    assert plan.make(cluster.whole_paths(tiny().request)).jobs[0].hash == tiny().jobs[0].hash


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["bench", "run", "smoke", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--minutes", "5"], {}, "--minutes is not for a cluster"),
        (["--workers", "2"], {}, "--workers is not for a cluster"),
        (["--workers", "auto"], {}, "--workers is not for a cluster"),
        (["--again"], {}, "--again is not for a cluster"),
        ([], {"WORLD_SIZE": "2", "RANK": "0"}, "accelerate launch"),
    ],
)
def test_what_cannot_be_asked_for_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    environment: dict[str, str], says: str,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "_exit", sys.exit)  # of processes that train together each is gone at once
    code, told = run(monkeypatch, capsys, "--cluster", "local", *arguments)
    assert code == 2 and says in told and told.count("\n") == 1


class NoRay:
    __version__ = "0"


@pytest.mark.parametrize(
    ("address", "says"),
    [("nowhere", "the address is none of a Ray cluster"), ("a b:1", "none of a Ray"), ("host:99999", "none of a Ray"),
     ("ray://", "none of a Ray"), ("127.0.0.1:1", "no Ray cluster answers")],
)  # fmt: skip
def test_an_address_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str, says: str
) -> None:
    monkeypatch.setattr(nodes, "_ray", lambda: NoRay())
    code, told = run(monkeypatch, capsys, "--cluster", address)
    assert code == 2 and says in told and address in told and told.count("\n") == 1


def test_what_listens_and_is_no_cluster_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray itself would go on trying, for minutes."""
    gone: list[int] = []
    given_up = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: (gone.append(code), given_up.set()))
    with nodes._ending_after(0.01, "127.0.0.1:8265"):
        assert given_up.wait(30)
    told = capsys.readouterr().err
    assert gone == [2] and "127.0.0.1:8265" in told and told.startswith("bench: no Ray") and told.count("\n") == 1
    given_up.clear()
    with nodes._ending_after(0.1, "127.0.0.1:6379"):
        pass
    assert not given_up.wait(0.3) and gone == [2]


def test_without_ray_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, told = run(monkeypatch, capsys, "--cluster", "local")
    assert code == 2 and "Ray is not installed" in told and "cluster" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "machines", "threads", "slots"),
    [
        ("", [{"CPU": 16.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 64.0}], 2, 9),
        ("", [{"CPU": 4.0}, {"CPU": 9.0}, {"memory": 1.0}], 4, 3),
        ("2", [{"CPU": 4.0}, {"CPU": 9.0}], 2, 6),
        ("4", [{"CPU": 8.0, "GPU": 8.0}], 4, 2),
    ],
)
def test_how_many_runs_the_nodes_take(
    monkeypatch: pytest.MonkeyPatch, given: str, machines: list[dict[str, float]], threads: int, slots: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    found = nodes.RayNodes.__new__(nodes.RayNodes)
    found._gpus = int(any(one.get("GPU") for one in machines))
    found.threads = nodes._threads(machines, found._gpus)
    assert found.threads == threads and sum(map(found._takes, machines)) == slots
