"""The record store: whole files only, never overwritten, safe with two writers, fast to read, clear when broken."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from bench.core import store
from bench.core.errors import RecordError
from bench.core.record import Record


def all_keys(model: type[BaseModel]) -> set[str]:
    """Every key of a model and of the models inside it."""
    keys: set[str] = set()
    for name, field in model.model_fields.items():
        keys.add(name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys |= all_keys(kind)
    return keys


def test_a_record_comes_back_as_it_was(tmp_path: Path, make_record: Any) -> None:
    record = make_record(seconds=0.1 + 0.2)
    path = store.write_record(tmp_path, record)
    assert path == tmp_path / "small/bert/bert/sst2/20260101T000000Z-0123abcd-s1.json"
    assert store.read_record(path) == record
    assert store.read_records(tmp_path, ("small",)) == [record]
    assert store.read_records(tmp_path, ("full", "smoke")) == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "nothing else is left in the folder"


def test_a_file_has_one_value_per_line(tmp_path: Path, make_record: Any) -> None:
    text = store.write_record(tmp_path, make_record()).read_text()
    lines = text.splitlines()
    assert ' "status": "ok",' in lines and '   "value": 0.9,' in lines
    assert max(line.count('": ') for line in lines) == 1
    assert len(text.encode()) < store.MAX_BYTES


def test_a_second_record_of_the_same_name_gets_its_own(tmp_path: Path, make_record: Any) -> None:
    first = store.write_record(tmp_path, make_record(seconds=1.0))
    second = store.write_record(tmp_path, make_record(seconds=2.0))
    assert first != second and second.stem == store.read_record(second).id == f"{first.stem}-2"
    assert [r.seconds for r in store.read_records(tmp_path, ("small",))] == [1.0, 2.0]


def test_records_are_ordered_by_place_not_by_time_of_writing(tmp_path: Path, make_record: Any) -> None:
    for place, (scale, paper, seed) in enumerate(
        (("small", "b", 2), ("full", "z", 1), ("small", "b", 1), ("small", "a", 3))
    ):
        spec = {"scale": scale, "paper": paper, "seed": seed}
        store.write_record(tmp_path, make_record(spec, id=f"20260101T000000Z-{9 - place}123abcd-s{seed}"))
    order = [(r.spec.scale, r.spec.paper, r.spec.seed) for r in store.read_records(tmp_path, ("small", "full"))]
    assert order == [("small", "a", 3), ("small", "b", 1), ("small", "b", 2), ("full", "z", 1)]


@pytest.mark.parametrize("field", ["paper", "variant", "task"])
@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", ".hidden", "a\n"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, make_record: Any, field: str, name: str) -> None:
    with pytest.raises(RecordError, match="cannot be part of a path"):
        store.write_record(tmp_path / "results", make_record({field: name}))
    assert not (tmp_path / "results").exists()


def test_a_value_that_is_not_json_is_refused(tmp_path: Path, make_record: Any) -> None:
    with pytest.raises(RecordError, match="not JSON"):
        store.write_record(tmp_path, make_record().model_copy(update={"seconds": float("nan")}))
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON.*an empty file"),
        ('{"format": 1, "id": ', "not JSON"),
        ("\x00\x01", "not JSON"),
        ("[1]", "not an object.*list"),
        ('{"format": 99}', "format is unknown.*found 99.*expected format 1"),
        ('{"id": "x"}', "format is unknown.*no key format"),
        ('{"format": 1, "id": "x"}', "malformed.*field status"),
    ],
)
def test_a_broken_record_is_named_and_left_out(
    tmp_path: Path, make_record: Any, content: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = store.write_record(tmp_path, make_record())
    broken = path.with_name("broken.json")
    broken.write_text(content)
    assert store.read_records(tmp_path, ("small",)) == [make_record()]
    assert len(caplog.messages) == 1 and str(broken) in caplog.messages[0]
    with pytest.raises(RecordError, match=says) as caught:
        store.read_record(broken)
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert broken.read_text() == content


def test_a_malformed_value_is_named_with_its_place(tmp_path: Path, make_record: Any) -> None:
    path = store.write_record(tmp_path, make_record())
    content = json.loads(path.read_text())
    content["measurements"][1]["value"] = "fast"
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"measurements\.1\.value"):
        store.read_record(path)


def test_files_being_written_are_passed_over(tmp_path: Path, make_record: Any) -> None:
    path = store.write_record(tmp_path, make_record())
    path.with_name(f".{path.name}.1-2.writing").write_text('{"half')
    path.with_name(".hidden.json").write_text('{"half')
    path.with_name("notes.txt").write_text("not a record")
    assert len(store.read_records(tmp_path, ("small",))) == 1


def test_a_folder_that_cannot_be_written(tmp_path: Path, make_record: Any) -> None:
    (tmp_path / "file").write_text("mine")
    for results in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RecordError, match="cannot be written"):
            store.check_writable(results)
        with pytest.raises(RecordError, match="cannot be written"):
            store.write_record(results, make_record())
        with pytest.raises(RecordError, match="cannot be written"):
            store.write_atomic(results / "x.md", "text")
    with pytest.raises(RecordError, match="not a folder"):
        store.read_records(tmp_path / "file", ("small",))
    assert (tmp_path / "file").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, make_record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.check_writable(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left"):
        store.write_record(tmp_path, make_record())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_hard_links_nothing_is_overwritten_either(
    tmp_path: Path, make_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    paths = [store.write_record(tmp_path, make_record(seconds=float(n))) for n in range(3)]
    assert len(set(paths)) == 3
    assert [r.seconds for r in store.read_records(tmp_path, ("small",))] == [0.0, 1.0, 2.0]
    assert len(list(paths[0].parent.iterdir())) == 3, "no claim or temporary file is left"


def test_write_atomic_replaces(tmp_path: Path) -> None:
    for text in ("old ×\n", "new\n"):
        store.write_atomic(tmp_path / "sub" / "page.md", text)
        assert (tmp_path / "sub" / "page.md").read_bytes() == text.encode()
    assert [entry.name for entry in (tmp_path / "sub").iterdir()] == ["page.md"]


def _write_many(results: str, content: str, writer: int) -> None:
    record = Record.model_validate_json(content)
    for number in range(25):
        store.write_record(Path(results), record.model_copy(update={"seconds": float(100 * writer + number)}))


def test_two_writers_lose_nothing(tmp_path: Path, make_record: Any) -> None:
    """All of them write under one id, the worst case; a reader looks on meanwhile and never sees a half file."""
    content = make_record().model_dump_json()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(str(tmp_path), content, n)) for n in range(2)]
    for writer in writers:
        writer.start()
    looked = 0
    while any(writer.is_alive() for writer in writers):
        store.read_records(tmp_path, ("small",))
        looked += 1
        time.sleep(0.01)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    records = store.read_records(tmp_path, ("small",))
    assert sorted(r.seconds for r in records) == sorted(100.0 * w + n for w in range(2) for n in range(25))
    assert len({r.id for r in records}) == 50 and looked > 0


def test_every_key_is_explained(root: Path) -> None:
    text = (root / "results" / "README.md").read_text()
    keys = all_keys(Record)
    missing = sorted(key for key in keys if f"`{key}`" not in text)
    assert not missing, f"results/README.md does not explain {missing}"
    assert len(keys) >= 45
