"""Timing sessions: the sampler on a made-up machine, the backends on a tiny model, and the command on real shapes."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.ao.quantization.qconfig import per_channel_dynamic_qconfig
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import DeviceError, SpecError
from bench.core.store import read_records
from bench.measure import backends
from bench.measure.backends import BACKENDS, eager
from bench.measure.latency import Ratio, percentiles
from bench.measure.session import (
    FULL,
    QUICK,
    Effort,
    Rounds,
    Subject,
    Timing,
    Worker,
    calls_per_turn,
    fitting,
    measure,
    ratio_of,
    repeat,
    sample,
)  # fmt: skip
from bench.models.device import sums_int8
from bench.run.codehash import measuring_hash
from bench.run.shapes import Request, session_name

SIMULATIONS = 1000
COSTS = {"reference": 1.8, "student": 1.0}


class Machine:
    """Its clock moves only by the calls it runs: with noise, a wandering speed, and now and then a stall."""

    def __init__(self, seed: int):
        self.chance, self.now, self.slowness = random.Random(seed), 0.0, 1.0

    def timer(self, cost: float) -> Callable[[int], list[float]]:
        return lambda calls: [self._call(cost) for _ in range(calls)]

    def _call(self, cost: float) -> float:
        self.slowness *= math.exp(self.chance.gauss(0.001, 0.03))
        stall = 5.0 if self.chance.random() < 0.03 else 1.0
        seconds = cost * self.slowness * stall * math.exp(self.chance.gauss(0.0, 0.08))
        self.now += seconds
        return seconds


def timed(machine: Machine, rounds: int, copy: int, apart: float = 0.0) -> dict[int, Rounds]:
    """A set of processes on the machine, each of them slower or faster for good by about `apart`."""
    costs = {name: cost * math.exp(machine.chance.gauss(0.0, apart)) for name, cost in COSTS.items()}
    timers = {name: machine.timer(cost) for name, cost in costs.items()}
    return {1: sample(timers, dict.fromkeys(timers, 3), rounds, seed=copy)}


@pytest.mark.parametrize(("effort", "apart"), [(Effort(copies=1, rounds=20), 0.0), (FULL, 0.03)])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says(effort: Effort, apart: float) -> None:
    covered = 0
    for seed in range(SIMULATIONS):
        machine = Machine(seed)
        found = repeat(lambda copy, m=machine: timed(m, effort.rounds, copy, apart), "reference", effort)
        ratio = ratio_of([one[1] for one in found], "reference", "student")
        covered += ratio.low <= 1.8 <= ratio.high
    assert 0.93 <= covered / SIMULATIONS <= 0.97, covered


def test_rounds_of_one_process_do_not_see_what_differs_between_processes() -> None:
    covered = 0
    for seed in range(200):
        rounds = timed(Machine(seed), 25, 0, apart=0.03)[1]
        ratio = ratio_of([rounds], "reference", "student")
        covered += ratio.low <= 1.8 <= ratio.high
    assert covered / 200 < 0.9, "why processes are started anew"


def test_a_session_goes_on_until_the_ratio_is_narrow_or_its_time_is_up() -> None:
    def copies(until: float, minutes: float) -> int:
        machine = Machine(3)
        effort = Effort(until=until, minutes=minutes)
        found = repeat(lambda copy: timed(machine, 5, copy), "reference", effort, clock=lambda: machine.now)
        return len(found)

    assert copies(until=10.0, minutes=1e9) == FULL.copies
    assert copies(until=0.02, minutes=1e9) > FULL.copies
    assert copies(until=1e-9, minutes=2.0) < 200


def test_a_turn_has_many_calls_of_a_fast_model_and_one_of_a_slow_one() -> None:
    effort = Effort(turn_s=0.3)
    assert [calls_per_turn(s, effort) for s in (0.0001, 0.01, 0.1, 5.0)] == [50, 30, 3, 1]


def test_any_protocol_shorter_than_the_usual_one_is_reduced() -> None:
    assert not FULL.reduced and not replace(FULL, until=0.03, minutes=30.0).reduced
    assert QUICK.reduced and replace(QUICK, until=0.03, minutes=30.0).reduced


def tiny() -> tuple[BertForSequenceClassification, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    ids = torch.randint(1, 50, (2, 8))
    return BertForSequenceClassification(config).eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


needs_int8 = pytest.mark.skipif(backends.int8_engine() == "none", reason="torch has no 8-bit kernels here")


@needs_int8
def test_int8_runs_and_differs_a_little() -> None:
    model, batch = tiny()
    difference = (BACKENDS["int8"](model, batch)() - eager(model, batch)()).abs().max()
    assert 0 < difference < 0.1


def int8_layer(monkeypatch: pytest.MonkeyPatch, halved: bool) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """A linear layer as floats and on our kernels, and rows for it."""
    torch.manual_seed(0)
    floats = nn.Sequential(nn.Linear(64, 32))
    monkeypatch.setattr(backends._Int8Linear, "halved", halved)
    return floats, backends.with_int8_linears(floats), torch.randn(16, 64)


@needs_int8
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization:DeprecationWarning")
def test_int8_with_half_the_range_is_torchs_own_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    floats, ours, x = int8_layer(monkeypatch, halved=True)
    assert torch.equal(ours(x), quantize_dynamic(floats, {nn.Linear: per_channel_dynamic_qconfig})(x))


@needs_int8
@pytest.mark.skipif(not sums_int8(), reason="the processor's 8-bit sums overflow at the whole range")
def test_int8_with_the_whole_range_is_nearer_to_the_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = []
    for halved in (True, False):
        floats, ours, x = int8_layer(monkeypatch, halved)
        errors.append(float((ours(x).detach() - floats(x).detach()).square().mean()))
    assert errors[1] < errors[0] / 2


def test_int8_without_a_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny()
    monkeypatch.setattr(backends, "int8_engine", lambda: "none")
    with pytest.raises(DeviceError, match=r"int8 cannot run.*found .*without 8-bit kernels"):
        BACKENDS["int8"](model, batch)


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="an optional extra, tested by CI")
def test_onnxruntime_gives_the_same_logits() -> None:
    model, batch = tiny()
    call = BACKENDS["onnxruntime"](model, batch)
    assert torch.allclose(call(), eager(model, batch)(), atol=1e-6) and not model.training


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="an optional extra, tested by CI")
def test_onnxruntime_in_8_bits_differs_a_little() -> None:
    model, batch = tiny()
    difference = (BACKENDS["onnxruntime-int8"](model, batch)() - eager(model, batch)()).abs().max()
    assert 0 < difference < 0.1 and not model.training


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compile_gives_the_same_logits_or_names_the_compiler() -> None:
    model, batch = tiny()
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        with pytest.raises(DeviceError, match="compiler"):
            BACKENDS["compile"](model, batch)
        return
    assert torch.allclose(BACKENDS["compile"](model, batch)(), eager(model, batch)(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_a_model_that_does_not_export_is_one_line() -> None:
    class Stubborn(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> Any:
            return SimpleNamespace(logits=input_ids[: int(input_ids.sum().item())].float())

    with pytest.raises(DeviceError, match="cannot run this model") as told:
        BACKENDS["onnxruntime"](Stubborn(), {"input_ids": torch.ones(3, 4, dtype=torch.long)})
    assert "\n" not in str(told.value)


def test_a_backend_that_cannot_run_says_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny()
    monkeypatch.setattr("bench.measure.backends.native_bf16", lambda device: False)
    with pytest.raises(DeviceError, match=r"only emulates it.*leave it out of --backend"):
        BACKENDS["bf16"](model, batch)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DeviceError, match=r"no C\+\+ compiler.*install"):
        BACKENDS["compile"](model, batch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"not installed.*pip install -e '\.\[kernels\]'"):
        BACKENDS["onnxruntime"](model, batch)


def test_what_makes_no_sense_is_refused_before_anything_runs() -> None:
    with pytest.raises(SpecError, match="unknown backend; found cuda"):
        Request(backends=("eager", "cuda"))
    with pytest.raises(SpecError, match="--batch is out of range; found 0"):
        Request(batches=(0,))
    with pytest.raises(SpecError, match="--threads is out of range; found 4096"):
        Request(threads=(1, 4096))


def test_what_does_not_fit_in_memory_at_once_has_a_later_session() -> None:
    assert fitting("abcdef", 9) == ["abcdef"] and fitting("abcdef", 5) == ["abc", "def"]
    assert fitting("abc", 1) == ["a", "b", "c"], "one at a time, however little there is"
    assert fitting("", 5) == [()], "the reference is timed alone, too"


def test_every_session_has_the_reference_and_facts_of_all_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.measure.session._room", lambda: 3)
    reference, one, other = (Subject("lowresource", name) for name in ("bilstm", "cnn", "cbow-ffn"))
    found = measure(reference, [one, other], (1,), 8, 1, Effort(copies=2, rounds=2, turn_s=0.001, warm_calls=1))
    assert [timing.subject for timing in found.timings] == [reference, one, other] and set(found.facts) == {
        reference, one, other}  # fmt: skip
    assert found.timings[1].floor != found.timings[2].floor, "each session has an A/A pair of its own"
    assert [timing.group for timing in found.timings] == [0, 0, 1]
    assert [session_name("s", found.timings[first:]) for first in (0, 2)] == ["", "s-2"]
    assert session_name("s", found.timings[:2]) == session_name("s", []) == "s"


@pytest.mark.parametrize(("low", "value", "high", "noisy"), [(0.97, 1.0, 1.03, False), (0.94, 1.0, 1.06, True),
                                                             (1.11, 1.12, 1.13, True)])  # fmt: skip
def test_a_session_is_noisy_when_its_pair_is_wide_or_far_from_one(
    low: float, value: float, high: float, noisy: bool
) -> None:
    calls = percentiles([1.0])
    floor = Ratio(value, low, high, (value,))
    assert Timing(Subject("a", "b"), 1, 8, (1.0,), calls, None, 1.0, 0.0, 1, floor).noisy is noisy


def test_memory_that_is_refused_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(Subject("lowresource", "cnn"), 1) as worker:
        worker.load()
        worker.answer()
        worker.order(do="warm", batch=10**9, length=512, calls=1, at_most_s=1.0)
        with pytest.raises(DeviceError, match=r"does not fit in memory.*a smaller --batch"):
            worker.answer()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--variant", "nope"], ["unknown variant", "nope", "tinybert-4"]),
        (["--batch", "one"], ["--batch", "one", "1,32"]),
        (["--until", "soon"], ["--until", "soon", "3%"]),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(bench, tmp_path, arguments: list[str], words: list[str]) -> None:
    done = bench("measure", *arguments)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.rglob("results"))


def test_the_command_writes_a_record_per_variant(bench, tmp_path) -> None:
    done = bench(
        "measure", "--variant", "cbow-ffn", "--variant", "qbert-w4", "--batch", "1", "--length", "16", "--quick",
        "--threads", "1", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert {entry["spec"]["variant"] for entry in json.loads(done.stdout)} == {"bert", "cbow-ffn", "qbert-w4"}
    records = {record.spec.variant: record for record in read_records(tmp_path / "results", ("shape",))}
    fast, packed = records["cbow-ffn"], records["qbert-w4"]
    assert (fast.value("speedup", "batch1-length16") or 0) > 5
    assert fast.tier == "reduced" and fast.environment["threads"] == 1
    assert {"latency_p99_s", "flops", "aa_ratio", "first_call_s"} <= {m.metric for m in fast.measurements}
    assert fast.session == records["bert"].session != "" == packed.session, "what is only counted is in no session"
    assert fast.code.measure_hash == measuring_hash()
    assert "chosen to meet" in fast.hyper["guessed"] and "guessed" not in packed.hyper
    assert packed.value("size_bytes", "packed") == 66_362_880 and packed.value("size_ratio", "packed-encoder") == 1 / 8
    assert {m.metric for m in packed.measurements} == {"size_bytes", "size_ratio"}, "arithmetic has no speed"
    assert records["bert"].value("size_bytes", "packed") == 435_560_448
    assert (fast.value("parameters_ratio", "teacher") or 1) < 0.01 and fast.value("flops_ratio", "teacher")
    assert records["bert"].value("speedup", "batch1-length16") is None, "the reference is not compared with itself"
