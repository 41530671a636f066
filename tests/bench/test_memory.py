"""Peak memory: a known allocation is seen, also when it is gone before the block ends."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from bench.measure import memory
from bench.measure.memory import PeakMemory

MIB = 2**20


def touch(mebibytes: int) -> np.ndarray:
    """Fresh memory that is really used: every page is written."""
    return np.full(mebibytes * MIB, 1, dtype=np.uint8)


def test_a_passing_allocation_is_seen() -> None:
    with PeakMemory() as peak:
        held = touch(96)
        assert held[-1] == 1
        del held
    assert 90 * MIB < peak.bytes < 200 * MIB
    assert peak.peak_bytes > peak.bytes


def test_without_the_kernels_mark_the_sampler_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_high_water", lambda: None)
    with PeakMemory(interval_s=0.001) as peak:
        held = touch(96)
        threading.Event().wait(0.1)
        del held
    assert 90 * MIB < peak.bytes < 200 * MIB


def test_an_earlier_higher_peak_is_not_taken_for_this_blocks() -> None:
    with PeakMemory() as outer:
        held = touch(128)
        del held
        with PeakMemory() as inner:
            pass
    assert inner.bytes < 64 * MIB < outer.bytes


def test_it_can_be_used_again_and_survives_an_error() -> None:
    peak = PeakMemory()
    with pytest.raises(RuntimeError, match="inside"), peak:
        held = touch(64)
        del held
        raise RuntimeError("inside")
    assert peak.peak_bytes > 0
    first = peak.peak_bytes
    with peak:
        pass
    assert 0 < peak.peak_bytes <= first
    assert not [thread for thread in threading.enumerate() if thread.name == "peak-memory"]


def test_the_mark_is_read_in_bytes() -> None:
    mark = memory._high_water()
    if mark is None:
        pytest.skip("this system has no VmHWM")
    # The kernel keeps both counts lazily, a few hundred pages apart at most.
    assert memory._resident() - 4 * MIB < mark < 2**45


@pytest.mark.gpu
def test_peak_on_a_gpu() -> None:
    with PeakMemory("cuda") as peak:
        held = torch.ones(64 * MIB, dtype=torch.uint8, device="cuda")
        del held
    assert peak.bytes == 64 * MIB
