"""Named baselines: which records a later state is compared with. One immutable file each, results/baselines/NAME.json.

A baseline names records by path and sha256; it holds none. What it names must lie there unchanged, or it is of no use:
whatever is gone is named. One baseline of a folder may be promoted: it is the one that `bench regress` takes unasked.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bench.core import environment, files, meaning, store
from bench.core import names as naming
from bench.core.errors import RecordError, SpecError
from bench.core.record import Record, moment
from bench.core.sidecar import read_file
from bench.core.spec import RECORD_SCALES, record_scales

FOLDER = "baselines"
PROMOTED = "promoted"
"""The file that holds the name of the promoted baseline."""


def _record_path(path: str) -> str:
    scale, *parts = path.split("/")
    fits = scale in RECORD_SCALES and len(parts) == 4 and all(map(naming.stays_in_folder, parts))
    if not (fits and path.endswith(".json")):
        raise ValueError("expected the path of a record, SCALE/PAPER/VARIANT/TASK/ID.json")
    return path


def _moment(text: str) -> str:
    if not meaning.is_moment(text):
        raise ValueError("expected a moment, 2026-01-31T12:00:00Z")
    return text


def _named_once(named: tuple[Named, ...]) -> tuple[Named, ...]:
    double = [path for path, times in Counter(one.path for one in named).items() if times > 1]
    if double or not named:
        raise ValueError(f"expected each record once, found {double[0]} twice" if double else "expected a record")
    return named


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Named(_Part):
    """A record of a baseline."""

    path: Annotated[str, AfterValidator(_record_path)]
    """Below the results folder; it cannot leave it."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def id(self) -> str:
        """The record's id, which is its file's name."""
        return self.path.rpartition("/")[2].removesuffix(".json")


class Baseline(_Part):
    """What results/baselines/NAME.json holds."""

    format: Literal[1] = 1
    name: str
    why: str = Field(pattern=r"\S")
    date: Annotated[str, AfterValidator(_moment)]
    """When it was set: UTC, ISO 8601."""
    commit: str = Field(pattern="^([0-9a-f]{40}([0-9a-f]{24})?)?$")
    """Of the code that set it; empty outside git."""
    dirty: bool
    records: Annotated[tuple[Named, ...], AfterValidator(_named_once)]


def set_(results: Path, name: str, why: str, papers: Sequence[str] = (), variants: Sequence[str] = (),
         scales: Sequence[str] = ()) -> Baseline:  # fmt: skip
    """Name the records of a folder, all or those of some papers, variants and scales; writes the baseline.

    Raises SpecError for a name that is taken or cannot be one, for no reason, and for scales that are none; RecordError
    where there is nothing to name, and for a record from the future: a clock ran backwards.
    """
    path = _path(results, name)
    if not why.strip():
        raise SpecError("a baseline needs a reason", where="--why", fix='--why "before torch 2.16"')
    wanted = record_scales(scales)
    _not_taken(path, name)
    now = moment(datetime.now(UTC))
    named = []
    for where, content, record in store.each_file(results, wanted):
        spec = record.spec
        if (papers and spec.paper not in papers) or (variants and spec.variant not in variants):
            continue
        if record.started > now:
            raise RecordError("a record is from the future: the clock ran backwards", where=results / where,
                              found=record.started, expected=f"at most {now}", fix="set the clock")  # fmt: skip
        named.append(Named(path=where.replace(os.sep, "/"), sha256=hashlib.sha256(content).hexdigest()))
    if not named:
        raise RecordError(
            "there are no records to name", where=results, fix="bench run or bench measure, or other selectors"
        )
    code = environment.code_state()
    made = Baseline(name=name, why=why.strip(), date=now, commit=code.commit, dirty=code.dirty, records=tuple(named))
    try:
        files.create_atomic(path, made.model_dump_json(indent=1) + "\n")
    except FileExistsError:
        _not_taken(path, name)
        raise
    except OSError as error:
        raise RecordError("the baseline cannot be written", where=path, found=error.strerror or error) from error
    return made


