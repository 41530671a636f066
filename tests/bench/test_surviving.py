"""Whatever the machine does to a run, afterwards the same command completes, with the numbers of an undisturbed run.

Kills and signals are in test_resume.py, changed bytes in test_damage.py, many kills in tests/benchmarks/survive.py.
A disk is filled or made read-only in two ways: a small one of its own, mounted where that is allowed; and everywhere a
pretended one, on which pushing a file to the disk fails as the system would.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import damage
import pytest

from bench.core import files
from bench.core.errors import BenchError, RecordError
from bench.core.meaning import is_moment
from bench.core.processes import host
from bench.run import job, leases
from bench.run.leases import Leases
from bench.run.request import Request

DEAD = f"{host()}-{2**22 + 1}-{'0' * 32}.writing"


class Good(NamedTuple):
    """An undisturbed run."""

    request: Request
    numbers: list[Any]

    def make(self, folder: Path) -> Any:
        return damage.make(folder, self.request.model_copy(update={"results": str(folder / "results")}))

    def same(self, folder: Path) -> None:
        """The command completes, with the numbers of the undisturbed run and one record of each job."""
        records = self.make(folder).records
        assert [damage.numbers(record) for record in records] == self.numbers
        assert len(list((folder / "results").glob("*/*/*/*/*.json"))) == len(records) == 1
        left = [path for root in ("home", "results") for path in (folder / root).rglob(".*.writing")]
        assert left == [] and not any(record.seconds < 0 or not is_moment(record.started) for record in records)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    folder = tmp_path_factory.mktemp("good")
    request = damage.tiny(folder).model_copy(update={"variant": ("bert",)})
    return Good(request, [damage.numbers(record) for record in damage.make(folder, request).records])


class Disk:
    """Where a folder's files lie: refuses them, with an error of the system, until it is mended."""

    def __init__(self, folder: Path, mounted: bool, monkeypatch: pytest.MonkeyPatch):
        folder.mkdir()
        self.folder, self.mounted, self._patch = folder, mounted, monkeypatch
        if mounted and self._mount("size=128k"):
            pytest.skip("mounting is not allowed here: the pretended disk shows the same")

    def _mount(self, options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", options, "bench-test", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    def refuse(self, number: int) -> None:
        """Full (ENOSPC) or read-only (EROFS) from now on."""
        if not self.mounted:
            real = os.fsync

            def fsync(descriptor: int) -> None:
                path = os.readlink(f"/proc/self/fd/{descriptor}")
                if Path(path).is_relative_to(self.folder) and not Path(path).is_dir():
                    raise OSError(number, os.strerror(number), path)
                real(descriptor)

            self._patch.setattr(os, "fsync", fsync)
        elif number == errno.EROFS:
            assert not self._mount("remount,ro")
        else:
            with (self.folder / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                for _ in range(1000):
                    file.write(bytes(4096))

    def mend(self) -> None:
        if not self.mounted:
            self._patch.undo()
            return
        assert not self._mount("remount,rw,size=64m")
        (self.folder / "filler").unlink(missing_ok=True)


@pytest.fixture(params=["mounted", "pretended"])
def disk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Disk]]:
    made: list[Disk] = []

    def make(name: str) -> Disk:
        made.append(Disk(tmp_path / name, request.param == "mounted", monkeypatch))
        return made[-1]

    yield make
    for one in made:
        if one.mounted:
            subprocess.run(["umount", str(one.folder)], check=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_results_folder_that_takes_nothing(
    good: Good, disk: Callable[..., Disk], tmp_path: Path, number: int
) -> None:
    results = disk("results")
    results.refuse(number)
    with pytest.raises(BenchError, match=os.strerror(number)) as refused:
        good.make(tmp_path)
    assert "\n" not in str(refused.value) and refused.value.exit_code in (1, 2)
    assert not list(results.folder.rglob("*.json"))
    results.mend()
    good.same(tmp_path)


def test_a_cache_without_room(good: Good, disk: Callable[..., Disk], tmp_path: Path) -> None:
    cache = disk("home")
    cache.refuse(errno.ENOSPC)
    try:
        good.make(tmp_path)
    except BenchError as error:
        assert "No space left" in str(error) and "\n" not in str(error)
    assert not list((cache.folder / "stages").glob("*/[!.]*")), "no entry fits"
    cache.mend()
    good.same(tmp_path)


def test_an_entry_that_is_cut_short_is_named_and_made_again(
    good: Good, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = good.make(tmp_path)
    for record in (tmp_path / "results").rglob("*.json"):
        record.unlink()
    entry = next((made.home / "stages").glob(f"*/{made.keys[-1]}"))
    weights = entry / "models" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    caplog.clear()
    good.same(tmp_path)
    assert [text for text in caplog.messages if f"{entry} is damaged: models/model/model.safetensors has" in text]


def test_what_a_killed_writer_left_is_swept(good: Good, tmp_path: Path) -> None:
    good.make(tmp_path)
    record = next((tmp_path / "results").rglob("*.json"))
    record.unlink()
    entry = next((tmp_path / "home" / "stages").glob("*/[!.]*"))
    (entry.parent / f".{entry.name}.{DEAD}" / "models").mkdir(parents=True)
    for folder in (tmp_path / "home", tmp_path / "results", record.parent):
        (folder / f".x.{DEAD}").touch()
    good.same(tmp_path)


@pytest.mark.parametrize("jump", [timedelta(days=3), timedelta(days=-3)])
def test_a_clock_that_jumps_in_the_middle(
    good: Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    """Between any two looks at it; the clock of the folder, which dates leases, jumps as well."""
    jumps, real = [0], time.time

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            jumps[0] += 1
            return datetime.fromtimestamp(real(), tz or UTC) + jumps[0] * jump

    with monkeypatch.context() as patch:
        patch.setattr(job, "datetime", Jumping)
        patch.setattr(leases, "datetime", Jumping)
        patch.setattr(files.time, "time", lambda: real() + jumps[0] * jump.total_seconds())
        patch.setattr(Leases, "_now", lambda self: real() + jumps[0] * jump.total_seconds())
        good.same(tmp_path)
    assert jumps[0] >= 2
    good.same(tmp_path)


def test_a_jump_of_the_clock_sweeps_no_writer_that_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with files.staged_file(tmp_path / "x") as staging:
        staging.touch()
        foreign = tmp_path / f".y.{'f' * 16}-1-{'0' * 32}.writing"
        foreign.touch()
        monkeypatch.setattr(files.time, "time", lambda: staging.stat().st_mtime + 10 * files.OLD_S)
        files.sweep_dead(tmp_path)
        assert staging.exists() and not foreign.exists()


def test_a_lease_from_before_the_clock_was_set_back_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / leases.FOLDER / f"{'a' * 64}.json"
    path.parent.mkdir()
    path.write_text('{"nonce": "n", "host": "another", "pid": 1, "bench": "1", "started": "x"}')
    os.utime(path, (time.time() + 86_400,) * 2)
    lease = Leases(tmp_path).take("a" * 64)
    assert lease is not None and lease.held()


def test_two_records_of_one_second_are_two(tmp_path: Path, make_record: Any) -> None:
    """As where a clock is set back: an id that is taken gets a number."""
    from bench.core import store

    paths = [store.write_record(tmp_path, make_record()) for _ in range(3)]
    assert len(set(paths)) == 3 and len(store.read_records(tmp_path)) == 3
    with pytest.raises(RecordError):
        store.write_record(tmp_path, make_record(started="2026-02-30T00:00:00Z"))
