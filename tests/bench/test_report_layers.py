"""Pages of models of few bits: packed files, layers, and the two figures, from fabricated records."""

from __future__ import annotations

from typing import Any

import pytest
from rendered import column, made, pages

from bench.core.record import Record
from bench.report.gather import gather
from bench.report.landscape import landscape
from bench.report.layers import profiles


def quantised(seed: int, score: float = 0.9, packed: float = 0.9, omega: tuple[float, ...] = (4.0, 2.0),
              int8: float = 0.85, task: str = "sst2") -> Record:  # fmt: skip
    """A run with two layers, at 3 and 2 bits."""
    record = made.record("distilbert", "distilbert", task, seed=seed, score=score, size=260e6, stamp=seed)
    told: list[dict[str, Any]] = [
        made.measurement("size_bytes", "packed-file", 26e6, "bytes"),
        made.measurement("size_bytes", "packed-formula", 25e6, "bytes"),
        made.measurement("packed_score", "validation", packed, "fraction"),
        made.measurement("packed_difference", "validation", 2e-7, "logit"),
        made.measurement("int8_score", "validation", int8, "fraction"),
        made.measurement("latency_s", "batch1-length128-int8", 0.01, "s", (0.01,)),
        made.measurement("speedup", "batch1-length128-int8", 2.0, "ratio", (2.0, 2.0)),
        made.measurement("landscape", "layer0", 1.0, "one", (2.0, 1.0, 2.0, 1.0, 0.5, 1.0, 2.0, 1.0, 2.0)),
    ]
    for layer, bits in enumerate((3, 2)):
        told += [
            made.measurement("sensitivity", f"layer{layer}", omega[layer], "one"),
            made.measurement("eigenvalue", f"layer{layer}", omega[layer], "one", (omega[layer], -omega[layer])),
            made.measurement("residual", f"layer{layer}", 0.02, "one", (0.004, 0.036)),
            made.measurement("bits", f"layer{layer}", bits, "one"),
        ]
    kept = [m.model_dump() for m in record.measurements]
    return Record.model_validate(record.model_dump() | {"measurements": [*kept, *told]})


def test_arithmetic_file_and_kernel_are_three_columns() -> None:
    page = pages([quantised(0), quantised(1)])["distilbert.md"]
    cells = {name: column(page, name, "small", "distilbert") for name in (
        "floats, MB", "file, MB", "by arithmetic, MB", "smaller", "kernel", "its speed-up",
    )}  # fmt: skip
    assert cells == {
        "floats, MB": "260.00", "file, MB": "26.00", "by arithmetic, MB": "25.00", "smaller": "10.0x",
        "kernel": "int8", "its speed-up": "2.00x [2.00, 2.00] on xeon-2c",
    }  # fmt: skip


def test_scores_of_packed_files_stand_by_task() -> None:
    """A kernel that happens to have the file's score does not make the file right."""
    wrong = quantised(1, packed=0.86, int8=0.86)
    page = pages([quantised(0), wrong, quantised(0, score=0.5, packed=0.5, int8=0.5, task="rte")])["distilbert.md"]
    names = ("as trained", "on int8", "difference", "alike", "largest logit")
    assert [column(page, name, "small", "distilbert", "sst2", "2") for name in names] == [
        "90.0 [90.0, 90.0]", "85.5 [79.1, 91.9]", "-4.5 [-10.9, 1.9]", "1 of 2", "2e-07",
    ]  # fmt: skip
    assert [column(page, name, "small", "distilbert", "rte", "1") for name in names] == [
        "50.0", "50.0", "0.0", "1 of 1", "2e-07",
    ]  # fmt: skip


def test_the_table_tells_the_packed_file_and_its_kernels_apart_from_the_floats() -> None:
    page = pages([quantised(0), quantised(1)])["README.md"]
    assert column(page, "MB on disk", "distilbert", "distilbert", "small") == "260.0; packed 26.0"
    assert column(page, "speed-up, batch 1", "distilbert", "distilbert", "small").endswith("; int8 2.00x [2.00, 2.00]")


def test_layers_are_told_with_their_bits_by_seed() -> None:
    found = profiles(gather([quantised(0), quantised(1, omega=(9.0, 2.0))], set()))
    assert len(found) == 1 and [one.value for one in found[0].sensitivity] == pytest.approx([6.0, 2.0])
    assert found[0].negative == (0.5, 0.5) and found[0].bits == {"distilbert": {0: [3.0, 2.0], 1: [3.0, 2.0]}}
    page = pages([quantised(0), quantised(1, omega=(9.0, 2.0))])
    assert (
        "](layers-distilbert.svg)" in page["distilbert.md"] and "](landscape-distilbert.svg)" in page["distilbert.md"]
    )
    assert page["layers-distilbert.svg"].startswith("<?xml") and "sst2" in page["layers-distilbert.svg"]
    assert column(page["distilbert.md"], "distilbert", "sst2", "1") == "2 2"
    assert column(page["distilbert.md"], "residual", "sst2", "1") == "3.6%"


def test_variants_share_what_their_layers_showed() -> None:
    def other(record: Record, variant: str) -> Record:
        spec = record.spec.model_copy(update={"variant": variant})
        return record.model_copy(update={"spec": spec, "id": f"{record.id}x{variant}"})

    same = [quantised(0), quantised(1), other(quantised(1), "half"), other(quantised(2), "half")]
    (found,) = profiles(gather(same, set()))
    assert sorted(found.measured) == [0, 1, 2] and found.bits["half"] == {1: [3.0, 2.0], 2: [3.0, 2.0]}
    page = pages(same)["distilbert.md"]
    assert column(page, "half", "sst2", "0") == "– 3 3" and column(page, "distilbert", "sst2", "1") == "2 2 –"
    apart = [quantised(0), other(quantised(0, omega=(1.0, 1.0)), "half")]
    assert len(profiles(gather(apart, set()))) == 2


def test_the_landscape_is_that_of_the_lowest_seed() -> None:
    found = landscape(gather([quantised(2), quantised(1)], set()))
    assert found is not None and [panel.title for panel in found.panels] == ["sst2, layer 0, seed 1"]
    assert found.panels[0].loss[1] == (1.0, 0.5, 1.0)


def test_a_page_without_layers_has_none_of_it() -> None:
    page = pages([made.record()])
    assert "Packed files" not in page["distilbert.md"] and "Layer by layer" not in page["distilbert.md"]
    assert not [name for name in page if name.startswith(("layers-", "landscape-"))]


@pytest.mark.parametrize("samples", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_what_is_no_square_is_no_landscape(samples: tuple[float, ...]) -> None:
    record = made.record()
    entry = made.measurement("landscape", "layer0", 1.0, "one", samples)
    kept = [m.model_dump() for m in record.measurements]
    odd = Record.model_validate(record.model_dump() | {"measurements": [*kept, entry]})
    assert landscape(gather([odd], set())) is None
