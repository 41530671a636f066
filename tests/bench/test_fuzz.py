"""Broken inputs for every reader: tests/benchmarks/fuzz.py in short; and of each thing it found a worked example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fuzz
import pytest
from fuzz_parts import ledgers, mutations, reader

from bench.claims.ledger import load
from bench.core import baseline, store
from bench.core.errors import BenchError, ClaimError, ModelError, RecordError, SpecError
from bench.core.names import stays_in_folder
from bench.core.redact import cleaned
from bench.models.checkpoint import read_weights
from bench.models.config import read_config
from bench.run import leases
from bench.run.request import read


def test_every_reader_refuses_in_a_line_or_takes_what_it_says(tmp_path: Path) -> None:
    endings = fuzz.fuzz(600, 0, tmp_path)
    assert len(endings) == 8
    for name, found in endings.items():
        assert found.keys() <= {"refused", "accepted"}, (name, found)
        assert found["refused"] >= 10 and found["accepted"] >= 1, (name, found)


def test_the_loop_sees_what_it_looks_for(tmp_path: Path) -> None:
    """A traceback, an impossible thing that is taken, an error of two lines, and a file outside the folder."""

    class Broken(reader.Reader):
        name, inputs = "broken", 4
        tries = iter(range(4))

        def one(self, chance: Any) -> None:
            match next(self.tries):
                case 0:
                    raise KeyError("x")
                case 1:
                    reader.possible(False, "a score", 1.7)
                case 2:
                    error = BenchError("what")
                    error.args = ("one\ntwo",)
                    raise error
                case _:
                    with reader.staying_in(self.folder / "in", self.folder):
                        (self.folder / "out").write_text("x")

    found = fuzz.fuzz(4, 0, tmp_path, [Broken])["broken"]
    assert found == {"traceback": 1, "impossible": 2, "unclear": 1}


def record_file(folder: Path, make_record: Any, path: tuple[Any, ...], value: Any) -> Path:
    """A record of which one place was changed on the disk."""
    file = store.write_record(folder, make_record())
    content = json.loads(file.read_text())
    at = content
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("started",), "2026-02-30T00:00:00Z", "a moment"),
        (("started",), "2026-01-01", "a moment"),
        (("hash",), "xyz", "64 hexadecimal digits"),
        (("artefacts", 0, "sha256"), "", "64 hexadecimal digits"),
        (("spec", "seed"), -1, "spec.seed"),
        (("dev_looks",), 2**63, "dev_looks"),
        (("stages", 0, "corpus_tokens"), -5, "corpus_tokens"),
        (("stages", 0, "steps"), "100", "stages.0.steps"),
        (("code", "dirty"), "no", "code.dirty"),
        (("measurements", 0, "unit"), "fractoin", "accuracy in 'fractoin', expected fraction"),
        (("measurements", 1, "unit"), "parsec", "latency_s in 'parsec', expected s"),
        (("measurements", 1, "samples"), [0.1, -0.1], "latency_s of -0.1"),
        (("reason",), "it failed", "status ok with the reason"),
        (("status",), "failed", "status failed with the reason ''"),
        (("teacher",), {"record": "../../x", "score": 0.5}, "cannot be part of a path"),
    ],
)
def test_a_record_that_cannot_be(tmp_path: Path, make_record: Any, path: Any, value: Any, says: str) -> None:
    with pytest.raises(RecordError) as refused:
        store.read_record(record_file(tmp_path, make_record, path, value))
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_half_a_letter_ends_no_run(tmp_path: Path, make_record: Any) -> None:
    """A file's name that is no UTF-8 stands in an error as half a letter, which no record can hold."""
    told = cleaned("OSError: no such file 'bad\udcff.txt'")
    file = store.write_record(tmp_path, make_record(status="failed", reason=told))
    assert store.read_record(file).reason == "OSError: no such file 'bad\\udcff.txt'"
    with pytest.raises(RecordError, match="not JSON"):
        store.write_record(tmp_path, make_record(status="failed", reason="bad\udcff"))
    with pytest.raises(RecordError, match="cannot be part of a path"):
        store.write_record(tmp_path, make_record(id="a\udcff"))


