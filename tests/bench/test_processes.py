"""Two and three processes together do what one does: predictions, augmented rows, gradients, decisions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("several.py")
GROUPS = {1: ["1-0"], 2: ["2-0", "2-1"], 3: ["3-0", "3-1", "3-2"]}
EVERY = [name for names in GROUPS.values() for name in names]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """ "PROCESSES-RANK" -> what each process found."""
    folder = tmp_path_factory.mktemp("several")
    done = subprocess.run([sys.executable, str(PROGRAM), str(folder), "1", "2", "3"], env=dict(os.environ),
                          capture_output=True, text=True, timeout=600, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answers = {path.stem: json.loads(path.read_text()) for path in folder.glob("*-*.json")}
    assert sorted(answers) == EVERY
    return answers


def test_predictions_are_the_same_to_the_last_bit(found: dict[str, Any]) -> None:
    """Of fewer batches than processes, too, and of a last batch with a few rows."""
    assert len(set(found["1-0"]["predictions"].values())) == 6
    assert all(found[name]["predictions"] == found["1-0"]["predictions"] for name in EVERY)


def test_augmented_rows_are_the_same_files(found: dict[str, Any]) -> None:
    alone = found["1-0"]["augmentation"]
    assert sorted(name for name in alone if name.endswith(".parquet")) == [f"part-0000{i}.parquet" for i in range(3)]
    assert all(found[name]["augmentation"] == alone for name in EVERY)


def test_what_no_process_used_stays_as_it_is(found: dict[str, Any]) -> None:
    """Neither momentum nor weight decay moves a parameter that has no gradient anywhere."""
    assert found["1-0"]["unused"]["stays"] and found["1-0"]["unused"]["steps"] == 5
    for name in EVERY:
        assert found[name]["unused"]["stays"]
        for own, alone in zip(found[name]["unused"]["weights"], found["1-0"]["unused"]["weights"], strict=True):
            assert own == pytest.approx(alone, rel=1e-5)


def test_every_row_of_a_batch_is_in_one_process_or_in_all(found: dict[str, Any]) -> None:
    for count, names in GROUPS.items():
        for rows in ("1", "2", "3", "5", "7"):
            parts = [found[name]["shares"][rows] for name in names]
            if int(rows) < count:
                assert all(part == list(range(int(rows))) for part in parts)
            else:
                assert sorted(row for part in parts for row in part) == list(range(int(rows)))
                assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_mean_over_all_by_hand(found: dict[str, Any]) -> None:
    """Three processes hold [1], [1, 2] and [1, 2, 3]: the mean is 10 / 6, and each value's gradient 1 / 6.

    A half of the sum, which all three add to the loss, gives another 3 / 2.
    """
    three = [found[name]["sums"] for name in GROUPS[3]]
    assert [one["outside"] for one in three] == [1.0, 1.5, 2.0]
    assert sum(one["term"] for one in three) == pytest.approx(10 / 6, rel=1e-6)
    assert all(one["whole"] == 10.0 for one in three)
    assert [one["grad"] for one in three] == [pytest.approx([1 / 6 + 3 / 2] * n, rel=1e-6) for n in (1, 2, 3)]
    assert found["1-0"]["sums"] == {"outside": 1.0, "term": 1.0, "whole": 1.0, "grad": [1.5]}


def test_work_is_divided_and_all_get_all_of_it(found: dict[str, Any]) -> None:
    assert all(found[name]["divided"] == [letter * 2 for letter in "abcdefg"] for name in EVERY)


def test_what_the_main_process_raises_is_raised_in_all(found: dict[str, Any]) -> None:
    assert {found[name]["raised"] for name in EVERY} == {"list index out of range"}
