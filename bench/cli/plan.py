"""`bench plan`: the jobs that a run would make, and what they will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.cli.options import (
    Corpus,
    DataOption,
    Deterministic,
    DevLimit,
    Jobs,
    Json,
    Labels,
    Limit,
    Out,
    Papers,
    Results,
    ScaleOrFile,
    Seeds,
    Set,
    Tasks,
    Teacher,
    Unlabelled,
    Variants,
    make_requests,
)
from bench.cli.output import quiet_libraries, say, say_json, say_table
from bench.core.errors import SpecError


def command(
    scale: ScaleOrFile = "smoke", paper: Papers = None, variant: Variants = None, task: Tasks = None,
    seeds: Seeds = None, teacher: Teacher = None, data: DataOption = None, corpus: Corpus = None, limit: Limit = None,
    dev_limit: DevLimit = None, labels: Labels = None, unlabelled: Unlabelled = None, set_: Set = None,
    results: Results = None, deterministic: Deterministic = False, jobs: Jobs = None, out: Out = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The jobs and what they will cost here. Runs nothing."""
    if out is not None and jobs is None:
        raise SpecError("--out is where scripts are written", where="--out", found=out, fix="add --jobs slurm or shell")
    requests = make_requests(
        scale, paper=paper, variant=variant, task=task, seeds=seeds, teacher=teacher, data=data, corpus=corpus,
        limit=limit, dev_limit=dev_limit, labels=labels, unlabelled=unlabelled, set=set_, results=results,
        deterministic=deterministic,
    )  # fmt: skip
    if jobs is not None:
        return _write_scripts(requests, jobs, Path(out or "jobs"), as_json)
    from bench.cli.planned import costs
    from bench.run.plan_summary import answer, duration, joined, sentence, warn

    found = [costs(request) for request in requests]
    rows, total = answer(joined([cost for cost, _ in found]), found[0][1])
    warn(total)
    if as_json:
        return say_json({"jobs": rows, "total": total})
    say_table([_row(row, duration(row["expected_s"])) for row in rows])
    say(sentence(total))


def _row(row: dict[str, Any], expected: str) -> dict[str, Any]:
    """A row of the table: what is cached is said beside its stage, the time as people say it."""
    stages = ", ".join(f"{s['name']}{' (cached)' if s['cached'] else ''}" for s in row["stages"])
    return {("expected" if name == "expected_s" else name): value
            for name, value in {**row, "stages": stages, "expected_s": expected}.items()}  # fmt: skip


def _write_scripts(requests: tuple[Any, ...], kind: str, folder: Path, as_json: bool) -> None:
    """The plan as scripts for another scheduler, and what to do with them."""
    from bench.run.scripts import KINDS, START, files, groups, write

    if kind not in KINDS:
        raise SpecError("no scripts are written for that", where="--jobs", found=kind, expected=" or ".join(KINDS))
    quiet_libraries()
    from bench.run import forecast, plan

    parts = [(made, forecast.costs(made)) for made in map(plan.make, requests)]
    contents = files(kind, groups(parts), parts[0][1]["gpu"])
    write(folder, contents)
    if as_json:
        return say_json({"folder": str(folder), "scripts": list(contents)})
    for name in contents:
        say(str(folder / name))
    say(f"next: bash {folder / START[kind]}")
