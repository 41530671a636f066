"""Which of several series speaks first: the one order of preference, which verdicts, tables and exports share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from bench.judge.runs import Settings

TIERS = ("exact", "checkpoint", "reduced", "proxy")
"""From closest to the paper to farthest."""

SCALE_ORDER = ("full", "shape", "small", "smoke")

ROW_LIMITS = ("limit", "dev_limit")
OF_ONE_TASK = (*ROW_LIMITS, "epochs")
"""Parts of a budget, by the last word of their name, that may differ between the tasks of one suite."""

PACE = ("lr", "batch_size", "batch_tokens")
"""Settings, by the last word of their name, that are tuned to a budget and leave the method the recipe's."""


class Standing(NamedTuple):
    """The order of preference, of series and of suites alike: what differs first decides, and larger speaks first."""

    tier: int
    """The closest to the paper is the largest, and so with scales."""
    scale: int
    repeated: bool
    """Two seeds or more"""
    own: bool
    """Whether method and labels are the recipe's: budgets, and the PACE that is tuned to them, may be set."""
    budget: float
    """See `budget_size`; of a suite, what its tasks share."""
    untuned: bool
    """Whether nothing but budgets was set"""
    tasks: int
    """Of a suite; 0 for a series"""
    whole: bool
    """Whether all rows of the scored splits were scored"""
    seeds: int
    newest: tuple[str, str]
    """(start, id) of its newest run"""


def standing(tier: str, scale: str, seeds: int, settings: Settings, newest: tuple[str, str]) -> Standing:
    """Where a series stands."""
    budget = settings.budget
    own = own_method(settings) and budget.get("labels") is None
    return Standing(
        -TIERS.index(tier), -SCALE_ORDER.index(scale), seeds > 1, own, budget_size(budget), not _set(settings), 0,
        budget.get("dev_limit") is None, seeds, newest,
    )  # fmt: skip


def budget_size(budget: Mapping[str, object]) -> float:
    """One number that grows with every part of a budget: the sum of their logarithms, None being without limit.

    Rows are those that are learnt from: neither what is scored nor text without labels.
    """
    rows = [value for name in ("limit", "labels") if isinstance(value := budget.get(name), int | float)]
    others = (value for name, value in budget.items() if name not in (*ROW_LIMITS, "labels"))
    parts = (1e12 if value is None else value for value in (min(rows, default=None), *others))
    return math.fsum(math.log(part) for part in parts if isinstance(part, int | float) and part > 0)


def shared(budget: Mapping[str, object]) -> dict[str, object]:
    """What of a budget the tasks of one suite share."""
    return {name: value for name, value in budget.items() if last_word(name) not in OF_ONE_TASK}


def own_method(settings: Settings) -> bool:
    """Whether `--set` left the method the recipe's: budgets and the PACE that is tuned to them apart."""
    return all(last_word(name) in PACE for name in _set(settings))


def _set(settings: Settings) -> set[str]:
    """What `--set` changed beside budgets."""
    return settings.changes.keys() - settings.budget.keys()


def last_word(name: str) -> str:
    """`epochs` of `fine_tune.epochs`"""
    return name.rpartition(".")[2]
