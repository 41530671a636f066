"""What the user asked for, from the command line or a profile (TOML), as one frozen value."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.core.errors import SpecError
from bench.core.spec import SCALES

SEEDS = {"smoke": 1, "small": 3, "full": 5}
"""Seeds per run when none are asked for; the papers' own aggregation is a median of 5."""


class Request(BaseModel):
    """Selectors and budgets of `bench plan` and `bench run`; a profile has the same keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: str = "smoke"
    paper: tuple[str, ...] = ()
    variant: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    seeds: int | None = Field(default=None, ge=1)
    teacher: str | None = None
    data: str | None = None
    corpus: str | None = None
    limit: int | None = Field(default=None, ge=1)
    """Training rows per task at most."""
    dev_limit: int | None = Field(default=None, ge=1)
    """Rows per scored split at most."""
    labels: int | None = Field(default=None, ge=1)
    """Training rows per task that keep their label, for teacher and student alike; the others are unlabelled text."""
    unlabelled: str | None = None
    """A file of further unlabelled text: an example a line, the two texts of a pair parted by a tab."""
    set: dict[str, str] = Field(default_factory=dict)
    results: str = "results"
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """How often a long stage is checkpointed."""

    @property
    def source(self) -> str:
        """Where data comes from: made-up at smoke scale, the hub elsewhere, unless said."""
        return self.data or ("synthetic" if self.scale == "smoke" else "hub")

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds or SEEDS[self.scale]))


def read(scale_or_file: str, given: dict[str, Any]) -> Request:
    """A request from a scale name or a profile file, with the command line's selectors on top.

    Raises SpecError for an unknown scale, a missing profile, a wrong key or a wrong value.
    """
    content: dict[str, Any] = {}
    where = "command line"
    if scale_or_file.endswith(".toml"):
        where = scale_or_file
        try:
            content = tomllib.loads(Path(scale_or_file).read_text())
        except FileNotFoundError as error:
            raise SpecError("the profile does not exist", where=where, fix="check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise SpecError("the profile cannot be read", where=where, found=error, expected="a TOML file") from error
        if isinstance(content.get("set"), dict):
            content["set"] = {name: str(value) for name, value in content["set"].items()}
    else:
        content["scale"] = scale_or_file
    content |= {name: value for name, value in given.items() if value not in (None, (), {}, [])}
    try:
        request = Request.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(
            "the request does not fit", where=f"{where}: {'.'.join(map(str, first['loc']))}",
            found=repr(first.get("input")), expected=f"one of {', '.join(Request.model_fields)}"
            if first["type"] == "extra_forbidden" else first["msg"],
        ) from error  # fmt: skip
    if request.scale not in SCALES:
        raise SpecError("unknown scale", where=where, found=request.scale, expected=f"one of {', '.join(SCALES)}",
                        fix="for paper-sized shapes use bench measure")  # fmt: skip
    return request


def parse_set(pairs: list[str]) -> dict[str, str]:
    """`field=value` texts as a mapping. Raises SpecError for a text without an equals sign."""
    out = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise SpecError("--set takes field=value", found=pair, fix="for example --set fine_tune.lr=5e-5")
        out[name.strip()] = value.strip()
    return out
