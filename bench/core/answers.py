"""What a model answered to each row of a scored split, as its record keeps it: packed, and unpacked again.

Of a task with labels `correct` is one bit a row, and `predictions` are the labels themselves where a metric needs them
(F1, Matthews). Of a task with scores there are `predictions` alone, in float16. Of a task of spans `correct` is the
exact match and `f1` the F1 of a row's words, in float16; of one of tags `correct` says that all tags of a sentence are
right, and `f1` is that of its entities (1 where neither side has one): it is what a sentence adds, and its mean is not
the F1 over all sentences. The order is that of the split's rows, and `rows_sha256` tells whether two records scored the
same ones. Bits are packed from the highest of each byte on, the last byte filled with zeros.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Literal

import numpy as np

from bench.core.errors import RecordError
from bench.core.record import WIDTHS, Answers, Packed, Record
from bench.core.sidecar import FIX, packed_bytes
from bench.core.store import folder_of

LARGEST = 65_504.0
"""Of a float16: a score beyond it, of a model that went astray, is kept as this."""

Code = Literal["uint1", "uint2", "uint4", "uint8", "float16"]


def label_code(labels: int) -> Code:
    """The narrowest code for so many labels."""
    return next(code for code in ("uint1", "uint2", "uint4", "uint8") if labels <= 2 ** WIDTHS[code])


def pack(values: np.ndarray, code: Code) -> Packed:
    """Numbers [N] as a record keeps them. Raises RecordError for one that the code does not have."""
    width = WIDTHS[code]
    good = np.isfinite(values) if code == "float16" else (values >= 0) & (values < 2**width)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise RecordError("an answer cannot be kept", where=f"row {row}", found=values[row], expected=code)
    if code == "float16":
        raw = np.clip(values, -LARGEST, LARGEST).astype("<f2").tobytes()
    else:
        shifts = np.arange(width - 1, -1, -1, dtype=np.uint8)
        raw = np.packbits(values.astype(np.uint8)[:, None] >> shifts & 1).tobytes()  # of bits [N, width]
    return Packed(code=code, base64=base64.b64encode(raw).decode())


def unpack(packed: Packed, rows: int, folder: Path | None = None) -> np.ndarray:
    """The numbers again, [rows]: uint8, or float32 of float16. Raises RecordError as `packed_bytes` does."""
    raw, width = packed_bytes(packed, folder), WIDTHS[packed.code]
    if len(raw) != packed.bytes_of(rows):
        raise RecordError("the answers are damaged", found=f"{len(raw)} bytes", fix=FIX,
                          expected=f"{packed.bytes_of(rows)} for {rows} rows")  # fmt: skip
    if packed.code == "float16":
        return np.frombuffer(raw, "<f2").astype(np.float32)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=rows * width).reshape(rows, width)
    return (bits << np.arange(width - 1, -1, -1, dtype=np.uint8)).sum(1, dtype=np.uint8)


def answers_of(
    rows_sha256: str, correct: np.ndarray | None = None, predictions: np.ndarray | None = None, labels: int = 0,
    f1: np.ndarray | None = None,
) -> Answers:  # fmt: skip
    """The answers to N rows; each array is [N]. Predictions are ids of so many labels; scores where `labels` is 0."""
    [rows] = {len(one) for one in (correct, predictions, f1) if one is not None}
    return Answers(
        n=rows, rows_sha256=rows_sha256[:16],
        correct=None if correct is None else pack(correct, "uint1"),
        predictions=None if predictions is None else pack(predictions, label_code(labels) if labels else "float16"),
        f1=None if f1 is None else pack(f1, "float16"),
    )  # fmt: skip


def correct(record: Record, split: str, results: Path | None = None) -> np.ndarray | None:
    """Which rows the model got right, bool [N]; None where the record does not say.

    `results` is the results folder that the record is from: large answers lie in a file beside it.
    Raises RecordError where they are damaged or not there.
    """
    found = _kept(record, split, "correct", results)
    return None if found is None else found.astype(bool)


def predictions(record: Record, split: str, results: Path | None = None) -> np.ndarray | None:
    """What the model said of each row: label ids uint8 [N], or scores float32 [N]. None and raises: as `correct`."""
    return _kept(record, split, "predictions", results)


def f1(record: Record, split: str, results: Path | None = None) -> np.ndarray | None:
    """The F1 of each question's words or sentence's entities, float32 [N]. None and raises: as `correct`."""
    return _kept(record, split, "f1", results)


def _kept(record: Record, split: str, name: str, results: Path | None) -> np.ndarray | None:
    answers = record.answers.get(split)
    packed: Packed | None = getattr(answers, name, None)
    if answers is None or packed is None:
        return None
    try:
        return unpack(packed, answers.n, None if results is None else folder_of(results, record))
    except RecordError as error:
        raise RecordError(f"{name} of {split} cannot be read", where=record.id, found=error) from error
