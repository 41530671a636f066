"""Models that no memory could hold: a slip in --set ends in one line, and not when the memory is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.core.errors import DeviceError
from bench.train.settings import Settings

BYTES = 16
"""Of memory per weight in training: the weight, its gradient and AdamW's two moments, in fp32."""


def check(settings: Settings, memory_bytes: int) -> None:
    """Refuse models that could not be trained in this memory. Raises: DeviceError."""
    for path, node in _nodes(settings):
        needed = BYTES * weights(node)
        if needed > memory_bytes:
            raise DeviceError("the model does not fit in memory", where=path.rstrip("."),
                              found=f"{memory_bytes / 2**30:.1f} GiB", expected=f"about {needed / 2**30:,.1f} GiB",
                              fix="give fewer layers or a smaller width")  # fmt: skip


def weights(sizes: Any) -> int:
    """About how many weights a model of these sizes has, by the names that sizes go by; 0 of what is no model."""
    hidden, layers = getattr(sizes, "hidden", None), getattr(sizes, "layers", 1)
    if not isinstance(hidden, int) or not isinstance(layers, int):
        return 0
    wide = getattr(sizes, "ffn", hidden)
    width = getattr(sizes, "embedding", hidden)
    rows = getattr(sizes, "vocabulary", 0) + getattr(sizes, "max_positions", 0)
    return layers * (4 * hidden * hidden + 2 * hidden * wide) + rows * width


def _nodes(settings: Settings, path: str = "") -> Iterator[tuple[str, Settings]]:
    yield path, settings
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from _nodes(value, f"{path}{name}.")
