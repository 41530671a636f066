"""What the hash of a stage's code follows, and that of the measuring code: all that measures, nothing that trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.run import codehash


def test_every_module_that_measures_is_in_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(codehash, "module_hash", lambda module: hashed.append(module) or "0")
    codehash.measuring_hash.__wrapped__()
    there = {f"bench.measure.{file.stem}" for file in (root / "bench" / "measure").glob("*.py")} - {
        "bench.measure.__init__"}  # fmt: skip
    assert set(hashed) == there and len(hashed) >= 7 and hashed == sorted(hashed)
    reached = {name for module in there for name in codehash.closure(module)}
    assert {"bench.models.flops", "bench.core.stats"} <= reached
    assert not {name for name in reached if name.startswith(("bench.train", "bench.run", "papers"))}


def test_it_changes_with_what_it_reaches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = codehash.measuring_hash()
    assert len(before) == 64 and codehash.measuring_hash.__wrapped__() == before
    other, source = tmp_path / "flops.py", codehash._source
    other.write_text("counted = 2\n")
    monkeypatch.setattr(codehash, "_source", lambda name: other if name == "bench.models.flops" else source(name))
    monkeypatch.setattr(codehash, "module_hash", codehash.module_hash.__wrapped__)
    assert codehash.measuring_hash.__wrapped__() != before


def test_relative_imports_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "plugged" / "parts"
    package.mkdir(parents=True)
    (tmp_path / "plugged" / "__init__.py").write_text("")
    (tmp_path / "plugged" / "losses.py").write_text("import json\n")
    (tmp_path / "plugged" / "recipe.py").write_text("from . import losses\nfrom .parts.student import model\n")
    (package / "__init__.py").write_text("from .words import word\n")
    (package / "words.py").write_text("word = 1\n")
    (package / "student.py").write_text("def model():\n    from ..losses import loss\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert codehash.closure("plugged.recipe") == (
        "plugged", "plugged.losses", "plugged.parts.student", "plugged.recipe",
    )  # fmt: skip
    assert codehash.closure("plugged.parts") == ("plugged.parts", "plugged.parts.words")


def test_a_plug_in_follows_what_it_takes_from_a_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugged_in").mkdir()
    (tmp_path / "plugged_in" / "__init__.py").write_text("")
    (tmp_path / "plugged_in" / "recipe.py").write_text("from papers.tinybert import losses\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "papers.tinybert.losses" in codehash.closure("plugged_in.recipe")


SOURCE = '''
"""What it is."""
import json

class Rates:
    """Rates."""
    first: float = 0.1  # of a step
    """The first one."""

def rate(step: int) -> float:
    return Rates.first * step
'''


def hashed(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    file = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
    file.write_text(source)
    monkeypatch.setattr(codehash, "_source", lambda name: file if name == "plugged" else None)
    return codehash.module_hash.__wrapped__("plugged")


@pytest.mark.parametrize(("before", "after"), [
    ('"""What it is."""', '"""What it is, in other words."""'),
    ("  # of a step", ""),
    ('    """The first one."""\n', ""),
    ("def rate(step: int) -> float:", "def rate(\n    step: int,\n) -> float:"),
])  # fmt: skip
def test_words_about_the_code_are_no_part_of_it(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SOURCE.replace(before, after)
    assert other != SOURCE
    assert hashed(other, tmp_path, monkeypatch) == hashed(SOURCE, tmp_path, monkeypatch)


@pytest.mark.parametrize(("before", "after"), [
    ("0.1", "0.2"), ("Rates.first * step", "step"), ("import json", "import json as other"),
    ("return Rates.first * step", 'name = "What it is."\n    return Rates.first * step'),
])  # fmt: skip
def test_what_runs_is(before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashed(SOURCE.replace(before, after), tmp_path, monkeypatch) != hashed(SOURCE, tmp_path, monkeypatch)
