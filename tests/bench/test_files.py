"""Files and folders appear whole or not at all, and nothing else is left where they are written."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from bench.core import files


class Interrupted(BaseException):
    """As a signal is: no Exception."""


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_is_written_in_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "page.md"
    for content, expected in (("é\r\nold\n", b"\xc3\xa9\r\nold\n"), (b"\x00new", b"\x00new"), ("", b"")):
        files.write_atomic(path, content)
        assert path.read_bytes() == expected
    assert left(tmp_path) == ["page.md", "sub"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask, "not private to this user"


def test_until_a_file_is_whole_its_old_content_stays(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    files.write_atomic(path, "old")
    with files.whole_file(path) as staging:
        staging.write_text("new")
        assert path.read_text() == "old" and staging.parent == path.parent and staging.name.startswith(".")
        assert [name for name in left(tmp_path) if not name.startswith(".")] == ["data.bin"]
    assert path.read_text() == "new" and left(tmp_path) == ["data.bin"]


@pytest.mark.parametrize("failure", [ValueError, Interrupted])
def test_a_failure_leaves_what_was_there(tmp_path: Path, failure: type[BaseException]) -> None:
    files.write_atomic(tmp_path / "file", "old")
    with pytest.raises(failure), files.whole_file(tmp_path / "file") as staging:
        staging.write_text("half")
        raise failure
    with pytest.raises(failure), files.whole_folder(tmp_path / "folder") as staging:
        (staging / "deep").mkdir()
        (staging / "deep" / "file").write_text("half")
        raise failure
    assert left(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.write_atomic(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", full)
    for write in (files.write_atomic, files.create_atomic):
        for name in ("file", "new"):
            with pytest.raises(OSError, match="No space left"):
                write(tmp_path / name, "new")
    with pytest.raises(OSError, match="No space left"), files.whole_folder(tmp_path / "folder") as staging:
        (staging / "file").write_text("new")
    assert left(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_file_reaches_the_disk_before_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    sync, replace, rename = os.fsync, os.replace, os.rename

    def synced(descriptor: int) -> None:
        told.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".")[-1])
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda a, b: (told.append("rename"), replace(a, b)))
    monkeypatch.setattr(os, "rename", lambda a, b: (told.append("rename"), rename(a, b)))
    place = tmp_path / "place"
    files.write_atomic(place / "file", "x")
    assert told == ["sync writing", "rename", "sync place"]
    told.clear()
    with files.whole_folder(place / "folder") as staging:
        (staging / "deep").mkdir()
        for path in (staging / "a", staging / "deep" / "b"):
            path.write_text("x")
    assert told == ["sync a", "sync writing", "sync b", "sync deep", "rename", "sync place"]


def test_a_name_that_is_taken_is_not_taken_over(tmp_path: Path) -> None:
    files.create_atomic(tmp_path / "file", "first")
    with pytest.raises(FileExistsError):
        files.create_atomic(tmp_path / "file", "second")
    assert left(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "first"


def test_of_two_folders_the_first_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    with files.whole_folder(target) as staging:
        (staging / "name").write_text("late")
        with files.whole_folder(target) as other:  # as another process would, meanwhile
            (other / "name").write_text("first")
    assert (target / "name").read_text() == "first" and left(tmp_path) == ["folder", "name", "new"]
    with pytest.raises(OSError, match="not empty"), files.whole_folder(target, taken="raise") as staging:
        (staging / "name").write_text("late")
    assert (target / "name").read_text() == "first" and left(tmp_path) == ["folder", "name", "new"]


def test_an_empty_folder_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with files.whole_folder(tmp_path / "folder", taken="raise") as staging:
        (staging / "name").write_text("x")
    assert left(tmp_path) == ["folder", "name"]
    with pytest.raises(OSError, match="Not a directory"), files.whole_folder(tmp_path / "folder" / "name"):
        pass
    assert left(tmp_path) == ["folder", "name"]


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), files.whole_file(tmp_path / "file") as staging:
        staging.write_text("half")
        os.link(staging, tmp_path / ".file.0.writing")  # it is gone when the block ends; its second name stays
        raise Interrupted
    (tmp_path / ".folder.0.writing" / "deep").mkdir(parents=True)
    for name in ("mine.writing", ".mine", "file"):
        (tmp_path / name).write_text("mine")
    files.sweep(tmp_path)
    assert left(tmp_path) == [".mine", "file", "mine.writing"]
    files.sweep(tmp_path / "nowhere")


def _write_many(folder: str, writer: int) -> None:
    for number in range(40):
        files.write_atomic(Path(folder) / "file", f"{writer}" * 5000)
        with files.whole_folder(Path(folder) / f"folder-{number}") as staging:
            for name in "ab":
                (staging / name).write_text(str(writer))


def test_two_writers_of_one_place(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(str(tmp_path), n)) for n in range(2)]
    for writer in writers:
        writer.start()
    looked = 0
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / "file").exists():
            assert (tmp_path / "file").read_text() in ("0" * 5000, "1" * 5000)
            looked += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert looked > 0
    for number in range(40):
        assert (tmp_path / f"folder-{number}" / "a").read_text() == (tmp_path / f"folder-{number}" / "b").read_text()
    assert len(list(tmp_path.iterdir())) == 41
