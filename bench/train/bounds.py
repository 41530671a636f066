"""Sizes that no run could have: a slip in --set ends in one line, and not when the memory is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.core.errors import DeviceError, SpecError
from bench.train.settings import Settings

LARGEST = {
    "layers": 1_000, "heads": 1_000, "every": 1_000, "hidden": 100_000, "ffn": 1_000_000, "embedding": 100_000,
    "filters": 100_000, "vocabulary": 10_000_000, "max_positions": 100_000, "max_length": 100_000, "groups": 100_000,
    "embedding_groups": 100_000, "batch_size": 1_000_000, "batch_tokens": 100_000_000, "accumulation": 1_000_000,
    "epochs": 100_000, "augmentation": 100_000, "candidates": 100_000, "max_words": 100_000_000, "repeats": 100_000,
    "max_steps": 1_000_000, "landscape_points": 1_000, "n_best": 10_000, "least_steps": 100_000_000,
}  # fmt: skip
"""The last part of a setting's name -> more than any method takes (ours)."""

BYTES = 16
"""Of memory per weight in training: the weight, its gradient and AdamW's two moments, in fp32."""


def check(settings: Settings, memory_bytes: int) -> None:
    """Refuse sizes out of all proportion, and models that could not be trained in this memory.

    Raises: SpecError for a size, naming the setting; DeviceError for a model that does not fit.
    """
    for path, node in _nodes(settings):
        for name in type(node).model_fields:
            value, most = getattr(node, name), LARGEST.get(name)
            if most is not None and isinstance(value, int) and value > most:
                raise SpecError("a setting is out of all proportion", where=f"{path}{name}", found=value,
                                expected=f"at most {most}", fix="check what was typed")  # fmt: skip
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
