"""Reads a paper's claims.toml.

A ledger holds no verdicts: those are computed from records (`bench.judge.verdict`). What a claim means is checked here
(`bench.claims.meaning`), so that a ledger that loads can be judged.

A `[[table]]` names what the claims of one printed table share (split, source, conditions, ...); each `[[claim]]` says
its table's id and may overrule any of it. `teacher` names the variant that the table's other models learnt from: of
each of their scores the share of the teacher's becomes a claim, too. A `[[system]]` is a row of the no-free-lunch
table; `[unmade]` says of variants of its claims that no recipe makes (VARIANT, or VARIANT/TASK) what it would take;
`[caveat]` says of runs from before a setting came what is known to be wrong with them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bench.claims.claim import Caveats, Claim, Entry, Ledger, Paper, System, Tolerance, Unmade
from bench.claims.meaning import check
from bench.claims.retention import retentions
from bench.core import registry
from bench.core.errors import BenchError, ClaimError

PartType = TypeVar("PartType", bound=BaseModel)

SECTIONS = ("paper", "tolerance", "average", "table", "claim", "system", "unmade", "caveat")


def load_all() -> tuple[list[Ledger], dict[str, str]]:
    """The ledgers of all papers the registry finds, and the reason of each paper that is broken."""
    papers, broken = registry.find()
    ledgers = []
    for name in sorted(papers):
        try:
            ledgers.append(load(papers[name].folder, name))
        except BenchError as error:
            broken[name] = str(error)
    return ledgers, broken


def load(path: Path, name: str = "") -> Ledger:
    """The checked ledger of a paper folder, or of a claims.toml; `name` is the paper's where its folder has another.

    Raises: ClaimError naming file, claim and field, what was found and what was expected.
    """
    file = path / "claims.toml" if path.is_dir() else path
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ClaimError("the ledger does not exist", where=file, fix="add a claims.toml") from error
    except (ValueError, RecursionError, OSError) as error:  # of TOML, of UTF-8, of its depth, of the system
        raise ClaimError("the ledger cannot be read", where=file, found=error, expected="a TOML file") from error
    try:
        return _checked(content, file, name)
    except BenchError:
        raise
    except Exception as error:  # whatever a ledger holds that no check has thought of: it is broken, and no other
        raise ClaimError("the ledger cannot be understood", where=file, found=f"{type(error).__name__}: {error}",
                         fix="see the ledgers of other papers") from error  # fmt: skip


def _checked(content: dict[str, Any], file: Path, name: str) -> Ledger:
    ledger = _build(content, file, name or file.parent.name)
    if name and ledger.paper.name != name:
        raise ClaimError("the ledger is another paper's", where=f"{file}: paper: name", found=ledger.paper.name,
                         expected=name)  # fmt: skip
    check(ledger)
    return ledger


def _build(content: dict[str, Any], file: Path, name: str) -> Ledger:
    """The ledger as written, tables and task lists filled in; its fields have the right types, not yet a meaning."""
    unknown = sorted(content.keys() - set(SECTIONS))
    if unknown:
        raise ClaimError("an unknown section", where=file, found=unknown[0], expected=f"one of {', '.join(SECTIONS)}")
    paper = _parse(Paper, {"name": name, **_section(content, "paper", file)}, file, "paper")
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
    teachers: dict[str, str] = {}
    for place, raw in enumerate(_list(content.get("claim", []), file, "claim")):
        name = f"claim {raw.get('id', f'number {place + 1}')}"
        table = raw.get("table", "")
        if table and table not in tables:
            raise ClaimError("unknown table", where=f"{file}: {name}: table", found=table,
                             expected=f"one of {', '.join(tables)}")  # fmt: skip
        given = {**tables.get(table, {}), **raw}
        teacher = str(given.pop("teacher", ""))
        list_name = given.get("average", "")
        if list_name and list_name not in averages:
            raise ClaimError("unknown task list", where=f"{file}: {name}: average", found=list_name,
                             expected=f"one of {', '.join(averages) or 'none: no [average]'}")  # fmt: skip
        if "tasks" in given:
            raise ClaimError("a task list is named", where=f"{file}: {name}: tasks", found="tasks in the claim",
                             expected="average = NAME and a section [average]")  # fmt: skip
        claims.append(_parse(Claim, {**given, "tasks": averages.get(list_name, ())}, file, name))
        teachers[claims[-1].id] = teacher
    systems = tuple(_parse(System, raw, file, f"system {raw.get('name', f'number {place + 1}')}")
                    for place, raw in enumerate(_list(content.get("system", []), file, "system")))  # fmt: skip
    unmade = _parse(Unmade, _section(content, "unmade", file), file, "unmade").root
    caveats = _parse(Caveats, _section(content, "caveat", file), file, "caveat").root
    return Ledger(paper=paper, tolerances=tolerances, averages=averages, file=str(file), systems=systems, unmade=unmade,
                  caveats=caveats, claims=(*claims, *retentions(claims, teachers)))  # fmt: skip


def _tables(raw: object, file: Path) -> dict[str, dict[str, Any]]:
    """table id -> the fields that its claims share."""
    tables: dict[str, dict[str, Any]] = {}
    for entry in _list(raw, file, "table"):
        fields = dict(entry)
        name = str(fields.pop("id", ""))
        wrong = sorted(fields.keys() - Claim.model_fields.keys() - {"teacher"})
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
