"""Whether the cores of a machine do more as workers of one thread each than together: measured for about a second.

Threads of one operation wait for each other at its end. Where another process takes one of their cores away, all wait.
"""

from __future__ import annotations

import threading
import time

import torch

from bench.core import environment
from bench.run.device import using_threads

SIZES = (512, 384, 1536)
"""Of the product that is timed: the tokens of a batch, and the widths of a small encoder's feed-forward block."""
SECONDS = 0.5
"""How long each way is timed."""
GAIN = 1.1
"""Workers are taken where the cores do so many times as much: each has a start and a memory of its own to pay for."""
WORKER_BYTES = 3 * 2**30
"""Of memory that a worker may take."""


def best_workers() -> tuple[int, float]:
    """How many workers suit the cores, and how many times as much the cores do apart as together."""
    cores = environment.cores()
    if cores == 1 or torch.cuda.is_available():
        return 1, 1.0
    with using_threads(1):
        apart = _products(cores)
    with using_threads(cores):
        together = _products(1)
    room = max(1, environment.memory_bytes() // WORKER_BYTES)
    return (min(cores, room) if apart >= GAIN * together else 1), apart / together


def _products(threads: int) -> float:
    """Products a second of so many threads, each with products of its own."""
    ends, done = time.perf_counter() + SECONDS, [0] * threads
    tokens, hidden, inner = SIZES

    def work(place: int) -> None:
        a, b = torch.ones(tokens, hidden), torch.ones(hidden, inner)
        while time.perf_counter() < ends:
            torch.mm(a, b)
            done[place] += 1

    started = time.perf_counter()
    every = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
    for one in every:
        one.start()
    for one in every:
        one.join()
    return max(1, sum(done)) / (time.perf_counter() - started)
