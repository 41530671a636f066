"""Hyper-parameters as frozen data: what a recipe declares, `--set` may change, and a record keeps whole."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from bench.core.errors import FEW, SpecError, wanted


class Budget:
    """Marks a field that says how much a run may use: `epochs: Annotated[int, Budget()] = 3`.

    Runs that were allowed different amounts are not compared in an ordering.
    """


class Settings(BaseModel):
    """Base of every hyper-parameter model: frozen, strict about names, documented per field."""

    # No setting of a method is infinite: what it would do, no optimiser does.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def budget(self) -> dict[str, Any]:
        """The budget fields by dotted name, at any depth."""
        found: dict[str, Any] = {}
        for name, value in self._fields().items():
            left_out = type(self).model_fields[name].exclude_if
            if left_out is not None and left_out(value):
                continue
            if isinstance(value, Settings):
                found |= {f"{name}.{inner}": v for inner, v in value.budget().items()}
            elif any(isinstance(mark, Budget) for mark in type(self).model_fields[name].metadata):
                found[name] = value
        return found

    def override(self, changes: Mapping[str, str]) -> Self:
        """The same settings with `dotted.field = text` changes of --set applied and checked.

        Raises SpecError naming the fields that come close, or what the field takes.
        """
        if not changes:
            return self
        return self._with(self._content(named=True), {path: _value(text) for path, text in changes.items()}, "--set")

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """The same settings with `dotted.field -> value` changes applied and checked: how a variant differs.

        It may also set what --set does not know, a field that is None and then unnamed. Raises SpecError as `override`.
        """
        if not changes:
            return self
        values = {path: v.model_dump() if isinstance(v, Settings) else v for path, v in changes.items()}
        return self._with(self._content(), values, "the changes")

    def only(self, *names: str) -> Self:
        """The same settings with these fields and no others: reading another one raises AttributeError.

        So a stage cannot depend on what it does not say it uses. Raises SpecError for an unknown name.
        """
        fields = self._fields()
        for name in names:
            if name not in fields:
                raise unknown_field(name, list(fields), "only")
        part = type(self).model_construct(**{name: fields[name] for name in names})
        for left_out in vars(part).keys() - set(names):  # model_construct fills in defaults
            del vars(part)[left_out]
        return part

    def names(self) -> list[str]:
        """Every settable field by dotted name."""
        out: list[str] = []
        for name, value in self._fields().items():
            if self._unnamed(name, value):
                continue
            out += [f"{name}.{inner}" for inner in value.names()] if isinstance(value, Settings) else [name]
        return out

    def trainings(self) -> Iterator[tuple[str, Training]]:
        """Every training by dotted name, at any depth."""
        for name, value in self._fields().items():
            if isinstance(value, Training):
                yield name, value
            elif isinstance(value, Settings):
                yield from ((f"{name}.{inner}", training) for inner, training in value.trainings())

    def _fields(self) -> dict[str, Any]:
        """Name -> value of the fields that are there: all of them, or what `only` left."""
        return {name: self.__dict__[name] for name in type(self).model_fields if name in self.__dict__}

    def _content(self, named: bool = False) -> dict[str, Any]:
        """The fields as nested dictionaries; without unset ones that have no name where only `named` are asked for."""
        return {
            name: value._content(named) if isinstance(value, Settings) else value
            for name, value in self._fields().items()
            if not (named and self._unnamed(name, value))
        }

    def _unnamed(self, name: str, value: Any) -> bool:
        return value is None and type(self).model_fields[name].exclude_if is not None

    def _with(self, content: dict[str, Any], changes: Mapping[str, Any], origin: str) -> Self:
        """Settings of `content` with the changes in it; `origin` says in an error where they come from."""
        if len(self._fields()) < len(type(self).model_fields):
            raise SpecError("a part of the settings cannot be changed", where=type(self).__name__,
                            found=f"only {', '.join(self._fields())}", fix="change them before only()")  # fmt: skip
        for path, value in changes.items():
            *parents, last = path.split(".")
            node: Any = content
            for part in parents:
                node = node.get(part) if isinstance(node, dict) else None
            if not isinstance(node, dict) or last not in node:
                raise unknown_field(path, self.names(), origin)
            _check_size(path, value, origin)
            node[last] = value
        try:
            return type(self).model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise SpecError(
                f"a value in {origin} does not fit its field", where=".".join(map(str, first["loc"])),
                found=first.get("input"), expected=wanted(first["msg"]),
            ) from error  # fmt: skip


def unknown_field(path: str, names: Collection[str], origin: str = "--set") -> SpecError:
    """The error for a field that is not among `names`: all where they are few, else the close ones or groups."""
    last = path.split(".")[-1]
    alike = difflib.get_close_matches(path, names) or [name for name in names if name.split(".")[-1] == last]
    groups = sorted({name.split(".")[0] + (".*" if "." in name else "") for name in names})
    shown = names if len(names) <= FEW else alike or groups
    return SpecError(f"unknown field in {origin}", found=path, expected=f"one of {', '.join(shown)}")


LARGEST = 10**12
"""Of whole numbers: what is larger is a slip, and libraries count in 64 bits or fewer."""


def _check_size(path: str, value: Any, origin: str) -> None:
    """Raises SpecError for a number that no run could mean."""
    numbers = value if isinstance(value, list | tuple) else [value]
    for number in numbers:
        with suppress(ValueError, TypeError, OverflowError):
            if abs(int(number)) > LARGEST:
                raise SpecError(f"a value in {origin} does not fit its field", where=path, found=f"{number!s:.40}",
                                expected=f"at most {LARGEST}")  # fmt: skip


def _value(text: str) -> Any:
    """A --set text as what it means: none, a list in JSON, else the text itself, which its field will read."""
    if text.lower() in ("none", "null"):
        return None
    if text.startswith("["):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


class Windowing(Settings):
    """How a task of spans is read and answered; the length of a window is the recipe's `max_length`."""

    stride: int = Field(default=128, ge=1)
    """Tokens of context by which the next window begins later; the rest of a window is shared with it."""
    question: int = Field(default=64, ge=1)
    """Tokens of a question that are kept."""
    n_best: int = Field(default=20, ge=1, le=10_000)
    """Likeliest starts and ends of a window that are tried with each other."""
    answer: int = Field(default=30, ge=1)
    """Tokens of the longest answer."""


