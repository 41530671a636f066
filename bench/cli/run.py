"""`bench run`: makes the runs of a plan, each ending in one record."""

from __future__ import annotations

from typing import Any

import typer

from bench.cli.options import (
    Corpus,
    DataOption,
    DevLimit,
    Json,
    Labels,
    Limit,
    Papers,
    Results,
    ScaleOrFile,
    Seeds,
    Set,
    Tasks,
    Teacher,
    Unlabelled,
    Variants,
    make_plan,
)
from bench.cli.output import complain, say_json, say_table


def command(
    scale: ScaleOrFile = "smoke", paper: Papers = None, variant: Variants = None, task: Tasks = None,
    seeds: Seeds = None, teacher: Teacher = None, data: DataOption = None, corpus: Corpus = None, limit: Limit = None,
    dev_limit: DevLimit = None, labels: Labels = None, unlabelled: Unlabelled = None, set_: Set = None,
    results: Results = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Run the jobs that are not done yet."""
    plan = make_plan(
        scale, paper=paper, variant=variant, task=task, seeds=seeds, teacher=teacher, data=data, corpus=corpus,
        limit=limit, dev_limit=dev_limit, labels=labels, unlabelled=unlabelled, set=set_, results=results,
    )  # fmt: skip
    from bench.run import execute

    records = execute.run(plan)
    if as_json:
        say_json([record.model_dump(mode="json") for record in records])
    else:
        say_table([_line(record) for record in records])
    failed = [record for record in records if record.status == "failed"]
    if failed:
        complain(f"{len(failed)} of {len(records)} runs failed; the first: {failed[0].reason}")
        raise typer.Exit(1)


def _line(record: Any) -> dict[str, Any]:
    scores = [f"{m.metric} {m.value:.4f}" for m in record.measurements if m.unit == "fraction" and m.value is not None]
    return {"paper": record.spec.paper, "variant": record.spec.variant, "task": record.spec.task,
            "seed": record.spec.seed, "status": record.status, "scores": ", ".join(scores) or record.reason,
            "seconds": round(record.seconds, 1)}  # fmt: skip
