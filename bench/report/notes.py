"""What stands under the table: machines, software, budgets, looks at the dev set, failures, runs set aside."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.core.record import Record
from bench.core.spec import digest
from bench.report.gather import Model, machine_of
from bench.report.markdown import table
from bench.report.numbers import DASH


def environments(records: Sequence[Record]) -> str:
    """The machines, the software and the code that the records come from."""
    machines: dict[str, list[Record]] = defaultdict(list)
    software: dict[str, tuple[dict[str, str], set[str], int]] = {}
    code: Counter[tuple[str, bool]] = Counter()
    for record in records:
        machine = machine_of(record)
        machines[machine].append(record)
        packages = {str(k): str(v) for k, v in dict(record.environment.get("packages") or {}).items()}
        packages = {"python": str(record.environment.get("python", DASH)), **dict(sorted(packages.items()))}
        key = digest(packages)
        _, seen, number = software.get(key, (packages, set(), 0))
        software[key] = packages, seen | {machine}, number + 1
        code[record.code.commit, record.code.dirty] += 1
    parts = [table([_machine(name, machines[name]) for name in sorted(machines)], (), ("records",))]
    lists = [
        {
            "records": str(number),
            "machines": ", ".join(sorted(seen)),
            "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        }
        for _, (packages, seen, number) in sorted(software.items(), key=lambda item: (-item[1][2], item[0]))
    ]
    commits = [
        {"commit": commit[:12] or DASH, "uncommitted changes": "yes" if dirty else "no", "records": str(number)}
        for (commit, dirty), number in sorted(code.items())
    ]
    return "\n\n".join([*parts, table(lists, (), ("records",)), table(commits, (), ("records",))])


def _machine(name: str, records: Sequence[Record]) -> dict[str, str]:
    """One row: every plain fact of the fingerprint, with all its values where runs differ (threads, for example)."""
    facts: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for key, value in record.environment.items():
            if key not in ("packages", "python", "machine", "machine_facts"):
                facts[key].add(_plain(value))
    text = "; ".join(f"{key} {' or '.join(sorted(values))}" for key, values in sorted(facts.items()))
    return {"machine": name, "records": str(len(records)), "facts": text}


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
        for record in model.used:
            data = record.data
            source = f"{data.source}{' (partial)' if data.partial else ''}" if data else DASH
            given = _plain(record.hyper.get("budget") or {})
            groups[(model.scale, model.paper, model.label, given, _plain(record.overrides), source)].append(record)
    names = ("scale", "paper", "variant", "budget", "overrides", "data")
    rows = [
        dict(zip(names, key, strict=True))
        | {"rows": _rows(members), "runs": str(len(members)), "dev looks per run": _span(members)}
        for key, members in groups.items()
    ]
    return table(rows, (*names, "rows", "runs", "dev looks per run"), ("runs", "dev looks per run"))


def _rows(records: Iterable[Record]) -> str:
    """`cola: train 8,551, validation 1,043; rte: ...`"""
    found = {
        record.spec.task: ", ".join(f"{split} {n:,}" for split, n in sorted(record.data.rows.items()))
        for record in records
        if record.data
    }
    return "; ".join(f"{task}: {rows}" for task, rows in sorted(found.items())) or DASH


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
            (m.aside, "another setting of the same task has more seeds, or as many and newer"),
        )
        if runs
    ]  # fmt: skip
    return table(rows, (), ("runs",)) if rows else "None: the table shows every run that ended well."
