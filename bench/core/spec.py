"""The words of a run: what was asked, as frozen data, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

SCALES = ("smoke", "small", "full")
"""How big a run is; `shape` is the fourth scale of records, written by `bench measure` only."""

GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
"""The nine tasks that a GLUE average may hold, in the benchmark's order."""

RECORD_SCALES = (*SCALES, "shape")


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
