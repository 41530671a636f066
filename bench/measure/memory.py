"""The most memory that a block of code held at once.

On a GPU this is what torch's allocator gave out at most. On the CPU it is the process's resident memory: the kernel's
own high-water mark when the block raised it (exact), else a reading every few milliseconds, which can miss a peak
shorter than that.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

import psutil
import torch

INTERVAL_S = 0.002
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Context manager: `bytes` is the peak's increase over the start of the block, `peak_bytes` the peak itself.

    Both are set when the block ends, also when it ends with an error. CPU blocks may be nested; blocks on one GPU may
    not, since its peak has to be reset at the start.
    """

    def __init__(self, device: torch.device | str = "cpu", interval_s: float = INTERVAL_S):
        self.device = torch.device(device)
        self.bytes = 0
        self.peak_bytes = 0
        self._interval_s = interval_s
        self._start = 0
        self._mark: int | None = None
        self._sampled = 0
        self._done = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start = torch.cuda.memory_allocated(self.device)
            return self
        self._start = self._sampled = _resident()
        self._mark = _high_water()
        self._done.clear()
        self._sampler = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            assert self._sampler is not None, "entered before left"
            self._done.set()
            self._sampler.join()
            peak = max(self._sampled, _resident())
            mark = _high_water()
            if mark is not None and self._mark is not None and mark > self._mark:
                peak = max(peak, mark)
        self.peak_bytes = peak
        self.bytes = max(0, peak - self._start)

    def _sample(self) -> None:
        while not self._done.wait(self._interval_s):
            self._sampled = max(self._sampled, _resident())


def _resident() -> int:
    return psutil.Process().memory_info().rss


def _high_water() -> int | None:
    """The kernel's peak of this process's resident memory, in bytes; None where the system does not tell."""
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
