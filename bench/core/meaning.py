"""What the numbers and names of a record may be, beyond their types: read back, they must mean something."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from bench.core.names import stays_in_folder
from bench.core.record import Answers, Measurement, Packed, Record

SHARES = ("accuracy", "f1", "exact_match")
"""Scores between 0 and 1."""
CORRELATIONS = ("matthews", "pearson", "spearman")
"""Scores between -1 and 1, which are 0 for whatever does not look at its input."""
SCORES = {*SHARES, *CORRELATIONS, "majority"}
UNITS = {"fraction", "s", "bytes", "count", "flop", "examples/s", "ratio", "logit", "one"}
"""What is measured in: an unknown unit would have no range."""
SIGNED_RATIOS = {"retention"}
"""Of correlations; other ratios are of sizes and times."""
POSITIVE = {"s", "bytes", "count", "flop", "examples/s", "ratio"}
"""Units of what is measured of a thing that is there."""

CODES = {"correct": "uint1", "predictions": "", "f1": "float16"}
"""What is kept of each row -> how; predictions are labels of any width, or scores."""


_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SHA256 = re.compile("[0-9a-f]{64}")


def is_moment(text: str) -> bool:
    """Whether a text is a moment that exists, in UTC: 2026-01-31T12:00:00Z."""
    try:
        return _MOMENT.fullmatch(text) is not None and datetime.fromisoformat(text) is not None
    except ValueError:
        return False


def wrong_measurement(m: Measurement) -> str:
    """What a measurement cannot be: its unit, its value or a sample; empty where it can be."""
    if m.unit not in UNITS or _unit_of(m.metric, m.unit) != m.unit:
        return f"{m.metric} in {m.unit!r}, expected {_unit_of(m.metric, 'one of ' + ', '.join(sorted(UNITS)))}"
    values = m.samples if m.value is None else (m.value, *m.samples)
    return next((found for value in values if (found := _wrong_value(m, value))), "")


def _unit_of(metric: str, other: str) -> str:
    """The unit of a metric whose name tells it, else the other one."""
    if metric in SCORES:
        return "fraction"
    if metric.endswith(("_s", "_seconds")):
        return "s"
    return "bytes" if metric.endswith("_bytes") else other


def _wrong_value(m: Measurement, value: float) -> str:
    if m.unit == "fraction":
        low = -1.0 if m.metric in CORRELATIONS or m.metric not in SCORES else 0.0
        # A mean of many numbers may be off by the last bit.
        return "" if low <= value <= 1.0 + 1e-9 else f"{m.metric} of {value}, expected {low:.0f} to 1"
    if m.unit in POSITIVE and value <= 0.0:
        none = value == 0.0 and m.metric.startswith("training_")  # a chain may hold no training
        if not none and m.metric not in SIGNED_RATIOS:
            return f"{m.metric} of {value}, expected more than 0"
    return ""


def wrong(record: Record) -> str:
    """What of a record means nothing; empty where all does."""
    if found := _wrong_identity(record):
        return found
    for m in record.measurements:
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


def _wrong_identity(record: Record) -> str:
    """What cannot be right of what a record says of itself: its names, its moment, its hashes, how it ended."""
    spec, teacher = record.spec, record.teacher
    for name in (spec.paper, spec.variant, spec.task, record.id, *([teacher.record] if teacher else ())):
        if not stays_in_folder(name):
            return f"a name that cannot be part of a path: {name!r}"
    if not is_moment(record.started):
        return f"started {record.started!r}, expected a moment in UTC, 2026-01-31T12:00:00Z"
    hashes = [record.hash, *(one.sha256 for one in record.artefacts)]
    if record.data:
        hashes += [record.data.sha256, *([record.data.encoder] if record.data.encoder else ())]
    for sha256 in hashes:
        if not _SHA256.fullmatch(sha256):
            return f"a hash {sha256!r}, expected 64 hexadecimal digits"
    if bool(record.reason) != (record.status == "failed"):
        return f"status {record.status} with the reason {record.reason!r}"
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
