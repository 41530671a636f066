"""The section of the low-resource page: which runs stand in one line, from fabricated outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bench.report import markdown
from bench.report.page import Number, Outcome, Page, Table, figures
from bench.report.plots import svg
from papers.lowresource import sections


def outcome(
    score: float, labels: int | None, seed: int = 0, variant: str = "bilstm", task: str = "sst2", apart: str = "",
    **budget: Any,
) -> Outcome:  # fmt: skip
    numbers = {("accuracy", "validation"): Number(score, ())}
    whole = {"labels": labels, "limit": None, "training.epochs": 5, **budget}
    return Outcome("small", f"{variant} (labels={labels})", task, "accuracy", "validation", seed, "xeon-2c", numbers,
                   variant, whole, apart)  # fmt: skip


RUNS = [
    outcome(0.8, None), outcome(0.6, 100), outcome(0.7, 100, seed=1), outcome(0.75, 1000),
    outcome(0.5, 100, variant="bilstm-supervised"), outcome(0.7, 1000, variant="bilstm-supervised"),
]  # fmt: skip


def test_a_line_is_a_variant_by_the_number_of_its_labels() -> None:
    first, other = sections.lines(RUNS)
    assert (first.scale, first.task, first.name) == ("small", "sst2", "bilstm") and other.name == "bilstm-supervised"
    assert list(first.points) == [100, 1000, None], "all labels come last"
    assert first.points[100].value == pytest.approx(0.65) and first.points[100].n == 2
    bounds = first.points[100].interval()
    assert bounds is not None and bounds[0] == pytest.approx(0.65 - 12.706 * 0.05, abs=1e-3)
    assert [entry.value for entry in other.points.values()] == [0.5, 0.7]


@pytest.mark.parametrize("different", [
    {"limit": 500}, {"training.epochs": 6}, {"apart": "student.hidden=40"}, {"task": "cola"}, {"variant": "cnn"},
])  # fmt: skip
def test_what_differs_otherwise_is_another_line(different: dict[str, Any]) -> None:
    found = sections.lines([outcome(0.6, 100), outcome(0.7, 1000, **different)])
    assert len(found) == 2 and all(len(line.points) == 1 for line in found)
    assert len({(line.task, line.name) for line in found}) == 2, "their names tell them apart"
    assert sections.sections([outcome(0.6, 100), outcome(0.7, 1000, **different)]) == []


def test_a_line_names_only_what_tells_it_from_others() -> None:
    found = sections.lines([outcome(0.6, 100), outcome(0.7, 100, limit=5000), outcome(0.7, 100, variant="cnn")])
    assert [line.name for line in found] == ["bilstm (all rows)", "bilstm (5,000 rows)", "cnn"]


def test_series_that_speak_nowhere_else_are_points_too() -> None:
    """Of two series on a task the larger speaks in the other tables; here both may lie on a line."""
    (section,) = sections.sections([outcome(0.6, 100), outcome(0.7, 1000), replace(outcome(0.8, None), speaks=False)])
    table = section.blocks[-1]
    assert isinstance(table, Table) and len(table.rows) == 1 and "all labels" in table.columns


def test_a_record_without_the_number_had_all_labels() -> None:
    older = Outcome("small", "cnn", "sst2", "accuracy", "validation", 0, "m",
                    {("accuracy", "validation"): Number(0.9, ())}, "cnn", {"limit": None})  # fmt: skip
    newer = Outcome("small", "cnn", "sst2", "accuracy", "validation", 0, "m", older.numbers, "cnn",
                    {"limit": None, "labels": 10})  # fmt: skip
    (line,) = sections.lines([older, newer])
    assert list(line.points) == [10, None]


def rendered(outcomes: Sequence[Outcome]) -> str:
    return markdown.render(Page("p.md", "Low-resource", tuple(sections.sections(outcomes))))


def test_the_table_has_a_column_per_number() -> None:
    text = rendered([*RUNS, outcome(0.9, None, task="rte")])
    (head,) = [line for line in text.splitlines() if line.startswith("| scale")]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "scale", "task", "variant", "100 labels", "1,000 labels", "all labels"]  # fmt: skip
    (taught,) = [line for line in text.splitlines() if "bilstm-supervised" in line]
    assert [cell.strip() for cell in taught.strip("|").split("|")][3:] == ["50.0", "70.0", "–"]
    assert "rte" not in text, "a task with one number of labels shows no growth"


def test_the_figure_is_drawn_from_plain_data() -> None:
    tasks = ("cola", "rte", "mrpc", "qnli")
    more = [outcome(score, labels, task=task) for task in tasks for score, labels in ((0.5, 100), (0.6, None))]
    (figure,) = figures(sections.sections([*RUNS, *more]))
    assert figure.file == "labels-lowresource.svg" and figure.draw == "papers.lowresource.sections:draw"
    assert [panel["title"] for panel in figure.data["panels"]] == ["sst2, small", "cola, small", "mrpc, small"]
    assert figure.data["panels"][0]["lines"][1]["points"][0] == [100, 0.5, None, None]
    drawn = svg(sections.draw(figure.data))
    assert drawn.startswith("<?xml") and all(word in drawn for word in ("bilstm-supervised", "1,000", ">all<"))


def test_runs_without_scores_have_none_of_it() -> None:
    bare = Outcome("shape", "bilstm", "shape", "", "", 0, "m", {}, "bilstm", {})
    assert sections.sections([bare]) == [] == sections.sections([])
