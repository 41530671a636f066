"""Locks by a file: one process at a time, and none where nothing can be written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from bench.core.files import locked


def test_nobody_else_is_inside(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "key"
    with locked(path), pytest.raises(Timeout):
        FileLock(path).acquire(timeout=0)
    with locked(path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_where_none_can_be_written_work_goes_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "mkdir", refused)
    inside = False
    with locked(tmp_path / "locks" / "key"):
        inside = True
    assert inside and not (tmp_path / "locks").exists()


def test_what_else_goes_wrong_is_raised(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    with pytest.raises(OSError, match=r"exists|directory"), locked(tmp_path / "locks" / "key"):
        pass
