"""Peak memory and time of the chunked soft-target loss against the plain form, forward and backward.

    python tests/benchmarks/soft_target_memory.py             about a minute on two cores

Each side runs in a process of its own, so that its peak resident memory is its own; BERT's vocabulary.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

from papers.distilbert.losses import kd_loss
from papers.distilbert.soft_targets import soft_targets

POSITIONS, HIDDEN, VOCABULARY = 2048, 384, 30522
ROUNDS = 3


def one(side: str) -> None:
    """Print the extra peak memory in bytes and the seconds of one side."""
    torch.manual_seed(0)
    head, teacher_head = nn.Linear(HIDDEN, VOCABULARY), nn.Linear(HIDDEN, VOCABULARY).requires_grad_(False)
    student = torch.randn(POSITIONS, HIDDEN, requires_grad=True)
    teacher = torch.randn(POSITIONS, HIDDEN)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if side == "chunked":
        loss = soft_targets(student, teacher, head, teacher_head, 2.0)
    else:
        loss = kd_loss(head(student), teacher_head(teacher), 2.0)
    loss.backward()
    seconds = time.perf_counter() - started
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, seconds, loss.item())


def main() -> None:
    if len(sys.argv) > 1:
        return one(sys.argv[1])
    results: dict[str, list[list[float]]] = {"plain": [], "chunked": []}
    for _ in range(ROUNDS):
        for side, found in results.items():
            out = subprocess.run([sys.executable, __file__, side], capture_output=True, text=True, check=True).stdout
            found.append([float(word) for word in out.split()])
    for side, found in results.items():
        memory, seconds, loss = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{side:8} peak +{memory / 2**20:7.0f} MiB   {seconds:6.2f} s   loss {loss:.6f}")
    tensor = POSITIONS * VOCABULARY * 4
    print(f"one [positions, vocabulary] fp32 tensor is {tensor / 2**20:.0f} MiB")
    peaks = {side: statistics.median(row[0] for row in found) for side, found in results.items()}
    times = [p[1] / c[1] for p, c in zip(results["plain"], results["chunked"], strict=True)]
    print(f"peak memory chunked / plain: {peaks['chunked'] / peaks['plain']:.2f}, "
          f"speed-up {statistics.geometric_mean(times):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
