"""What the numbers and names of a record may be, beyond their types: read back, they must mean something."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from bench.core.record import Answers, Measurement, Packed, Record

SHARES = {"accuracy", "f1", "exact_match", "majority"}
"""Scores between 0 and 1; other fractions may be correlations."""
SIGNED_RATIOS = {"retention"}
"""Of correlations; other ratios are of sizes and times."""
POSITIVE = {"s", "bytes", "count", "flop", "examples/s", "ratio"}
"""Units of what is measured of a thing that is there."""

CODES = {"correct": "uint1", "predictions": "", "f1": "float16"}
"""What is kept of each row -> how; predictions are labels of any width, or scores."""


def wrong_measurement(m: Measurement) -> str:
    """What a measurement's value cannot be; empty where it can be."""
    value, unit = m.value, m.unit
    if value is None:
        return ""
    if unit == "fraction":
        low = 0.0 if m.metric in SHARES else -1.0
        # A mean of many numbers may be off by the last bit.
        return "" if low <= value <= 1.0 + 1e-9 else f"{m.metric} of {value}, expected {low:.0f} to 1"
    if unit in POSITIVE and value <= 0.0:
        none = value == 0.0 and m.metric.startswith("training_")  # a chain may hold no training
        if not none and m.metric not in SIGNED_RATIOS:
            return f"{m.metric} of {value}, expected more than 0"
    return ""


def wrong(record: Record) -> str:
    """What of a record means nothing; empty where all does."""
    for m in record.measurements:
        value = m.value
        # Nearly all are shares or more than 0, which need no second look: reports read records by the thousand.
        if value is None or (value > 0.0 and (value <= 1.0 or m.unit != "fraction")):
            continue
        if found := wrong_measurement(m):
            return f"measurement {found}"
    for split, answers in record.answers.items():
        if found := _wrong_answers(answers):
            return f"answers {split}: {found}"
    if not (_finite(record.hyper.values()) and _finite(record.environment.values())):
        return "a setting that is no finite number"
    if record.overrides and not _finite(record.overrides.values()):
        return "a setting that is no finite number"
    score = record.teacher.score if record.teacher else None
    if score is not None and not -1.0 <= score <= 1.0 + 1e-9:
        return f"a teacher's score of {score}, expected -1 to 1"
    return ""


def _wrong_answers(answers: Answers) -> str:
    """What cannot be right of answers, by their size alone: the bytes are looked at by who reads them."""
    for name, code in CODES.items():
        packed: Packed | None = getattr(answers, name)
        if packed is None:
            continue
        if code and packed.code != code:
            return f"{name} as {packed.code}, expected {code}"
        if bool(packed.base64) == bool(packed.sha256):
            return f"{name} {'both in the record and' if packed.base64 else 'neither in the record nor'} beside it"
        letters = 4 * -(-packed.bytes_of(answers.n) // 3)
        if packed.base64 and len(packed.base64) != letters:
            return f"{name} of {len(packed.base64)} letters, expected {letters} for {answers.n} rows"
    return ""


def _finite(values: Iterable[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind is float:
            if not math.isfinite(value):
                return False
        elif kind is dict:
            if not _finite(value.values()):
                return False
        elif kind is list and not _finite(value):
            return False
    return True
