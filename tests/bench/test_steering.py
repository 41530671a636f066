"""What libraries read from the environment: honoured, recorded and in the hash, or refused by name."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from bench.cli import checks
from bench.core import environment
from bench.core.errors import SpecError
from bench.core.steering import HONOURED, REFUSED, steering
from bench.run.plan import Planner
from bench.run.request import Request

SST2 = Request(paper=("bert",), task=("sst2",))


@pytest.mark.parametrize(
    ("name", "value"),
    [("ACCELERATE_MIXED_PRECISION", "bf16"), ("ACCELERATE_MIXED_PRECISION", "fp16"),
     ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR"), ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"),
     ("ACCELERATE_USE_FSDP", "true"), ("ACCELERATE_TORCH_DEVICE", "meta"), ("ATEN_CPU_CAPABILITY", "/home/someone")],
)  # fmt: skip
def test_what_would_change_the_method_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SpecError, match=f"would change how models are trained; in {name}.*next: unset {name}") as told:
        Planner(SST2)
    assert "/home" not in str(told.value)
    row = next(row for row in checks.checks() if row["name"] == "environment variables")
    assert not row["ok"] and row["fix"] == f"unset {name}"


def test_what_accelerate_launch_itself_sets_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in REFUSED:
        monkeypatch.setenv(name, "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "default")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    assert steering() == {}


def test_what_chooses_kernels_is_in_the_record_the_key_and_the_hash(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    for name in HONOURED:
        monkeypatch.delenv(name, raising=False)
    plain, key = environment.fingerprint(), Planner(SST2).build().jobs[0].hash
    assert "steering" not in plain
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    found = environment.fingerprint()
    assert found["steering"] == {"ATEN_CPU_CAPABILITY": "default"} and json.dumps(found)
    assert found["machine"].startswith(plain["machine"] + "-e")
    assert Planner(SST2).build().jobs[0].hash != key


def test_the_device_in_the_hash_is_the_one_that_trains(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    states = AcceleratorState, GradientState, PartialState
    for state in states:
        state._reset_state()
    try:
        assert Planner(SST2)._common["device"] == Accelerator().device.type == "cpu"
    finally:
        for state in states:
            state._reset_state()


def test_the_variable_does_change_a_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why it is refused: Accelerate divides the loss by it, whatever the training settings say."""

    def gradient() -> float:
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
        weight = nn.Parameter(torch.ones(1))
        Accelerator().backward((3 * weight).sum())
        assert weight.grad is not None
        return float(weight.grad)

    try:
        assert gradient() == 3
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
        assert gradient() == 0.75
    finally:
        monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
