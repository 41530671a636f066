"""Sizes out of all proportion end in one line before memory is taken."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from bench.core import environment
from bench.core.errors import BenchError, DeviceError
from bench.run import plan
from bench.run.request import Request
from bench.train import bounds
from bench.train.settings import Settings


class Sizes(Settings):
    layers: int = 2
    hidden: int = 10
    ffn: int = 40
    vocabulary: int = 100


@pytest.mark.parametrize(
    ("paper", "change"),
    [("bert", "pretrain.layers=1000000"), ("bert", "pretrain.hidden=1000000000"), ("bert", "pretrain.vocabulary=1"),
     ("lowresource", "student.layers=1000000"), ("lowresource", "student.hidden=90000"),
     ("lowresource", "student.vocabulary=2000000000"), ("tinybert", "student.ffn=100000000"),
     ("tinybert", "augmentation.augmentation=1000000000"), ("qbert", "sensing.landscape_points=1000000"),
     ("distilbert", "fine_tune.batch_size=1000000000"), ("bert", "fine_tune.epochs=1000000000")],
)  # fmt: skip
def test_a_slip_in_set_ends_the_plan(
    paper: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    monkeypatch.setattr(environment, "memory_bytes", lambda: 2**36)
    name, _, value = change.partition("=")
    tracemalloc.start()
    request.addfinalizer(tracemalloc.stop)
    started = time.monotonic()
    with pytest.raises(BenchError) as told:
        plan.make(Request(paper=(paper,), task=("sst2",), set={name: value}))
    assert name.split(".")[0] in str(told.value) and told.value.exit_code == 2
    assert time.monotonic() - started < 60 and tracemalloc.get_traced_memory()[1] < 10**9


def test_a_models_memory_is_asked_for_by_hand() -> None:
    # Two layers of 4 x 10 x 10 + 2 x 10 x 40, and 100 rows of 10: 2 x 1,200 + 1,000 weights of 16 bytes.
    assert bounds.weights(Sizes()) == 3400 and bounds.weights(Settings()) == 0
    bounds.check(Sizes(), 3400 * 16)
    with pytest.raises(DeviceError, match="does not fit in memory"):
        bounds.check(Sizes(), 3400 * 16 - 1)
