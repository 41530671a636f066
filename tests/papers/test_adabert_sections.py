"""What only AdaBERT's page shows, worked by hand from fabricated outcomes."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import RecordError
from bench.report import markdown
from bench.report.page import Number, Outcome, Page, figures
from bench.report.plots import svg
from papers.adabert import sections
from papers.adabert.names import INPUTS, KEPT, LENT, NODES, OPERATIONS
from papers.adabert.recipe import RECIPE

NODES_OF_A_CELL = (((1, "conv3"), (0, "zero")), ((0, "max-pool"), (2, "conv3")), ((2, "identity"), (3, "dilated7")))
UNDECIDED = (1.0,) * 8 + (0.1, 0.3)
"""Of nine edges, whose mean is 0.9, and of the depth."""


def outcome(
    score: float | None = 0.8, seed: int = 0, variant: str = "adabert", task: str = "sst2", cells: int = 3,
    nodes: Sequence[Sequence[tuple[int, str]]] = NODES_OF_A_CELL, entropy: tuple[float, ...] = UNDECIDED,
    layers: tuple[float, ...] = (), scale: str = "small", apart: str = "", **budget: Any,
) -> Outcome:  # fmt: skip
    """A run with a structure of 5 million parameters and a guarded node; without entropy it did not search."""
    numbers = {
        ("accuracy", "validation"): Number(score, ()),
        ("cells", "found"): Number(cells, ()),
        ("guarded_nodes", "found"): Number(1, ()),
        ("paper_parameters", "found"): Number(5e6 + 1e6 * seed, ()),
        ("paper_flops", "batch1-length128"): Number(0.5e9, ()),
    }
    for i, node in enumerate(nodes):
        for j, (source, operation) in enumerate(node):
            numbers["edge_source", f"node{i + 1}-edge{j + 1}"] = Number(source, ())
            numbers["edge_operation", f"node{i + 1}-edge{j + 1}"] = Number(OPERATIONS.index(operation), ())
    if entropy:
        numbers["entropy", "structure"] = Number(sum(entropy) / len(entropy), entropy)
    numbers |= {("probe_accuracy", f"layer{i + 1}"): Number(share, ()) for i, share in enumerate(layers)}
    return Outcome(scale, f"{variant} (parameters={cells}M)", task, "accuracy", "validation", seed, "xeon-2c", numbers,
                   variant, {"limit": 500, **budget}, apart)  # fmt: skip


def other(score: float, seed: int = 0, variant: str = "adabert-random", **more: Any) -> Outcome:
    """A run that did not search."""
    return outcome(score, seed, variant, entropy=(), **more)


def rendered(outcomes: Sequence[Outcome]) -> str:
    return markdown.render(Page("p.md", "AdaBERT", tuple(sections.sections(outcomes))))


def part(outcomes: Sequence[Outcome], title: str) -> str:
    """The section of that title, as text."""
    (found,) = [one for one in sections.sections(outcomes) if one.title == title]
    return markdown.render(Page("p.md", "AdaBERT", (found,)))


def rows(text: str, *starts: str) -> list[list[str]]:
    """The cells of the rows that start so, without these first ones."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row[len(starts) :] for row in found if row[: len(starts)] == list(starts)]


FOUND, CELL = "Structures that were found", "The cell of one network per task"
CONTROLS, LENT_TITLE = "Searched, random, without a teacher", "Structures on other tasks"
PROBES = "What the teacher's layers know"


def test_a_search_is_told_over_its_seeds() -> None:
    """0.8 and 0.9 have the mean 0.85 and a standard error of 0.05, at 12.706 for two seeds."""
    text = part([outcome(0.8), outcome(0.9, 1, cells=5, entropy=(*UNDECIDED[:8], 0.1, 0.5))], FOUND)
    assert rows(text, "small", "sst2", "adabert") == [
        ["2", "0:3 1:5", "5.50 (5.00 to 6.00)", "500", "0.90", "0.40 (0.30 to 0.50)", "2 of 6",
         "85.0 \\[21.5, 148.5\\]"],
        ["12", "4", "0", "0", "0", "0", "2", "0", "2", "2", "2"],
    ]  # fmt: skip


def test_a_search_of_one_depth_has_no_doubt_about_it() -> None:
    (row, _) = rows(part([outcome(cells=1, entropy=UNDECIDED[:9])], FOUND), "small", "sst2", "adabert")
    assert row[4:6] == ["0.90", "–"]


def test_networks_of_different_sizes_stand_together() -> None:
    """Their rows in other tables may be several: a size is among what tells suites apart."""
    first, second = outcome(0.8, cells=2), outcome(0.6, 1, cells=8)
    assert first.label != second.label
    (group,) = sections.groups([first, second])
    assert group.scores("adabert") == {0: 0.8, 1: 0.6} and group.name("adabert") == "adabert"


def test_a_seed_counts_once_and_only_where_its_series_speaks() -> None:
    (group,) = sections.groups([outcome(0.8), outcome(0.1)])
    assert group.scores("adabert") == {0: 0.8}
    text = part([outcome(0.8), replace(outcome(0.1, 1), speaks=False)], FOUND)
    assert [row[0] for row in rows(text, "small", "sst2", "adabert")] == ["1", "6"]


