"""Baselines: immutable, by hash; what is wrong with one is one line, and nothing on disk is touched."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from test_cli import bench
from test_regress import side, write

from bench.core import baseline
from bench.core.errors import BenchError, RecordError, SpecError
from bench.report import regressions


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write(tmp_path / "results", side("before", 0.9))
    baseline.set_(tmp_path / "results", "v1", "before the upgrade")
    return tmp_path / "results"


def held(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_baseline_names_its_records_by_hash(results: Path) -> None:
    found = baseline.load(results)
    assert (found.name, found.why, len(found.records)) == ("v1", "before the upgrade", 10)
    assert found.records[0].path.startswith("full/toy/toy/sst2/") and len(found.records[0].sha256) == 64
    assert [record.id for record in baseline.each(results, found)] == [named.id for named in found.records]
    assert baseline.gone(results, found) == []


def test_a_part_of_the_records_can_be_named(results: Path) -> None:
    write(results, side("before", 0.9, task="rte", variant="other"))
    assert len(baseline.set_(results, "all", "both").records) == 20
    assert len(baseline.set_(results, "some", "one", variants=["other"]).records) == 10
    with pytest.raises(RecordError, match="no records to name"):
        baseline.set_(results, "none", "no such paper", papers=["nobody"])


def test_which_baseline_is_meant(results: Path) -> None:
    baseline.set_(results, "v2", "another")
    with pytest.raises(SpecError, match=r"not said which baseline is meant.*found v1, v2"):
        baseline.load(results)
    baseline.promote(results, "v2")
    assert baseline.load(results).name == "v2" and baseline.load(results, "v1").name == "v1"
    with pytest.raises(SpecError, match="no such baseline"):
        baseline.promote(results, "v3")
    assert baseline.promoted(results) == "v2"


def broken(results: Path, change: Callable[[dict], object]) -> None:
    path = results / "baselines" / "v1.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "why", "told"),
    [
        ("v1", "again", "the baseline exists, and is never overwritten"),
        ("../v1", "out", "a baseline cannot have this name"),
        (".v1", "hidden", "a baseline cannot have this name"),
        ("v2", "  ", "a baseline needs a reason"),
    ],
)
def test_what_cannot_be_set_is_one_line_and_touches_nothing(results: Path, name: str, why: str, told: str) -> None:
    before = held(results)
    with pytest.raises(SpecError, match=told) as error:
        baseline.set_(results, name, why)
    assert "\n" not in str(error.value) and error.value.exit_code == 2 and held(results) == before


def test_what_is_gone_or_changed_is_named(results: Path) -> None:
    paths = [results / named.path for named in baseline.load(results).records]
    paths[0].unlink()
    paths[1].write_text(paths[1].read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    with pytest.raises(RecordError, match="records of the baseline are not there") as error:
        regressions.read(results)
    assert f"found 2 of 10: full/toy/toy/sst2/{paths[0].name} is gone" in str(error.value)
    assert f"{paths[1].name} has changed" in str(error.value)


def test_other_formats_are_refused_by_name(results: Path) -> None:
    broken(results, lambda content: content.update(format=9))
    with pytest.raises(RecordError, match=r"the baseline is malformed.*v1.json, field format"):
        baseline.load(results)


@pytest.mark.parametrize("path", ["../../etc/passwd", "full/toy/toy/sst2/../../x.json", "elsewhere/a/b/c/d.json"])
def test_a_baseline_names_nothing_outside_its_folder(results: Path, path: str) -> None:
    broken(results, lambda content: content["records"][0].update(path=path))
    with pytest.raises(RecordError, match="malformed"):
        baseline.load(results)


def test_a_renamed_baseline_is_no_longer_one(results: Path) -> None:
    (results / "baselines" / "v1.json").rename(results / "baselines" / "v9.json")
    with pytest.raises(RecordError, match="not at its place"):
        baseline.load(results, "v9")


def test_a_clock_that_ran_backwards_is_told(results: Path) -> None:
    future = [one.model_copy(update={"started": "2999-01-01T00:00:00Z", "id": "x"}) for one in side("now", 0.9, [3])]
    write(results, future)
    with pytest.raises(RecordError, match="the clock ran backwards"):
        baseline.set_(results, "v2", "from the future")
    assert baseline.names(results) == ["v1"]
    early = [one.model_copy(update={"started": "2025-01-01T00:00:00Z"}) for one in side("now", 0.9)]
    (results / "full/toy/toy/sst2/x.json").unlink()
    write(results, early)
    assert "the clock ran backwards" in regressions.judge(regressions.read(results), "here").notes[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"format": 2', '"format": 77', "the record's format is unknown"),
        ('"value": 0.9', '"value": NaN, "x": 0.9', "malformed"),
        ('"seconds": 1.0', '"seconds": -1.0', "malformed"),
        ('"value": 0.9', '"value": 9.9', "means nothing"),
    ],
)
def test_records_that_mean_nothing_are_named_and_left_out(
    results: Path, caplog: pytest.LogCaptureFixture, old: str, new: str, told: str
) -> None:
    write(results, side("now", 0.9, noise=0))
    path = results / "full/toy/toy/sst2" / "now-sst2-c-s4.json"
    path.write_text(path.read_text().replace(old, new))
    assert new in path.read_text()
    with caplog.at_level(logging.WARNING):
        sides = regressions.read(results)
    assert len(sides.index.runs) == 19 and told in caplog.text and path.name in caplog.text


def test_an_id_that_two_records_have_is_told(results: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(results, side("now", 0.9, [0]))
    double = results / "small" / "toy" / "toy" / "sst2"
    double.mkdir(parents=True)
    text = (results / "full/toy/toy/sst2/now-sst2-c-s0.json").read_text()
    (double / "now-sst2-c-s0.json").write_text(text.replace('"scale": "full"', '"scale": "small"'))
    with caplog.at_level(logging.WARNING):
        sides = regressions.read(results)
    assert "two records have one id" in caplog.text and len(sides.index.runs) == 11


def test_the_command_lists_and_shows(results: Path) -> None:
    home = results.parent
    listed = bench("baseline", "list", "--json", cwd=home)
    assert json.loads(listed.stdout)[0]["name"] == "v1"
    shown = bench("baseline", "show", "v1", cwd=home)
    assert "before the upgrade" in shown.stdout and "all there, unchanged" in shown.stdout
    for arguments in (("baseline", "set", "v1", "--why", "x"), ("baseline", "drop", "v1"), ("baseline", "show"),
                      ("regress", "--baseline", "v7"), ("regress", "--scale", "huge")):  # fmt: skip
        out = bench(*arguments, cwd=home)
        assert out.returncode == 2 and len(out.stderr.splitlines()) == 1, (arguments, out.stderr)
        assert "Traceback" not in out.stderr


def test_errors_are_of_the_bench() -> None:
    assert issubclass(RecordError, BenchError) and issubclass(SpecError, BenchError)
