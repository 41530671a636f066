"""docs/workflow.yml, which users copy: its commands exist, and it does with each exit code what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bench.cli.main import COMMANDS, app

FILE = "docs/workflow.yml"


@pytest.fixture(scope="module")
def steps(root: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load((root / FILE).read_text(encoding="utf-8"))
    assert content[True].keys() == {"push", "pull_request"}, "YAML 1.1 takes `on` for true"
    (job,) = content["jobs"].values()
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    return job["steps"]


def commands(steps: list[dict[str, Any]]) -> list[list[str]]:
    """The words of each bench command, without what a shell makes of its end."""
    lines = [line.strip() for step in steps for line in step.get("run", "").splitlines()]
    return [shlex.split(re.split(r"\|\||&&|;", line)[0]) for line in lines if line.startswith("bench ")]


def test_each_command_and_option_exists(steps: list[dict[str, Any]]) -> None:
    found = commands(steps)
    assert sorted({words[1] for words in found}) == ["regress", "run"] and len(found) == 3
    group: Any = typer.main.get_command(app)
    for words in found:
        assert words[1] in COMMANDS
        command = group.get_command(None, words[1])
        known = {option for parameter in command.params for option in parameter.opts}
        given = [word.partition("=")[0] for word in words if word.startswith("-")]
        assert given and set(given) <= known, f"{words}: unknown {set(given) - known}"
        command.make_context(words[1], [word.replace("$SEEDS", "3") for word in words[2:]])


@pytest.mark.parametrize(
    ("code", "ends", "says"),
    [
        (0, 0, ""),
        (1, 1, "::error::something is worse"),
        (2, 2, "::error::there is no folder"),
        (3, 3, "::error::nothing"),
        (4, 0, "::warning::"),
    ],
)
def test_what_becomes_of_each_exit_code(
    steps: list[dict[str, Any]], tmp_path: Path, code: int, ends: int, says: str
) -> None:
    script = next(step["run"] for step in steps if step.get("name") == "Compare")
    fake = tmp_path / "bin" / "bench"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n[ {code} = 2 ] || echo "# Regressions" > reports/regressions.md\nexit {code}\n')
    fake.chmod(0o755)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "regressions.md").write_text("of another day\n")
    summary = tmp_path / "summary"
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": str(summary)},
    )  # fmt: skip
    assert done.returncode == ends, done.stderr
    assert says in done.stdout and bool(done.stdout) == bool(says)
    assert summary.exists() == (code != 2) and (code == 2 or summary.read_text() == "# Regressions\n")
