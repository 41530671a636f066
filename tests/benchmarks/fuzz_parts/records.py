"""Records, baselines and leases: what lies in a results folder as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuzz_parts.mutations import as_json, changed_bytes, changed_text, changed_tree
from fuzz_parts.reader import Reader, all_finite, date, digits, plain_name, possible, same

from bench.core import answers, baseline, store
from bench.core.errors import RecordError
from bench.core.record import Measurement, Record
from bench.run import leases

RESULTS = Path(__file__).resolve().parents[3] / "results"
FRACTIONS = {"accuracy", "f1", "exact_match", "matthews", "pearson", "spearman", "majority"}
SHARES = FRACTIONS - {"matthews", "pearson", "spearman"}
MOST = 2**63


def _seeds() -> list[tuple[Path, bytes]]:
    """Records of the project: of every paper and scale one that ran, one that failed and the smallest, and one made up
    that holds every part."""
    kinds: dict[tuple[str, ...], tuple[Path, bytes]] = {}
    for path in sorted(RESULTS.glob("*/*/*/*/*.json")):
        content = path.read_bytes()
        kind = (*path.relative_to(RESULTS).parts[:2], json.loads(content)["status"])
        if kind not in kinds or len(content) < len(kinds[kind][1]):
            kinds[kind] = (path.relative_to(RESULTS), content)
    path, content = next(iter(kinds.values()))
    whole = json.loads(content) | {"format": 2, "session": "s", "answers": {"validation": {
        "n": 8, "rows_sha256": "0" * 16, "correct": {"code": "uint1", "base64": "/w=="},
        "predictions": {"code": "uint2", "base64": "AAE="},
        "f1": {"code": "float16", "base64": "A" * 22 + "=="}}}}  # fmt: skip
    return [*kinds.values(), (path, json.dumps(whole).encode())]


class Records(Reader):
    """`results/.../*.json`."""

    name, inputs = "record", 70_000

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.seeds = [(path, content) for path, content in _seeds() if len(content) < 20_000]
        for path, content in self.seeds:
            store.parsed(path, content)

    def one(self, chance: random.Random) -> None:
        path, content = chance.choice(self.seeds)
        if chance.random() < 0.3:
            self.last = (path, changed_bytes(content, chance))
        else:
            tree = changed_tree(json.loads(content), chance)
            self.last = (_place(tree) if chance.random() < 0.7 else path, as_json(tree))
        record = store.parsed(*self.last)
        _check(record)
        same(store.parsed(self.last[0], record.model_dump_json().encode()), record, "the record")


def _place(tree: Any) -> Path:
    """Where a record would lie by what it says."""
    spec = tree.get("spec") if isinstance(tree, dict) else None
    spec = spec if isinstance(spec, dict) else {}
    parts = [str(spec.get(name, "")) for name in ("scale", "paper", "variant", "task")]
    return Path("/".join([*parts, f"{tree.get('id') if isinstance(tree, dict) else ''}.json"]))


def _check(record: Record) -> None:
    """Nothing of a record that was taken is impossible."""
    spec, dumped = record.spec, record.model_dump()
    for name in (spec.paper, spec.variant, spec.task, record.id, *(one.name for one in record.artefacts)):
        possible(plain_name(name), "a name", name)
    possible(0 <= spec.seed < MOST, "a seed", spec.seed)
    possible(date(record.started), "a date", record.started)

    hashes = [record.hash, *(one.sha256 for one in record.artefacts), *([record.data.sha256] if record.data else [])]
    possible(all(digits(one, 64) for one in hashes), "a hash", hashes)
    possible(all_finite(dumped), "a number", "NaN or infinite")
    possible(bool(record.reason) == (record.status == "failed"), "a reason", record.reason)
    rows = record.data.rows if record.data else {}
    counts = [record.dev_looks, *rows.values(), *(one.bytes for one in record.artefacts)]
    for stage in record.stages:
        counts += [stage.steps, stage.examples, stage.peak_bytes, stage.corpus_tokens or 0]
        possible(stage.seconds >= 0, "a time", stage.seconds)
    possible(all(0 <= one < MOST for one in (*counts, *(m.n for m in record.measurements))), "a count", counts)
    possible(record.seconds >= 0, "a time", record.seconds)
    if record.teacher is not None:
        score = record.teacher.score
        possible(score is None or -1 <= score <= 1.000001, "a score", score)
        possible(plain_name(record.teacher.record), "a name", record.teacher.record)
    for one in record.measurements:
        _check_measurement(one)
    for split in record.answers:
        for read in (answers.correct, answers.predictions, answers.f1):
            with suppress(RecordError):
                read(record, split)


def _check_measurement(one: Measurement) -> None:
    if one.metric in FRACTIONS:
        possible(one.unit == "fraction", "the unit of a score", one.unit)
    for value in (*([] if one.value is None else [one.value]), *one.samples):
        if one.unit == "fraction":
            low = 0.0 if one.metric in SHARES else -1.0
            possible(low <= value <= 1.000001, f"a score {one.metric}", value)
        if one.unit == "s" or one.metric.endswith(("_s", "_seconds")):
            none = one.metric.startswith("training_") and value == 0
            possible(value > 0 or none, f"a time {one.metric}", value)
        if one.unit in ("bytes", "count", "flop") or one.metric.endswith("_bytes"):
            possible(value > 0 or one.metric.startswith("training_"), f"a size {one.metric}", value)
    possible(one.unit in {"fraction", "s", "bytes", "count", "flop", "examples/s", "ratio", "logit", "one"}, "a unit",
             one.unit)  # fmt: skip


class Baselines(Reader):
    """`results/baselines/NAME.json`."""

    name, inputs = "baseline", 20_000

    def __init__(self, folder: Path):
        super().__init__(folder)
        named = [{"path": f"small/bert/bert/sst2/20260101T000000Z-0123abcd-s{seed}.json",
                  "sha256": hashlib.sha256(b"%d" % seed).hexdigest()} for seed in range(3)]  # fmt: skip
        self.seed = {"format": 1, "name": "base", "why": "a reason", "date": "2026-01-01T00:00:00Z",
                     "commit": "f" * 40, "dirty": False, "records": named}  # fmt: skip
        self.file = folder / baseline.FOLDER / "base.json"
        self.file.parent.mkdir(parents=True)
        self.file.write_bytes(as_json(self.seed))
        baseline.read(self.file)

    def one(self, chance: random.Random) -> None:
        content = as_json(self.seed)
        tree = json.loads(content)
        self.last = changed_bytes(content, chance) if chance.random() < 0.3 else as_json(changed_tree(tree, chance))
        self.file.write_bytes(self.last)
        found = baseline.read(self.file)
        possible(date(found.date), "a date", found.date)
        possible(bool(found.why.strip()), "a reason", found.why)
        possible(not found.commit or digits(found.commit, 40) or digits(found.commit, 64), "a commit", found.commit)
        possible(len({one.path for one in found.records}) == len(found.records) > 0, "records", found.records)
        for one in found.records:
            possible(digits(one.sha256, 64), "a hash", one.sha256)
            scale, *parts = one.path.split("/")
            possible(len(parts) == 4 and all(map(plain_name, (scale, *parts))), "a path", one.path)
        self.file.write_text(found.model_dump_json())
        same(baseline.read(self.file), found, "the baseline")


class Leases(Reader):
    """`results/.leases/JOB.json`, and what a process of any number may be."""

    name, inputs = "lease", 10_000

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.seed = {"nonce": "n" * 32, "host": "a" * 16, "pid": os.getpid(), "bench": "0.1",
                     "started": "2026-01-01T00:00:00Z"}  # fmt: skip
        assert leases._holder(as_json(self.seed)) is not None

    def one(self, chance: random.Random) -> None:
        tree = dict(self.seed)
        if chance.random() < 0.2:
            tree["nonce"] = changed_text(self.seed["nonce"], chance)
        content = as_json(changed_tree(tree, chance))
        self.last = changed_bytes(content, chance) if chance.random() < 0.3 else content
        found = leases._holder(self.last)
        if found is None:  # goes by its age
            raise RecordError("no lease")
        leases.runs(found.pid)
        possible(type(found.pid) is int and 0 < found.pid < MOST, "a process", found.pid)
        possible(all(isinstance(one, str) for one in (found.nonce, found.host, found.bench)), "a text", found)
