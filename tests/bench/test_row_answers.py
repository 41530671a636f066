"""What a model answered to each row: packed by hand, back again by any draw, beside the record, damaged."""

from __future__ import annotations

import base64
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core import answers, store
from bench.core.errors import RecordError
from bench.core.record import WIDTHS, Answers, Record
from bench.core.sidecar import answers_name

ROWS = "0123456789abcdef" * 4


def bits(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, count)


@pytest.mark.parametrize(
    ("values", "code", "raw"),
    [
        ([1, 0, 1, 1, 0, 0, 0, 1, 1], "uint1", "b1 80"),
        ([2, 1, 0, 2, 1], "uint2", "92 40"),  # 10 01 00 10, 01 and zeros
        ([8, 1, 15], "uint4", "81 f0"),
        ([255, 0, 7], "uint8", "ff 00 07"),
        ([1.5, -2.0], "float16", "00 3e 00 c0"),
        ([1e6, -1e9], "float16", "ff 7b ff fb"),  # the largest that there are
    ],
)
def test_packing_by_hand(values: list[float], code: Any, raw: str) -> None:
    packed = answers.pack(np.array(values), code)
    assert base64.b64decode(packed.base64) == bytes.fromhex(raw) and not packed.sha256
    assert answers.unpack(packed, len(values)).tolist() == np.clip(values, -65504, 65504).tolist()


@pytest.mark.parametrize(
    ("task", "rows", "raw", "letters"),
    [("rte", 277, 35, 48), ("sst2", 872, 109, 148), ("mnli", 9815, 1227, 1636), ("mnli-mm", 9832, 1229, 1640)],
)
def test_what_the_bits_of_a_task_weigh(task: str, rows: int, raw: int, letters: int) -> None:
    packed = answers.pack(bits(rows), "uint1")
    assert (packed.bytes_of(rows), len(base64.b64decode(packed.base64)), len(packed.base64)) == (raw, raw, letters)


