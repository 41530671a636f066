"""Under what a time was taken, as the split of its measurement says it: `batch1-length128-int8-text`."""

from __future__ import annotations

import re
from typing import NamedTuple

_SPLIT = re.compile(r"batch(\d+)-length(\d+)(?:-(.+?))??(-text)?")


class Condition(NamedTuple):
    """What every pass of one time has in common."""

    batch: int
    length: int
    """Tokens of each example"""
    backend: str = ""
    """Empty for eager"""
    text: bool = False
    """Whether each model reads the text first, by its own tokeniser"""

    def __str__(self) -> str:
        backend = f"-{self.backend}" if self.backend else ""
        return f"batch{self.batch}-length{self.length}{backend}{'-text' * self.text}"


def condition(split: str) -> Condition | None:
    """The condition that a split says; None where it says none."""
    found = _SPLIT.fullmatch(split)
    return Condition(int(found[1]), int(found[2]), found[3] or "", bool(found[4])) if found else None


def of_model_alone(split: str) -> str:
    """The same condition without the time for text: two copies of a model do not differ in how they read."""
    found = condition(split)
    return str(found._replace(text=False)) if found else split
