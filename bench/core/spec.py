"""The words of a run: what was asked, as frozen data, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.core.errors import SpecError

SCALES = ("smoke", "small", "full")
"""How big a run is; `shape` is the fourth scale of records, written by `bench measure` only."""

GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
"""The nine tasks that a GLUE average may hold, in the benchmark's order."""

RECORD_SCALES = (*SCALES, "shape")


def record_scales(asked: Sequence[str]) -> tuple[str, ...]:
    """The scales of records that were asked for, or all. Raises SpecError for an unknown one."""
    if unknown := sorted(set(asked) - set(RECORD_SCALES)):
        raise SpecError("unknown --scale", found=unknown[0], expected=f"one of {', '.join(RECORD_SCALES)}",
                        fix="leave it out for all")  # fmt: skip
    return tuple(dict.fromkeys(asked)) or RECORD_SCALES


@dataclass(frozen=True, slots=True, order=True)
class Spec:
    """One run: it ends in exactly one record."""

    paper: str
    variant: str
    task: str
    scale: str
    seed: int

    def __str__(self) -> str:
        return f"{self.paper}/{self.variant}/{self.task}/{self.scale}/s{self.seed}"

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


def digest(content: object) -> str:
    """The sha256 of any JSON-able content, independent of key order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
