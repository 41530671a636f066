"""A child process that holds one model under one backend and answers orders; the parent decides when it runs.

Orders: load (facts of the model), warm (a shape: build the call, run it until it is steady), time (so many calls),
read (so many calls of the tokenizer on made-up text).
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import tempfile
import time
from contextlib import suppress
from functools import cached_property
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.collection import no_collection
from bench.core.errors import BenchError, DeviceError, SpecError
from bench.core.trouble import is_out_of_memory
from bench.data import synthetic
from bench.measure.backends import BACKENDS, Call, eager
from bench.measure.latency import Timer, device_timer, timer
from bench.models import load
from bench.models.device import here, native_bf16
from bench.models.flops import count, example_inputs
from bench.models.shape import find_shape
from bench.models.size import folder_bytes, parameters, parameters_without_embeddings

STEADY = 0.05
"""A call is warm when the medians of its last three calls and of the three before differ by less than this share."""

WARM_READS = 3
"""Untimed calls of a tokenizer before the timed ones."""

SENTENCES = 2000
"""Of the made-up language; longer texts begin again with the first."""


class Model:
    """What the child holds: the module, and the call that was warmed last."""

    def __init__(self, order: dict[str, Any]):
        torch.set_num_threads(1)  # all models load at once, and threads that wait for each other would spin
        torch.manual_seed(0)
        self.shape = find_shape(order["variant"])[1]
        if self.shape.build is None:
            raise SpecError("the shape is arithmetic only and cannot run", found=order["variant"])
        self.device = here()
        module: nn.Module = self.shape.build().eval()
        self.size_bytes = _weighed(module)
        self.module = module.to(self.device)
        self.backend: str = order["backend"]
        self.threads: int = order["threads"]
        self.call: Call | None = None

    def facts(self) -> dict[str, Any]:
        """Parameters, and bytes of the weights as they lie on disk."""
        return {
            "parameters": parameters(self.module), "size_bytes": self.size_bytes, "device": self.device.type,
            "parameters_without_embeddings": parameters_without_embeddings(self.module),
            "bf16_native": native_bf16(self.device), "own_words": self.shape.words is not None,
        }  # fmt: skip

    def warm(self, order: dict[str, Any]) -> dict[str, Any]:
        """Build the call for a shape [B, L] and run it until it is steady.

        `first_s` holds the compilation; `difference` is the largest from eager's logits on the same input.
        """
        torch.set_num_threads(self.threads)
        vocabulary = int(self.module.config.vocab_size)  # pyright: ignore
        batch = example_inputs(self.module, order["batch"], order["length"], vocabulary, self.device)
        expected = eager(self.module, batch)()
        if self.device.type == "cuda":  # a pass returns before it is done
            torch.cuda.synchronize(self.device)
        started = time.perf_counter()
        self.call = None  # the last shape's, with its memory
        self.call = BACKENDS[self.backend](self.module, batch)
        difference = _difference(self.call(), expected)  # which waits for the device
        first = time.perf_counter() - started
        if not math.isfinite(difference):
            raise DeviceError(f"the backend {self.backend} cannot run this model", found="logits that are not finite",
                              fix="leave one of the two out")  # fmt: skip
        flops = self.shape.flops or (lambda b, length: count(self.module, b, length))
        return {
            "first_s": first, "steady_s": _steady(self.timer, order["calls"], order["at_most_s"]),
            "difference": difference, "flops": flops(order["batch"], order["length"]),
        }  # fmt: skip

    @property
    def timer(self) -> Timer:
        """Of the call that was warmed last."""
        if self.call is None:
            raise SpecError("the model was not warmed before it was timed")
        return device_timer(self.call, self.device)

    def time(self, order: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each of so many calls, Python's gc switched off."""
        return {"seconds": _timed(self.timer, order["calls"])}

    def read(self, order: dict[str, Any]) -> dict[str, Any]:
        """Seconds of each of so many calls that make B texts of L words into ids [B, L]."""
        words, texts = self.words, made_up_texts(order["batch"], order["length"])

        def call() -> object:
            return words(texts, truncation=True, max_length=order["length"], padding=True, return_tensors="pt")

        for _ in range(WARM_READS):
            call()
        return {"seconds": _timed(timer(call), order["calls"])}

    @cached_property
    def words(self) -> Any:
        """The tokenizer: the shape's own, else a WordPiece one like the reference's."""
        os.environ["RAYON_NUM_THREADS"] = str(self.threads)  # read once, when a tokenizer first works
        if self.shape.words is not None:
            return self.shape.words()
        with tempfile.TemporaryDirectory() as folder:
            synthetic.write_tokenizer(Path(folder))
            return load.tokenizer(Path(folder))


def made_up_texts(batch: int, length: int) -> list[str]:
    """B different texts of L words, which are at least as many tokens: punctuation counts apart."""
    words = cycle(" ".join(synthetic.corpus(SENTENCES)).split())
    return [" ".join(islice(words, length)) for _ in range(batch)]


def _weighed(module: nn.Module) -> int:
    """Bytes of a module's weights as they lie on disk."""
    with tempfile.TemporaryDirectory() as folder:
        load.write_weights(module, Path(folder) / load.WEIGHTS)
        return folder_bytes(Path(folder))


def _timed(once: Timer, calls: int) -> list[float]:
    """Seconds of each of so many calls, Python's gc switched off; what they left behind is collected after."""
    with no_collection():
        seconds = once(calls)
    gc.collect(1)
    return seconds


def _steady(once: Timer, fewest: int, at_most_s: float) -> float:
    """Median seconds of the last three calls once they have settled, or time is up."""
    seconds: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < at_most_s or not seconds:
        seconds += once(1)
        if len(seconds) >= max(6, fewest):
            last, before = statistics.median(seconds[-3:]), statistics.median(seconds[-6:-3])
            if abs(last - before) < STEADY * before:
                break
    return statistics.median(seconds[-3:])


def _difference(logits: Tensor, expected: Tensor) -> float:
    return float((logits.float() - expected.float()).abs().max())


def _refusal(error: Exception, order: dict[str, Any]) -> dict[str, Any]:
    """An error as an answer: the user's own, memory that was refused, or whatever a model or a library raised."""
    if isinstance(error, BenchError):
        return {"error": str(error), "kind": type(error).__name__}
    if is_out_of_memory(error):
        found = DeviceError("the model or batch does not fit in memory", found=order, fix="a smaller --batch")
    else:
        first = str(error).strip().partition("\n")[0]
        found = DeviceError("the model cannot be measured", found=f"{type(error).__name__}: {first}",
                            fix="leave it or this backend out")  # fmt: skip
    return {"error": str(found), "kind": "DeviceError"}


def serve(pipe: Connection) -> None:
    """Answer orders until the pipe is closed; an error is an answer, too."""
    os.dup2(2, 1)  # what libraries print goes to stderr: stdout is the command's
    model: Model | None = None
    with suppress(EOFError):
        while True:
            order = pipe.recv()
            try:
                if order["do"] == "load":
                    model = Model(order)
                    answer = model.facts()
                else:
                    assert model is not None, "the first order is load"
                    answer = {"warm": model.warm, "time": model.time, "read": model.read}[order["do"]](order)
            except Exception as error:  # one model's, of which the others know nothing
                answer = _refusal(error, order)
            pipe.send(answer)
