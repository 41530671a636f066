"""What the user asked for, from the command line or a profile (TOML), as one frozen value."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bench.core.errors import SpecError, wanted
from bench.core.spec import SCALES

SEEDS = {"smoke": 1, "small": 3, "full": 5}
"""Seeds per run when none are asked for; the papers' own aggregation is a median of 5."""


MOST_SEEDS = 1000
"""More than anybody waits for; what is larger is a slip, and its jobs would fill the memory."""


def _path(text: str) -> str:
    """A path with its `~` written out: where a shell has not done it, nothing else will."""
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError("a path whose home folder is known")
    if "\0" in path:
        raise ValueError("a path, which holds no NUL")
    return path


Rows = Annotated[int, Field(ge=1, lt=2**63)]
Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_path)]


class Request(BaseModel):
    """Selectors and budgets of `bench plan` and `bench run`; a profile has the same keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: str = "smoke"
    paper: tuple[Text, ...] = ()
    variant: tuple[Text, ...] = ()
    task: tuple[Text, ...] = ()
    seeds: int | None = Field(default=None, ge=1, le=MOST_SEEDS)
    teacher: PathText | None = None
    data: PathText | None = None
    corpus: PathText | None = None
    limit: Rows | None = None
    """Training rows per task at most."""
    dev_limit: Rows | None = None
    """Rows per scored split at most."""
    labels: Rows | None = None
    """Training rows per task that keep their label, for teacher and student alike; the others are unlabelled text."""
    unlabelled: PathText | None = None
    """A file of further unlabelled text: an example a line, the two texts of a pair parted by a tab."""
    set: dict[str, str] = Field(default_factory=dict)
    """field -> value for every run that has the field, or paper:field -> value for the runs of one paper."""
    results: PathText = "results"
    checkpoint_minutes: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """How often a long stage is checkpointed."""
    track: Text | None = None
    """The tracker that is told the losses; it shapes no result, and no record names it."""
    says: str = ""
    """What a part of a profile is for, in one line."""

    @property
    def source(self) -> str:
        """Where data comes from: made-up at smoke scale, the hub elsewhere, unless said."""
        return self.data or ("synthetic" if self.scale == "smoke" else "hub")

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds or SEEDS[self.scale]))

    def changes(self, paper: str) -> dict[str, str]:
        """field -> value for the runs of a paper; what was set for that paper alone wins."""
        everywhere = {name: value for name, value in self.set.items() if ":" not in name}
        named = (name.partition(":") for name in self.set)
        return everywhere | {field: self.set[f"{paper}:{field}"] for of, _, field in named if field and of == paper}


PART = "part"
"""The key of a profile's list of parts."""


def read(scale_or_file: str, given: dict[str, Any]) -> tuple[Request, ...]:
    """The requests of a scale name or a profile file, with the command line's selectors on top.

    A profile is one request; with [[part]] tables it is one for each of them, in their order, and what stands above
    them is true of all. Raises SpecError for an unknown scale, a missing profile, a wrong key or a wrong value.
    """
    given = {name: value for name, value in given.items() if value not in (None, (), {}, [])}
    if not scale_or_file.endswith(".toml"):
        return (_request({"scale": scale_or_file}, given, "command line"),)
    content = _profile(scale_or_file)
    parts = content.pop(PART, None)
    if parts is None:
        return (_request(content, given, scale_or_file),)
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise SpecError("the request does not fit", where=f"{scale_or_file}: {PART}", found=f"{parts!r:.80}",
                        expected="a table for each part", fix="write [[part]] above each")  # fmt: skip
    names = [f"{scale_or_file}: {PART} {number}" for number in range(1, len(parts) + 1)]
    return tuple(
        _request(_joined(content, _checked(part, name)), given, name)
        for part, name in zip(parts, names, strict=True)
    )  # fmt: skip


