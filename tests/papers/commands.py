"""A tiny teacher, task and corpus in a folder, and `bench run smoke` on them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from bench.cli import main as cli
from bench.models import load

ROWS = 96
"""Training rows of the tiny task."""
Result = tuple[int, str, str]
"""Exit code, stdout, stderr."""
Call = Callable[..., Result]


def config(layers: int = 2, **fields: Any) -> BertConfig:
    return BertConfig(vocab_size=60, num_hidden_layers=layers, hidden_size=16, num_attention_heads=2,
                      intermediate_size=32, max_position_embeddings=128, initializer_range=0.2, **fields)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher, a task whose label is its first word, and a corpus, made of 55 words."""
    torch.manual_seed(0)
    load.save(BertModel(config()), tmp_path / "teacher", tokenizer)
    for split, count in (("train_subset", ROWS), ("validation_subset", 32)):
        path = tmp_path / "data" / "sst2" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"w{i % 2} w{5 + i % 40} w{7 + i % 30}" for i in range(count)]
        table = {"sentence": texts, "label": [i % 2 for i in range(count)], "idx": list(range(count))}
        pq.write_table(pa.table(table), path)
    lines = [f"w{i % 50} w{i % 41} w{i % 7} . w{i % 50} w{i % 43} w{i % 5} ." for i in range(60)]
    (tmp_path / "corpus.txt").write_text("\n\n".join(lines))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def bench_run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`bench run smoke --paper PAPER ...` on the tiny task, or on another one of the folder.

    `tuning` is where the paper's settings have how a model is trained on the task.
    """

    def run(
        paper: str, *arguments: str, teacher: str = "teacher", task: str = "sst2", scale: str = "smoke",
        tuning: str = "fine_tune",
    ) -> Result:  # fmt: skip
        command = ["bench", "run", scale, "--paper", paper, "--task", task, "--teacher", str(folder / teacher),
                   "--data", str(folder / "data"),
                   *settled("--set", f"{tuning}.epochs=12", "--set", f"{tuning}.lr=3e-3", *arguments)]  # fmt: skip
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out = capsys.readouterr()
        return int(stopped.value.code or 0), out.out, out.err

    return run


def settled(*arguments: str) -> list[str]:
    """The arguments with one --set a field, the last: fixtures give what a test may change."""
    words, changes, others = iter(arguments), {}, []
    for word in words:
        if word == "--set":
            change = next(words)
            changes[change.partition("=")[0]] = change
        else:
            others.append(word)
    return [*others, *(word for change in changes.values() for word in ("--set", change))]


def refused(result: Result, folder: Path, *words: str) -> None:
    """Exit 2, one line with these words, and nothing run or written."""
    code, out, error = result
    assert code == 2 and out == "" and error.count("\n") == 1 and error.startswith("bench: "), error
    assert all(word in error for word in words), error
    assert not (folder / "work" / "results").exists() and not (folder / "home" / "stages").exists()


def measured(record: dict[str, Any], metric: str) -> dict[str, float]:
    """Split -> value of one of a record's metrics."""
    return {m["split"]: m["value"] for m in record["measurements"] if m["metric"] == metric}


def add_task(folder: Path, task: str, table: Callable[[int, int], pa.Table], train: int, scored: int) -> None:
    """Put another task beside the folder's own; `table` makes so many rows of a seed."""
    (folder / "data" / task).mkdir()
    for seed, (split, count) in enumerate((("train_subset", train), ("validation_subset", scored))):
        pq.write_table(table(count, seed), folder / "data" / task / f"{split}.parquet")
