"""The commands. Results go to stdout, log and progress to stderr; a command's modules are imported when it runs."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.core.errors import BenchError

app = typer.Typer(
    name="bench", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Re-runs the papers that compressed BERT and says of every printed number whether it holds.",
)  # fmt: skip

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
Set = Annotated[list[str] | None, typer.Option("--set", help="field=value; changes a hyper-parameter; recorded.")]
Results = Annotated[str | None, typer.Option("--results", help="Where records are written: results by default.")]
ScaleOrFile = Annotated[str, typer.Argument(help="smoke, small, full, or a profile FILE.toml.")]


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def _main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _complain(text: str) -> None:
    if _main_process():
        sys.stderr.write(f"bench: {text}\n")


def _json(content: Any) -> None:
    _say(json.dumps(content, indent=1, ensure_ascii=False))


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else _shown(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _shown(value: Any) -> str:
    """A cell; numbers with digits enough to read (--json has them all)."""
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value)


def _plan(scale: str, **given: Any):
    _quiet_libraries()
    from bench.run import plan, request

    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    given["set"] = request.parse_set(list(given.pop("set") or ()))
    return plan.make(request.read(scale, given))


@app.command("list")
def list_papers(as_json: Json = False) -> None:
    """Papers, variants, tasks, scales; what is broken."""
    _quiet_libraries()
    from bench.core import registry
    from bench.core.spec import SCALES
    from bench.data.tasks import TASKS

    papers, broken = registry.find()
    listed: dict[str, Any] = {}
    for name in sorted(papers):
        if not registry.has_recipe(name):
            listed[name] = {"variants": {}, "tasks": [], "recipe": False}
            continue
        try:
            recipe = registry.load_recipe(name)
        except BenchError as error:
            broken[name] = str(error)
            continue
        listed[name] = {"variants": dict(recipe.variants), "tasks": list(recipe.tasks), "recipe": True}
    if as_json:
        return _json({"papers": listed, "tasks": sorted(TASKS), "scales": list(SCALES), "broken": broken})
    for name, entry in listed.items():
        _say(f"{name}  (tasks: {', '.join(entry['tasks']) or 'claims only, no recipe yet'})")
        for variant, says in entry["variants"].items():
            _say(f"  {variant:28} {says}")
    for name, reason in sorted(broken.items()):
        _say(f"{name}  BROKEN: {reason}")
    _say(f"scales: {', '.join(SCALES)}")


@app.command()
def claims(
    paper: Papers = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="quality, retention, size, flops, speed, cost, ordering.")
    ] = None,
    verdict: Annotated[
        str | None, typer.Option("--verdict", help="A verdict, or inside, above, below, across.")
    ] = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """The printed claims, each with its present verdict."""
    from bench.report.ledger import judged_rows

    rows = judged_rows(Path(results or "results"), tuple(paper or ()), kind, verdict)
    if as_json:
        return _json(rows)
    _table([{k: row[k] for k in ("id", "printed", "source", "measured", "verdict", "why")} for row in rows])
    ours = sum(row["transcription"] == "ours" for row in rows)
    _say(f"{len(rows) - ours} claims" + (f", and {ours} of ours that nobody printed" if ours else ""))


@app.command("plan")
def show_plan(
    scale: ScaleOrFile = "smoke", paper: Papers = None, variant: Variants = None, task: Tasks = None,
    seeds: Seeds = None,
    teacher: Teacher = None, data: DataOption = None, corpus: Corpus = None, limit: Limit = None,
    dev_limit: DevLimit = None, set_: Set = None, results: Results = None, as_json: Json = False,
) -> None:  # fmt: skip
    """The jobs and their expected cost; runs nothing."""
    plan = _plan(
        scale, paper=paper, variant=variant, task=task, seeds=seeds, teacher=teacher, data=data, corpus=corpus,
        limit=limit, dev_limit=dev_limit, set=set_, results=results,
    )  # fmt: skip
    from bench.run.forecast import forecast

    rows, total = forecast(plan)
    if as_json:
        return _json({"jobs": rows, "total": total})
    _table([{**row, "stages": ", ".join(f"{s['name']}{' (cached)' if s['cached'] else ''}" for s in row["stages"])}
            for row in rows])  # fmt: skip
    _say("  ".join(f"{name}: {value}" for name, value in total.items()))


@app.command()
def run(
    scale: ScaleOrFile = "smoke", paper: Papers = None, variant: Variants = None, task: Tasks = None,
    seeds: Seeds = None,
    teacher: Teacher = None, data: DataOption = None, corpus: Corpus = None, limit: Limit = None,
    dev_limit: DevLimit = None, set_: Set = None, results: Results = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Run the jobs that are not done yet."""
    plan = _plan(
        scale, paper=paper, variant=variant, task=task, seeds=seeds, teacher=teacher, data=data, corpus=corpus,
        limit=limit, dev_limit=dev_limit, set=set_, results=results,
    )  # fmt: skip
    from bench.run import execute

    records = execute.run(plan)
    if as_json:
        _json([record.model_dump(mode="json") for record in records])
    else:
        _table([_line(record) for record in records])
    failed = [record for record in records if record.status == "failed"]
    if failed:
        _complain(f"{len(failed)} of {len(records)} runs failed; the first: {failed[0].reason}")
        raise typer.Exit(1)


