"""A changed byte is noticed before a score is recorded: tests/benchmarks/damage.py in short, on a run of two jobs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import damage
import pytest
import torch
from accelerate import Accelerator
from torch import nn

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


def test_a_checkpoint_that_could_not_be_read_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    saved = Checkpointer(tmp_path)
    assert saved.save(Accelerator(cpu=True), model, optimizer, Position(step=3))

    def busy(folder: Path) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(folder))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="open files"):
        patch.setattr("bench.core.sealed.checked", busy)
        saved.newest()
    assert saved.newest() == tmp_path / "step-000000003"
