"""Reads a paper's claims.toml: one claim per printed number, or per ordering of variants that a paper printed.

A ledger holds no verdicts: those are computed from records (`bench.judge.verdict`). What a claim means is checked here
(`bench.claims.meaning`), so that a ledger that loads can be judged.

A `[[table]]` names what the claims of one printed table share (split, source, conditions, ...); each `[[claim]]` says
its table's id and may overrule any of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bench.claims.units import AVERAGE, METRICS, TEST_SERVER, UNITS, Direction
from bench.core.errors import ClaimError

Kind = Literal["quality", "retention", "size", "flops", "speed", "cost", "ordering"]
Derive = Literal["none", "ratio_to", "percent_of", "difference_to"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Aggregation = Annotated[
    str, StringConstraints(pattern=r"^(median of [1-9]\d*|best of [1-9]\d*|mean|single|test server|none)$")
]
PartType = TypeVar("PartType", bound=BaseModel)
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tolerance(_Part):
    """The band around a printed value, fixed before any run; in the unit of records (0.01 is one point)."""

    absolute: float = Field(default=0.0, ge=0)
    relative: float = Field(default=0.0, ge=0)
    """A share of the printed value, as records would hold it."""
    why: Text

    def width(self, value: float) -> float:
        return self.absolute + self.relative * abs(value)


class Entry(_Part):
    """One task of an average or an ordering: the mean over its metrics and splits is what enters."""

    task: str
    metrics: tuple[str, ...] = Field(min_length=1)
    splits: tuple[str, ...] = Field(min_length=1)

    def cells(self) -> tuple[tuple[str, str, str], ...]:
        """(task, metric, split) of every number that enters."""
        return tuple((self.task, metric, split) for metric, split in self.names())

    def names(self) -> tuple[tuple[str, str], ...]:
        """(metric, split) of every number that enters, as records name it."""
        return tuple((metric, split) for metric in self.metrics for split in self.splits)


class Paper(_Part):
    """Where the claims are from."""

    name: Identifier
    title: Text
    arxiv: Annotated[str, StringConstraints(pattern=r"^(\d{4}\.\d{4,5}v\d+)?$")]
    """With its version; empty for a paper that is not there."""
    venue: Text
    code: Annotated[str, StringConstraints(pattern=r"^(https://\S+)?$")]
    commit: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{7,40})?$")]
    reference: bool = False
    """Whether its model is the teacher that the others are compared with."""
    released: dict[str, str] = Field(default_factory=dict)
    """variant -> the variant made from the authors' checkpoint, whose runs may answer its claims too."""


class Claim(_Part):
    """One printed number, or one ordering."""

    id: Identifier
    says: Text
    kind: Kind
    variant: Text
    """The model that the number is about; for an ordering, the best one."""
    made_by: str = ""
    """The paper whose recipe makes the variant, where it is not this one."""
    task: str = ""
    """Empty where the number belongs to no task, or to several."""
    split: str = ""
    metric: str
    value: float | None = None
    unit: str = ""
    source: Text
    table: str = ""
    transcription: Literal["seen", "second-hand", "recalled", "ours"]
    """How surely the print is known; `ours` where nobody printed it: a control that the method's idea implies."""
    aggregation: Aggregation
    conditions: str = ""
    device: str = ""
    """A piece of the name of the processor or GPU it was measured on; on any other one it can only be a proxy."""
    derive: Derive = "none"
    reference: str = ""
    """The id of the claim whose variant this number is relative to, or `teacher` where no number of it was printed."""
    seeds: int = Field(default=5, ge=1)
    """Runs that a verdict at tier exact or checkpoint takes."""
    metric_stated: bool = True
    """False where the source does not say which metric it printed, and ours is a reading of it."""
    order: tuple[str, ...] = ()
    """Variants from worst to best (kind ordering)."""
    average: str = ""
    """The name of the task list of an average or an ordering."""
    recompute: bool = True
    """False for an average whose own cells the source does not print."""
    misprint: str = ""
    """Why the printed average does not recompute from the printed cells."""
    out_of_reach: str = ""
    """What judging it would take, where no run here can."""
    tolerance: Tolerance | None = None
    tasks: tuple[Entry, ...] = ()
    """Filled in from `average`."""

    @property
    def is_printed(self) -> bool:
        """Whether a paper printed it: a control of ours is judged like a claim and counted as none."""
        return self.transcription != "ours"

    @property
    def maker(self) -> str:
        """The paper whose records are about this claim."""
        return self.made_by or self.id.partition(".")[0]

    @property
    def relative(self) -> bool:
        """Whether the number compares two models, so that a smaller pair of them can show it too."""
        return self.derive in ("ratio_to", "percent_of") or self.metric in RATIOS or self.kind == "retention"

    @property
    def on_test_server(self) -> bool:
        splits = {self.split, *(split for entry in self.tasks for split in entry.splits)}
        return any(split.startswith(TEST_SERVER) for split in splits)

    @property
    def better(self) -> Direction:
        """Which way is better, in the unit as printed."""
        if self.derive == "difference_to":
            return "match"
        way = METRICS[self.metric].better
        if way == "match" or not UNITS[self.unit].falling:
            return way
        return "lower" if way == "higher" else "higher"

    def number(self) -> float:
        """The printed value. Raises: ClaimError for an ordering, which has none."""
        if self.value is None:
            raise ClaimError("an ordering has no value", where=self.id)
        return self.value


