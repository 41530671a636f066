"""docs/scaling.md: its commands exist, and its table is what the recipes and the measured step times say today."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import capacity
import pytest
import typer

from bench.cli.main import COMMANDS, app


def test_each_command_and_option_exists(root: Path) -> None:
    text = (root / "docs" / "scaling.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("bench ")]
    assert {words[1] for words in found} == {"plan", "run"} and len(found) >= 6
    group: Any = typer.main.get_command(app)
    for words in found:
        assert words[1] in COMMANDS
        group.get_command(None, words[1]).make_context(words[1], words[2:])


def test_the_table_is_fresh(root: Path) -> None:
    text = capacity.PAGE.read_text(encoding="utf-8")
    assert capacity.page(text) == text, "stale; next: python tests/benchmarks/capacity.py"
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    papers = {path.parent.name for path in (root / "papers").glob("*/recipe.py")}
    assert {row.split(",")[0].removeprefix("| ") for row in rows} == papers and len(rows) >= 7
    assert "2,240 V100-hours" in text and "90 hours on 8 V100" in text


def test_the_hours_follow_from_a_measured_rate() -> None:
    rate = json.loads((Path(capacity.__file__).parent / "gpu-h100.json").read_text())["base_graph_steps"] * 32 * 128
    two = [capacity.Piece("shared", "a", 3600 * rate), capacity.Piece("own", "a", 3600 * rate),
           capacity.Piece("shared", "b", 3600 * rate), capacity.Piece("other", "b", 7200 * rate)]  # fmt: skip
    assert capacity.hours(two, rate) == pytest.approx(4.0), "a stage that two chains share is made once"
    assert capacity.hours(two, rate, 8) == pytest.approx(3.0), "a chain is not cut"


def test_a_stage_counts_its_rows_rounds_and_epochs() -> None:
    recipes = capacity.recipes.usable()
    recipe = recipes["bert"]
    found = list(capacity.pieces(recipe, recipe.variants["bert"], "bert"))
    rte = [piece for piece in found if piece.chain == "rte 0"]
    hyper = recipe.hyper(recipe.variants["bert"], "rte", "full", capacity.FACTS)
    length = min(128, hyper.max_length)
    assert [piece.tokens for piece in rte] == [pytest.approx(2490 * length * hyper.fine_tune.epochs)]
    assert len({piece.key for piece in found}) == len(found), "each seed is fine-tuned by itself"
