"""Leases on jobs: with real processes that race, die and are suspended, and folders whose clock is another."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core import environment, store
from bench.core.errors import RecordError, SpecError
from bench.core.record import Record
from bench.core.store import Store
from bench.run import leases
from bench.run.leases import HeldStore, Holder, LeaseLost, Leases

ROOT = Path(__file__).resolve().parents[2]

RACER = """
import os, sys
from pathlib import Path
from bench.run.leases import Leases
results, jobs = Path(sys.argv[1]), int(sys.argv[2])
own = Leases(results)
sys.stdin.readline()  # all start at once
for number in range(jobs):
    name, done = f"{number:064d}", results / f"done-{number}"
    if done.exists():
        continue
    lease = own.take(name)
    if lease is None:
        continue
    with lease:
        if not done.exists():
            assert lease.held()
            with open(results / f"log-{number}", "a") as file:
                file.write(f"{os.getpid()}\\n")
            done.touch()
"""

HOLDER = """
import sys, time
from pathlib import Path
from bench.run.leases import Leases
with Leases(Path(sys.argv[1])).take(sys.argv[2]):
    print("taken", flush=True)
    time.sleep(600)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def put(folder: Path, job: str, age_s: float = 0.0, **changes: str | int) -> Path:
    """A lease as another process would have left it."""
    path = folder / leases.FOLDER / f"{job}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Holder("n" * 32, "another host", 1, environment.version(), "2026-01-01T00:00:00Z")
    path.write_text(json.dumps({name: getattr(replace(holder, **changes), name) for name in Holder.__slots__}))
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_eight_processes_make_each_of_forty_jobs_once(tmp_path: Path) -> None:
    racers = [start(RACER, tmp_path, 40) for _ in range(8)]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("\n")
        racer.stdin.close()
    assert [racer.wait(60) for racer in racers] == [0] * 8
    for racer in racers:
        assert racer.stdout
        racer.stdout.close()
    made = [(tmp_path / f"log-{number}").read_text().splitlines() for number in range(40)]
    assert [len(pids) for pids in made] == [1] * 40
    assert list((tmp_path / leases.FOLDER).iterdir()) == []  # all given back, and nothing left lying about


def test_a_killed_holder_is_taken_over_at_once(tmp_path: Path) -> None:
    with start(HOLDER, tmp_path, "a" * 64) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "taken\n"
        assert Leases(tmp_path).take("a" * 64) is None
        holder.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 30  # not waited for: the dead process is still to be buried
        while (lease := Leases(tmp_path).take("a" * 64)) is None:
            assert time.monotonic() < deadline
        assert lease.held()


def test_a_lease_of_another_host_is_taken_over_when_it_is_stale_by_the_folders_clock(tmp_path: Path) -> None:
    put(tmp_path, "a" * 64, age_s=60)
    assert Leases(tmp_path).take("a" * 64) is None
    put(tmp_path, "a" * 64, age_s=121)
    lease = Leases(tmp_path).take("a" * 64)
    assert lease and lease.held()
    assert json.loads((tmp_path / leases.FOLDER / f"{'a' * 64}.json").read_text())["pid"] == os.getpid()


def test_what_another_host_says_of_a_pid_means_nothing_here(tmp_path: Path) -> None:
    gone = start("pass")
    gone.communicate()
    put(tmp_path, "a" * 64, pid=gone.pid)
    assert Leases(tmp_path).take("a" * 64) is None
    put(tmp_path, "a" * 64, pid=gone.pid, host=leases.host())
    assert Leases(tmp_path).take("a" * 64)


def test_a_failing_file_server_ends_no_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Leases(tmp_path, renew_s=0.01).take("a" * 64)
    assert lease
    path, tries, read = tmp_path / leases.FOLDER / f"{'a' * 64}.json", list[int](), leases._read

    def fails_thrice(path: Path) -> object:
        tries.append(1)
        if len(tries) <= 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(leases, "_read", fails_thrice)
    monkeypatch.setattr(lease, "renew", lambda: False)
    with lease:
        deadline = time.monotonic() + 30
        while len(tries) < 4:
            assert time.monotonic() < deadline, "it is renewed no more"
            time.sleep(0.01)
    assert not path.exists()


def test_a_file_that_is_no_lease_goes_by_its_age(tmp_path: Path) -> None:
    path = put(tmp_path, "a" * 64)
    path.write_text("")
    assert Leases(tmp_path).take("a" * 64) is None
    os.utime(path, (time.time() - 200,) * 2)
    assert Leases(tmp_path).take("a" * 64)


def test_a_used_lease_is_renewed_and_then_given_back(tmp_path: Path) -> None:
    lease = Leases(tmp_path, renew_s=0.02).take("a" * 64)
    assert lease
    path = tmp_path / leases.FOLDER / f"{'a' * 64}.json"
    with lease:
        os.utime(path, (1.0, 1.0))
        deadline = time.monotonic() + 30
        while path.stat().st_mtime < time.time() - 60:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not path.exists() and not lease.held()


