"""A plan on made-up data is remembered until code, machine or request change; what reads a user's file never is."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli import planned
from bench.core import sealed, store
from bench.core.errors import SpecError
from bench.core.record import Record
from bench.run.plan_summary import answer, duration, joined, marked, sentence
from bench.run.request import Request

KEY = "ab" + "0" * 62
NEEDS = {"device_bytes": 2e6, "host_bytes": 3e6, "progress_bytes": 5e6}
SPEC = {"paper": "p", "variant": "v", "task": "sst2", "scale": "smoke", "seed": 0}
STAGES = [{"name": "s", "key": KEY, "seconds": 7.6, "kept_bytes": 4e6, "from": "this run", **NEEDS},
          {"name": "t", "key": "cd" + KEY, "seconds": 0.0, "kept_bytes": 0.0, "from": "other machines",
           **NEEDS}]  # fmt: skip
JOB = {"spec": SPEC, "hash": "a" * 64, "asks": [], "stages": STAGES, "finish_s": 0.8}
COSTS = {"jobs": [JOB], "device": "a chip, fp32", "gpu": False, "processes": 3, "start_s": 1.9, "base_bytes": 1e6,
         "from": "7 recorded runs of this machine"}  # fmt: skip


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests whose plans were really made."""
    seen: list[Request] = []

    def make(request: Request):
        seen.append(request)
        logging.getLogger("bench.run.plan").warning("left_out=one")
        return COSTS

    monkeypatch.setattr(planned, "_made", make)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    return seen