@given(st.sampled_from(list(WIDTHS)), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_back(code: Any, rows: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    if code == "float16":
        values = chance.normal(size=rows).astype(np.float16).astype(np.float32)
    else:
        values = chance.integers(0, 2 ** WIDTHS[code], rows)
    packed = answers.pack(values, code)
    found = answers.unpack(packed, rows)
    assert np.array_equal(found, values) and found.dtype == (np.float32 if code == "float16" else np.uint8)
    assert len(packed.base64) == 4 * -(-packed.bytes_of(rows) // 3)


@pytest.mark.parametrize(
    ("values", "code"),
    [([0, 2], "uint1"), ([0, -1], "uint2"), ([0, 16], "uint4"), ([0.0, np.nan], "float16"), ([0.0, np.inf], "float16")],
)
def test_what_a_code_does_not_have_is_refused(values: list[float], code: Any) -> None:
    with pytest.raises(RecordError, match=f"cannot be kept; in row 1; .*expected {code}"):
        answers.pack(np.array(values), code)


def test_labels_take_the_narrowest_code() -> None:
    found = [answers.label_code(count) for count in (1, 2, 3, 4, 5, 9, 16, 17, 256)]
    assert found == ["uint1"] * 2 + ["uint2"] * 2 + ["uint4"] * 3 + ["uint8"] * 2


def test_a_record_says_what_was_answered(tmp_path: Path, make_record: Any) -> None:
    right, said, scores = bits(277), np.arange(277) % 3, np.linspace(0, 5, 277)
    path = store.write_record(tmp_path, make_record(answers={
        "validation": answers.answers_of(ROWS, right, said, labels=3),
        "other": answers.answers_of(ROWS, predictions=scores, f1=scores / 5),
    }))  # fmt: skip
    record = store.read_record(path)
    found = answers.correct(record, "validation")
    assert found is not None and found.dtype == bool and np.array_equal(found, right)
    assert np.array_equal(answers.predictions(record, "validation"), said)  # pyright: ignore[reportArgumentType]
    assert answers.f1(record, "validation") is None and answers.correct(record, "other") is None
    np.testing.assert_allclose(answers.predictions(record, "other"), scores, rtol=5e-4)  # pyright: ignore
    np.testing.assert_allclose(answers.f1(record, "other"), scores / 5, rtol=5e-4)  # pyright: ignore
    assert answers.correct(record, "nowhere") is None
    assert record.answers["validation"].rows_sha256 == ROWS[:16] and len(list(path.parent.iterdir())) == 1


def test_the_largest_tasks_fit_into_a_record(tmp_path: Path, make_record: Any) -> None:
    qqp = answers.answers_of(ROWS, bits(40_430), bits(40_430, 1), labels=2)
    squad = answers.answers_of(ROWS, bits(10_570), f1=np.linspace(0, 1, 10_570))
    for one in (qqp, squad):
        path = store.write_record(tmp_path, make_record(answers={"validation": one}))
        assert path.stat().st_size < store.MAX_BYTES
    assert not list(tmp_path.rglob("*.bin"))


@pytest.fixture
def large(tmp_path: Path, make_record: Any) -> tuple[Record, Path]:
    """A record, and the file beside it: two thirds of its answers are too much."""
    mine = answers.answers_of(ROWS, bits(30_000), f1=np.linspace(0, 1, 30_000))
    path = store.write_record(tmp_path, make_record(answers={"validation": mine}))
    [file] = path.parent.glob("*.bin")
    return store.read_record(path), file


def test_answers_that_do_not_fit_lie_beside_the_record(large: tuple[Record, Path], tmp_path: Path) -> None:
    record, file = large
    kept = record.answers["validation"]
    assert kept.correct and kept.correct.base64 and kept.f1 and not kept.f1.base64, "the largest goes, no more"
    assert file.name == answers_name(kept.f1.sha256) == f"answers-{kept.f1.sha256[:16]}.bin"
    assert file.stat().st_size == 60_000 and (file.parent / f"{record.id}.json").stat().st_size < store.MAX_BYTES
    np.testing.assert_allclose(answers.f1(record, "validation", tmp_path), np.linspace(0, 1, 30_000), atol=5e-4)  # pyright: ignore
    assert answers.correct(record, "validation") is not None, "what the record itself holds needs no folder"
    assert store.read_records(tmp_path, ("small",)) == [record]


def test_two_records_of_the_same_answers_share_their_file(
    large: tuple[Record, Path], tmp_path: Path, make_record: Any
) -> None:
    record, file = large
    second = store.write_record(tmp_path, record)
    whole = answers.answers_of(ROWS, f1=np.linspace(0, 1, 30_000))
    third = store.write_record(tmp_path, make_record(answers={"validation": whole}, id="20260102T000000Z-0123abcd-s1"))
    assert len(list(file.parent.glob("*.bin"))) == 1 and second.stem.endswith("-2")
    for path in (second, third):
        assert answers.f1(store.read_record(path), "validation", tmp_path) is not None


@pytest.mark.parametrize("damage", ["gone", "changed", "cut", "a folder", "empty"])
def test_a_damaged_file_is_named_to_who_asks_for_it(large: tuple[Record, Path], tmp_path: Path, damage: str) -> None:
    record, file = large
    content = file.read_bytes()
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage != "gone":
        file.write_bytes({"changed": b"\1" + content[1:], "cut": content[:-1], "empty": b""}[damage])
    assert store.read_records(tmp_path, ("small",)) == [record]
    with pytest.raises(RecordError, match=f"f1 of validation cannot be read; in {record.id}") as caught:
        answers.f1(record, "validation", tmp_path)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert answers.correct(record, "validation", tmp_path) is not None


def test_any_changed_byte_of_the_file_is_noticed(large: tuple[Record, Path], tmp_path: Path) -> None:
    record, file = large
    content = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 40).tolist():
        file.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        with pytest.raises(RecordError, match="is damaged"):
            answers.f1(record, "validation", tmp_path)


def test_without_the_results_folder_a_file_is_not_looked_for(large: tuple[Record, Path]) -> None:
    with pytest.raises(RecordError, match=r"beside the record.*expected the results folder"):
        answers.f1(large[0], "validation")


def test_letters_that_are_none_are_named_to_who_asks_for_them(tmp_path: Path, make_record: Any) -> None:
    path = store.write_record(tmp_path, make_record(answers={"validation": answers.answers_of(ROWS, bits(277))}))
    content = json.loads(path.read_text())
    content["answers"]["validation"]["correct"]["base64"] = "?" * 48
    path.write_text(json.dumps(content))
    record = store.read_record(path)
    with pytest.raises(RecordError, match=r"correct of validation cannot be read.*damaged.*expected base64"):
        answers.correct(record, "validation")


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("correct", {"base64": "A" * 44}, "correct of 44 letters, expected 48 for 277 rows"),
        ("correct", {"code": "uint2"}, "correct as uint2, expected uint1"),
        ("correct", {"code": "uint3"}, "code"),
        ("correct", {"base64": ""}, "correct neither in the record nor beside it"),
        ("correct", {"sha256": "ab" * 32}, "correct both in the record and beside it"),
        ("correct", {"base64": "", "sha256": "../../../x"}, "sha256"),
        ("n", 0, "answers.validation.n"),
        ("n", 300, "expected 52 for 300 rows"),
        ("rows_sha256", "short", "rows_sha256"),
        ("extra", 1, "extra"),
    ],
)
def test_answers_that_mean_nothing(tmp_path: Path, make_record: Any, part: str, change: Any, says: str) -> None:
    path = store.write_record(tmp_path, make_record(answers={"validation": answers.answers_of(ROWS, bits(277))}))
    content = json.loads(path.read_text())
    kept = content["answers"]["validation"]
    kept[part] = kept[part] | change if isinstance(change, dict) else change
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=says.replace(".", r"\.")) as caught:
        store.read_record(path)
    assert str(path) in str(caught.value)


def test_a_full_disk_leaves_no_record_without_its_answers(
    tmp_path: Path, make_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    whole = answers.answers_of(ROWS, f1=np.linspace(0, 1, 60_000))
    with pytest.raises(RecordError, match=r"cannot be written.*No space left"):
        store.write_record(tmp_path, make_record(answers={"validation": whole}))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_record_of_the_format_before_is_read_as_it_is(root: Path, tmp_path: Path, make_record: Any) -> None:
    committed = [path for path in sorted((root / "results" / "small").rglob("*.json"))
                 if json.loads(path.read_text())["format"] == 1]  # fmt: skip
    for path in committed[:: len(committed) // 20]:
        content, record = path.read_text(), store.read_record(path)
        assert record.format == 1 and record.answers == {} and record.session == record.code.measure_hash == ""
        assert answers.correct(record, "validation") is None and path.read_text() == content
        given = json.loads(content)
        later = ("code", "stages", "data")  # which have keys since that the format did not
        assert {key: value for key, value in record.model_dump().items() if key in given and key not in later} == {
            key: given[key] for key in given if key not in later}  # fmt: skip
        assert record.data is None or record.data.model_dump() == given["data"] | {"corpus": "", "encoder": ""}
    assert len(committed) >= 500 and make_record().format == 2


def test_every_code_is_one_that_a_reader_knows() -> None:
    assert set(WIDTHS) == set(Answers.model_json_schema()["$defs"]["Packed"]["properties"]["code"]["enum"])
