"""A child process that holds one model under one backend and answers orders; the parent decides when it runs.

    python -m bench.measure.worker      one JSON order per line on stdin, one JSON answer per line on stdout

Orders: load (facts of the model), warm (a shape: build the call, run it until it is steady), time (so many calls).
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from bench.core import registry
from bench.core.errors import BenchError, SpecError
from bench.measure.backends import BACKENDS, Call, eager
from bench.measure.latency import timer
from bench.models.device import native_bf16
from bench.models.flops import count, example_inputs
from bench.models.size import folder_bytes, parameters, parameters_without_embeddings

STEADY = 0.05
"""A call is warm when the medians of its last three calls and of the three before differ by less than this share."""

MOST_WARM_S = 20.0
"""Warming stops here, steady or not."""


class Model:
    """What the child holds: the module, and the call that was warmed last."""

    def __init__(self, order: dict[str, Any]):
        torch.set_num_threads(order["threads"])
        torch.manual_seed(0)
        self.shape = registry.load_shapes(order["paper"])[order["variant"]]
        if self.shape.build is None:
            raise SpecError("the shape is arithmetic only and cannot run", found=order["variant"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module: nn.Module = self.shape.build().eval().to(self.device)
        self.backend: str = order["backend"]
        self.call: Call | None = None

    def facts(self) -> dict[str, Any]:
        """Parameters, and bytes of the weights as they lie on disk."""
        with tempfile.TemporaryDirectory() as folder:
            save_model(self.module, str(Path(folder) / "model.safetensors"))
            size = folder_bytes(Path(folder))
        return {
            "parameters": parameters(self.module), "size_bytes": size, "device": self.device.type,
            "parameters_without_embeddings": parameters_without_embeddings(self.module),
            "bf16_native": native_bf16(self.device),
        }  # fmt: skip

    def warm(self, order: dict[str, Any]) -> dict[str, Any]:
        """Build the call for a shape [B, L] and run it until it is steady.

        `first_s` holds the compilation; `difference` is the largest from eager's logits on the same input.
        """
        vocabulary = int(self.module.config.vocab_size)  # pyright: ignore
        batch = example_inputs(self.module, order["batch"], order["length"], vocabulary, self.device)
        expected = eager(self.module, batch)()
        started = time.perf_counter()
        self.call = BACKENDS[self.backend](self.module, batch)
        logits = self.call()
        first = time.perf_counter() - started
        flops = self.shape.flops or (lambda b, length: count(self.module, b, length))
        return {
            "first_s": first, "steady_s": _steady(self.call, order["calls"]),
            "difference": _difference(logits, expected), "flops": flops(order["batch"], order["length"]),
        }  # fmt: skip

    def time(self, order: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each of so many calls, garbage collection kept out of them."""
        if self.call is None:
            raise SpecError("the model was not warmed before it was timed")
        gc.disable()
        seconds = timer(self.call)(order["calls"])
        gc.enable()
        gc.collect(1)
        return {"seconds": seconds}


def _steady(call: Call, fewest: int) -> float:
    """Median seconds of the last three calls once they have settled."""
    once, seconds, started = timer(call), [], time.perf_counter()
    while time.perf_counter() - started < MOST_WARM_S:
        seconds += once(1)
        if len(seconds) >= max(6, fewest):
            last, before = statistics.median(seconds[-3:]), statistics.median(seconds[-6:-3])
            if abs(last - before) < STEADY * before:
                break
    return statistics.median(seconds[-3:])


def _difference(logits: Tensor, expected: Tensor) -> float:
    return float((logits.float() - expected.float()).abs().max())


def main() -> None:
    """Answer orders until stdin ends; an error the user can act on is an answer too."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr: stdout carries answers only
    model: Model | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "load":
                model = Model(order)
                answer = model.facts()
            else:
                assert model is not None, "the first order is load"
                todo: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"warm": model.warm, "time": model.time}
                answer = todo[order["do"]](order)
        except BenchError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