def test_it_is_made_once_and_says_the_same_again(made: list[Request], caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        caplog.clear()
        costs, _ = planned.costs(Request(results=f"results{number}"))
        assert costs == COSTS | {"jobs": [JOB | {"done": False}]} and [r.getMessage() for r in caplog.records] == [
            "left_out=one"
        ]
    assert len(made) == 1


def test_what_is_cached_is_looked_up_each_time(made: list[Request], tmp_path: Path) -> None:
    planned.costs(Request())
    costs, has = planned.costs(Request())
    total = answer(costs, has)[1]
    free = {name: total.pop(name) for name in ("memory_free_mb", "disk_free_mb")}
    assert total == {"jobs": 1, "device": "a chip, fp32", "expected_s": 10, "device_hours": 0.01, "memory_mb": 6,
                     "disk_mb": 9, "from": "7 recorded runs of this machine"} and min(free.values()) > 0  # fmt: skip
    entry = tmp_path / "home" / "stages" / "ab" / KEY
    entry.mkdir(parents=True)
    (entry / "manifest.json").write_text("{}")
    assert not answer(*planned.costs(Request()))[0][0]["stages"][0]["cached"], "damaged, it would be made again"
    sealed.seal(entry, {"models": {}, "seen": {}})
    rows, total = answer(*planned.costs(Request()))
    assert total["expected_s"] == 3 and total["disk_mb"] == 5 and len(made) == 1, "what is left, and the scoring"
    assert [stage["cached"] for stage in rows[0]["stages"]] == [True, False]


def test_the_totals_as_a_sentence() -> None:
    total = {"jobs": 2, "device": "a chip, fp32", "expected_s": 3900, "device_hours": 1.08, "memory_mb": 2040,
             "memory_free_mb": 23882, "disk_mb": 90, "disk_free_mb": 80_000, "from": "this run"}  # fmt: skip
    told = "2 jobs on a chip, fp32: about 1 h 05 min, 2.0 GB of memory (23.9 free), 0.1 GB of disk (80.0 free)."
    assert sentence(total) == f"{told} From: this run."
    gpu = sentence(total | {"jobs": 1, "host_mb": 500, "host_free_mb": 1000})
    assert gpu.startswith("1 job on") and "0.5 GB of main memory (1.0 free)" in gpu


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "60 s"),
        (60, "1 min"),
        (3540, "59 min"),
        (3599, "1 h 00 min"),
        (7260, "2 h 01 min"),
    ],
)
def test_a_duration_in_the_unit_people_use(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def stage(key: str, seconds: float) -> dict[str, Any]:
    return {"name": key, "key": key, "seconds": seconds, "kept_bytes": 0.0, "from": "this run", **NEEDS}


def told(done: str, cached: str) -> list[tuple[int, list[bool]]]:
    """(seconds, which stages are another run's) of a teacher (pre, tune) and its student (pre, distil)."""
    pre, tune, distil = stage("pre", 10.0), stage("tune", 100.0), stage("distil", 1000.0)
    jobs = [JOB | {"hash": "teacher", "stages": [pre, tune], "finish_s": 1.0, "done": "t" in done},
            JOB | {"hash": "student", "stages": [pre, distil], "finish_s": 2.0, "done": "s" in done,
                   "asks": ["teacher"]}]  # fmt: skip
    rows = answer(COSTS | {"jobs": jobs}, cached.split().__contains__)[0]
    return [(row["expected_s"], [one["shared"] for one in row["stages"]]) for row in rows]


def test_a_plan_counts_what_a_run_does() -> None:
    assert told(done="", cached="") == [(111, [False, False]), (1002, [True, False])]
    assert told(done="ts", cached="") == [(0, [False, False])] * 2, "nothing is made again"
    assert told(done="", cached="pre tune distil") == [(1, [False, False]), (2, [False, False])], "it is scored"
    assert told(done="", cached="tune") == [(1, [False, False]), (1012, [False, False])], "pre is the student's alone"
    assert told(done="s", cached="") == [(111, [False, False]), (0, [True, False])]
    assert told(done="t", cached="tune") == [(0, [False, False]), (1012, [False, False])]
    assert told(done="t", cached="") == [(110, [False, False]), (1002, [True, False])], "its model is asked for"


def test_what_is_done_is_told_by_its_record(tmp_path: Path, make_record: Callable[..., Record]) -> None:
    store.write_record(tmp_path, make_record(spec=SPEC, hash="a" * 64, id="20260101T000000Z-aaaaaaaa-s0"))
    jobs = [JOB, JOB | {"hash": "b" * 64}]
    assert [job["done"] for job in marked(COSTS | {"jobs": jobs}, tmp_path)["jobs"]] == [True, False]


def test_a_run_of_two_parts_is_counted_once() -> None:
    parts = [COSTS, COSTS | {"jobs": [JOB, JOB | {"hash": "b" * 64}]}]
    assert [(job["hash"][0], job["part"]) for job in joined(parts)["jobs"]] == [("a", 1), ("b", 2)]
    assert joined([COSTS]) == COSTS


def test_another_request_machine_or_home_is_planned_anew(made: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    planned.costs(Request())
    planned.costs(Request(task=("sst2",)))
    assert len(made) == 2
    monkeypatch.setenv("ACCELERATE_USE_CPU", "yes")
    planned.costs(Request(task=("sst2",)))
    assert len(made) == 3
    with monkeypatch.context() as elsewhere, pytest.raises(SpecError, match="BENCH_HOME /dev/null/home"):
        elsewhere.setenv("BENCH_HOME", "/dev/null/home")
        planned.costs(Request(task=("sst2",)))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(SpecError, match="ACCELERATE_MIXED_PRECISION"):
        planned.costs(Request(task=("sst2",)))


@pytest.mark.parametrize(
    "given",
    [{"teacher": "x"}, {"data": "x"}, {"corpus": "x"}, {"unlabelled": "x"}, {"set": {"fine_tune.lr": "1"}},
     {"scale": "small", "data": "synthetic"}],
)  # fmt: skip
def test_what_reads_a_file_is_never_remembered(made: list[Request], given: dict) -> None:
    for _ in range(2):
        planned.costs(Request(**given))
    assert len(made) == 2


def test_what_is_remembered_is_told_without_torch() -> None:
    modules = "bench.cli.plan, bench.cli.planned, bench.run.plan_summary, bench.run.request"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
