"""A record: everything that one run asked for, did and measured. results/README.md lists every key.

A record is written once and never changed. Scores are fractions, times are seconds, sizes are bytes. All numbers are
finite, and what counts or lasts is not negative; `bench.core.meaning` says what else they may be.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.core.names import PATTERN

FORMATS = (1, 2)
"""The layouts that are read. 2 added `answers`, `session` and `code.measure_hash`: a record of 1 lacks them."""
FORMAT = FORMATS[-1]
"""What is written."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0)]


def moment(at: datetime) -> str:
    """A moment, in UTC, as records say it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def record_id(started: datetime, job: str, seed: int) -> str:
    """The id of a record: when it was started, the hash of its job, and the seed."""
    return f"{started.strftime('%Y%m%dT%H%M%SZ')}-{job[:8]}-s{seed}"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Tier = Literal["exact", "checkpoint", "reduced", "proxy"]


class RunSpec(_Part):
    paper: str
    variant: str
    task: str
    scale: Literal["smoke", "small", "full", "shape"]
    seed: Count


class Code(_Part):
    commit: str
    dirty: bool
    stage_hashes: dict[str, str] = Field(default_factory=dict)
    measure_hash: str = ""
    """Of the code that measures; empty of records of format 1."""


class Data(_Part):
    source: str
    revision: str
    sha256: str
    rows: dict[str, Count]
    partial: bool
    corpus: str = ""
    """The hash of the text that it learnt from; empty where it read none, and of records that do not say it."""
    encoder: str = ""
    """The hash of the checkpoint that the reference started from; empty where one was made, and of such records."""

    @property
    def origin(self) -> str:
        """The kind of source (`hub`, `folder`, ...): one hub keeps its tasks in several repositories."""
        return self.source.partition(":")[0]


class TeacherLink(_Part):
    record: str
    score: float | None = None


class StageEntry(_Part):
    name: str
    seconds: Seconds
    steps: Count = 0
    examples: Count = 0
    first_loss: float | None = None
    last_loss: float | None = None
    peak_bytes: Count = 0
    precision: str | None = None
    engine: str | None = None
    """How its steps ran, and why so where another engine was asked for; None of records of before it existed."""
    cached: bool = False
    teacher_logits: Literal["made", "cache"] | None = None
    """Where the stage had the teacher's logits from, once per example; None where it did not ask for them."""
    corpus_tokens: Count | None = None
    """Tokens of corpus that the stage was given, once per token; None where it read none."""


class Measurement(_Part):
    metric: str
    split: str
    value: float | None
    """None when the metric is undefined on this run, for example a correlation of constant predictions."""
    unit: str
    n: Count
    samples: list[float] = Field(default_factory=list)


class Artefact(_Part):
    name: str = Field(pattern=f"^{PATTERN}$")
    """A file's name alone: it cannot leave the folder that it is looked for in."""
    sha256: str
    bytes: Count


WIDTHS = {"uint1": 1, "uint2": 2, "uint4": 4, "uint8": 8, "float16": 16}
"""Code -> bits of one number."""


class Packed(_Part):
    """One number for each row of a split, packed: either here as base64, or in a file beside the record."""

    code: Literal["uint1", "uint2", "uint4", "uint8", "float16"]
    base64: str = ""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Of the file's bytes, and its name: `answers-<the first 16 digits>.bin`; empty where `base64` holds them."""

    def bytes_of(self, rows: int) -> int:
        """How many bytes so many rows take."""
        return -(-rows * WIDTHS[self.code] // 8)


class Answers(_Part):
    """What the model answered to each row of a scored split, in the order of the rows; see `bench.core.answers`."""

    n: int = Field(ge=1, lt=2**63)
    rows_sha256: str = Field(pattern=r"^[0-9a-f]{16}$")
    """The first 16 digits of a hash of the rows that were scored: texts, labels and their order."""
    correct: Packed | None = None
    predictions: Packed | None = None
    f1: Packed | None = None


BELOW_FLOOR = "is below its floor"
"""In the reason of a failed run that was refused because its teacher guesses."""


class Record(_Part):
    format: Literal[1, 2] = FORMAT
    id: str
    status: Literal["ok", "failed"]
    reason: str = ""
    spec: RunSpec
    tier: Tier
    hyper: dict[str, Any]
    hash: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    code: Code
    environment: dict[str, Any]
    data: Data | None = None
    teacher: TeacherLink | None = None
    stages: list[StageEntry] = Field(default_factory=list)
    dev_looks: Count = 0
    measurements: list[Measurement] = Field(default_factory=list)
    answers: dict[str, Answers] = Field(default_factory=dict)
    """By split."""
    artefacts: list[Artefact] = Field(default_factory=list)
    session: str = ""
    """Shared by the records of all models that were timed in turn with each other; empty of a run."""
    started: str
    seconds: Seconds

    @property
    def changes(self) -> dict[str, Any]:
        """The overrides that are of the run's own settings; older records hold those of other runs of the plan, too."""

        def has(path: str) -> bool:
            at: Any = self.hyper
            for name in path.split("."):
                if not isinstance(at, dict) or name not in at:
                    return False
                at = at[name]
            return True

        return {path: value for path, value in self.overrides.items() if has(path)}

    def value(self, metric: str, split: str) -> float | None:
        """The value of a measurement, or None when it was not made or is undefined."""
        return next((m.value for m in self.measurements if m.metric == metric and m.split == split), None)