def _not_taken(path: Path, name: str) -> None:
    if os.path.lexists(path):
        raise SpecError("the baseline exists, and is never overwritten", where=path, found=name,
                        expected="a new name", fix="bench baseline list")  # fmt: skip


def names(results: Path) -> list[str]:
    """The names of a folder's baselines, sorted."""
    return sorted(path.stem for path in (results / FOLDER).glob("*.json") if path.name[0] != ".")


def read(path: Path) -> Baseline:
    """A baseline from its file.  Raises RecordError where it is none, SpecError where there is none."""
    try:
        content = read_file(path, "the baseline")
    except RecordError:
        if os.path.lexists(path):
            raise
        have = ", ".join(names(path.parent.parent)) or "none"
        raise SpecError("there is no such baseline", where=path.parent, found=path.stem, expected=f"one of: {have}",
                        fix=f"bench baseline set {path.stem} --why TEXT") from None  # fmt: skip
    try:
        found = Baseline.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        told = first["msg"].removeprefix("Value error, ")
        raise RecordError("the baseline is malformed", where=f"{path}, field {field}", found=told,
                          fix="restore it from git, or set another one") from error  # fmt: skip
    if found.name != path.stem:
        raise RecordError("the baseline is not at its place", where=path, found=found.name, expected=path.stem,
                          fix="restore it from git, or set another one")  # fmt: skip
    return found


def load(results: Path, name: str = "") -> Baseline:
    """The baseline of this name; without one the promoted one, or the only one there is.

    Raises SpecError where it is not clear which is meant, and as `read` does.
    """
    name = name or promoted(results)
    have = names(results)
    if not name and len(have) == 1:
        name = have[0]
    if not name:
        fix = "bench baseline set NAME --why TEXT" if not have else "bench baseline promote NAME, or give --baseline"
        raise SpecError("it is not said which baseline is meant", where=results / FOLDER,
                        found=", ".join(have) or "none", expected="one, or a promoted one", fix=fix)  # fmt: skip
    return read(_path(results, name))


def promoted(results: Path) -> str:
    """The name of the promoted baseline, or empty."""
    try:
        return (results / FOLDER / PROMOTED).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def promote(results: Path, name: str) -> Baseline:
    """Make a baseline the one that is taken unasked.  Raises: as `read` does."""
    found = read(_path(results, name))
    store.write_atomic(results / FOLDER / PROMOTED, name + "\n")
    return found


def each(results: Path, baseline: Baseline) -> Iterator[Record]:
    """The records of a baseline, read one by one.

    Raises RecordError, which counts and names them, where some are gone or are no longer what they were.
    """
    lost: list[str] = []
    for named in baseline.records:
        content, reason = _content(results, named)
        if reason:
            lost.append(reason)
        elif not lost:
            yield store.parsed(results / named.path, content)
    if lost:
        shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        raise RecordError("records of the baseline are not there", where=results / FOLDER / f"{baseline.name}.json",
                          found=f"{len(lost)} of {len(baseline.records)}: {shown}",
                          fix="restore them from git, or set another baseline")  # fmt: skip


def gone(results: Path, baseline: Baseline) -> list[str]:
    """What of a baseline's records is not there as it was, a line each."""
    return [reason for named in baseline.records if (reason := _content(results, named)[1])]


def _content(results: Path, named: Named) -> tuple[bytes, str]:
    """What a record's file holds, and why that is not what the baseline named; empty where it is."""
    try:
        content = read_file(results / named.path, "the record")
    except RecordError:
        return b"", f"{named.path} is gone"
    changed = hashlib.sha256(content).hexdigest() != named.sha256
    return content, f"{named.path} has changed" if changed else ""


def _path(results: Path, name: str) -> Path:
    if not naming.stays_in_folder(name):
        raise SpecError("a baseline cannot have this name", found=repr(name), expected=naming.EXPECTED)
    return results / FOLDER / f"{name}.json"
