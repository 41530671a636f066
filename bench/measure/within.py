"""Times within a run: short, enough for a ratio to the model that a run is compared with. Else `bench measure`.

All models take their turns in the same rounds. A copy of the reference, its twin, takes them, too: the two do the same
work in other places of the memory, so that what tells them apart (`aa_ratio`) is what the machine does to any ratio.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from bench.core.record import Measurement
from bench.measure.latency import Protocol, inference, interleaved, speedup

LENGTH = 128
SHAPES = {"batch1-length128": 1, "batch32-length128": 32}
PROTOCOLS = {
    "batch1-length128": Protocol(warmup=2, rounds=10, calls_per_round=1),
    "batch32-length128": Protocol(warmup=1, rounds=3, calls_per_round=1),
}
SINGLE = "batch1-length128"


def words_of(model: nn.Module) -> int:
    """The size of a model's vocabulary, by its config."""
    return int(model.config.vocab_size)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]


def speed(model: nn.Module, reference: nn.Module | None, device: torch.device) -> list[Measurement]:
    """Latency per batch, throughput, the paired speed-up over the reference, and the A/A ratio; without tokenising.

    A model that is compared with none is its own reference.
    """
    out: list[Measurement] = []
    base = model if reference is None else reference
    for one in (model, base):
        one.to(device)
    twin = copy.deepcopy(base)
    for split, batch in SHAPES.items():
        models = {"reference": base, "twin": twin} | ({} if reference is None else {"model": model})
        rounds = _rounds(models, split, device)
        own = rounds["reference" if reference is None else "model"]
        out += [_time("latency_s", split, own), Measurement(metric="throughput", split=split, unit="examples/s", n=0,
                                                            value=batch / statistics.median(own))]  # fmt: skip
        if reference is not None:
            out.append(_time("teacher_latency_s", split, rounds["reference"]))
        out += _ratios(rounds, split)
    return out


def kernel_speed(kernel: nn.Module, reference: nn.Module, name: str, device: torch.device) -> list[Measurement]:
    """Latency of another form of a model for one example, and its speed-up over the reference in fp32."""
    split = f"{SINGLE}-{name}"
    rounds = _rounds({"reference": reference, "twin": copy.deepcopy(reference), "model": kernel}, SINGLE, device)
    return [_time("latency_s", split, rounds["model"]), *_ratios(rounds, split)]


def _rounds(models: Mapping[str, nn.Module], split: str, device: torch.device) -> dict[str, list[float]]:
    calls = {name: inference(model, SHAPES[split], LENGTH, words_of(model), device) for name, model in models.items()}
    return interleaved(calls, PROTOCOLS[split])


def _ratios(rounds: Mapping[str, Sequence[float]], split: str) -> list[Measurement]:
    """How many times faster than the reference: the model, where there is another one, and the twin."""
    named = {"speedup": "model", "aa_ratio": "twin"}
    found = {metric: speedup(rounds["reference"], rounds[name]) for metric, name in named.items() if name in rounds}
    return [Measurement(metric=metric, split=split, value=ratio.value, unit="ratio", n=len(ratio.samples),
                        samples=_short(ratio.samples)) for metric, ratio in found.items()]  # fmt: skip


def _time(metric: str, split: str, rounds: Sequence[float]) -> Measurement:
    return Measurement(metric=metric, split=split, value=statistics.median(rounds), unit="s", n=len(rounds),
                       samples=_short(rounds))  # fmt: skip


def _short(samples: Sequence[float]) -> list[float]:
    return [float(f"{sample:.6g}") for sample in samples]
