"""Q-BERT through the command line with a tiny given teacher: bits, sensitivities, the packed file, what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import ROWS, Call, Result, measured, refused
from safetensors import safe_open

from bench.models import load
from papers.qbert import packed


@pytest.fixture
def call(bench_run: Call) -> Call:
    """`qbert` with the groups that fit a tiny teacher's width."""

    def run(*arguments: str) -> Result:
        return bench_run("qbert", *arguments)

    return run


def test_a_mixture_is_recorded_with_its_bits_and_its_packed_file(call: Call, folder: Path) -> None:
    code, out, error = call("--variant", "qbert-mp23", "--json")
    assert code == 0, error
    teacher, record = json.loads(out)
    assert [stage["name"] for stage in record["stages"]] == [
        "start_from_base", "measure_sensitivity", "train_quantised",
    ]  # fmt: skip
    bits, omega = measured(record, "bits"), measured(record, "sensitivity")
    assert sorted(bits.values()) == [2, 3] and bits[max(omega, key=lambda layer: omega[layer])] == 3
    values = {m["split"]: m["samples"] for m in record["measurements"] if m["metric"] == "eigenvalue"}
    for layer, found in values.items():
        mean = sum(found) / len(found)
        spread = math.sqrt(sum((v - mean) ** 2 for v in found) / len(found))
        assert omega[layer] == pytest.approx(abs(mean) + spread)
    sizes = measured(record, "size_bytes")
    assert sizes["packed-file"] < 0.6 * sizes["artefact"] and sizes["packed-formula"] < sizes["packed-file"]
    assert sizes["artefact"] > measured(teacher, "size_bytes")["artefact"] * 0.99, "floats earn no size"
    assert measured(record, "packed_score")["validation"] == measured(record, "accuracy")["validation"]
    assert measured(record, "packed_difference")["validation"] <= 1e-5
    assert 0.0 < measured(record, "int8_difference")["validation"] < 1.0
    assert measured(record, "speedup")["batch1-length128-int8"] > 0
    assert record["artefacts"][1]["name"] == packed.FILE and record["artefacts"][1]["bytes"] == sizes["packed-file"]


def test_the_exported_file_answers_the_same_in_another_process(call: Call, folder: Path) -> None:
    code, out, error = call("--variant", "qbert-w2", "--json")
    assert code == 0, error
    record = json.loads(out)[-1]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "export", record["id"], "out"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with safe_open(folder / "work" / "out" / packed.FILE, framework="pt") as file:
        assert file.metadata()["format"] == packed.FORMAT
    ids = torch.arange(5, 25).view(2, 10)
    code = "import torch; from papers.qbert.packed import load; from pathlib import Path\n" \
           "print(load(Path('out'))(torch.arange(5, 25).view(2, 10)).logits.tolist())"  # fmt: skip
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with torch.no_grad():
        (config,) = [path for path in (folder / "home" / "stages").glob("*/*/models/model/config.json")
                     if "scheme" in json.loads(path.read_text())]  # fmt: skip
        expected = load.load_saved(config.parent).eval()(ids).logits
    assert torch.allclose(torch.tensor(json.loads(other.stdout)), expected, atol=1e-5)


def test_one_layer_after_another_trains_a_pass_for_each(call: Call) -> None:
    code, out, error = call("--variant", "qbert-mp23", "--set", "schedule=progressive", "--json")
    assert code == 0, error
    record = json.loads(out)[-1]
    assert record["stages"][-1]["examples"] == 2 * ROWS
    assert sorted(measured(record, "bits").values()) == [2, 3]


def test_a_teacher_below_its_floor_fails_the_run_and_is_told_once(call: Call, folder: Path) -> None:
    for _ in range(2):
        code, out, error = call("--variant", "qbert-w8", "--set", "fine_tune.lr=1e-12", "--json")
        records = {record["spec"]["paper"]: record for record in json.loads(out)}
        assert code == 1 and "1 of 2 runs failed" in error
        assert records["bert"]["status"] == "ok" and "below its floor" in records["qbert"]["reason"]
    assert len(list((folder / "work" / "results").rglob("*.json"))) == 2
    code, _, _ = call("--variant", "qbert-w8", "--set", "fine_tune.lr=1e-12", "--set", "training.epochs=2")
    assert code == 1 and len(list((folder / "work" / "results").rglob("*.json"))) == 3, "another run"


def test_mixtures_share_what_they_measured(call: Call) -> None:
    bits = []
    for variant in ("qbert-mp23", "qbert-mp23-rev"):
        code, out, error = call("--variant", variant, "--json")
        assert code == 0, error
        record = json.loads(out)[-1]
        bits.append(measured(record, "bits"))
    assert record["stages"][1]["cached"]
    assert bits[0]["layer0"] == bits[1]["layer1"] != bits[0]["layer1"], "the other half"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("quantiser.groups=3", ("groups do not divide", "found 3", "shares a divisor with the hidden size 16")),
        ("bits.more=3", ("so many layers cannot get more bits", "found 3", "0 to 2")),
        ("bits.high=9", ("so many bits", "found 9", "1 to 8, or 32")),
        ("bits.high=0", ("so many bits", "found 0")),
        ("bits.low=7", ("more bits are not more",)),
        ("bits.low=none", ("bits.low does not go with the variant", "3 bits for the half")),
    ],
)
def test_impossible_bits_and_groups_are_refused(call: Call, folder: Path, change: str, words: tuple[str, ...]) -> None:
    refused(call("--variant", "qbert-mp23", "--set", change), folder, *words)


@pytest.mark.parametrize("change", ["bits.low=2", "bits.more=1", "bits.order=random"])
def test_settings_of_mixtures_are_refused_elsewhere(call: Call, folder: Path, change: str) -> None:
    refused(call("--variant", "qbert-w4", "--set", change), folder, "4 bits in every layer", "choose a mixture")