TEACHER = "teacher"
"""The reference of a number that is relative to the own teacher, whose own number the source does not print."""

RATIOS = ("speedup", "parameters_ratio", "size_ratio", "flops_ratio")
"""Metrics that records already hold as ratios to the run's own teacher."""


class Ledger(_Part):
    """All claims of one paper; `claims.load` checks it."""

    paper: Paper
    tolerances: dict[str, Tolerance]
    averages: dict[str, tuple[Entry, ...]]
    claims: tuple[Claim, ...]
    file: str

    @cached_property
    def by_id(self) -> Mapping[str, Claim]:
        return {claim.id: claim for claim in self.claims}

    def tolerance(self, claim: Claim) -> Tolerance | None:
        """The claim's own, else that of its metric on its task (`accuracy@rte`), else that of its metric.

        A derived claim or a retention looks for its own name (`difference_to`, `retention`) instead of its metric's.
        """
        name = claim.metric
        if claim.derive == "difference_to":
            name = "difference_to"
        elif claim.kind == "retention":
            name = "retention"
        return claim.tolerance or self.tolerances.get(f"{name}@{claim.task}") or self.tolerances.get(name)

    def band(self, claim: Claim) -> tuple[float, float]:
        """Lowest and highest value that counts as the printed one, in the unit as printed."""
        tolerance = self.tolerance(claim)
        assert tolerance is not None, "checked when the ledger was loaded"
        unit = UNITS[claim.unit]
        value = unit.to_record(claim.number())
        width = tolerance.width(value)
        low, high = sorted((unit.to_print(value - width), unit.to_print(value + width)))
        return low, high


class Recomputed(_Part):
    """A printed average beside the one that its own cells give, both as printed."""

    printed: float
    recomputed: float
    fits: bool
    """Whether rounding of the cells and of the average explains the difference."""


def cells(ledger: Ledger, claim: Claim) -> dict[tuple[str, str, str], Claim]:
    """The printed cells of an average: the claims whose id is the same up to its last dot, by (task, metric, split)."""
    row = claim.id.rpartition(".")[0]
    wanted = {cell for entry in claim.tasks for cell in entry.cells()}
    found = {
        (other.task, other.metric, other.split): other
        for other in ledger.claims
        if other.id.rpartition(".")[0] == row and other.value is not None
    }
    return {cell: found[cell] for cell in wanted & found.keys()}


def recompute(ledger: Ledger, claim: Claim) -> Recomputed | None:
    """The average from the paper's own cells; None where the claim is no average, or its cells are not printed."""
    if claim.metric != AVERAGE or claim.derive != "none" or not claim.recompute or claim.kind == "ordering":
        return None
    known = cells(ledger, claim)
    means = []
    for entry in claim.tasks:
        values = [known[cell].number() for cell in entry.cells() if cell in known]
        if len(values) < len(entry.cells()):
            return None
        means.append(sum(values) / len(values))
    value = sum(means) / len(means)
    # Cells and average are rounded to one decimal: each is off by at most 0.05.
    return Recomputed(printed=claim.number(), recomputed=value, fits=abs(value - claim.number()) <= 0.1 + 1e-9)


