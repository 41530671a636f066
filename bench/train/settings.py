"""Hyper-parameters as frozen data: what a recipe declares, `--set` may change, and a record keeps whole."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.core.errors import SpecError

BUDGET_FIELDS = frozenset({"epochs", "corpus_tokens", "augmentation"})
"""Fields that say how much a run may use; runs with different ones are not compared in an ordering."""


class Settings(BaseModel):
    """Base of every hyper-parameter model: frozen, strict about names, documented per field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def budget(self) -> dict[str, Any]:
        """The budget fields by dotted name, at any depth."""
        found: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Settings):
                found |= {f"{name}.{inner}": v for inner, v in value.budget().items()}
            elif name in BUDGET_FIELDS:
                found[name] = value
        return found

    def override(self, changes: dict[str, str]) -> Self:
        """The same settings with `dotted.field = text` changes applied and checked.

        Raises SpecError naming the fields that come close, or what the field takes.
        """
        if not changes:
            return self
        content = self.model_dump()
        for path, text in changes.items():
            *parents, last = path.split(".")
            node: Any = content
            for part in parents:
                node = node.get(part) if isinstance(node, dict) else None
            if not isinstance(node, dict) or last not in node:
                raise unknown_field(path, self.names())
            node[last] = _value(text)
        try:
            return type(self).model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise SpecError(
                "a value in --set does not fit its field", where=".".join(map(str, first["loc"])),
                found=first.get("input"), expected=first["msg"],
            ) from error  # fmt: skip

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """The same settings with `dotted.field = value` changes applied and checked; raises SpecError as `override`."""
        content = self.model_dump()
        for path, value in changes.items():
            *parents, last = path.split(".")
            node: Any = content
            for part in parents:
                node = node.get(part) if isinstance(node, dict) else None
            unset = not parents and last in type(self).model_fields  # a dump leaves out what is None
            if not isinstance(node, dict) or (last not in node and not unset):
                raise unknown_field(path, self.names())
            node[last] = value
        return type(self).model_validate(content)

    def only(self, *names: str) -> Self:
        """The same settings without all other fields: to read one of those raises AttributeError."""
        found = self.model_copy()
        for name in type(self).model_fields:
            if name not in names:
                del found.__dict__[name]
        return found

    def names(self) -> list[str]:
        """Every settable field by dotted name."""
        out: list[str] = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is None and field.exclude_if:
                continue
            out += [f"{name}.{inner}" for inner in value.names()] if isinstance(value, Settings) else [name]
        return out


FEW = 20
"""So many names fit one line of an error; of more, those that come close are named."""


def unknown_field(path: str, names: Collection[str]) -> SpecError:
    """The error for a --set field that is not among `names`: all where they are few, else the close ones or groups."""
    last = path.split(".")[-1]
    alike = difflib.get_close_matches(path, names) or [name for name in names if name.split(".")[-1] == last]
    groups = sorted({name.split(".")[0] + (".*" if "." in name else "") for name in names})
    shown = names if len(names) <= FEW else alike or groups
    return SpecError("unknown field in --set", found=path, expected=f"one of {', '.join(shown)}")


def _value(text: str) -> Any:
    """A --set text as what it means: none, a list in JSON, else the text itself, which its field will read."""
    if text.lower() in ("none", "null"):
        return None
    if text.startswith("["):
        with suppress(ValueError):
            return json.loads(text)
    return text


class Windowing(Settings):
    """How a task of spans is read and answered; the length of a window is the recipe's `max_length`."""

    stride: int = Field(default=128, ge=1)
    """Tokens of context by which the next window begins later; the rest of a window is shared with it."""
    question: int = Field(default=64, ge=1)
    """Tokens of a question that are kept."""
    n_best: int = Field(default=20, ge=1)
    """Likeliest starts and ends of a window that are tried with each other."""
    answer: int = Field(default=30, ge=1)
    """Tokens of the longest answer."""


def unless_none(default: Any = None) -> Any:
    """A field that a record only names where it is set: runs of before it existed are runs of the same setting."""
    return Field(default=default, exclude_if=lambda value: value is None)


WINDOWS = {
    "smoke": (64, Windowing(stride=32, question=24)),
    "small": (128, Windowing(stride=64, question=48)),
    "full": (384, Windowing()),
}
"""Scale -> tokens of a window and what else a task of spans takes; `full` is BERT's own SQuAD script."""


class Group(Settings):
    """Parameters that learn at a rate of their own."""

    match: str
    rate: float = 1.0


class Training(Settings):
    """How `fit` trains: one optimiser step uses `accumulation` batches, whatever the number of processes."""

    epochs: int = Field(default=3, ge=1)
    """Passes over the data."""
    batch_size: int = Field(default=32, ge=1)
    """Examples per batch."""
    batch_tokens: int | None = Field(default=None, ge=8)
    """Padded tokens per batch; replaces `batch_size` when set."""
    accumulation: int = Field(default=1, ge=1)
    """Batches per optimiser step."""
    lr: float = Field(default=2e-5, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the two moments."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled decay of weight matrices; biases and LayerNorms are not decayed."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the optimiser steps over which the learning rate rises linearly."""
    schedule: Literal["linear", "constant"] = "linear"
    """What follows warm-up: linear decay to zero, or the peak kept."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; None does not clip."""
    clip_each: bool | None = unless_none()
    """Clip each tensor's gradient to that norm by itself, not the whole; a recipe sets it from a switch of its own."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` is bf16 where the device has it natively."""
    compile: bool = False
    """Compile the model with torch.compile (dynamic shapes)."""

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of optimiser step `step` (from 0) of `steps`."""
        rise = int(self.warmup * steps)
        if step < rise:
            return self.lr * (step + 1) / (rise + 1)
        if self.schedule == "constant":
            return self.lr
        return self.lr * max(0.0, (steps - step) / max(1, steps - rise))
