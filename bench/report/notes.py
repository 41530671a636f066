"""What stands under the table: machines, software, budgets, looks at the dev set, failures, runs set aside."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.core.record import Record
from bench.report.gather import Model, machine_of
from bench.report.markdown import table
from bench.report.numbers import DASH


def environments(records: Sequence[Record]) -> str:
    """The machines, the software and the code that the records come from."""
    distinct: dict[str, list[Record]] = defaultdict(list)
    for record in records:  # few environments, many records: each is looked at once
        distinct[repr(record.environment)].append(record)
    machines: Counter[str] = Counter()
    facts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    software: Counter[str] = Counter()
    where: dict[str, set[str]] = defaultdict(set)
    for members in distinct.values():
        environment, machine = members[0].environment, machine_of(members[0])
        machines[machine] += len(members)
        for key, value in environment.items():
            if key not in ("packages", "python", "machine"):
                facts[machine][key].add(_plain(value))
        packages = sorted((str(name), str(version)) for name, version in (environment.get("packages") or {}).items())
        listed = [("python", str(environment.get("python", DASH))), *packages]
        text = ", ".join(f"{name} {version}" for name, version in listed)
        software[text] += len(members)
        where[text].add(machine)
    rows = [
        {"machine": name, "records": str(machines[name]), "facts": _facts(facts[name])} for name in sorted(machines)
    ]
    lists = [
        {"records": str(number), "machines": ", ".join(sorted(where[text])), "packages": text}
        for text, number in sorted(software.items(), key=lambda item: (-item[1], item[0]))
    ]
    code = Counter((record.code.commit, record.code.dirty) for record in records)
    commits = [
        {"commit": commit[:12] or DASH, "uncommitted changes": "yes" if dirty else "no", "records": str(number)}
        for (commit, dirty), number in sorted(code.items())
    ]
    return "\n\n".join(table(part, (), ("records",)) for part in (rows, lists, commits))


def _facts(facts: Mapping[str, set[str]]) -> str:
    """Every plain fact of a fingerprint, with all its values where runs differ (precision, for example)."""
    return "; ".join(f"{key} {' or '.join(sorted(values))}" for key, values in sorted(facts.items()))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in sorted(value.items())) or "none"
    if isinstance(value, list | tuple):
        return " ".join(_plain(inner) for inner in value) or "none"
    return "none" if value in (None, "") else str(value)


def budgets(models: Sequence[Model]) -> str:
    """What each variant was allowed: limits, overrides, rows, partial data; and how often it looked at the dev set."""
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for model in models:
        distinct: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
        for record in model.used:  # as plain text first: few budgets, many records
            data = record.data
            source = f"{data.source}{' (partial)' if data.partial else ''}" if data else DASH
            distinct[repr(record.hyper.get("budget")), repr(record.changes), source].append(record)
        for (_, _, source), members in distinct.items():
            given = _plain(members[0].hyper.get("budget") or {}), _plain(members[0].changes)
            groups[(model.scale, model.paper, model.label, *given, source)] += members
    names = ("scale", "paper", "variant", "budget", "overrides", "data")
    rows = [
        dict(zip(names, key, strict=True))
        | {"rows": _rows(members), "runs": str(len(members)), "dev looks per run": _span(members)}
        for key, members in groups.items()
    ]
    return table(rows, (*names, "rows", "runs", "dev looks per run"), ("runs", "dev looks per run"))


def _rows(records: Iterable[Record]) -> str:
    """`cola: train 8,551, validation 1,043; rte: ...`"""
    found = {record.spec.task: record.data.rows for record in records if record.data}
    parts = {task: ", ".join(f"{split} {n:,}" for split, n in sorted(rows.items())) for task, rows in found.items()}
    return "; ".join(f"{task}: {text}" for task, text in sorted(parts.items())) or DASH


def _span(records: Iterable[Record]) -> str:
    looks = sorted({record.dev_looks for record in records})
    return str(looks[0]) if len(looks) == 1 else f"{looks[0]}-{looks[-1]}"


def failures(models: Sequence[Model]) -> str:
    """Every failed run with its reason."""
    rows = [
        {
            "scale": model.scale, "paper": model.paper, "variant": model.label, "task": record.spec.task,
            "seed": str(record.spec.seed), "reason": record.reason or "none given", "record": record.id,
        }
        for model in models
        for record in model.failed
    ]  # fmt: skip
    return table(rows, (), ("seed",)) if rows else "No run failed."


def beside(models: Sequence[Model]) -> str:
    """Runs on disk that the table does not show, and why."""
    rows = [
        {"scale": m.scale, "paper": m.paper, "variant": m.label, "runs": str(len(runs)), "why not shown": why,
         "tasks": ", ".join(sorted({record.spec.task for record in runs}))}
        for m in models
        for runs, why in (
            (m.repeated, "a newer run of the same task, seed and setting exists"),
            (m.aside, "another setting of the same task is shown: scored on all rows, of more seeds, or newer"),
        )
        if runs
    ]  # fmt: skip
    return table(rows, (), ("runs",)) if rows else "None: the table shows every run that ended well."
