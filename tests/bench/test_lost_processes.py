"""A process that dies, or fails alone, ends the run in all; the same command then goes on to the same numbers."""

from __future__ import annotations

from pathlib import Path

import damage
import pytest
from lost_processes import run

from bench.core import store
from bench.core.record import Record
from bench.run import peers


def records(folder: Path) -> list[Record]:
    return store.read_records(folder / "results", ("smoke",)) if (folder / "results").exists() else []


def undisturbed(folder: Path, processes: int) -> Record:
    ended = run(folder, "none::", processes)
    assert ended.code == 0, ended.said[-3000:]
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
    code, said, left, started, _ = run(tmp_path, fault, 2)
    _, rank, how = fault.split(":")
    assert code != 0 and started == 2 and left == 0, "none is left behind"
    failed = [record for record in records(tmp_path) if record.status == "failed"]
    told = [line for line in said.splitlines() if line.startswith("bench: ")]
    assert len(told) <= 1, told
    reasons = [record.reason for record in failed]
    if how == "raise":
        assert reasons == ["ValueError: made to fail"] and "made to fail" in said
    elif how == "kill" and rank != "0":
        assert reasons == [peers.LOST] and peers.LOST in told[0]
    else:
        assert not failed, "nobody is left to write, or the machine is to blame and not the run"
    if how == "full":
        assert "No space left on device" in told[0]
    assert damage.numbers(undisturbed(tmp_path, 2)) == damage.numbers(plain)
