"""A record that means nothing is named and left out, on whatever way it came; the others are read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core import store
from bench.core.errors import RecordError
from bench.core.meaning import wrong_measurement
from bench.core.record import Measurement, Record
from bench.core.spec import Spec
from bench.core.store import Store


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one place of a record's JSON."""

    def change(content: dict[str, Any]) -> None:
        *before, last = path.split(".")
        at: Any = content
        for name in before:
            at = at[int(name) if isinstance(at, list) else name]
        at[last] = value

    return change


NAN, INF = float("nan"), float("inf")
ODD = {
    "a score above 1": (put("measurements.0.value", 1.7), "accuracy of 1.7, expected 0 to 1"),
    "a score below 0": (put("measurements.0.value", -0.1), "accuracy of -0.1"),
    "a score that is no number": (put("measurements.0.value", NAN), "finite"),
    "a time of nothing": (put("measurements.1.value", 0), "latency_s of 0.0, expected more than 0"),
    "an infinite sample": (put("measurements.1.samples", [0.1, INF]), "finite"),
    "fewer than no rows": (put("measurements.0.n", -1), "greater than or equal to 0"),
    "a stage of negative length": (put("stages.0.seconds", -1.0), "stages.0.seconds"),
    "negative bytes": (put("artefacts.0.bytes", -1), "artefacts.0.bytes"),
    "a file elsewhere": (put("artefacts.0.name", "../../model.safetensors"), "artefacts.0.name"),
    "a setting that is no number": (put("hyper.fine_tune.lr", NAN), "no finite number"),
    "an endless setting": (put("hyper.fine_tune.lr", INF), "no finite number"),
    "an override that is no number": (put("overrides", {"x": [1, NAN]}), "no finite number"),
    "another id": (put("id", "20260101T000000Z-0123abcd-s2"), "not at its place"),
    "an id that leaves the folder": (put("id", "../../x"), "not at its place"),
    "another task": (put("spec.task", "cola"), "not at its place"),
    "another paper": (put("spec.paper", "../bert"), "not at its place"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_record_is_named_and_the_others_are_read(
    tmp_path: Path, make_record: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, says = ODD[name]
    good = make_record({"seed": 2}, id="20260101T000000Z-0123abcd-s2x")
    store.write_record(tmp_path, good)
    path = store.write_record(tmp_path, make_record())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert store.read_records(tmp_path) == store.read_records(tmp_path) == [good]
    assert len(caplog.messages) == 1 and str(path) in caplog.messages[0] and says in caplog.messages[0]
    assert Store(tmp_path).find(Spec("bert", "bert", "sst2", "small", 1), make_record().hash) is None


def test_a_number_too_large_for_a_float_is_not_finite(tmp_path: Path, make_record: Any) -> None:
    path = store.write_record(tmp_path, make_record())
    path.write_text(path.read_text().replace("2e-05", "1e999"))
    with pytest.raises(RecordError, match="no finite number"):
        store.read_record(path)


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, make_record: Any) -> None:
    record: Record = make_record()
    wrong = Measurement(metric="accuracy", split="validation", value=1.7, unit="fraction", n=10)
    with pytest.raises(RecordError, match=r"means nothing.*accuracy of 1\.7"):
        store.write_record(tmp_path, record.model_copy(update={"measurements": [wrong]}))
    with pytest.raises(RecordError):
        store.write_record(tmp_path, record.model_copy(update={"dev_looks": -1}))
    assert not list(tmp_path.rglob("*.json"))


def test_of_two_records_of_one_id_the_first_is_read(
    tmp_path: Path, make_record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for task in ("cola", "sst2"):
        store.write_record(tmp_path, make_record({"task": task}))
    assert [record.spec.task for record in store.read_records(tmp_path)] == ["cola"]
    assert "two records have one id" in caplog.messages[0]


def test_odd_things_in_the_folder_hold_nobody_up(
    tmp_path: Path, make_record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    here = store.write_record(tmp_path, make_record()).parent
    os.mkfifo(here / "pipe.json")
    for name, target in {"loop": "loop.json", "device": "/dev/zero", "gone": "nowhere"}.items():
        (here / f"{name}.json").symlink_to(target)
    (here / "folder.json").mkdir()
    (here / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "small" / "round").symlink_to(tmp_path, target_is_directory=True)
    with (here / "large.json").open("w") as file:
        file.truncate(10**12)
    assert store.read_records(tmp_path) == [make_record()]
    told = "\n".join(caplog.messages)
    for name in ("pipe.json", "loop.json", "device.json", "gone.json", "folder.json", "large.json", "up"):
        assert f"/{name};" in told, name


@pytest.mark.parametrize(
    ("metric", "unit", "value", "fine"),
    [
        ("matthews", "fraction", -0.3, True), ("pearson", "fraction", -1.0, True), ("f1", "fraction", 0.0, True),
        ("f1", "fraction", -0.01, False), ("matthews", "fraction", -1.1, False), ("accuracy", "fraction", None, True),
        ("retention", "ratio", -0.2, True), ("speedup", "ratio", 0.0, False), ("size_bytes", "bytes", 0, False),
        ("training_seconds", "s", 0.0, True), ("training_seconds", "s", -1.0, False), ("eigenvalue", "one", -9, True),
    ],
)  # fmt: skip
def test_what_a_measurement_may_be(metric: str, unit: str, value: float | None, fine: bool) -> None:
    found = wrong_measurement(Measurement(metric=metric, split="x", value=value, unit=unit, n=1))
    assert (found == "") == fine, found


def test_every_record_of_the_project_means_something(root: Path) -> None:
    for scale in ("small", "full", "shape"):
        there = sum(1 for path in (root / "results" / scale).rglob("*.json"))
        assert len(list(store.each_record(root / "results", (scale,)))) == there
    assert sum(1 for _ in store.each_record(root / "results", ("small", "shape"))) > 400
