"""The condition of a time, and the split that says it."""

from __future__ import annotations

import pytest

from bench.core.conditions import Condition, condition, of_model_alone


@pytest.mark.parametrize(
    ("split", "meant"),
    [
        ("batch1-length128", Condition(1, 128)),
        ("batch32-length16-text", Condition(32, 16, text=True)),
        ("batch1-length128-int8", Condition(1, 128, "int8")),
        ("batch8-length64-onnxruntime-int8", Condition(8, 64, "onnxruntime-int8")),
        ("batch8-length64-onnxruntime-int8-text", Condition(8, 64, "onnxruntime-int8", text=True)),
    ],
)
def test_a_split_and_its_condition_are_one(split: str, meant: Condition) -> None:
    assert condition(split) == meant and str(meant) == split
    assert of_model_alone(split) == split.removesuffix("-text")


@pytest.mark.parametrize("split", ["validation", "all", "artefact", "batch-length128", "batch1-lengthX", "batch1"])
def test_other_splits_are_no_condition(split: str) -> None:
    assert condition(split) is None and of_model_alone(split) == split
