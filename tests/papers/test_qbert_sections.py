"""What only Q-BERT's page shows: packed files, layers and the two figures, from fabricated outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.report import markdown
from bench.report.page import Number, Outcome, Page, figures
from bench.report.plots import svg
from papers.qbert import sections


def outcome(
    seed: int, score: float = 0.9, packed: float = 0.9, omega: tuple[float, ...] = (4.0, 2.0), int8: float = 0.85,
    task: str = "sst2", label: str = "qbert-w4", landscape: Sequence[float] = (2, 1, 2, 1, 0.5, 1, 2, 1, 2),
) -> Outcome:  # fmt: skip
    """A run with two layers, at 3 and 2 bits."""
    numbers = {
        ("accuracy", "validation"): Number(score, ()),
        ("size_bytes", "artefact"): Number(260e6, ()),
        ("size_bytes", "packed-file"): Number(26e6, ()),
        ("size_bytes", "packed-formula"): Number(25e6, ()),
        ("packed_score", "validation"): Number(packed, ()),
        ("packed_difference", "validation"): Number(2e-7, ()),
        ("int8_score", "validation"): Number(int8, ()),
        ("latency_s", "batch1-length128-int8"): Number(0.01, (0.01,)),
        ("speedup", "batch1-length128-int8"): Number(2.0, (2.0, 2.0)),
        ("landscape", "layer0"): Number(1.0, tuple(landscape)),
    }
    for layer, bits in enumerate((3, 2)):
        numbers |= {
            ("sensitivity", f"layer{layer}"): Number(omega[layer], ()),
            ("eigenvalue", f"layer{layer}"): Number(omega[layer], (omega[layer], -omega[layer])),
            ("residual", f"layer{layer}"): Number(0.02, (0.004, 0.036)),
            ("bits", f"layer{layer}"): Number(bits, ()),
        }
    return Outcome("small", label, task, "accuracy", "validation", seed, "xeon-2c", numbers)


def rendered(outcomes: Sequence[Outcome]) -> str:
    return markdown.render(Page("p.md", "Q-BERT", tuple(sections.sections(outcomes))))


def cells(text: str, *starts: str) -> list[str]:
    for line in text.splitlines():
        found = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and found[: len(starts)] == list(starts):
            return found
    raise AssertionError(f"no row {starts}")


def test_arithmetic_file_and_kernel_are_three_columns() -> None:
    assert cells(rendered([outcome(0), outcome(1)]), "small", "qbert-w4")[2:] == [
        "260.00", "26.00", "25.00", "10.0x", "int8", "2.00x \\[2.00, 2.00\\] on xeon-2c"]  # fmt: skip


def test_scores_of_packed_files_stand_by_task() -> None:
    """A kernel that happens to have the file's score does not make the file right."""
    wrong = outcome(1, packed=0.86, int8=0.86)
    text = rendered([outcome(0), wrong, outcome(0, score=0.5, packed=0.5, int8=0.5, task="rte")])
    assert cells(text, "small", "qbert-w4", "sst2")[3:] == [
        "2", "90.0 \\[90.0, 90.0\\]", "85.5 \\[79.1, 91.9\\]", "-4.5 \\[-10.9, 1.9\\]", "1 of 2", "2e-07"]  # fmt: skip
    assert cells(text, "small", "qbert-w4", "rte")[3:] == ["1", "50.0", "50.0", "0.0", "1 of 1", "2e-07"]


def test_layers_are_told_with_their_bits_by_seed() -> None:
    outcomes = [outcome(0), outcome(1, omega=(9.0, 2.0))]
    (found,) = sections.profiles(outcomes)
    assert [one.value for one in found.sensitivity] == pytest.approx([6.0, 2.0])
    assert found.negative == (0.5, 0.5) and found.bits == {"qbert-w4": {0: [3.0, 2.0], 1: [3.0, 2.0]}}
    text = rendered(outcomes)
    assert "](layers-qbert.svg)" in text and "](landscape-qbert.svg)" in text
    assert cells(text, "sst2", "1")[-2:] == ["3.6%", "2 2"]


def test_the_figures_are_drawn_from_plain_data() -> None:
    drawn = {figure.file: figure for figure in figures(sections.sections([outcome(0), outcome(1)]))}
    assert set(drawn) == {"layers-qbert.svg", "landscape-qbert.svg"}
    lines = svg(sections.draw_sensitivity(drawn["layers-qbert.svg"].data))
    assert lines.startswith("<?xml") and "sst2" in lines
    assert "sst2, layer 0, seed 0" in svg(sections.draw_landscape(drawn["landscape-qbert.svg"].data))


def test_variants_share_what_their_layers_showed() -> None:
    same = [outcome(0), outcome(1), outcome(1, label="half"), outcome(2, label="half")]
    (found,) = sections.profiles(same)
    assert sorted(found.measured) == [0, 1, 2] and found.bits["half"] == {1: [3.0, 2.0], 2: [3.0, 2.0]}
    text = rendered(same)
    assert cells(text, "sst2", "0")[-2:] == ["– 3 3", "3 3 –"] and cells(text, "sst2", "1")[-1] == "2 2 –"
    assert len(sections.profiles([outcome(0), outcome(0, omega=(1.0, 1.0), label="half")])) == 2


def test_the_landscape_is_that_of_the_lowest_seed() -> None:
    found = sections.landscape_figure([outcome(2), outcome(1)])
    assert found is not None and [panel["title"] for panel in found.data["panels"]] == ["sst2, layer 0, seed 1"]
    assert found.data["panels"][0]["loss"][1] == [1, 0.5, 1]


@pytest.mark.parametrize("samples", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_what_is_no_square_is_no_landscape(samples: tuple[float, ...]) -> None:
    assert sections.landscape_figure([outcome(0, landscape=samples)]) is None


def test_runs_without_layers_have_none_of_it() -> None:
    bare = Outcome("small", "qbert-w4", "sst2", "accuracy", "validation", 0, "m", {})
    assert sections.sections([bare]) == [] == sections.sections([])
