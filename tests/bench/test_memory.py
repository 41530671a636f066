"""The peak of a stage is its own, not that of what the process did before."""

import multiprocessing
import sys
from multiprocessing.connection import Connection

import pytest
import torch

from bench.train.memory import peak_bytes, restart_peak

CPU = torch.device("cpu")
BIG = 256 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count from the start of the process")
def test_a_peak_before_the_restart_does_not_count() -> None:
    restart_peak(CPU)
    before = peak_bytes(CPU)
    filled = torch.ones(BIG // 4)
    held = peak_bytes(CPU)
    assert held >= before + 0.9 * BIG
    del filled
    assert peak_bytes(CPU) >= 0.99 * held  # still the peak, though the memory was given back
    restart_peak(CPU)
    assert peak_bytes(CPU) < held - 0.5 * BIG


def child(tell: Connection) -> None:
    restart_peak(CPU)
    tell.send(peak_bytes(CPU))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count from the start of the process")
def test_a_child_does_not_count_what_its_parent_held() -> None:
    here, there = multiprocessing.Pipe()
    held = torch.ones(BIG)  # 1 GiB
    process = multiprocessing.get_context("spawn").Process(target=child, args=(there,))
    process.start()
    assert 0 < here.recv() < held.nbytes
    process.join()
