"""A changed byte is noticed before a score is recorded: tests/benchmarks/damage.py in short, on a run of two jobs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import damage
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from bench.core import sealed
from bench.run import logits
from bench.run.cache import Cache
from bench.train.checkpoint import Checkpointer, Position

PLACES = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """BERT and the Q-BERT made of it."""
    folder = tmp_path_factory.mktemp("made")
    return damage.make(folder, damage.tiny(folder))


def test_of_the_cache(made: Any) -> None:
    assert damage.cache(made, PLACES) == PLACES


def test_of_what_is_exported(made: Any, tmp_path: Path) -> None:
    assert damage.export(made, PLACES, tmp_path) == PLACES


def test_of_a_packed_model(made: Any, tmp_path: Path) -> None:
    assert damage.packed_file(made, PLACES, tmp_path) == PLACES


def test_a_run_over_damage_ends_with_the_same_numbers(made: Any, tmp_path: Path) -> None:
    assert damage.in_full(made, 2, tmp_path) == 2


def test_of_a_checkpoint(tmp_path: Path) -> None:
    accelerator, model = Accelerator(cpu=True), nn.Linear(20, 20)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 20)).sum().backward()
    optimizer.step()
    assert Checkpointer(tmp_path).save(accelerator, model, optimizer, Position(step=3))
    assert damage.checkpoint(tmp_path / "step-000000003", PLACES) == PLACES


def busy(path: Path) -> Any:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))


def test_an_entry_of_the_cache_that_could_not_be_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    folder = cache.entry("aa1")
    folder.mkdir(parents=True)
    (folder / "facts.json").write_text("1")
    sealed.seal(folder, {"models": {}, "seen": {}})
    with monkeypatch.context() as patch, pytest.raises(OSError, match="open files") as caught:
        patch.setattr("bench.core.sealed.file_sha256", lambda path: busy(Path("")))
        cache.whole("aa1")
    assert caught.value.filename == str(folder / "facts.json") and cache.whole("aa1")
    another = cache.entry("aa2")
    another.write_text("a file where a folder belongs")
    assert not cache.whole("aa2")
    cache.clear("aa2")
    assert not another.exists()


def test_logits_that_could_not_be_read_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    made: list[int] = []

    def make() -> np.ndarray:
        made.append(1)
        return np.ones((3, 2), np.float32)

    logits.kept("ab1", 3, make, Accelerator(cpu=True))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="open files"):
        patch.setattr("bench.core.sealed.checked", busy)
        logits.kept("ab1", 3, make, Accelerator(cpu=True))
    found, now = logits.kept("ab1", 3, make, Accelerator(cpu=True))
    assert not now and made == [1] and found.shape == (3, 2)


def test_a_checkpoint_that_could_not_be_read_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    saved = Checkpointer(tmp_path)
    assert saved.save(Accelerator(cpu=True), model, optimizer, Position(step=3))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="open files"):
        patch.setattr("bench.core.sealed.checked", busy)
        saved.newest()
    assert saved.newest() == tmp_path / "step-000000003"
