"""`bench regress`: what came after a baseline against the baseline, series by series."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Json
from bench.cli.output import complain, say, say_json

if TYPE_CHECKING:
    from bench.report.regressions import Result

EVERY_CODE = "Compare series whose stage code changed, too; marked."


def command(
    baseline: Annotated[
        str,
        typer.Option("--baseline", help="A baseline's name or file, or a folder of records; else the promoted one."),
    ] = "",
    results: Annotated[str | None, typer.Option("--results", help="The records to judge: results by default.")] = None,
    reports: Annotated[str, typer.Option("--reports", help="Where regressions.md is written.")] = "reports",
    scale: Annotated[list[str] | None, typer.Option("--scale", help="smoke, small, full or shape; repeatable.")] = None,
    across_code: Annotated[bool, typer.Option("--across-code", help=EVERY_CODE)] = False,
    confirm: Annotated[
        bool | None,
        typer.Option("--confirm/--no-confirm", help="Measure suspects anew. By default sessions and smoke runs are; "
                     "--confirm makes runs at full scale, too, where records hold all that they need."),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Whether anything is worse than before. Exit 0 no, 1 yes, 3 nothing comparable or a run failed, 4 unsure."""
    from bench.report import regressions

    folder = results or "results"
    result = regressions.judge(regressions.read(Path(folder), baseline, scale or ()), folder, across_code)
    if confirm is not False and confirmed(result, confirm is True):
        result = regressions.judge(regressions.read(Path(folder), baseline, scale or ()), folder, across_code)
    for note in result.notes:
        complain(note)
    regressions.write(result, Path(reports))
    if as_json:
        say_json(regressions.as_json(result))
    else:
        for line in regressions.lines(result):
            say(line)
    raise typer.Exit(result.compared.exit_code)


def confirmed(result: Result, everything: bool) -> bool:
    """Measure anew what this machine can of the suspects; whether anything was."""
    from bench.core import environment
    from bench.report.settle import settle

    done: set[tuple[str, ...]] = set()
    for finding in result.compared.findings:
        todo = settle(finding, result.results) if finding.decision.verdict == "suspect" else None
        if todo is None or not todo.complete or todo.command in done:
            continue
        run = finding.pair.now[-1]
        machine = environment.fingerprint(run.environment.facts.get("threads"))["machine"]
        if finding.pair.subject.machine and machine != run.environment.facts.get("machine"):
            complain(f"{finding.pair.subject.variant} cannot be timed anew here: another machine, {machine}")
            continue
        if run.scale == "full" and not everything:
            continue
        complain(f"measured anew: {todo.text}")
        if code := measured(todo.command):
            complain(f"that ended with exit code {code}")
        done.add(todo.command)
    return bool(done)


def measured(command: Sequence[str]) -> int:
    """Run a command of the bench; its exit code."""
    return subprocess.run([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, check=False).returncode
