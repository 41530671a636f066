"""Which records are one series: those given the same text and encoder, as far as they say."""

from __future__ import annotations

import pytest
from worked_records import record

from bench.core.record import Data, Record
from bench.judge.runs import runs_of
from bench.judge.series import SeriesIndex


def given(seed: int, corpus: str = "", encoder: str = "", name: str = "") -> Record:
    data = Data(source="hub", revision="r", sha256="cd" * 32, rows={"train": 100}, partial=False, corpus=corpus,
                encoder=encoder)  # fmt: skip
    return record(0.9, seed, data=data, id=f"{name or corpus + encoder}-{seed}")


def seeds(*records: Record) -> list[list[int]]:
    found = SeriesIndex(runs_of(list(records))).series(("toy", "toy"), "sst2")
    return sorted(list(one.runs) for one in found)


def test_other_text_or_another_encoder_is_another_series() -> None:
    assert seeds(given(0, "a", "x"), given(1, "a", "x")) == [[0, 1]]
    assert seeds(given(0, "a", "x"), given(1, "b", "x")) == [[0], [1]]
    assert seeds(given(0, "a", "x"), given(0, "a", "y")) == [[0], [0]]  # no newer run of the same seed


def test_a_record_that_does_not_say_joins_what_is_known_where_that_is_one() -> None:
    silent = given(2, name="old")
    assert seeds(silent, given(0, "a", "x"), given(1, "a", "x")) == [[0, 1, 2]]
    assert seeds(silent, given(0, "a", "x"), given(1, "b", "x")) == [[0], [1], [2]]


@pytest.mark.parametrize(("other", "rivals"), [("x", True), ("y", False)])
def test_variants_are_compared_on_one_encoder_whatever_text_they_read(other: str, rivals: bool) -> None:
    own, cut = given(0, "a", "x"), given(0, "b", other)
    index = SeriesIndex(runs_of([own, cut.model_copy(update={"spec": cut.spec.model_copy(update={"variant": "cut"})})]))
    (one,), (two,) = (index.series(("toy", variant), "sst2") for variant in ("toy", "cut"))
    assert (one.rivals == two.rivals) is rivals