def test_a_baseline_that_cannot_be(tmp_path: Path, make_record: Any) -> None:
    store.write_record(tmp_path, make_record())
    good = baseline.set_(tmp_path, "base", "a reason").model_dump(mode="json")
    file = tmp_path / baseline.FOLDER / "base.json"
    one = good["records"][0]
    changes = ({"date": "2026-13-01T00:00:00Z"}, {"commit": "HEAD"}, {"why": " "}, {"records": []}, {"dirty": "yes"},
               {"records": [one, one]}, {"records": [one | {"sha256": "f" * 40}]},
               {"records": [one | {"path": one["path"].replace("bert/bert", "../bert")}]})  # fmt: skip
    for change in changes:
        file.write_text(json.dumps(good | change))
        with pytest.raises(RecordError, match="the baseline is malformed"):
            baseline.read(file)
    file.write_text(json.dumps(good))
    assert baseline.read(file).records[0].path == one["path"] and len(changes) == 8


@pytest.mark.parametrize("pid", ['"1"', "-1", "0", "true", "1.5", "null", str(2**70), "[1]"])
def test_a_lease_of_no_process_goes_by_its_age(tmp_path: Path, pid: str) -> None:
    path = tmp_path / leases.FOLDER / f"{'a' * 64}.json"
    path.parent.mkdir()
    path.write_text(f'{{"nonce": "n", "host": "{leases.host()}", "pid": {pid}, "bench": "1", "started": "x"}}')
    assert leases.Leases(tmp_path).take("a" * 64) is None


@pytest.mark.parametrize("text", ["x = " + "9" * 5000, "x = " + "[" * 3000])
def test_a_ledger_that_no_parser_takes(tmp_path: Path, text: str) -> None:
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(ClaimError, match="the ledger cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"scale = '{'x' * 5000}'", "unknown scale"), ('data = "a\\u0000b"', "no NUL"),
        (f"limit = {2**63}", "limit"), (f"labels = {10**30}", "labels"), ('scale = "sm\\u001b[31m"', "sm\\x1b"),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(SpecError) as refused:
        read(str(tmp_path / "p.toml"), {})
    assert says in str(refused.value) and str(refused.value).isprintable() and len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"intermediate_size": -512}, "intermediate_size"), ({"true_hidden_size": "4"}, "true_hidden_size"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob"), ({"layer_norm_eps": -1.0}, "layer_norm_eps"),
        ({"other": {"x": [float("nan")]}}, "other.x.0"), ({"hidden_dropout_prob": 10**400}, "hidden_dropout_prob"),
    ],
)  # fmt: skip
def test_a_config_of_another_kind_that_cannot_be(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    good = {"model_type": "mobilebert", "architectures": ["MobileBertModel"], "hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(good))
    assert read_config(tmp_path).model_type == "mobilebert"
    (tmp_path / "config.json").write_text(json.dumps(good | change))
    with pytest.raises(ModelError) as refused:
        read_config(tmp_path)
    assert says in str(refused.value)


def test_an_index_whose_shard_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "9" * 400}}))
    with pytest.raises(ModelError, match="cannot be looked for"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "name", ["CON", "nul.json", "com1", "LPT9.x", "..", "a/b", "a\\b", "C:x", "é", "a\n", "x\0", "b\u0435rt"]
)
def test_a_name_that_is_a_path_or_a_device_somewhere(name: str) -> None:
    assert not stays_in_folder(name) and stays_in_folder("constant.con-1") and stays_in_folder("a+b_c.d-1")


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("claim", {"seeds": 10**30}, "seeds"),
        ("claim", {"seeds": True}, "seeds"),
        ("claim", {"value": True}, "value"),
        ("claim", {"value": "90"}, "value"),
        ("claim", {"value": -0.5, "unit": "fraction"}, "outside its unit"),
        ("claim", {"aggregation": "median of 99999"}, "aggregation"),
        ("system", {"devices": 2**63}, "devices"),
        ("paper", {"arxiv": "2013.00001v1"}, "arxiv"),
        ("tolerance", {"accuracy": {"absolute": "1", "why": "x"}}, "absolute"),
    ],
)
def test_a_ledger_that_cannot_be(tmp_path: Path, part: str, change: Any, says: str) -> None:
    content = json.loads(json.dumps(ledgers.GOOD))
    at = content[part]
    (at[0] if isinstance(at, list) else at).update(change)
    (tmp_path / "claims.toml").write_bytes(mutations.as_toml(content))
    with pytest.raises(ClaimError) as refused:
        load(tmp_path, "toy")
    assert says in str(refused.value)
