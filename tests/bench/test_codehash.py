"""The hash of the measuring code: all that measures is in it, and nothing that trains."""

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
