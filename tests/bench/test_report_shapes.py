"""What the report makes of sessions at shape: one row a variant, the sweep figure, sizes that are arithmetic only."""

from __future__ import annotations

from rendered import column, made, pages, row, shown

from bench.core.record import Record
from bench.report import curves
from bench.report.numbers import ratio_of
from bench.report.table import times


def at_shape(variant: str, speeds: dict[int, float], stamp: int, machine: str = "m", **changed: object) -> Record:
    """A session at shape: speed-ups by batch size."""
    entries = [made.measurement("size_bytes", "artefact", 4e6, "bytes"),
               *(made.measurement("latency_s", f"batch{batch}-length128", 0.01, "s") for batch in speeds),
               *(made.measurement("speedup", f"batch{batch}-length128", ratio, "ratio")
                 for batch, ratio in speeds.items())]  # fmt: skip
    spec = {"paper": "distilbert", "variant": variant, "task": "shape", "scale": "shape", "seed": 0}
    return made.record(variant=variant, scale="shape", stamp=stamp, machine=machine, data=None, teacher=None,
                       **({"measurements": entries, "spec": spec} | changed))  # fmt: skip


def test_sessions_at_shape_share_a_row_and_the_newest_full_one_of_a_condition_counts() -> None:
    records = [at_shape("distilbert", {1: 2.0, 32: 1.8}, 0), at_shape("distilbert", {1: 2.2}, 30),
               at_shape("distilbert", {1: 2.5}, 60, tier="reduced"),
               at_shape("distilbert", {1: 1.5}, 120, machine="n", tier="reduced")]  # fmt: skip
    (row,) = shown(records, {"bert"})
    assert row.label == "distilbert" and row.suite.machines() == ["m", "n"]
    found = {(machine, batch): row.speedup(machine, f"batch{batch}-length128") for machine in "mn" for batch in (1, 32)}
    assert [ratio and round(ratio.value, 9) for ratio in found.values()] == [2.2, 1.8, 1.5, None]


def test_the_sweep_figure_shows_what_was_timed_at_several_batch_sizes() -> None:
    records = [at_shape("distilbert", {1: 2.0, 8: 1.9, 32: 1.8}, 0), at_shape("distilbert", {1: 3.0}, 1, machine="n")]
    page = pages([*records, at_shape("distilbert-no-ce", {1: 9.0}, 2)])
    assert "](sweep-shape.svg)" in page["table.md"]
    drawing = page["sweep-shape.svg"]
    assert "On m<" in drawing and "On n<" not in drawing and " distilbert<" in drawing and "no-ce" not in drawing
    assert curves.sweep(shown(records[1:])) is None


def test_a_size_by_arithmetic_is_never_shown_as_one_on_disk() -> None:
    packed = at_shape("distilbert", {}, 0, measurements=[made.measurement("size_bytes", "packed", 66.4e6, "bytes")])
    assert column(pages([packed])["table.md"], "MB on disk", "distilbert", "distilbert") == "(66.4 by arithmetic)"


def test_a_model_with_packed_weights_weighs_those_on_the_first_screen() -> None:
    """As a stack is stored; its floats, which were timed, stand beside that in the table of all rows."""
    sizes = [made.measurement("size_bytes", "artefact", 57.4e6, "bytes"),
             made.measurement("size_bytes", "packed", 12e6, "bytes")]  # fmt: skip
    page = pages([at_shape("distilbert", {}, 0, measurements=sizes)])
    assert column(page["README.md"], "size", "DistilBERT corpus") == "12.0 MB by arithmetic"
    assert column(page["table.md"], "MB on disk", "distilbert", "distilbert") == "57.4; packed 12.0 by arithmetic"


def test_a_further_model_of_the_reference_paper_is_not_the_reference() -> None:
    reference, other = (at_shape("bert", speeds, 0, spec={"paper": "bert", "variant": variant, "task": "shape",
                                                          "scale": "shape", "seed": 0})
                        for variant, speeds in (("bert", {}), ("bert-tiny", {1: 100.0})))  # fmt: skip
    page = pages([reference, other])["table.md"]
    assert column(page, "speed-up, batch 1", "bert", "bert") == "1 (reference)"
    assert column(page, "speed-up, batch 1", "bert", "bert-tiny").startswith("100")
    assert "(reference)" not in "".join(row(page, "bert", "bert-tiny"))


def test_a_stand_in_for_an_unknown_architecture_is_marked() -> None:
    known, stand_in = at_shape("distilbert", {}, 0), at_shape("distilbert-no-ce", {}, 0, hyper={"guessed": "its width"})
    page = pages([known, stand_in])["table.md"]
    assert "## Size and speed: paper size, random weights" in page
    for name in ("distilbert", "distilbert-no-ce ‡"):
        assert row(page, "distilbert", name)


def test_the_table_tells_the_packed_file_and_its_kernels_apart_from_the_floats() -> None:
    extra = [made.measurement("size_bytes", "packed-file", 26e6, "bytes"),
             made.measurement("speedup", "batch1-length128-int8", 2.0, "ratio", (2.0, 2.0))]  # fmt: skip
    records = [made.record(seed=seed) for seed in (0, 1)]
    records = [Record.model_validate(r.model_dump() | {"measurements": [*r.model_dump()["measurements"], *extra]})
               for r in records]  # fmt: skip
    page = pages(records)["table.md"]
    assert column(page, "MB on disk", "distilbert", "distilbert") == "260.0; packed 26.0"
    assert column(page, "speed-up, batch 1", "distilbert", "distilbert").endswith("; int8 2.00x [2.00, 2.00]")


def test_runs_that_lie_far_apart_have_no_interval() -> None:
    assert times(ratio_of([2.0, 2.1, 1.9])).startswith("2.00x [1.")
    assert times(ratio_of([10.0, 755.0, 40_000.0])) == "671x (3 runs, too far apart for an interval)"
