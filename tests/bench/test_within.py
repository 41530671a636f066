"""Times within a run: a reference, its twin and the model take the same turns, and each time has an A/A ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from bench.core.record import Measurement
from bench.measure import within
from bench.measure.latency import Protocol

CPU = torch.device("cpu")
SECONDS = {"reference": 8.0, "twin": 10.0, "model": 2.0}


def bert(layers: int = 1) -> nn.Module:
    return BertForSequenceClassification(BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
    ))  # fmt: skip


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], Protocol]]:
    """What was timed, and how; each has a time of its own."""
    calls: list[tuple[set[str], Protocol]] = []

    def interleaved(models: Mapping[str, Callable[[], object]], protocol: Protocol) -> dict[str, list[float]]:
        calls.append((set(models), protocol))
        return {name: [SECONDS[name]] * protocol.rounds for name in models}

    monkeypatch.setattr(within, "interleaved", interleaved)
    return calls


def values(found: list[Measurement], split: str) -> dict[str, Any]:
    return {one.metric: one.value for one in found if one.split == split}


def test_a_model_beside_its_reference(seen: list[Any]) -> None:
    found = within.speed(bert(), bert(2), CPU)
    assert values(found, "batch32-length128") == {
        "latency_s": 2.0, "throughput": 16.0, "teacher_latency_s": 8.0, "speedup": pytest.approx(4.0),
        "aa_ratio": pytest.approx(0.8),
    }  # fmt: skip
    assert [(names, protocol.rounds) for names, protocol in seen] == [(set(SECONDS), 10), (set(SECONDS), 3)]
    assert [one.n for one in found if one.metric == "aa_ratio"] == [10, 3], (
        "no rounds beside those that are made anyhow"
    )


def test_a_model_by_itself_is_its_own_reference(seen: list[Any]) -> None:
    found = within.speed(bert(), None, CPU)
    assert values(found, "batch1-length128") == {"latency_s": 8.0, "throughput": 0.125, "aa_ratio": pytest.approx(0.8)}
    assert all(names == {"reference", "twin"} for names, _ in seen)


def test_another_form_of_a_model(seen: list[Any]) -> None:
    found = within.kernel_speed(bert(), bert(2), "int8", CPU)
    assert values(found, "batch1-length128-int8") == {
        "latency_s": 2.0, "speedup": pytest.approx(4.0), "aa_ratio": pytest.approx(0.8)}  # fmt: skip
    assert len(seen) == 1


def test_the_twin_is_another_copy_and_every_time_has_a_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(within, "PROTOCOLS", dict.fromkeys(within.SHAPES, Protocol(0, 2)))
    timed: dict[str, nn.Module] = {}
    inference = within.inference

    def noted(model: nn.Module, *given: Any) -> Callable[[], object]:
        timed[str(len(timed))] = model
        return inference(model, *given)

    monkeypatch.setattr(within, "inference", noted)
    model, reference = bert(), bert(2)
    found = within.speed(model, reference, CPU)
    first, twin, other = list(timed.values())[:3]
    assert first is reference and other is model and twin is not reference
    places = [{weight.data_ptr() for weight in one.parameters()} for one in (reference, twin)]
    assert not places[0] & places[1], "the twin's weights lie elsewhere"
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), twin.parameters(), strict=True))
    latencies = {one.split for one in found if one.metric == "latency_s"}
    assert {one.split for one in found if one.metric == "aa_ratio"} == latencies == set(within.SHAPES)
    assert all(one.value and one.value > 0 and one.n == len(one.samples) for one in found if one.samples)
