"""`bench plan`: the jobs that a run would make, and what they will cost."""

from __future__ import annotations

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
    make_requests,
)
from bench.cli.output import say, say_json, say_table


def command(
    scale: ScaleOrFile = "smoke", paper: Papers = None, variant: Variants = None, task: Tasks = None,
    seeds: Seeds = None, teacher: Teacher = None, data: DataOption = None, corpus: Corpus = None, limit: Limit = None,
    dev_limit: DevLimit = None, labels: Labels = None, unlabelled: Unlabelled = None, set_: Set = None,
    results: Results = None, as_json: Json = False,
) -> None:  # fmt: skip
    """The jobs and what they will cost on the device at hand; runs nothing."""
    requests = make_requests(
        scale, paper=paper, variant=variant, task=task, seeds=seeds, teacher=teacher, data=data, corpus=corpus,
        limit=limit, dev_limit=dev_limit, labels=labels, unlabelled=unlabelled, set=set_, results=results,
    )  # fmt: skip
    from bench.cli.planned import costs
    from bench.run.answer import answer, joined, warn

    found = [costs(request) for request in requests]
    rows, total = answer(joined([cost for cost, _ in found]), found[0][1])
    warn(total)
    if as_json:
        return say_json({"jobs": rows, "total": total})
    say_table([{**row, "stages": ", ".join(f"{s['name']}{' (cached)' if s['cached'] else ''}" for s in row["stages"])}
               for row in rows])  # fmt: skip
    say("  ".join(f"{name}: {value}" for name, value in total.items()))
