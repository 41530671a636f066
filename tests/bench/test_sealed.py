"""A sealed folder notices every change of what it holds; what can no longer be trusted is never used."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.core import sealed
from bench.core.sealed import MANIFEST, Damaged

CONTENT = {"facts": {"sensitivity": [0.5, 1e-3]}, "words": "é"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "entry"
    (made / "models" / "model").mkdir(parents=True)
    (made / "models" / "model" / "weights").write_bytes(random.Random(0).randbytes(5000))
    (made / "models" / "config.json").write_text('{"layers": 4}')
    sealed.seal(made, CONTENT)
    return made


def test_what_was_sealed_comes_back(folder: Path) -> None:
    assert sealed.checked(folder) == sealed.content(folder) == CONTENT
    assert sealed.sums(folder, "models/model").keys() == {"weights"}
    (folder / ".nfs0001").write_text("a file server's")
    assert sealed.checked(folder) == CONTENT


def test_every_flipped_bit_is_noticed_or_means_the_same(folder: Path) -> None:
    """White space of the manifest may change: it says nothing."""
    chance, noticed = random.Random(1), 0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(200):
        file = files[number % len(files)]
        raw = file.read_bytes()
        at = chance.randrange(len(raw))
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :])
        try:
            assert sealed.checked(folder) == CONTENT and file.name == MANIFEST and raw[at : at + 1].isspace()
        except Damaged:
            noticed += 1
        file.write_bytes(raw)
    assert noticed > 150
    assert sealed.checked(folder) == CONTENT


def _pipe(folder: Path) -> None:
    (folder / "models" / "config.json").unlink()
    os.mkfifo(folder / "models" / "config.json")


SPOILS: dict[str, Callable[[Path], object]] = {
    "config.json has 14 bytes": lambda folder: (folder / "models" / "config.json").write_text('{"layers": 4} '),
    "config.json has 0 bytes": _pipe,
    "weights is missing": lambda folder: (folder / "models" / "model" / "weights").unlink(),
    "index.json was not there": lambda folder: (folder / "models" / "model" / "index.json").write_text("{}"),
    "cannot be read": lambda folder: (folder / MANIFEST).write_text(""),
    "has changed": lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace("0.5", "0.6")),
    "is no manifest": lambda folder: ((folder / MANIFEST).unlink(), (folder / MANIFEST).mkdir()),
}


@pytest.mark.parametrize("says", SPOILS)
def test_damage_is_told(folder: Path, says: str) -> None:
    SPOILS[says](folder)
    for read in (sealed.content, sealed.checked):
        with pytest.raises(Damaged, match=says):
            read(folder)


@pytest.mark.parametrize("text", ["[]", "7", "null", '{"digest": 1}', "[" * 100_000])
def test_a_manifest_of_another_form(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(Damaged):
        sealed.checked(folder)


def test_files_are_read_once_while_nothing_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = sealed.file_sha256
    monkeypatch.setattr(sealed, "file_sha256", lambda path: (read.append(path.name), real(path))[1])
    sealed.checked(folder)
    sealed.checked(folder)
    assert sorted(read) == ["config.json", "weights"]
    os.utime(folder / "models" / "config.json", (1, 1))
    sealed.checked(folder)
    assert len(read) == 4