def test_a_variant_that_shares_a_search_has_no_line() -> None:
    shared = outcome(0.7, variant="adabert-scratch")
    alone = outcome(0.7, variant="adabert-beta-8", entropy=(*UNDECIDED[:9], 0.31))
    text = part([outcome(0.8), outcome(0.8, 1), shared, alone, other(0.6)], FOUND)
    assert [row[0] for row in rows(text, "small", "sst2")] == ["adabert", "adabert-beta-8"] * 2


def test_structures_are_read_from_the_record() -> None:
    assert sections.nodes_of(outcome()) == NODES_OF_A_CELL
    assert sections.nodes_of(Outcome("small", "adabert", "sst2", "", "", 0, "m", {})) is None
    assert sections.nodes_of(outcome(nodes=NODES_OF_A_CELL[:2])) is None


@pytest.mark.parametrize(("metric", "split", "value"), [
    ("edge_source", "node1-edge1", 2), ("edge_source", "node3-edge2", 5), ("edge_source", "node1-edge1", -1),
    ("edge_operation", "node1-edge1", 10), ("edge_operation", "node2-edge2", 0.5),
])  # fmt: skip
def test_a_structure_that_cannot_be_is_named(metric: str, split: str, value: float) -> None:
    wrong = outcome(seed=4)
    wrong = replace(wrong, numbers={**wrong.numbers, (metric, split): Number(value, ())})
    with pytest.raises(RecordError, match=f"adabert on sst2, seed 4, node {split[4]}"):
        sections.sections([wrong])


def drawn(outcomes: Sequence[Outcome], file: str) -> dict[str, Any]:
    (found,) = [figure for figure in figures(sections.sections(outcomes)) if figure.file == file]
    return dict(found.data)


def test_the_cell_is_that_of_the_median_seed() -> None:
    runs = [outcome(0.9, 0), outcome(0.7, 1), outcome(0.8, 2, cells=4), outcome(0.6, 3)]
    (panel,) = drawn(runs[:3], "cells-adabert.svg")["panels"]
    assert panel == {"title": "sst2, small, seed 2: K = 4", "nodes": NODES_OF_A_CELL}
    (panel,) = drawn(runs, "cells-adabert.svg")["panels"]
    assert panel["title"] == "sst2, small, seed 1: K = 3", "of two in the middle, the lower"
    text = part(runs, FOUND)
    assert f"### {CELL}" in text
    assert ("- sst2, small, seed 1: K = 3, score 70.0, the median of 4. Node 1 is zero of c(k−2) + conv3 of c(k−1). "
            "Node 2 is max-pool of c(k−2) + conv3 of node 1. Node 3 is identity of node 1 + dilated7 of node 2."
            ) in text  # fmt: skip


def test_three_tasks_are_drawn_and_all_are_told() -> None:
    runs = [outcome(0.8, seed, task=task) for task in ("sst2", "mrpc", "qnli", "rte")
            for seed in range(2 if task == "sst2" else 1)]  # fmt: skip
    titles = [panel["title"] for panel in drawn(runs, "cells-adabert.svg")["panels"]]
    assert titles == ["sst2, small, seed 0: K = 3", "mrpc, small, seed 0: K = 3", "qnli, small, seed 0: K = 3"]
    assert part(runs, FOUND).count(", the median of ") == 4
    assert CELL not in rendered([outcome(None)]), "a network without a score is in no middle"


def test_every_cell_can_be_drawn() -> None:
    """Every choice of two sources for each node, with every operation somewhere."""
    kinds = itertools.cycle(OPERATIONS)
    choices = [[[[source, next(kinds)] for source in pair] for pair in pairs] for pairs in itertools.product(
        *(itertools.combinations(range(INPUTS + i), KEPT) for i in range(NODES)))]  # fmt: skip
    assert len(choices) == 1 * 3 * 6
    text = svg(sections.draw_cells({"panels": [{"title": str(i), "nodes": nodes} for i, nodes in enumerate(choices)]}))
    assert text.startswith("<?xml")
    assert all(word in text for name in OPERATIONS for word in name.split("-"))


def test_controls_stand_beside_what_was_searched() -> None:
    """adabert 0.8, 0.9; random 0.7, 0.8, and a third seed that has no partner: both differences are -0.1."""
    runs = [outcome(0.8), outcome(0.9, 1), other(0.7), other(0.8, 1), other(0.3, 2), other(0.85, 0, "adabert-no-kd")]
    text = part(runs, CONTROLS)
    assert rows(text, "small", "sst2") == [
        ["adabert", "2", "85.0 ± 7.1", "–", "–", "5.50 (5.00 to 6.00)"],
        ["adabert-random", "3", "60.0 ± 26.5", "-10.0 \\[-10.0, -10.0\\]", "2", "6.00 (5.00 to 7.00)"],
        ["adabert-no-kd", "1", "85.0", "5.0", "1", "5.00"],
    ]
    assert CONTROLS not in rendered([outcome(0.8), outcome(0.9, variant="adabert-beta-0")])
    assert [row[3] for row in rows(part([other(0.7)], CONTROLS), "small", "sst2")] == ["–"]


