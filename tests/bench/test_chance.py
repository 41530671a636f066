"""Which predictions look constant, told from their measurements alone."""

from __future__ import annotations

import pytest
from worked_records import record

from bench.core.record import Measurement
from bench.judge.chance import degenerate_run
from bench.judge.runs import runs_of


@pytest.mark.parametrize(("values", "why"), [
    ({"accuracy": 0.7, "majority": 0.5}, ""),
    ({"accuracy": 0.5, "majority": 0.5}, "the majority class's share"),
    ({"accuracy": 0.69, "majority": 0.69, "matthews": 0.0}, "matthews is exactly 0"),
    ({"accuracy": 0.69, "majority": 0.69, "matthews": 0.2}, ""),  # the same share right, by luck
    ({"accuracy": 0.69, "majority": 0.69, "matthews": None}, "matthews undefined"),
    ({"accuracy": 0.6, "majority": 0.6, "f1": 0.75}, "the positive class only"),  # 2 * 0.6 / 1.6
    ({"accuracy": 0.6, "majority": 0.6, "f1": 0.7}, ""),
    ({"accuracy": 0.6, "majority": 0.6, "f1": 0.0}, "not one positive found"),
])  # fmt: skip
def test_what_looks_constant(values: dict[str, float | None], why: str) -> None:
    measured = [Measurement(metric=metric, split="validation", value=value, unit="fraction", n=1000)
                for metric, value in values.items()]  # fmt: skip
    (run,) = runs_of([record(None, 0, *measured)])
    found = degenerate_run(run, "validation")
    assert why in found and bool(found) == bool(why)
