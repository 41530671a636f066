"""Whatever a record, a ledger or a name says is text in a report: no markup, no command, no formula."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import pytest

from bench.core.errors import SpecError
from bench.models.export import check_target
from bench.report import formats, markdown
from bench.report.page import Note, Page, Table

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert(1)</script> a|b `id` $(id) \\input{x} 50% #1 _x_ {y} ~ ^ & [l](javascript:x) ![i](u)"


def test_hostile_text_in_every_format() -> None:
    table = Table(("name", "why"), ((HOSTILE, "1"),), frozenset(), "hostile")
    shown = markdown.render(Page("p.md", HOSTILE, (Note(HOSTILE), table)))
    assert "<script" not in shown and "a\\|b" in shown and "\\`id\\`" in shown and "[l](javascript" not in shown
    [row] = csv.DictReader(io.StringIO(formats.csv(table)))
    assert row["name"] == HOSTILE, "quoted, and as it was"
    tex = formats.latex(table)
    body = next(line for line in tex.splitlines() if "script" in line)
    assert "\\input{" not in body and "\\textbackslash" in body and "50\\%" in body and "\\#1" in body
    assert "\\_x\\_" in body and "\\$(id)" in body and body.count(" & ") == 1, "one border between two cells"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_csv_is_a_formula(start: str) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    table = Table(("x",), ((text,), ("-3.2",), ("+1.5%",), ("-",)), frozenset(), "x")
    rows = [row[0] for row in csv.reader(io.StringIO(formats.csv(table), newline=""))][1:]
    assert len(rows) == 4 and rows[1:3] == ["-3.2", "+1.5%"]
    assert not [row for row in rows if row[0] in "=+-@\t\r" and not row[1:2].isdigit()]


def test_programs_are_started_without_a_shell() -> None:
    """A list of words each time; the texts of multiprocessing's pipes are between processes of one run."""
    wrong, files, started = [], 0, 0
    shells = {"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell", "execl", "spawnl"}
    for path in sorted((*(ROOT / "bench").rglob("*.py"), *(ROOT / "papers").rglob("*.py"))):
        files += 1
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if node.func.attr in shells and owner in ("os", "subprocess", "asyncio", "commands"):
                wrong.append(f"{path}:{node.lineno}")
            if owner == "subprocess" and node.func.attr in ("run", "Popen", "call", "check_call", "check_output"):
                started += 1
                text = isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)
                if text or any(one.arg == "shell" for one in node.keywords):
                    wrong.append(f"{path}:{node.lineno}")
    assert not wrong, wrong
    assert files >= 150 and started >= 3, (files, started)


def test_an_export_writes_over_nothing(tmp_path: Path) -> None:
    """Neither a file, nor a folder with anything in it, nor by way of a link."""
    model, mine = tmp_path / "cache" / "model", tmp_path / "mine"
    model.mkdir(parents=True)
    mine.mkdir()
    (mine / "x").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "to-folder").symlink_to(mine, target_is_directory=True)
    (tmp_path / "to-file").symlink_to(tmp_path / "file")
    (tmp_path / "to-model").symlink_to(model, target_is_directory=True)
    hidden, linked = tmp_path / "hidden", tmp_path / "linked"
    hidden.mkdir()
    linked.mkdir()
    (hidden / ".git").mkdir()
    (linked / "config.json").symlink_to(mine / "x")
    named = [tmp_path / name for name in ("file", "to-folder", "to-file", "to-model", "to-model/below")]
    targets = (mine, hidden, linked, model, *named)
    for target in targets:
        with pytest.raises(SpecError, match="export target"):
            check_target(target, model)
    assert (mine / "x").read_text() == (tmp_path / "file").read_text() == "mine" and len(targets) == 9
    assert check_target(tmp_path / "new", model) == tmp_path / "new"