def test_only_the_same_budget_is_compared() -> None:
    runs = [outcome(0.8), other(0.7), outcome(0.9, limit=100), other(0.6, variant="adabert-no-kd", limit=20)]
    assert [row[:4] for row in rows(part(runs, CONTROLS), "small", "sst2")] == [
        ["adabert (limit=500)", "1", "80.0", "–"],
        ["adabert-random (limit=500)", "1", "70.0", "-10.0"],
        ["adabert-no-kd (limit=20)", "1", "60.0", "–"],
    ]


def test_other_settings_stand_apart() -> None:
    found = sections.groups([outcome(0.8), outcome(0.7, apart="student.hidden=40")])
    assert [one.name("adabert") for one in found] == ["adabert", "adabert (student.hidden=40)"]


def test_structures_on_other_tasks_are_a_matrix() -> None:
    runs = [
        outcome(0.8), outcome(0.9, 1), outcome(0.7, task="mrpc"), other(0.75, variant="adabert-from-mrpc"),
        other(0.6, variant="adabert-from-sst2", task="mrpc"), other(0.8, variant="adabert-from-sst2"),
        other(0.5, variant="adabert-random", task="mrpc"), other(0.4, variant="adabert-from-mrpc", task="rte"),
    ]  # fmt: skip
    text = part(runs, LENT_TITLE)
    assert rows(text, "scale")[0] == ["searched on", "sst2", "mrpc", "rte"]
    assert rows(text, "small") == [
        ["sst2", "85.0 ± 7.1 (2)", "60.0 (1)", "–"],
        ["mrpc", "75.0 (1)", "70.0 (1)", "40.0 (1)"],
        ["rte", "–", "–", "–"],
        ["own, new weights", "80.0 (1)", "–", "–"],
        ["random", "–", "50.0 (1)", "–"],
    ]
    (panel,) = drawn(runs, "transfer-adabert.svg")["panels"]
    assert panel["columns"] == ["sst2", "mrpc", "rte"] and panel["rows"][3:] == ["own, new weights", "random"]
    assert panel["cells"] == [
        [pytest.approx([85, 0]), pytest.approx([60, -10]), None],
        [pytest.approx([75, -10]), pytest.approx([70, 0]), [pytest.approx(40), None]],
        [None, None, None], [pytest.approx([80, -5]), None, None], [None, pytest.approx([50, -20]), None],
    ]  # fmt: skip
    text = svg(sections.draw_transfer({"panels": [panel]}))
    assert text.startswith("<?xml") and all(f">{word}<" in text for word in ("75.0", "–", "own, new weights"))


def test_a_column_is_of_one_budget() -> None:
    few = other(0.75, variant="adabert-from-mrpc", limit=100)
    runs = [outcome(0.8), outcome(0.5, limit=100), few, replace(few, task="rte")]
    assert rows(part(runs, LENT_TITLE), "small", "sst2")[0][0] == "50.0 (1)"
    assert LENT_TITLE not in rendered([outcome(0.8), other(0.7)])


def test_probes_are_told_by_layer() -> None:
    """Variants share the probes of a seed; a teacher with fewer layers has dashes."""
    runs = [outcome(layers=(0.5, 0.7)), outcome(variant="adabert-beta-8", layers=(0.1, 0.1)),
            outcome(seed=1, layers=(0.6, 0.8)), outcome(task="rte", layers=(0.55,))]  # fmt: skip
    text = part(runs, PROBES)
    assert rows(text, "small") == [["rte", "1", "55.0", "–"], ["sst2", "2", "55.0", "75.0"]]
    assert PROBES not in rendered([outcome()])


def test_a_hostile_name_is_text() -> None:
    name = "a|b <img src=x> $\\frac$ [l](http://x)"
    runs = [outcome(0.8, seed, task=name, apart=apart) for seed in (0, 1) for apart in ("", name)]
    text = rendered([*runs, other(0.7, task=name)])
    assert "<img" not in text and "a\\|b" in text and not re.search(r"(?<!\\)\]\(http", text)
    assert "<img" not in svg(sections.draw_cells(drawn(runs, "cells-adabert.svg")))
    panel = {"title": name, "columns": [name], "rows": [name], "cells": [[[80.0, 0.0]]]}
    assert "<img" not in svg(sections.draw_transfer({"panels": [panel]}))


def test_runs_without_any_of_it_have_no_section() -> None:
    bare = Outcome("shape", "adabert-largest", "shape", "", "", 0, "m", {}, "adabert-largest")
    assert sections.sections([bare]) == [] == sections.sections([])


def test_every_variant_that_is_named_is_one() -> None:
    named = {sections.SEARCHED, *sections.CONTROLS, *LENT}
    assert named <= RECIPE.variants.keys() and len(named) == 10
    assert {name: one.borrows[1] for name, one in RECIPE.variants.items() if one.borrows} == LENT


def test_the_page_loads_no_torch() -> None:
    code = "import sys, papers.adabert.sections; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.stdout.strip() == "False"
