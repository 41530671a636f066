"""Export: a folder that loads elsewhere, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from bench.core.errors import ModelError, SpecError
from bench.models import export, load
from bench.models.export import export_folder

CARD = "# a model\n\nnaïve, 97%\n"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model folder as a run leaves it, with files beside it that are nobody else's business."""
    folder = tmp_path / "cache" / "model"
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                        max_position_embeddings=8)  # fmt: skip
    load.save(BertForSequenceClassification(config), folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "vocab.txt").write_text("[PAD]\n")
    for private in ("pytorch_model.bin", "optimizer.pt", "state.json", ".env"):
        (folder / private).write_text("private")
    return folder


def test_the_export_loads_and_holds_nothing_else(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "place"
    export_folder(saved, target, CARD)
    names = {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "README.md"}
    assert {file.name for file in target.iterdir()} == names
    assert (target / "README.md").read_text(encoding="utf-8") == CARD
    assert {path.name for path in target.parent.iterdir()} == {"place"}, "nothing temporary stays"
    ours, theirs = (AutoModelForSequenceClassification.from_pretrained(folder) for folder in (saved, target))
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert len(pairs) > 20 and all(torch.equal(a, b) for a, b in pairs)


def test_an_empty_folder_is_taken(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.mkdir()
    export_folder(saved, target, CARD)
    assert (target / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()


def test_sharded_weights_come_whole(saved: Path, tmp_path: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(saved)
    sharded = tmp_path / "sharded"
    model.save_pretrained(sharded, max_shard_size="1KB")
    shards = sorted(file.name for file in sharded.glob("*.safetensors"))
    assert len(shards) > 1
    export_folder(sharded, tmp_path / "out", CARD)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.safetensors")) == shards
    assert (tmp_path / "out" / load.INDEX).is_file()


def test_a_target_that_is_in_use_is_refused_and_untouched(saved: Path, tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    with pytest.raises(SpecError, match="not empty"):
        export_folder(saved, used, CARD)
    assert [file.name for file in used.iterdir()] == ["mine.txt"]
    with pytest.raises(SpecError, match="is a file"):
        export_folder(saved, used / "mine.txt", CARD)
    assert (used / "mine.txt").read_text() == "mine"
    with pytest.raises(SpecError, match="not empty"):
        export_folder(saved, saved, CARD)
    with pytest.raises(SpecError, match="inside the model's own folder"):
        export_folder(saved, saved / "export", CARD)
    with pytest.raises(SpecError, match="cannot be exported"):
        export_folder(saved, used / "mine.txt" / "below", CARD)


def test_a_model_folder_that_is_not_whole(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickled"):
        export_folder(saved, target, CARD)
    (saved / "config.json").unlink()
    with pytest.raises(ModelError, match="no config"):
        export_folder(saved, target, CARD)
    assert not target.exists()


def test_a_copy_that_breaks_off_leaves_nothing(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Path] = []

    def full_disk(source: Path, target: Path) -> None:
        if len(copied) == 2:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())
        copied.append(target)

    monkeypatch.setattr(export.shutil, "copyfile", full_disk)
    target = tmp_path / "place" / "out"
    target.parent.mkdir()
    with pytest.raises(SpecError, match="No space left"):
        export_folder(saved, target, CARD)
    assert len(copied) == 2 and list(target.parent.iterdir()) == []