def unless_none(default: Any = None) -> Any:
    """A field that a record only names where it is set: runs of before it existed are runs of the same setting."""
    return Field(default=default, exclude_if=lambda value: value is None)


def unless_whole() -> Any:
    """A share in (0, 1] that a record only names where it is less than 1, which is what runs before it had."""
    return Field(default=1.0, gt=0, le=1, exclude_if=lambda value: value == 1.0)


WINDOWS = {
    "smoke": (64, Windowing(stride=32, question=24)),
    "small": (128, Windowing(stride=64, question=48)),
    "full": (384, Windowing()),
}
"""Scale -> tokens of a window and what else a task of spans takes; `full` is BERT's own SQuAD script."""


Rate = Annotated[float, Field(ge=0, lt=1)]


Format = Literal["auto", "fp32", "bf16"]
"""A number format that can be asked for."""


class Training(Settings):
    """How `fit` trains: one optimiser step uses `accumulation` batches, whatever the number of processes."""

    epochs: Annotated[int, Budget()] = Field(default=3, ge=1, le=100_000)
    """Passes over the data."""
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Examples per batch."""
    batch_tokens: int | None = Field(default=None, ge=8, le=100_000_000)
    """Padded tokens per batch; replaces `batch_size` when set."""
    accumulation: int = Field(default=1, ge=1, le=1_000_000)
    """Batches per optimiser step."""
    lr: float = Field(default=2e-5, gt=0)
    """Peak learning rate."""
    optimizer: Literal["adamw", "lamb"] = Field(default="adamw", exclude_if=lambda value: value == "adamw")
    """LAMB (arXiv 1904.00962v5) scales the step of each weight matrix by the matrix's norm, for large batches."""
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    """The optimiser's decay rates of the two moments."""
    eps: float = Field(default=1e-8, gt=0)
    """The optimiser's epsilon."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled decay of weight matrices; biases and LayerNorms are not decayed."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the optimiser steps over which the learning rate rises linearly."""
    schedule: Literal["linear", "constant", "root"] = "linear"
    """What follows warm-up: linear decay to zero, the peak kept, or a fall to nine tenths of it as a square root."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; None does not clip."""
    clip_each: bool | None = unless_none()
    """Clip each tensor's gradient to that norm by itself, not the whole; a recipe sets it from a switch of its own."""
    precision: Format = "auto"
    """`auto` is bf16 where the device has it natively."""
    engine: Literal["auto", "eager", "graph", "compile"] = "auto"
    """How steps run: one operation after another, as CUDA graphs of whole steps, or compiled (dynamic shapes).
    `auto` is graphs on a GPU, and eager elsewhere."""

    @field_validator("precision", mode="before")
    @classmethod
    def _has_room(cls, value: Any) -> Any:
        if value == "fp16":
            raise PydanticCustomError("fp16", "auto, bf16 or fp32: fp16 overflows above 65504, which the states of a "
                                      "model without LayerNorm pass, and no loss is scaled here")  # fmt: skip
        return value

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of optimiser step `step` (from 0) of `steps`."""
        rise = int(self.warmup * steps)
        if step < rise:
            return self.lr * (step + 1) / (rise + 1)
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "root":
            return self.lr * (0.9 + 0.1 * math.sqrt(max(0, steps - step) / steps))
        return self.lr * max(0.0, (steps - step) / max(1, steps - rise))


def training_of(setting: Any) -> Training | None:
    """The training that a stage's setting says: itself, or a part of it of that name."""
    found = setting if isinstance(setting, Training) else getattr(setting, "training", None)
    return found if isinstance(found, Training) else None


class Group(Settings):
    """Parameters that `fit` trains at a rate of their own."""

    match: str = Field(min_length=1)
    """Glob over parameter names as `named_parameters` gives them (a tied one by its first name): `*.embeddings.*`."""
    rate: float = Field(ge=0, allow_inf_nan=False)
    """Share of the training's learning rate, at every step of its schedule; 0 freezes."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Decay of the group's weight matrices; None is the training's."""
