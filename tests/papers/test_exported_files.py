"""`bench export --format`: the score of a run comes from the exported file, or nothing is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from commands import Call, Result

from bench.cli import main as cli


def test_the_command_scores_the_file(
    bench_run: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = bench_run("bert", "--json")
    assert code == 0, error
    [record] = json.loads(out)

    def export(target: str, *arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["bench", "export", record["id"], target, *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    data = str(folder / "data")
    code, out, error = export("exported", "--format", "onnx", "--data", data)
    assert code == 0, error
    score = next(m["value"] for m in record["measurements"] if m["metric"] == "accuracy")
    assert f"score {score:.4f} on 32 dev rows (its run: {score:.4f})" in out
    made = Path("exported")
    assert {"model.onnx", "labels.json", "README.md", "tokenizer.json"} <= {file.name for file in made.iterdir()}
    assert json.loads((made / "labels.json").read_text())["labels"] == ["negative", "positive"]
    assert f"accuracy {score:.4f} on 32 dev rows" in (made / "README.md").read_text()

    refused = {
        "unknown format": ("other", "--format", "pickle"),
        "the export target is not empty": ("exported", "--format", "onnx", "--data", data),
        "the model does not score what its record says": ("other", "--format", "onnx", "--data", "synthetic"),
    }
    for words, arguments in refused.items():
        code, out, error = export(*arguments)
        assert (code, out, error.count("\n")) == (2, "", 1) and words in error, error
    assert not Path("other").exists()