def test_a_lost_lease_is_neither_renewed_nor_given_back_and_nothing_is_written(
    tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    lease = Leases(tmp_path).take("a" * 64)
    assert lease
    path = put(tmp_path, "a" * 64, age_s=50)
    before = path.stat().st_mtime
    assert not lease.held() and not lease.renew()
    with pytest.raises(LeaseLost, match="taken over") as lost:
        HeldStore(tmp_path, lease).write(make_record())
    assert "bert/bert/sst2/small/s1" in str(lost.value)
    lease.release()
    assert path.stat().st_mtime == before and store.read_records(tmp_path) == []


def test_a_holder_writes_and_readers_pass_leases_over(tmp_path: Path, make_record: Callable[..., Record]) -> None:
    lease = Leases(tmp_path).take("a" * 64)
    assert lease
    HeldStore(tmp_path, lease).write(make_record())
    assert [record.hash for record in store.read_records(tmp_path)] == [make_record().hash]
    assert (tmp_path / leases.FOLDER / f"{'a' * 64}.json").exists()
    found = make_record()
    assert Store(tmp_path).find(leases.Spec(**found.spec.model_dump()), found.hash) == found


class Slow(Leases):
    """Judges the lease dead, and does something before it moves it."""

    def __init__(self, results: Path, meanwhile: Callable[[], None]):
        super().__init__(results)
        self.meanwhile = meanwhile

    def _lives(self, found: object) -> bool:
        self.meanwhile()
        return False


def test_a_live_lease_that_was_moved_by_mistake_is_put_back(tmp_path: Path) -> None:
    put(tmp_path, "a" * 64, age_s=500)
    taken: list[leases.Lease | None] = []
    assert Slow(tmp_path, lambda: taken.append(Leases(tmp_path).take("a" * 64))).take("a" * 64) is None
    assert taken[0] and taken[0].held()
    assert [path.name for path in (tmp_path / leases.FOLDER).iterdir()] == [f"{'a' * 64}.json"]


def test_where_a_third_took_it_meanwhile_there_is_still_one_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a" * 64, age_s=500)
    second: list[leases.Lease | None] = []
    third: list[leases.Lease | None] = []
    rename = os.rename

    def then_a_third_comes(source: Path, target: Path) -> None:
        rename(source, target)
        if second and second[0] and not third:
            third.append(None)
            third[0] = Leases(tmp_path).take("a" * 64)

    monkeypatch.setattr(leases, "_MOMENT_S", 0.0)
    slow = Slow(tmp_path, lambda: second.append(Leases(tmp_path).take("a" * 64)))
    monkeypatch.setattr(os, "rename", then_a_third_comes)
    assert slow.take("a" * 64) is None
    assert second[0] and third[0] and third[0].held() and not second[0].held()


def test_without_hard_links_one_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    lease = Leases(tmp_path).take("a" * 64)
    assert lease and lease.held() and Leases(tmp_path).take("a" * 64) is None
    other = Holder("n" * 32, "another host", 1, environment.version(), "2026-01-01T00:00:00Z")
    assert not leases._create(tmp_path / leases.FOLDER / f"{'a' * 64}.json", other) and lease.held()


def test_a_file_server_that_denies_what_it_made_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def denied(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", denied)
    lease = Leases(tmp_path).take("a" * 64)
    assert lease and lease.held() and Leases(tmp_path).take("a" * 64) is None


def test_a_bench_of_another_version_at_work_is_refused(tmp_path: Path) -> None:
    Leases(tmp_path).refuse_another_bench()  # there is no folder yet
    put(tmp_path, "a" * 64, bench=environment.version())
    put(tmp_path, "b" * 64, bench="0.0.1", age_s=500)
    Leases(tmp_path).refuse_another_bench()
    put(tmp_path, "b" * 64, bench="0.0.1")
    with pytest.raises(SpecError, match=r"a results folder in use by bench 0\.0\.1") as refused:
        Leases(tmp_path).refuse_another_bench()
    assert refused.value.exit_code == 2 and str(tmp_path) in str(refused.value)


def test_what_killed_processes_left_is_swept_after_a_day(tmp_path: Path) -> None:
    put(tmp_path, "a" * 64, age_s=500_000)
    leases_ = Leases(tmp_path)
    names = (".probe-1", f".{'a' * 64}.json.1.writing", f".{'b' * 64}.2.dead")
    for name in names:
        for age_s, more in ((0, ".new"), (90_000, "")):
            path = leases_.folder / f"{name}{more}"
            path.write_text("")
            os.utime(path, (time.time() - age_s,) * 2)
    leases_.refuse_another_bench()
    left = {path.name for path in leases_.folder.iterdir()}
    assert left == {f"{name}.new" for name in names} | {f"{'a' * 64}.json"}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(RecordError, match="cannot be claimed"):
        Leases(tmp_path / "results").take("a" * 64)


def test_a_lease_names_nobody(tmp_path: Path) -> None:
    import platform

    assert Leases(tmp_path).take("a" * 64)
    text = (tmp_path / leases.FOLDER / f"{'a' * 64}.json").read_text()
    assert set(json.loads(text)) == {"nonce", "host", "pid", "bench", "started"}
    assert platform.node() not in text and len(leases.host()) == 16
