"""Options that several commands share, and the plan that the selectors of `plan` and `run` mean."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
Papers = Annotated[list[str] | None, typer.Option("--paper", help="A paper; repeatable. All by default.")]
Variants = Annotated[
    list[str] | None, typer.Option("--variant", help="A variant; repeatable. The main one by default.")
]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="A task; repeatable.")]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Seeds per run: smoke 1, small 3, full 5 by default.")]
Teacher = Annotated[str | None, typer.Option("--teacher", help="A pre-trained BERT: a folder or a hub id.")]
DataOption = Annotated[str | None, typer.Option("--data", help="hub, synthetic, or a folder with TASK/SPLIT.parquet.")]
Corpus = Annotated[str | None, typer.Option("--corpus", help="Plain text (.txt, .parquet or a folder of them).")]
Limit = Annotated[int | None, typer.Option("--limit", help="Training rows per task at most; recorded.")]
DevLimit = Annotated[
    int | None, typer.Option("--dev-limit", help="Rows per scored split at most; recorded, and marked partial.")
]
Labels = Annotated[
    int | None, typer.Option("--labels", help="Training rows per task that keep their label; the rest is plain text.")
]
Unlabelled = Annotated[
    str | None, typer.Option("--unlabelled", help="More unlabelled text: a UTF-8 file, an example a line.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="field=value changes a hyper-parameter, paper:field=value of one paper; recorded."),
]
Results = Annotated[str | None, typer.Option("--results", help="The folder of records: results by default.")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="Start no run that would end later; the same command goes on.")
]
Workers = Annotated[
    str, typer.Option("--workers", help="Processes that make runs at the same time, or auto; 1 by default.")
]
Cluster = Annotated[
    str | None, typer.Option("--cluster", help="Make the runs on a Ray cluster: local, HOST:PORT or ray://HOST:PORT.")
]
Track = Annotated[str | None, typer.Option("--track", help="Tell losses and scores to tensorboard, wandb or mlflow.")]
Again = Annotated[bool, typer.Option("--again", help="Make finished runs again whose model is gone from the cache.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="The same bits again on a GPU, slower; recorded. No time is measured.")
]
Jobs = Annotated[str | None, typer.Option("--jobs", help="Write the plan as scripts: slurm or shell.")]
Out = Annotated[str | None, typer.Option("--out", help="Where --jobs writes its scripts: jobs by default.")]
ScaleOrFile = Annotated[str, typer.Argument(help="smoke, small, full, or a profile FILE.toml.")]


def make_requests(scale: str, *, deterministic: bool, **given: Any):
    """What a scale or profile and the selectors ask for, without torch: a request, or one for each part of a profile.

    Raises: SpecError for what does not fit.
    """
    from bench.core.steering import ask_for_deterministic
    from bench.run import request

    if deterministic:
        ask_for_deterministic()
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    given["set"] = request.parse_set(list(given.pop("set") or ()))
    return request.read(scale, given)