def _joined(content: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Both, the second one's values first; one change of a setting does not undo the others."""
    found = content | more
    if isinstance(content.get("set"), dict) and isinstance(more.get("set"), dict):
        found["set"] = content["set"] | more["set"]
    return found


def _request(content: dict[str, Any], given: dict[str, Any], where: str) -> Request:
    content = _joined(content, given)
    try:
        request = Request.model_validate(content)
    except ValidationError as error:
        raise _does_not_fit(error, where) from error
    if request.scale not in SCALES:
        raise _unknown_scale(request.scale, where)
    return request


def _profile(name: str) -> dict[str, Any]:
    """The content of a profile. Raises SpecError for one that is missing, or no TOML of this kind."""
    try:
        content = tomllib.loads(Path(name).expanduser().read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise SpecError("the profile does not exist", where=name, fix="check the path") from error
    except (ValueError, OSError, RuntimeError, RecursionError) as error:  # of TOML, of UTF-8, of the system, no home
        raise SpecError("the profile cannot be read", where=name, found=error, expected="a TOML file in UTF-8",
                        fix="correct that line") from error  # fmt: skip
    return _checked(content, name)


def _checked(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The same with its [set] flat. Raises SpecError for a value that would pass for another."""
    for key, value in content.items():
        if isinstance(value, bool):  # which would pass for a number
            raise SpecError("the request does not fit", where=f"{name}: {key}", found=str(value).lower(),
                            expected="no true or false", fix="give a number or a text")  # fmt: skip
    flat = {"set": _flat(content["set"], name)} if isinstance(content.get("set"), dict) else {}
    return content | flat


def _flat(table: Mapping[str, Any], where: str, before: str = "") -> dict[str, str]:
    """The changes of [set] by dotted name, whether a key is quoted ("a.b" = 1) or not (a.b = 1), as --set takes them.

    Raises SpecError for a field that stands there in both ways.
    """
    found: dict[str, str] = {}
    for key, value in table.items():
        name = before + key
        more = _flat(value, where, f"{name}.") if isinstance(value, dict) else {name: _text(value)}
        for double in found.keys() & more.keys():
            raise SpecError("a field stands there twice", where=f"{where}: set", found=double, fix="keep one of them")
        found |= more
    return found


def _text(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, list) else str(value)


def _does_not_fit(error: ValidationError, where: str) -> SpecError:
    """The first of what a request says wrongly, with the name that was meant, or what it takes."""
    first = error.errors()[0]
    names, key = list(Request.model_fields), ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, names, 1)
        return SpecError("the request does not fit", where=f"{where}: {key}", found=f"{first.get('input')!r:.80}",
                         expected=f"one of {', '.join(names)}", fix=f"write {close[0]}" if close else "")  # fmt: skip
    told = wanted(first["msg"])
    told += ', for example ["wnli"]' if first["type"] == "tuple_type" else ""
    return SpecError("the request does not fit", where=f"{where}: {key}", found=f"{first.get('input')!r:.80}",
                     expected=told)  # fmt: skip


def _unknown_scale(name: str, where: str) -> SpecError:
    close = difflib.get_close_matches(name, SCALES, 1)
    fix = f"write {close[0]}" if close else "for paper-sized shapes use bench measure"
    if os.path.isfile(name):
        fix = "call a profile NAME.toml"
    return SpecError("unknown scale", where=where, found=name, expected=f"one of {', '.join(SCALES)}", fix=fix)


def parse_set(pairs: list[str]) -> dict[str, str]:
    """`field=value` texts as a mapping. Raises SpecError for a text without an equals sign, or two for one field."""
    out: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals):
            raise SpecError("--set takes field=value", found=pair, fix="for example --set fine_tune.lr=5e-5")
        if name in out and out[name] != value:
            raise SpecError("--set gives a field two values", where=name, found=f"{out[name]} and {value}",
                            expected="one", fix="leave one out")  # fmt: skip
        out[name] = value
    return out
