"""The names that the hub gives the parts of a split: train-00000-of-00002.parquet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bench.core.errors import DataError

NAME = re.compile(r"(?P<split>.+)-(?P<number>\d{1,6})-of-(?P<count>\d{1,6})(?P<hash>-[0-9a-f]{8,})?\.parquet")
"""Older data sets have a hash behind the count."""


def shards(files: Iterable[Path], split: str, where: object) -> list[Path]:
    """The parts of a split among the files of a folder, in order; none where it has no such parts.

    Raises DataError where a part is missing or stands there twice.
    """
    found = [(match, file) for file in files if (match := NAME.fullmatch(file.name)) and match["split"] == split]
    counts = {int(match["count"]) for match, _ in found}
    if not found:
        return []
    numbers = sorted(int(match["number"]) for match, _ in found)
    if len(counts) > 1 or numbers != list(range(max(counts))):
        raise DataError(
            "the parts of a split are not complete", where=where, found=", ".join(file.name for _, file in found[:5]),
            expected=f"each part of {split} once, of one number of parts", fix="fetch those that are missing",
        )  # fmt: skip
    return [file for _, file in sorted(found, key=lambda pair: int(pair[0]["number"]))]
