"""The task table: one frozen row per task says columns, label names, splits, metrics and averages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Task:
    """One task; `splits` are the official row counts, `scored` the evaluation splits whose labels are public."""

    name: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    splits: Mapping[str, int]
    scored: tuple[str, ...]
    metrics: tuple[str, ...]
    primary: str
    averages: tuple[str, ...] = ()
    train: str = "train"
    hub: tuple[str, str, str] = field(default=("", "", ""))
    """(hub id, configuration, pinned revision)"""

    @property
    def regression(self) -> bool:
        return not self.labels

    @property
    def outputs(self) -> int:
        """Width of the classifier: one per label, or one score."""
        return max(1, len(self.labels))
