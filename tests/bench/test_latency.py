"""Latency: on a fake clock with known truth, the paired interval must hold what it promises."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import ModelError, SpecError
from bench.measure.latency import Protocol, inference, interleaved, percentiles, speedup

SIMULATIONS = 400


class Machine:
    """A made-up machine: its clock moves only by the calls it runs, each with noise, drift and now and then a stall."""

    def __init__(self, seed: int, noise: float = 0.1, drift: float = 0.05, stalls: float = 0.03):
        self.now_ns = 0
        self.chance = random.Random(seed)
        self.noise, self.drift, self.stalls = noise, drift, stalls
        self.slowness = 1.0
        self.calls: list[str] = []

    def clock(self) -> int:
        return self.now_ns

    def call(self, name: str, cost_ns: int) -> Callable[[], None]:
        def run() -> None:
            self.calls.append(name)
            # The whole machine wanders (a random walk that also slows down for good), whatever runs on it.
            self.slowness *= math.exp(self.chance.gauss(0.002, self.drift))
            stall = 4.0 if self.chance.random() < self.stalls else 1.0
            self.now_ns += round(cost_ns * self.slowness * stall * math.exp(self.chance.gauss(0.0, self.noise)))

        return run


def simulate(seed: int, protocol: Protocol, truth: float) -> tuple[dict[str, list[float]], Machine]:
    machine = Machine(seed)
    calls = {
        "reference": machine.call("reference", round(truth * 1e6)),
        "candidate": machine.call("candidate", 1_000_000),
    }
    return interleaved(calls, protocol, seed=seed, clock=machine.clock), machine


@pytest.mark.parametrize(("calls_per_round", "truth"), [(1, 1.6), (3, 1.0)])
def test_the_interval_covers_the_true_ratio(calls_per_round: int, truth: float) -> None:
    covered, values = 0, []
    for seed in range(SIMULATIONS):
        rounds, _ = simulate(seed, Protocol(warmup=0, rounds=20, calls_per_round=calls_per_round), truth)
        ratio = speedup(rounds["reference"], rounds["candidate"])
        covered += ratio.low <= truth <= ratio.high
        values.append(math.log(ratio.value))
    assert len(values) == SIMULATIONS
    assert 0.90 <= covered / SIMULATIONS <= 0.99
    assert abs(sum(values) / SIMULATIONS - math.log(truth)) < 0.02, "the ratio is not biased"


def test_timing_one_after_the_other_would_not_cover() -> None:
    """The control: on the same machine, all of A and then all of B misses the truth far more often than 5%."""
    covered = 0
    for seed in range(SIMULATIONS):
        machine = Machine(seed)
        apart = {}
        for name, cost in (("reference", 1_600_000), ("candidate", 1_000_000)):
            apart |= interleaved({name: machine.call(name, cost)}, Protocol(0, 20), clock=machine.clock)
        ratio = speedup(apart["reference"], apart["candidate"])
        covered += ratio.low <= 1.6 <= ratio.high
    assert covered / SIMULATIONS < 0.80


def test_warm_up_comes_first_and_the_order_changes_from_round_to_round() -> None:
    rounds, machine = simulate(3, Protocol(warmup=2, rounds=40, calls_per_round=3), 1.0)
    assert {name: len(values) for name, values in rounds.items()} == {"reference": 40, "candidate": 40}
    assert machine.calls[:4] == ["reference"] * 2 + ["candidate"] * 2
    timed = machine.calls[4:]
    assert len(timed) == 40 * 2 * 3
    firsts = []
    for start in range(0, len(timed), 6):
        first, second = timed[start : start + 3], timed[start + 3 : start + 6]
        assert len(set(first)) == len(set(second)) == 1 and first[0] != second[0]
        firsts.append(first[0])
    assert 8 < firsts.count("candidate") < 32
    _, again = simulate(3, Protocol(warmup=2, rounds=40, calls_per_round=3), 1.0)
    assert again.calls == machine.calls, "the order follows from the seed"


def test_a_round_is_the_median_of_its_calls_in_seconds() -> None:
    now = [0]
    costs = iter([1_000_000_000, 2_000_000_000, 90_000_000_000] * 2)

    def call() -> None:
        now[0] += next(costs)

    assert interleaved({"a": call}, Protocol(0, 2, 3), clock=lambda: now[0]) == {"a": [2.0, 2.0]}


def test_garbage_collection_is_off_while_timing_and_back_afterwards() -> None:
    seen: list[bool] = []
    assert gc.isenabled()
    interleaved({"a": lambda: seen.append(gc.isenabled())}, Protocol(warmup=0, rounds=3))
    assert seen == [False] * 3 and gc.isenabled()

    def fails() -> None:
        raise RuntimeError("a model that fails")

    with pytest.raises(RuntimeError, match="a model that fails"):
        interleaved({"a": fails}, Protocol(0, 1))
    assert gc.isenabled()


def test_the_speedup_by_hand() -> None:
    ratio = speedup([2.0, 8.0], [1.0, 2.0])
    assert ratio.samples == (2.0, 4.0)
    assert ratio.value == pytest.approx(math.sqrt(8.0))
    # Logs log 2 and log 4: deviation log 2 / sqrt 2, error log 2 / 2, t quantile 12.7062 with one degree of freedom.
    half = 12.7062 * math.log(2.0) / 2
    assert math.log(ratio.high / ratio.value) == pytest.approx(half, rel=1e-4)
    assert math.log(ratio.value / ratio.low) == pytest.approx(half, rel=1e-4)
    back = speedup([1.0, 2.0], [2.0, 8.0])
    assert (back.value, back.low, back.high) == pytest.approx((1 / ratio.value, 1 / ratio.high, 1 / ratio.low))


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        ([1.0], [1.0], "1 and 1 rounds"),
        ([1.0, 2.0], [1.0], "2 and 1 rounds"),
        ([1.0, 2.0], [1.0, 0.0], "not positive"),
        ([1.0, math.nan], [1.0, 1.0], "not positive"),
    ],
)
def test_timings_that_have_no_ratio(reference: list[float], candidate: list[float], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        speedup(reference, candidate)


def test_impossible_protocols() -> None:
    for arguments in ((-1, 1, 1), (0, 0, 1), (0, 1, 0)):
        with pytest.raises(SpecError, match="impossible"):
            Protocol(*arguments)
    with pytest.raises(SpecError, match="nothing to time"):
        interleaved({}, Protocol(0, 1))


def test_percentiles_by_hand() -> None:
    found = percentiles([float(i) for i in range(100, -1, -1)])
    assert (found.p50, found.p90, found.p99) == (50.0, 90.0, 99.0)
    with pytest.raises(SpecError, match="no timings"):
        percentiles([])


def test_inference_runs_the_same_full_batch_each_time() -> None:
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    model = BertForSequenceClassification(config).train()
    forward = inference(model, 3, 16, 50, "cpu")
    assert not model.training
    first, second = (forward().logits for _ in range(2))  # pyright: ignore[reportAttributeAccessIssue]
    assert first.shape == (3, 2) and first.is_inference()
    assert torch.equal(first, second)
    times = interleaved({"a": forward, "b": forward}, Protocol(1, 3))
    assert all(second > 0 for values in times.values() for second in values)
    with pytest.raises(SpecError, match="beyond the model's positions"):
        inference(model, 1, 17, 50, "cpu")
    with pytest.raises(ModelError, match="without input_ids"):
        inference(nn.Linear(2, 2), 1, 4, 50, "cpu")
