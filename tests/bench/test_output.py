"""What commands print is text: nothing in it is taken for a library's markup or a terminal's commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import output

ODD = ("/data/[bold]run[/bold]", "[/]", "[link=http://x]y[/link]", ":smile:", "a\\[b", "[red", "x[0]")


@pytest.mark.parametrize("text", ODD)
def test_tables_show_brackets_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.say_table([{f"name {text}": text, "value": 1.0}])
    out = capsys.readouterr().out
    assert out.count(text) == 2 and "\x1b" not in out


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_table([{"a": "x\x1b[2Jy\rz"}])
    output.complain("x\x1b]0;title\x07 y")
    output.say_facts([("a", "\x1b[31m")])
    out, err = capsys.readouterr()
    assert not {"\x1b", "\r", "\x07"} & set(out + err) and "x" in out and "title" in err


def test_a_name_that_no_terminal_can_show_is_shown_escaped(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['bench', 'schema', 'x\\udcff[red]']; from bench.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "[red]" in done.stderr and "Traceback" not in done.stderr
