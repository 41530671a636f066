"""Memory is asked for before a measurement starts: an impossible batch costs nothing and kills nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import DeviceError
from bench.measure import room
from bench.models.shape import all_shapes
from bench.run import shapes as measured

TINY = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                  max_position_embeddings=64)  # fmt: skip


def test_an_example_takes_what_its_largest_layer_does() -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(TINY).eval()
    # The largest: the second feed-forward matrix or the activation before it, [1, 10, 32] twice, in 4 bytes.
    assert room.example_bytes(model, 10) == 2 * (10 * 32 + 10 * 32) * 4 + 3 * 10 * 8
    assert room.example_bytes(model, 20) == 2 * room.example_bytes(model, 10)


@pytest.mark.parametrize("batch", [60_000, 65_536])
def test_a_batch_beyond_memory_is_refused_before_anything_starts(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda: 2**36)
    monkeypatch.setattr(measured, "measure", lambda *_, **__: pytest.fail("a process was started"))
    request = measured.Request(("bert",), (1, batch), results=str(tmp_path / "results"))
    with pytest.raises(DeviceError, match=r"does not fit in memory.*--batch \d+ or less"):
        measured.run(request)
    assert not list(tmp_path.rglob("*.json"))


def test_every_shape_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: Any = {}
    for (paper, name), shape in all_shapes().items():  # one of each paper: they differ in kind
        if shape.build is not None:
            shapes.setdefault(paper, ((paper, name), shape))
    monkeypatch.setattr(room, "free_bytes", lambda: 1000)
    for key, shape in shapes.values():
        with pytest.raises(DeviceError, match="--batch 1 or less"):
            room.check({key: shape}, (1,), 128)
    assert len(shapes) >= 6