def _line(record: Any) -> dict[str, Any]:
    scores = [f"{m.metric} {m.value:.4f}" for m in record.measurements if m.unit == "fraction" and m.value is not None]
    return {"paper": record.spec.paper, "variant": record.spec.variant, "task": record.spec.task,
            "seed": record.spec.seed, "status": record.status, "scores": ", ".join(scores) or record.reason,
            "seconds": round(record.seconds, 1)}  # fmt: skip


@app.command()
def measure(
    variant: Variants = None,
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes: 1,32 by default, 1 with --quick.")] = "",
    length: Annotated[int, typer.Option("--length", help="Word pieces per example.")] = 128,
    threads: Annotated[str, typer.Option("--threads", help="Threads, for example 1,2; all cores by default.")] = "",
    backend: Annotated[
        str,
        typer.Option("--backend", help="Of eager,compile,bf16,int8,onnxruntime,onnxruntime-int8; several with commas."),
    ] = "eager",
    quick: Annotated[bool, typer.Option("--quick", help="A short protocol, recorded as reduced.")] = False,
    until: Annotated[str, typer.Option("--until", help="Go on until ratios are this narrow, for example 3%.")] = "",
    minutes: Annotated[float, typer.Option("--minutes", help="The most that --until may take per batch size.")] = 10.0,
    results: Results = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Size, FLOPs and speed at paper size, against BERT-base."""
    _quiet_libraries()
    from dataclasses import replace

    from bench.measure.session import FULL, QUICK
    from bench.run import shapes

    effort = replace(QUICK if quick else FULL, until=_share(until), minutes=minutes)
    batches = _numbers("--batch", batch or ("1" if quick else "1,32"))
    request = shapes.Request(
        tuple(variant or ()), batches, length, _numbers("--threads", threads),
        tuple(backend.split(",")), effort, results or "results",
    )  # fmt: skip
    records = shapes.run(request)
    if as_json:
        return _json([record.model_dump(mode="json") for record in records])
    _table([row for record in records for row in shapes.lines(record)])


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from bench.core.errors import SpecError

    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise SpecError(f"{option} is not a list of numbers", found=text, expected="for example 1,32") from None


def _share(text: str) -> float | None:
    from bench.core.errors import SpecError

    if not text:
        return None
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        raise SpecError("--until is not a share", found=text, expected="for example 3%") from None


@app.command()
def report(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a report is stale.")] = False,
    scale: Annotated[str, typer.Option("--scale", help="smoke writes reports/smoke; else small, full and shape.")] = "",
    results: Results = None,
    reports: Annotated[str, typer.Option("--reports", help="Where reports are written.")] = "reports",
) -> None:
    """Write the reports from records and claims."""
    from bench.report import build

    root, out = Path(results or "results"), Path(reports)
    if check:
        stale = build.stale(root, out, scale)
        for path in stale:
            _say(f"stale: {path}")
        raise typer.Exit(1 if stale else 0)
    for path in build.write(root, out, scale):
        _say(str(path))


@app.command()
def export(run_id: str, folder: str, results: Results = None) -> None:
    """Write a run's model to a folder, with a card."""
    _quiet_libraries()
    from bench.run.exports import export_run

    _say(str(export_run(Path(results or "results"), run_id, Path(folder))))


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine can run, and what is missing."""
    from bench.cli.doctor import checks

    rows = checks()
    if as_json:
        return _json(rows)
    for row in rows:
        _say(
            f"{'ok     ' if row['ok'] else 'missing'} {row['name']:28} {row['found']}"
            + (f"  -> {row['fix']}" if row["fix"] else "")
        )


def _quiet_libraries() -> None:
    """One owner of progress and log: libraries keep to warnings and draw no bars."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import transformers

    transformers.utils.logging.disable_progress_bar()


def main() -> None:
    """Run a command; an error the user can act on is one line on stderr and its exit code."""
    if not _main_process():
        sys.stdout = io.StringIO()  # of several processes one speaks
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger().setLevel(logging.WARNING if _main_process() else logging.CRITICAL)
    logging.getLogger("bench").setLevel(logging.INFO if _main_process() else logging.CRITICAL)
    try:
        code = app(standalone_mode=False)
    except BenchError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _complain("stopped; the same command goes on where it was")
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):  # a usage error of the command line, nothing else
            raise
        _complain(f"{' '.join(error.format_message().split())}; next: bench --help")  # pyright: ignore
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
