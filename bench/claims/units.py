"""What a printed number may be: the tasks, metrics, splits and units of the ledgers, and how units become records'.

Records hold fractions, counts, bytes, seconds and ratios; papers print percent, millions, "40% fewer" and "60% faster".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.core.meaning import CORRELATIONS, SHARES

Direction = Literal["higher", "lower", "match"]
"""Which way is better; `match`: neither, the number should simply be that."""

TEST_SERVER = "test-server"
"""The split of numbers that only the GLUE server can give: never compared with dev numbers."""

_DEV = ("validation", TEST_SERVER)

TASK_METRICS: Mapping[str, tuple[str, ...]] = {
    "cola": ("matthews", "accuracy"),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "qqp": ("accuracy", "f1"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
    "ax": ("matthews",),
    "imdb": ("accuracy",),
    "squad": ("f1", "exact_match"),
    "squad2": ("exact_match", "f1"),
    "conll2003": ("f1",),
}
"""task -> its quality metrics, the primary one first (a test holds this equal to the task table of the data)."""

PRINTED_ONLY = frozenset({"squad2"})
"""Of these, tasks that papers print numbers of and whose data nothing here reads (the same test)."""

TASK_SPLITS: Mapping[str, tuple[str, ...]] = {
    **{task: _DEV for task in TASK_METRICS},
    "mnli": ("validation_matched", "validation_mismatched", f"{TEST_SERVER}_matched", f"{TEST_SERVER}_mismatched"),
    "ax": (TEST_SERVER,),
    "imdb": ("test",),
    "conll2003": ("validation", "test"),
}
"""task -> the splits that a quality claim may be about."""


def dev_split(split: str) -> str:
    """The split on which our runs score what was printed on a split of the test server."""
    return split.replace(TEST_SERVER, "validation")


AVERAGE = "average"
"""The metric of a claim whose number is a mean over tasks."""


@dataclass(frozen=True, slots=True)
class Unit:
    """How a printed unit relates to the unit of records, and what range a printed value may have."""

    to_record: Callable[[float], float]
    to_print: Callable[[float], float]
    low: float = 0.0
    high: float = float("inf")
    falling: bool = False
    """Whether a larger printed value is a smaller value in records, as in "40% fewer"."""


def _scaled(factor: float, low: float = 0.0, high: float = float("inf")) -> Unit:
    return Unit(lambda value: value * factor, lambda value: value / factor, low, high)


UNITS: Mapping[str, Unit] = {
    "%": _scaled(0.01, 0.0, 100.0),
    "x100": _scaled(0.01, -100.0, 100.0),
    "% of": _scaled(0.01, 0.0, 200.0),
    "points": _scaled(0.01, -100.0, 100.0),
    "fraction": _scaled(1.0, -1.0, 1.0),
    "count": _scaled(1.0),
    "M": _scaled(1e6),
    "GFLOP": _scaled(1e9),
    "MB": _scaled(1e6),
    "MiB": _scaled(2.0**20),
    "s": _scaled(1.0),
    "ms": _scaled(1e-3),
    "hours": _scaled(3600.0),
    "x": _scaled(1.0),
    "% faster": Unit(lambda value: 1 + value / 100, lambda value: (value - 1) * 100, -100.0),
    "% of time": Unit(lambda value: 100 / value, lambda value: 100 / value, 1e-9, falling=True),
    "% fewer": Unit(lambda value: 1 - value / 100, lambda value: (1 - value) * 100, 0.0, 100.0, falling=True),
    "x smaller": Unit(lambda value: 1 / value, lambda value: 1 / value, 1e-9, falling=True),
}
"""`%` is a score, `% of` a share of the teacher's score or size (a student may pass 100), `points` a difference;
`% of time` is a speed-up told as the share of the other model's time."""

_SHARE = ("% of", "x", "% fewer", "x smaller")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: the kinds of claim that may name it, the units it may be printed in, and which way is better."""

    kinds: tuple[str, ...]
    units: tuple[str, ...]
    better: Direction


METRICS: Mapping[str, Metric] = {
    **{name: Metric(("quality", "retention"), ("%", "fraction"), "higher") for name in SHARES},
    **{name: Metric(("quality", "retention"), ("x100", "fraction"), "higher") for name in CORRELATIONS},
    AVERAGE: Metric(("quality", "retention"), ("%", "x100", "fraction"), "higher"),
    "parameters": Metric(("size",), ("M", "count"), "match"),
    "parameters_without_embeddings": Metric(("size",), ("M", "count"), "match"),
    "size_bytes": Metric(("size",), ("MB", "MiB"), "match"),
    "parameters_ratio": Metric(("size",), _SHARE, "lower"),
    "size_ratio": Metric(("size",), _SHARE, "lower"),
    "flops": Metric(("flops",), ("GFLOP",), "match"),
    "flops_ratio": Metric(("flops",), _SHARE, "lower"),
    "speedup": Metric(("speed",), ("x", "% faster", "% of time"), "higher"),
    "latency_s": Metric(("speed",), ("s", "ms"), "lower"),
    "pass_seconds": Metric(("speed",), ("s",), "lower"),
    "training_seconds": Metric(("cost",), ("s", "hours"), "lower"),
}
"""`pass_seconds` is one pass over a whole data split, which no run here times: such claims need their own device."""

RELATIVE_UNITS = {"ratio_to": ("x",), "percent_of": ("% of",), "difference_to": ("points",)}
"""derive -> the units that a derived claim may be printed in."""

SPEED_AND_SIZE = ("size", "flops", "speed", "cost")


def quality(metric: str) -> bool:
    """Whether a metric says how well predictions fit labels. Raises: KeyError for an unknown one."""
    return "quality" in METRICS[metric].kinds
