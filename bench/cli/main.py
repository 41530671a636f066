"""The command line: one file a command, imported only when it runs or when help lists it."""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from bench.cli.output import complain, end_output, say
from bench.core.errors import BenchError, Stopped
from bench.core.processes import is_main_process, trains_together
from bench.core.trouble import explained
from bench.train.stopping import stoppable

COMMANDS = (
    "list", "claims", "show", "choose", "plan", "run", "measure", "report", "regress", "baseline", "history",
    "export", "schema", "doctor",
)  # fmt: skip
"""In the order of the help; the file of each has its name."""


class Commands(TyperGroup):
    """Each command is the function `command` in the file of its name."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name)(importlib.import_module(f"bench.cli.{cmd_name}").command)
        return typer.main.get_command(single)


app = typer.Typer(
    name="bench", cls=Commands, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)  # fmt: skip


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Re-runs the papers that compressed BERT and says of every printed number whether it holds."""
    if context.invoked_subcommand is None:
        say(context.get_help())


def _usage(error: Any) -> str:
    """A usage error in one line, with the help of the command that was meant."""
    context = getattr(error, "ctx", None)
    told = " ".join(error.format_message().split()).rstrip(".")
    return f"{told}; next: {context.command_path if context else 'bench'} --help"


def main() -> None:
    """Run a command; an error the user can act on is one line on stderr and its exit code."""
    if not is_main_process():
        sys.stdout = io.StringIO()  # of several processes one speaks
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called
            setattr(sys, name, io.StringIO())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what no terminal can show
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    logging.raiseExceptions = False  # a log that nobody can read ends nothing
    logging.getLogger().setLevel(logging.WARNING if is_main_process() else logging.CRITICAL)
    logging.getLogger("bench").setLevel(logging.INFO if is_main_process() else logging.CRITICAL)
    try:
        with stoppable():
            code = app(standalone_mode=False)
            end_output()
    except Exception as error:
        _end(error)
    except (KeyboardInterrupt, Stopped) as stopped:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends it without a word
        told = "nothing is left half written; the same command starts again"
        if sys.argv[1:2] == ["run"]:
            told = "progress is saved; the same command goes on"
        complain(f"stopped: {told}")
        _leave(stopped.exit_code if isinstance(stopped, Stopped) else 130)
    if isinstance(code, int) and code:
        _leave(code)
    sys.exit(0)


def _end(error: Exception) -> NoReturn:
    """Exit with one line; an error that nobody can act on is raised again."""
    if isinstance(error, typer.Abort):
        complain("stopped; the same command goes on where it was")
        sys.exit(130)
    if hasattr(error, "format_message"):  # a usage error of the command line, nothing else
        complain(_usage(error))
        sys.exit(2)
    told = error if isinstance(error, BenchError) else explained(error)
    if told is None and trains_together():
        traceback.print_exception(error)
        _leave(1)
    if told is None:
        raise error
    complain(str(told))
    _leave(told.exit_code)


def _leave(code: int) -> NoReturn:
    """Exit with a failure. Of processes that train together each is gone at once: the launcher waits for all."""
    if trains_together():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
