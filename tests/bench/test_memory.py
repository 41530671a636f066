"""The peak of a stage is its own, not that of what the process, or the one that started it, did before."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest
import torch

from bench.train.memory import peak_bytes, restart_peak

CPU = torch.device("cpu")
BIG = 256 * 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems count from the start of the process")


def phases(tell: Connection) -> None:
    """The peak at rest, while a tensor is held, after it was given back, and after a restart."""
    restart_peak(CPU)
    told = [peak_bytes(CPU)]
    filled = torch.ones(BIG // 4)
    told.append(peak_bytes(CPU))
    del filled
    told.append(peak_bytes(CPU))
    restart_peak(CPU)
    tell.send([*told, peak_bytes(CPU)])


def rest(tell: Connection) -> None:
    restart_peak(CPU)
    tell.send([peak_bytes(CPU)])


def of_a_new_process(work: Callable[[Connection], None]) -> list[int]:
    """What it tells; in this process, whose memory many tests have used, a tensor may take no new pages."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(there,))
    process.start()
    told = here.recv()
    process.join()
    return told


def test_a_peak_before_the_restart_does_not_count() -> None:
    before, held, freed, after = of_a_new_process(phases)
    assert held >= before + 0.9 * BIG
    assert freed >= 0.99 * held, "still the peak, though the memory was given back"
    assert after < held - 0.5 * BIG


def test_a_child_does_not_count_what_its_parent_held() -> None:
    held = torch.ones(BIG)  # 1 GiB
    assert 0 < of_a_new_process(rest)[0] < held.nbytes
