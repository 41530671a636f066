"""Records name nobody: neither a home, nor a user, nor a token, whatever a library put into its message."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.redact import cleaned, cleaned_settings


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/alice smith")
    monkeypatch.setenv("USER", "asmith")
    monkeypatch.setenv("LOGNAME", "asmith")
    monkeypatch.setenv("BENCH_HOME", "/scratch/asmith/bench")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("in /home/alice smith/models/bert; found x", "in ~/models/bert; found x"),
        ("'/scratch/asmith/bench/stages/ab/cd'", "'$BENCH_HOME/stages/ab/cd'"),
        ("OSError: [Errno 28] No space: '/mnt/asmith/results/a.json'", "OSError: [Errno 28] No space: '.../a.json'"),
        ("user asmith may not write", "user USER may not write"),
        ("401 for https://huggingface.co/a/b with hf_abcdefghijKLMN", "401 for https://huggingface.co/a/b with TOKEN"),
        ("https://asmith:pw@host/x.git", "https://host/x.git"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer TOKEN"),
        ("key 0123456789abcdef", "key TOKEN"),
        ("found 3/4 of and/or, 1e-4, a/b", "found 3/4 of and/or, 1e-4, a/b"),
        ("the loss is not finite at step 3 of 9; found ce nan", "the loss is not finite at step 3 of 9; found ce nan"),
    ],
)
def test_reasons_are_cleaned(text: str, shown: str) -> None:
    assert cleaned(text) == shown


def test_a_path_of_this_folder_is_relative(tmp_path: Path) -> None:
    assert cleaned(f"in {tmp_path}/data/sst2/train.parquet, and {tmp_path}") == "in ./data/sst2/train.parquet, and ."


def test_settings_keep_what_they_are() -> None:
    found = cleaned_settings({"released": "/home/alice smith/m", "lr": 1e-4, "bits": [2, 3], "name": "a/b",
                              "use": True, "deep": {"word_vectors": "/data/asmith/glove.txt"}, "none": None,
                              "empty": ""})  # fmt: skip
    assert found == {"released": "~/m", "lr": 1e-4, "bits": [2, 3], "name": "a/b", "use": True,
                     "deep": {"word_vectors": "/data/USER/glove.txt"}, "none": None, "empty": ""}  # fmt: skip
