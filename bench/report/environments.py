"""reports/environments.md: the machines, the software and the code that the records come from."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.judge.runs import SHAPE, Run
from bench.report.numbers import DASH
from bench.report.page import Link, Note, Page, Section, Table


def page(runs: Sequence[Run]) -> Page:
    """The page."""
    distinct: dict[int, list[Run]] = defaultdict(list)
    for run in runs:  # few environments, many runs: each is looked at once
        distinct[id(run.environment)].append(run)
    groups = list(distinct.values())
    back = Note(("What the records were made with. Back to ", Link("the first screen", "README.md"), "."))
    return Page("environments.md", "Environments", (
        back, Section("Machines", (_machines(groups),)), Section("Software", (_software(groups),)),
        Section("Code", (_code(runs),)),
    ))  # fmt: skip


def _machines(groups: Sequence[Sequence[Run]]) -> Table:
    numbers: Counter[str] = Counter()
    facts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for members in groups:
        environment = members[0].environment
        numbers[environment.machine] += len(members)
        for key, value in environment.facts.items():
            name = "models timed together" if key == "processes" and members[0].scale == SHAPE else key
            if key not in ("packages", "python", "machine"):
                facts[environment.machine][name].add(spelled(value))
    rows = [{"machine": name, "records": str(numbers[name]), "facts": _facts(facts[name])} for name in sorted(numbers)]
    return Table.of(rows, (), ("records",))


def _software(groups: Sequence[Sequence[Run]]) -> Table:
    numbers: Counter[str] = Counter()
    where: dict[str, set[str]] = defaultdict(set)
    papers: dict[str, set[str]] = defaultdict(set)
    for members in groups:
        facts = members[0].environment.facts
        packages = sorted((str(name), str(version)) for name, version in (facts.get("packages") or {}).items())
        text = ", ".join(
            f"{name} {version}" for name, version in [("python", str(facts.get("python", DASH))), *packages]
        )
        numbers[text] += len(members)
        where[text].add(members[0].environment.machine)
        papers[text] |= {f"{run.paper} ({run.scale})" for run in members}
    rows = [{"records": str(number), "papers": ", ".join(sorted(papers[text])),
             "machines": ", ".join(sorted(where[text])), "packages": text}
            for text, number in sorted(numbers.items(), key=lambda item: (-item[1], item[0]))]  # fmt: skip
    return Table.of(rows, (), ("records",))


def _code(runs: Sequence[Run]) -> Table:
    code = Counter((run.code.commit, run.code.dirty) for run in runs)
    rows = [{"commit": commit[:12] or DASH, "uncommitted changes": "yes" if dirty else "no", "records": str(number)}
            for (commit, dirty), number in sorted(code.items())]  # fmt: skip
    return Table.of(rows, (), ("records",))


def _facts(facts: Mapping[str, set[str]]) -> str:
    """Every plain fact of a fingerprint, with all its values where runs differ (precision, for example)."""
    return "; ".join(f"{key} {' or '.join(sorted(values, key=_order))}" for key, values in sorted(facts.items()))


def _order(value: str) -> tuple[float, str]:
    """Numbers by their size, words by their letters."""
    return (float(value), "") if value.isdecimal() else (math.inf, value)


def spelled(value: Any) -> str:
    """A JSON value in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {spelled(inner)}" for key, inner in sorted(value.items())) or "none"
    if isinstance(value, list | tuple):
        return " ".join(spelled(inner) for inner in value) or "none"
    return "none" if value in (None, "") else str(value)
