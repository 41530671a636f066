"""The scheduler by hand-worked graphs, the graph of a plan, and tests/benchmarks/schedule_makespan.py in short."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import schedule_makespan
from hypothesis import given
from hypothesis import strategies as st

import bench.run.pieces
from bench.core.spec import Spec
from bench.run.deadline import Deadline
from bench.run.pieces import Pieces
from bench.run.schedule import Graph, Node, Scheduler, graph


def node(key: str, cost_s: float, *needs: str) -> Node:
    return Node(key, cost_s, frozenset(needs))


FORK = [node("short", 1), node("root", 2), node("left", 1, "root"), node("right", 5, "root"), node("join", 1, "left",
        "right")]  # fmt: skip


def test_the_longest_rest_comes_first() -> None:
    scheduler = Scheduler(FORK)
    assert scheduler.longest_path_s == 2 + 5 + 1
    assert scheduler.take() == "root" and scheduler.take() == "short" and scheduler.take() is None
    scheduler.done("root")
    assert [scheduler.take(), scheduler.take()] == ["right", "left"]
    scheduler.done("left")
    assert scheduler.take() is None
    scheduler.done("right")
    assert scheduler.take() == "join" and not scheduler.finished
    scheduler.done("join")
    scheduler.done("short")
    assert scheduler.finished


def test_a_failure_blocks_all_that_needs_it_and_nothing_else() -> None:
    scheduler = Scheduler([*FORK, node("after", 1, "join")])
    assert scheduler.take() == "root" and scheduler.take() == "short"
    scheduler.done("root")
    assert scheduler.take() == "right"
    assert scheduler.failed("right") == ["join", "after"]
    assert scheduler.take() == "left" and scheduler.failed("left") == []  # it blocks nothing that is not blocked yet
    assert scheduler.take() is None and not scheduler.finished
    scheduler.done("short")
    assert scheduler.finished


def test_a_node_that_was_given_back_is_handed_out_again() -> None:
    scheduler = Scheduler(FORK)
    assert scheduler.take() == "root" and scheduler.take() == "short"
    assert scheduler.taken == {"root", "short"}
    scheduler.give_back("root")
    assert scheduler.taken == {"short"}
    assert scheduler.take() == "root"


def test_needs_that_are_no_node_are_met_and_circles_are_refused() -> None:
    assert Scheduler([node("a", 1, "made long ago")]).take() == "a"
    assert Scheduler([]).finished and Scheduler([]).longest_path_s == 0
    with pytest.raises(ValueError, match="2 nodes need each other"):
        Scheduler([node("a", 1, "b"), node("b", 1, "a"), node("c", 1)])


@given(st.data())
def test_any_graph_is_made_once_in_an_order_that_its_needs_allow(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    nodes = []
    for i in range(size):
        earlier = data.draw(st.sets(st.integers(0, i - 1))) if i else set()
        nodes.append(node(str(i), data.draw(st.floats(0, 10)), *map(str, earlier)))
    scheduler, made, ended, running, failed = Scheduler(nodes), [], set[str](), list[str](), set[str]()
    blocked: list[str] = []
    while not scheduler.finished:
        while len(running) < 3 and (key := scheduler.take()) is not None:
            assert {n.needs for n in nodes if n.key == key} == {
                frozenset(n for n in ended if n in nodes[int(key)].needs)
            }
            made.append(key)
            running.append(key)
        key = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if data.draw(st.booleans()):
            scheduler.done(key)
            ended.add(key)
        else:
            blocked += scheduler.failed(key)
            failed.add(key)
    assert len(made) == len(set(made)) and sorted(made + blocked) == sorted(n.key for n in nodes)
    assert all(nodes[int(key)].needs & (failed | set(blocked)) for key in blocked)


@pytest.mark.parametrize("off", [1.5, 2.0])
def test_a_thousand_jobs_on_fifty_workers_come_close_to_the_shortest_time(off: float) -> None:
    found = [schedule_makespan.one(1000, 50, off, seed) for seed in range(4)]
    assert all(each.makespan_s >= each.ideal_s for each in found)
    assert min(each.share for each in found) >= 0.95


@dataclass(frozen=True)
class FakeStage:
    task_free: bool = False
    asks: tuple[str, ...] = ()
    name: str = ""
    uses: tuple[str, ...] = ()


@dataclass(frozen=True)
class FakeStagePlan:
    key: str
    stage: FakeStage = FakeStage()


@dataclass(frozen=True)
class FakeJob:
    hash: str
    stages: tuple[FakeStagePlan, ...]
    base: Any = None
    teachers: tuple[Any, ...] = field(default=())

    @property
    def direct(self) -> tuple[Any, ...]:
        return (*self.teachers, *([self.base] if self.base else []))

    @property
    def needed(self) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(job for one in self.direct for job in (*one.needed, one)))

    @property
    def spec(self) -> Spec:
        return Spec("paper", self.hash, "sst2", "smoke", 0)


def pieces(jobs: list[FakeJob], made: set[str] = frozenset(), cached: set[str] = frozenset()) -> Graph:  # type: ignore
    return graph(cast(Any, jobs), made, cached.__contains__, lambda job, stage: 10.0 if stage else 1.0)


def plan() -> list[FakeJob]:
    """Two seeds of a reference, and of a student that shares a task-free stage which asks the pre-trained teacher."""
    references = [
        FakeJob(f"ref{s}", (FakeStagePlan("pre", FakeStage(True)), FakeStagePlan(f"tune{s}"))) for s in (0, 1)
    ]
    general = FakeStagePlan("general", FakeStage(True, ("pretrained",)))
    students = [
        FakeJob(f"student{s}", (general, FakeStagePlan(f"distil{s}", FakeStage(asks=("fine_tuned",)))),
                teachers=(references[s],)) for s in (0, 1)
    ]  # fmt: skip
    return [*references, *students]


def needs(found: Graph) -> dict[str, set[str]]:
    return {n.key: set(n.needs) for n in found.nodes}


def test_shared_stages_are_nodes_and_general_distillation_waits_for_no_fine_tuning() -> None:
    found = pieces(plan())
    assert needs(found) == {
        "pre": set(), "general": {"pre"}, "ref0": {"pre"}, "ref1": {"pre"},
        "student0": {"pre", "general", "ref0"}, "student1": {"pre", "general", "ref1"},
    }  # fmt: skip
    assert {n.key: n.cost_s for n in found.nodes} == {"pre": 10, "general": 10, "ref0": 11, "ref1": 11, "student0": 11,
                                                      "student1": 11}  # fmt: skip
    assert (found.pieces["general"].job, found.pieces["general"].stage) == (2, "general")
    assert (found.pieces["student1"].job, found.pieces["student1"].stage) == (3, "")


def test_what_is_made_or_cached_is_no_node() -> None:
    assert needs(pieces(plan(), {"ref0", "ref1"}, {"pre", "tune0", "tune1"})) == {
        "general": set(), "student0": {"general"}, "student1": {"general"},
    }  # fmt: skip
    found = pieces(plan(), {"ref0", "student0"}, {"pre", "general", "tune0"})
    assert needs(found) == {"ref1": set(), "student1": {"ref1"}}
    assert pieces(plan(), {"ref0", "ref1", "student0", "student1"}).nodes == ()


def test_a_made_teacher_whose_model_left_the_cache_is_made_again_once() -> None:
    jobs = plan()[::2]
    twin = FakeJob("twin", (FakeStagePlan("other", FakeStage(asks=("base",))),), base=jobs[0])
    found = needs(pieces([*jobs, twin], {"ref0"}))
    assert found == {"pre": set(), "tune0": {"pre"}, "student0": {"pre", "tune0"}, "twin": {"pre", "tune0"}}


def test_a_stage_shared_by_variants_of_one_seed_waits_for_the_record_of_their_base() -> None:
    reference = plan()[0]
    sense = FakeStagePlan("sense", FakeStage(asks=("base",)))
    bits = [FakeJob(f"w{b}", (sense, FakeStagePlan(f"pack{b}")), base=reference) for b in (2, 4)]
    stacked = FakeJob("w2+x", (FakeStagePlan("x", FakeStage(asks=("base",))),), base=bits[0])
    found = needs(pieces([reference, *bits, stacked]))
    assert found["sense"] == {"ref0"} and found["w4"] >= {"sense", "ref0"} and found["w2+x"] >= {"w2"}
    assert "x" not in found and "pack2" not in found


def test_a_blocked_run_whose_teacher_there_is_no_time_for_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.run.pieces, "cost_s", lambda job, stage: 9.0 if stage is shared else 1.0)
    teacher = FakeJob("teacher", (FakeStagePlan("tune"),))
    shared = FakeStagePlan("shared", FakeStage(task_free=True))
    students = [FakeJob(f"student{i}", (shared, FakeStagePlan(f"distil{i}")), teachers=(teacher,)) for i in (0, 1)]
    upper = FakeJob("upper", (FakeStagePlan("x"),), base=students[0])
    request = SimpleNamespace(results=str(tmp_path))
    plan = SimpleNamespace(request=request, jobs=[teacher, *students, upper],
                           cache=SimpleNamespace(has=lambda key: False))  # fmt: skip
    deadline = Deadline(1.0)
    deadline._finish["teacher"] = 1e6
    found = Pieces(cast(Any, plan), deadline)
    assert found.take() == "shared"
    found.failed("shared")
    assert not found.all_handed_out and found.take() is None and found.all_handed_out, "nothing is waited for"
    assert deadline.left == {job.hash for job in plan.jobs} and found.records == {}


def test_it_brings_no_torch(root: Path) -> None:
    code = "import sys, bench.run.schedule; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
