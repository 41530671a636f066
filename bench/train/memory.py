"""Peak memory of training: of the device's allocator on a GPU, of the resident process on a CPU."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
PEAK = "5"
"""What Linux takes there to begin the peak of a process anew; other systems count from its start."""


def restart_peak(device: torch.device) -> None:
    """Count the peak from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            CLEAR_REFS.write_text(PEAK)


def peak_bytes(device: torch.device) -> int:
    """The peak since `restart_peak`; on a CPU of another system than Linux, since the process began."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if (found := _high_water_mark()) is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _high_water_mark() -> int | None:
    """What Linux says; getrusage also counts what the process that started this one held."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
