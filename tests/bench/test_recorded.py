"""What recorded runs say of how long stages take: the closest of this machine first, of others the proportions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core import store
from bench.core.record import Record
from bench.run import recorded
from bench.run.recorded import FINISH, Calibration, RecordedStage, keys

HERE, THERE = "here-2c-8g-000000", "there-2c-8g-000000"


@pytest.fixture
def write(tmp_path: Path, make_record: Callable[..., Record]) -> Callable[..., Path]:
    """Write a run of one second of training for each second expected, and half a second after it."""

    def run(machine: str, seconds: float, variant: str = "bert", device: str = "cpu", **fields: Any) -> Path:
        record = make_record(spec={"variant": variant}).model_dump(mode="json")
        record["environment"] |= {"machine": machine, "device": device}
        record["stages"][0] |= {"seconds": seconds, "peak_bytes": 10**9}
        second = f"{len(list(tmp_path.rglob('*.json'))):02}"
        record |= {"seconds": seconds + 0.5, "started": f"2026-01-01T00:00:{second}Z",
                   "id": f"20260101T0000{second}Z-0123abcd-s1"}  # fmt: skip
        return store.write_record(tmp_path, Record.model_validate(record | fields))

    return run


def told(folder: Path, timed: bool = False) -> Calibration:
    """With one second expected of every stage and every finish."""
    return Calibration(recorded.read([folder], "cpu"), HERE, lambda one: 1.0, timed)


def asked(variant: str, stage: str = "fine_tune", task: str = "sst2") -> tuple[recorded.Key, ...]:
    return keys("bert", variant, task, "small", stage)


def test_what_was_made_then_counts_once_with_what_followed_it(write: Callable[..., Path], tmp_path: Path) -> None:
    write(HERE, 8.0)
    write(HERE, 9.0, device="cuda")
    write(HERE, 7.0, status="failed", reason="made to fail")
    write(HERE, 6.0).write_text("{")
    entry = {"name": "fine_tune", "seconds": 8.0}
    write(HERE, 5.0, stages=[entry | {"cached": True}, entry | {"name": "upper", "seconds": 5.0},
                             entry | {"name": "lower: fine_tune"}])  # fmt: skip
    found = [(one.stage, one.seconds) for one in recorded.read([tmp_path, tmp_path], "cpu")]
    assert found == [("fine_tune", 8.0), (FINISH, 0.5), ("upper", 5.0), (FINISH, 0.5)]


def test_the_closest_run_of_this_machine_speaks(write: Callable[..., Path], tmp_path: Path) -> None:
    for seconds in (2.0, 4.0, 9.0):
        write(HERE, seconds)
    write(HERE, 10.0, variant="other")
    write(THERE, 100.0, variant="third")
    found = told(tmp_path)
    assert found.runs == 4 and found.machines == 1
    assert found.factor(asked("bert")) == (4.0, "this run"), "the middle one"
    assert found.factor(asked("bert", task="rte")) == (4.0, "this variant")
    assert found.factor(asked("third")) == (6.5, "this paper"), "not the other machine's"
    assert found.factor(asked("bert", FINISH)) == (0.5, "this run")
    assert found.factor(asked("bert", "new")) == (9.0, "estimated"), "half of 27 seconds took up to nine times as long"
    assert found.peak_bytes(asked("bert")) == 1e9 and found.peak_bytes(asked("bert", "new")) is None


def test_of_others_the_proportions_count(write: Callable[..., Path], tmp_path: Path) -> None:
    write(THERE, 7.5)
    write(THERE, 20.0, variant="third")  # takes most of its time: the factor of the whole machine
    assert told(tmp_path).factor(asked("bert")) == (7.5, "other machines"), "as fast as they are"
    factor, _ = told(tmp_path, timed=True).factor(asked("bert"))
    assert factor == pytest.approx(7.5 / 20)
    assert told(tmp_path, timed=True).factor(asked("bert", "new")) == (1.0, "estimated")
    write(HERE, 0.5, variant="other", stages=[{"name": "upper", "seconds": 0.5}])
    factor, source = told(tmp_path).factor(asked("bert"))
    assert (factor, source) == (pytest.approx(0.5 * 7.5 / 20), "other machines")


def test_a_new_record_is_noticed(write: Callable[..., Path], tmp_path: Path) -> None:
    before = recorded.stamp([tmp_path])
    write(HERE, 1.0)
    assert before == [0, 0] and recorded.stamp([tmp_path])[0] == 1


def test_every_key_has_a_source(make_record: Callable[..., Record]) -> None:
    one = RecordedStage(HERE, "small", "bert", "bert", "sst2", "fine_tune", 1.0, 0.0, None, make_record())
    assert len(one.keys) == len(recorded.SOURCES)
