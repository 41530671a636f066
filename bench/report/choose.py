"""`bench choose`: which systems fit a device, best first, each number said to be printed or measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import SpecError
from bench.report.choices import TOGETHER, Bounds, Choice, choice
from bench.report.listing import read
from bench.report.numbers import show
from bench.report.systems import common, systems, timings

LACKS = {"--max-mb": "no size", "--min-speedup": "no speed", "--min-retention": "no score",
         TOGETHER: "small as a packed file, fast in a larger form"}  # fmt: skip
"""A bound -> why a system without a number for it is left out."""

NEAR = 1.1
"""A system that misses a bound by no larger ratio is named: the bound may have been a round number."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The systems that fit, best first; where none does, the nearest one."""

    fitting: tuple[Choice, ...]
    missed: tuple[Choice, ...]
    """Systems that miss the bounds by a tenth at most, the nearest first."""
    nearest: Choice | None
    unknown: tuple[tuple[Choice, str], ...]
    """Systems that have no number for a bound, each with what is said of it."""
    printed_only: bool
    """Whether there is no record: then nothing was measured."""
    task: str
    """The one on which most systems can be compared, or empty."""


def choose(results: Sequence[Path], bounds: Bounds) -> Answer:
    """What fits, by the records of all folders.

    Raises: SpecError for a bound that cannot be met by any number, or an unknown machine.
    """
    for name, value in (("--max-mb", bounds.max_mb), ("--min-speedup", bounds.min_speedup),
                        ("--min-retention", bounds.min_retention)):  # fmt: skip
        if value is not None and not (math.isfinite(value) and value > 0):
            raise SpecError(f"{name} is no bound", found=value, expected="a number above 0", fix="bench choose --help")
    if bounds.min_retention is not None and bounds.min_retention <= 1:
        raise SpecError("--min-retention is in percent", found=bounds.min_retention, expected="a number like 95",
                        fix=f"--min-retention {100 * bounds.min_retention:g}")  # fmt: skip
    ledgers, book, judged = read(*results)
    index, views = book.index, systems(ledgers, judged, book)
    timed = {one.machine for view in views for one in timings(view, index)}
    if bounds.machine and bounds.machine not in timed:
        raise SpecError("nothing was timed on this machine", found=bounds.machine,
                        expected=f"one of {', '.join(sorted(timed)) or 'none'}",
                        fix=_other(bounds.machine, timed))  # fmt: skip
    choices = [choice(view, index, bounds.machine) for view in views]
    fitting = sorted((one for one in choices if one.misses(bounds) <= 1), key=lambda one: one.goodness, reverse=True)
    missed = sorted((one for one in choices if 1 < one.misses(bounds) <= NEAR), key=lambda one: one.misses(bounds))
    nearest = _nearest(choices, bounds) if not fitting else None
    return Answer(
        tuple(fitting), tuple(missed), nearest, tuple(_unknown(choices, bounds)), not index.runs, common(views)
    )


def _other(machine: str, timed: Iterable[str]) -> str:
    """What to do where a machine has no times: there may be some with fewer threads."""
    threads = next((one for one in sorted(timed) if one.startswith(f"{machine}-")), "")
    return f"--machine {threads}" if threads else "leave it out, or bench measure on that machine"


def _unknown(choices: Sequence[Choice], bounds: Bounds) -> Iterator[tuple[Choice, str]]:
    for one in choices:
        lacks = [name for name, ratio in one.missed(bounds) if math.isinf(ratio)]
        if lacks and not any(math.isfinite(ratio) for _, ratio in one.missed(bounds)):
            untimed = lacks[0] == "--min-speedup" and bounds.machine
            yield one, f"not timed on {bounds.machine}" if untimed else LACKS[lacks[0]]


def _nearest(choices: Sequence[Choice], bounds: Bounds) -> Choice | None:
    known = [one for one in choices if math.isfinite(one.misses(bounds))]
    return min(known, key=lambda one: one.misses(bounds), default=None)


def missed_by(one: Choice, bounds: Bounds) -> str:
    """`MobileBERT (--max-mb by 2%)`"""
    told = ", ".join(f"{name} by {max(1, round(100 * (ratio - 1)))}%" for name, ratio in one.missed(bounds))
    return f"{_name(one)} ({told})"


def _name(one: Choice) -> str:
    return one.view.system.name + (" (stand-in)" if one.view.guessed else "")


def row(one: Choice, task: str) -> dict[str, str]:
    """A choice for the eye; `task` is the one on which most systems can be compared."""
    hours = one.view.device_hours
    device = one.view.cost.claim.device if one.view.cost else ""
    return {
        "system": _name(one),
        "variant": one.view.system.variant,
        "MB": f"{show(one.megabytes)} {one.megabytes_by}" if one.megabytes else "unknown",
        "speed-up": (f"{show(one.speedup)}x {one.speedup_by}" if one.speedup else "unknown")
        + (f" ({show(one.with_text)}x with its tokeniser)" if one.with_text else ""),
        "score kept": f"{show(one.retention)}% {one.retention_by}" if one.retention else "unknown",
        **({f"on {task} alone, smaller runs (rows)": str(one.smaller(task) or "")} if task else {}),
        "price": (f"{hours:,.0f} {device} hours; " if hours else "") + one.view.system.needs,
        "kernels": one.view.system.backend or "floats",
    }  # fmt: skip
