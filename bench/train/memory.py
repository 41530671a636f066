"""Peak memory of training: of the device's allocator on a GPU, of the resident process on a CPU."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

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
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
