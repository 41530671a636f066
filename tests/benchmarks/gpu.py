"""What the suite makes of a GPU: training by each engine and by a stock Trainer, distillation, evaluation, measuring.

    python tests/benchmarks/gpu.py                            at most 4 minutes on an H100; --minutes N gives it more
    python tests/benchmarks/gpu.py --tiny                     its small form, some seconds on a CPU
    python tests/benchmarks/gpu.py --only equal,resume        some of its sections

Models have random weights and data is made up, so nothing is fetched. A section that fails prints why, and the others
go on. The last line is one JSON object: the figures. Checks stand among them: `equal` is the largest difference of a
loss between steps as graphs and the same steps one operation after another, `resume` whether a stopped training ended
bit for bit as one that was not stopped.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import transformers
from gpu_parts import checks, speed
from gpu_parts.work import FULL, TINY, Work

Section = Callable[[Work], dict[str, float]]
SECTIONS: dict[str, tuple[Section, int]] = {
    "matmul": (speed.matmul, 15),
    "small": (speed.small, 40),
    "base": (speed.base, 40),
    "stock": (speed.stock, 45),
    "soft": (checks.soft, 20),
    "equal": (checks.equal, 50),
    "distil": (speed.distil, 50),
    "resume": (checks.resume, 40),
    "answers": (speed.answers, 30),
    "recover": (checks.recover, 20),
    "measure": (speed.measure, 70),
    "compiled": (speed.compiled, 90),
    "stock_compiled": (speed.stock_compiled, 90),
}
"""Name -> what it does, and its most seconds; in the order of their worth, so that what time allows is whole."""


def run(work: Work, names: list[str], minutes: float) -> dict[str, float]:
    """The figures of these sections, as far as the minutes go."""
    started, figures = time.monotonic(), {}
    for name in names:
        left = 60 * minutes - (time.monotonic() - started)
        if left < work.least_s:
            print(f"{name:10} left out: {left:.0f} s are left", flush=True)
            continue
        section, most = SECTIONS[name]
        began = time.monotonic()
        try:
            with _within(min(most, left)):
                found = section(work)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            found = {f"{name}_failed": 1.0}
        work.tidy()
        figures |= found
        shown = "  ".join(f"{key} {value:,.6g}" for key, value in found.items())
        print(f"{name:10} {time.monotonic() - began:6.1f} s  {shown}", flush=True)
    return figures


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside after these seconds; the main thread only."""

    def late(signum: int, frame: object) -> None:
        raise TimeoutError(f"{seconds:.0f} s were not enough")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--only", default=",".join(SECTIONS))
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    work = Work(TINY if arguments.tiny else FULL)
    print(f"device {work.name}, torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    figures = run(work, arguments.only.split(","), arguments.minutes)
    where = {"device": work.name, "torch": torch.__version__}
    print(json.dumps(where | {name: float(f"{value:.5g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