def load(path: Path) -> Ledger:
    """The checked ledger of a paper folder, or of a claims.toml.

    Raises: ClaimError naming file, claim and field, what was found and what was expected.
    """
    from bench.claims.meaning import check

    file = path / "claims.toml" if path.is_dir() else path
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ClaimError("the ledger does not exist", where=file, fix="add a claims.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ClaimError("the ledger cannot be read", where=file, found=error, expected="a TOML file") from error
    ledger = _build(content, file)
    check(ledger)
    return ledger


def _build(content: dict[str, Any], file: Path) -> Ledger:
    """The ledger as written, tables and task lists filled in; its fields have the right types, not yet a meaning."""
    unknown = sorted(content.keys() - {"paper", "tolerance", "average", "table", "claim"})
    if unknown:
        raise ClaimError("an unknown section", where=file, found=unknown[0],
                         expected="paper, tolerance, average, table or claim")  # fmt: skip
    paper = _parse(Paper, {"name": file.parent.name, **_section(content, "paper", file)}, file, "paper")
    tolerances = {
        name: _parse(Tolerance, entry, file, f"tolerance {name}")
        for name, entry in _section(content, "tolerance", file).items()
    }
    averages = {
        name: tuple(_parse(Entry, entry, file, f"average {name}") for entry in entries)
        for name, entries in _section(content, "average", file).items()
    }
    tables = _tables(content.get("table", []), file)
    claims: list[Claim] = []
    for place, raw in enumerate(_list(content.get("claim", []), file, "claim")):
        name = f"claim {raw.get('id', f'number {place + 1}')}"
        table = raw.get("table", "")
        if table and table not in tables:
            raise ClaimError("unknown table", where=f"{file}: {name}: table", found=table,
                             expected=f"one of {', '.join(tables)}")  # fmt: skip
        given = {**tables.get(table, {}), **raw}
        list_name = given.get("average", "")
        if list_name and list_name not in averages:
            raise ClaimError("unknown task list", where=f"{file}: {name}: average", found=list_name,
                             expected=f"one of {', '.join(averages) or 'none: no [average]'}")  # fmt: skip
        if "tasks" in given:
            raise ClaimError("a task list is named", where=f"{file}: {name}: tasks", found="tasks in the claim",
                             expected="average = NAME and a section [average]")  # fmt: skip
        claims.append(_parse(Claim, {**given, "tasks": averages.get(list_name, ())}, file, name))
    return Ledger(paper=paper, tolerances=tolerances, averages=averages, claims=tuple(claims), file=str(file))


def _tables(raw: object, file: Path) -> dict[str, dict[str, Any]]:
    """table id -> the fields that its claims share."""
    tables: dict[str, dict[str, Any]] = {}
    for entry in _list(raw, file, "table"):
        fields = dict(entry)
        name = str(fields.pop("id", ""))
        wrong = sorted(fields.keys() - Claim.model_fields.keys())
        if not name or name in tables:
            raise ClaimError("a table needs an id of its own", where=f"{file}: table", found=repr(name))
        if wrong:
            raise ClaimError("unknown field", where=f"{file}: table {name}", found=wrong[0],
                             expected=f"one of {', '.join(Claim.model_fields)}")  # fmt: skip
        tables[name] = fields
    return tables


def _section(content: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    section = content.get(name, {})
    if not isinstance(section, dict):
        raise ClaimError("a section is not a table", where=f"{file}: {name}", found=type(section).__name__,
                         expected=f"[{name}]")  # fmt: skip
    return section


def _list(raw: object, file: Path, name: str) -> list[dict[str, Any]]:
    if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
        raise ClaimError("a section is not a list of tables", where=f"{file}: {name}", found=type(raw).__name__,
                         expected=f"[[{name}]]")  # fmt: skip
    return raw


def _parse(kind: type[PartType], raw: object, file: Path, name: str) -> PartType:
    """One section as its model; a field that does not fit becomes one ClaimError."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        known = ", ".join(kind.model_fields)
        expected = f"one of {known}" if first["type"] == "extra_forbidden" else first["msg"]
        found = "nothing" if first["type"] == "missing" else repr(first.get("input"))
        raise ClaimError("a field does not fit", where=f"{file}: {name}: {field}", found=found,
                         expected=expected) from error  # fmt: skip
