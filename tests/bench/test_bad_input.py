"""Wrong input: exit 2, one line that says what to do, and nothing on disk touched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from bench.cli import main as cli

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "the"]


def write_tokenizer(folder: Path, words: list[str] = WORDS) -> None:
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)  # fmt: skip


def tiny_sizes() -> dict[str, Any]:
    return {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 128}  # fmt: skip


def tiny(**changes: Any) -> BertConfig:
    return BertConfig(**(tiny_sizes() | changes))


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    BertModel(tiny()).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_split(tmp_path / "data", "train_subset", ["good film", "bad film"] * 8, [1, 0] * 8)
    write_split(tmp_path / "data", "validation_subset", ["a good film", "a bad film"] * 8, [1, 0] * 8)
    return tmp_path / "data"


def write_split(folder: Path, split: str, sentences: list[str], labels: list[int], column: str = "sentence") -> Path:
    path = folder / "sst2" / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: sentences, "label": labels, "idx": list(range(len(labels)))}), path)
    return path


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run the command in a folder of its own; returns exit code, stdout, stderr."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out = capsys.readouterr()
        return int(stopped.value.code or 0), out.out, out.err

    return call


def listing(root: Path) -> dict[str, bytes]:
    """Every file under a folder but the tokenizer cache, with its content."""
    return {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and "tokenizers" not in p.parts
    }


def refused(bench, tmp_path: Path, arguments: list[str], *words: str) -> None:
    before = listing(tmp_path)
    code, out, err = bench(*arguments)
    assert code == 2, err
    assert out == "" and err.count("\n") == 1 and err.startswith("bench: "), err
    for word in words:
        assert word in err, err
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "smoke", "--paper", "nobert"], ["unknown paper", "nobert", "distilbert"]),
        (["run", "smoke", "--variant", "distilbert-5"], ["unknown variant", "distilbert-no-ce"]),
        (["run", "smoke", "--task", "sst3"], ["unknown task", "sst3", "sst2"]),
        (["run", "tiny"], ["unknown scale", "tiny", "smoke, small, full"]),
        (["plan", "smoke", "--set", "fine_tune.lrr=1"], ["unknown field", "fine_tune.lrr", "fine_tune.lr"]),
        (["plan", "smoke", "--set", "fine_tune.lr=fast"], ["fine_tune.lr", "fast"]),
        (["plan", "smoke", "--set", "fine_tune.lr"], ["field=value"]),
        (["run", "smoke", "--set", "fine_tune.engine=graph"], ["engine graph", "fine_tune.engine", "cpu device"]),
        (["run", "smoke", "--set", "fine_tune.engine=fast"], ["fine_tune.engine", "fast", "'auto'"]),
        (["run", "smoke", "--seeds", "0"], ["seeds", "greater than or equal to 1"]),
        (["run", "small"], ["no teacher", "--teacher"]),
        (["run", "nowhere.toml"], ["profile does not exist", "nowhere.toml"]),
        (["run", "smoke", "--data", "nowhere"], ["nowhere"]),
        (["run", "smoke", "--nope"], ["--nope"]),
        (["claims", "--paper", "nobert"], ["unknown paper"]),
        (["export", "no-such-run", "out"], ["no record has this id"]),
    ],
)
def test_words_that_mean_nothing(bench, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    refused(bench, tmp_path, arguments, *words)


def test_a_profile_with_a_wrong_key(bench, tmp_path: Path) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text('scale = "smoke"\nsedes = 3\n')
    refused(bench, tmp_path, ["run", str(profile)], "profile.toml", "sedes", "seeds")


def run_bert(teacher: Path, data: Path) -> list[str]:
    return ["run", "small", "--paper", "bert", "--task", "sst2", "--seeds", "1", "--teacher", str(teacher),
            "--data", str(data)]  # fmt: skip


def test_the_good_case_runs(bench, tmp_path: Path, teacher: Path, data: Path) -> None:
    """The input that the cases below break one by one is fine, so each of them shows its own mistake."""
    code, out, err = bench(*run_bert(teacher, data))
    assert code == 0, err
    assert "accuracy" in out and len(list((tmp_path / "work/results/small/bert/bert/sst2").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("split", "sentences", "labels", "column", "words"),
    [
        ("train_subset", ["good"], [1], "text", ["sentence"]),
        ("train_subset", ["good"], [7], "sentence", ["label outside", "found 7 in row 0"]),
        ("validation_subset", ["good"], [-1], "sentence", ["rows without a label (-1)"]),
        ("validation_subset", [], [], "sentence", ["rows"]),
    ],
    ids=["column", "label", "unlabelled", "empty"],
)
def test_a_data_folder_that_is_not_what_it_says(
    bench, tmp_path: Path, teacher: Path, data: Path, split: str, sentences: list[str], labels: list[int], column: str,
    words: list[str],
) -> None:  # fmt: skip
    path = write_split(data, split, sentences, labels, column)
    refused(bench, tmp_path, run_bert(teacher, data), str(path), *words)


def test_a_truncated_parquet_file(bench, tmp_path: Path, teacher: Path, data: Path) -> None:
    path = data / "sst2" / "train_subset.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    refused(bench, tmp_path, run_bert(teacher, data), str(path))


def break_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def break_vocabulary(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace(f'"vocab_size": {len(WORDS)}', '"vocab_size": 99'))


def break_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def poison_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (break_config, ["config.json"]),
        (break_vocabulary, ["vocab", "vocab_size 99"]),
        (break_weights, ["model.safetensors"]),
        (pickle_weights, ["pickled", "safetensors"]),
        (poison_weights, ["not finite", "encoder.layer.0.output.dense.bias"]),
    ],
)
def test_a_teacher_folder_that_cannot_be_trusted(
    bench, tmp_path: Path, teacher: Path, data: Path, mistake, words
) -> None:
    mistake(teacher)
    refused(bench, tmp_path, run_bert(teacher, data), str(teacher), *words)


def tuned(**changes: object) -> BertForSequenceClassification:
    return BertForSequenceClassification(tiny(**changes))


NEVER_SERVES = {
    "short table, task": (lambda: BertModel(tiny()), ["--set", "max_length=256"],
                          ["position table", "max_length", "256", "max_position_embeddings 128"]),
    "short table, timing": (lambda: BertModel(tiny(max_position_embeddings=64)), ["--set", "max_length=32"],
                            ["position table", "timing", "128", "max_position_embeddings 64"]),
    "no token types, pairs": (lambda: BertModel(tiny(type_vocab_size=1)), ["--task", "wnli"],
                              ["token types", "wnli has 2 texts"]),
    "another task's labels": (lambda: tuned(id2label={0: "up", 1: "down"}, label2id={"up": 0, "down": 1}), [],
                              ["labels", "up, down", "negative, positive"]),
    "another kind of task": (lambda: BertForQuestionAnswering(tiny()), [],
                             ["another kind", "BertForQuestionAnswering"]),
    "no task of ours": (lambda: BertForMultipleChoice(tiny()), [], ["BertForMultipleChoice", "one of"]),
    "another model": (lambda: RobertaModel(RobertaConfig(**tiny_sizes())), [], ["not a BERT", "roberta"]),
    "odd layers": (lambda: BertForMaskedLM(tiny(num_hidden_layers=3)), ["--paper", "distilbert", "--corpus", "x.txt"],
                   ["layers cannot be halved", "3 layers"]),
    "odd layers, tinybert": (lambda: BertForMaskedLM(tiny(num_hidden_layers=4)),
                             ["--paper", "tinybert", "--corpus", "x.txt", "--set", "augmentation.use=false"],
                             ["layers do not divide", "4 layers"]),
    "pairs of the corpus": (lambda: BertForMaskedLM(tiny(num_hidden_layers=3, type_vocab_size=1)),
                            ["--paper", "tinybert", "--corpus", "x.txt", "--set", "augmentation.use=false"],
                            ["one token type", "general distillation"]),
    "long lines of a corpus": (lambda: BertForMaskedLM(tiny()),
                               ["--paper", "distilbert", "--corpus", "x.txt", "--set", "general.max_length=200"],
                               ["position table", "general.max_length", "200"]),
}  # fmt: skip


@pytest.mark.parametrize("case", NEVER_SERVES)
def test_the_plan_says_that_a_teacher_cannot_serve(bench, tmp_path: Path, data: Path, case: str) -> None:
    """What a run would find, after the training of a teacher in some cases, `bench plan` finds and nothing runs."""
    build, more, words = NEVER_SERVES[case]
    build().save_pretrained(tmp_path / "never")
    write_tokenizer(tmp_path / "never")
    for split in ("train_subset", "validation_subset"):
        path = tmp_path / "data" / "wnli" / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        text = ["good film", "bad film"] * 8
        pq.write_table(pa.table({"sentence1": text, "sentence2": text, "label": [1, 0] * 8}), path)
    (tmp_path / "work" / "x.txt").write_text("the good film " * 400 + "\n\nthe bad film\n")
    arguments = run_bert(tmp_path / "never", data)[2:]
    if "--task" in more:
        arguments = [word for word in arguments if word not in ("--task", "sst2")]
    if "--paper" in more:
        arguments = [word for word in arguments if word not in ("--paper", "bert")]
    refused(bench, tmp_path, ["plan", "small", *arguments, *more], *words)


@pytest.mark.parametrize("settings", [["fine_tune.epochs=1", "max_length=200"], ["pretrain.layers=3"]])
def test_the_plan_says_that_the_made_up_encoder_cannot_serve(bench, tmp_path: Path, settings: list[str]) -> None:
    """At smoke scale there is no folder: what the reference will make is known by its settings."""
    changes = [word for setting in settings for word in ("--set", setting)]
    words = ["position table", "200"] if len(settings) > 1 else ["layers cannot be halved"]
    refused(bench, tmp_path, ["plan", "smoke", "--paper", "distilbert", "--task", "sst2", *changes], *words)


def test_a_fine_tuned_teacher_below_its_floor(bench, tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "tuned"
    model = BertForSequenceClassification(tiny())
    with torch.no_grad():
        model.classifier.weight.zero_()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    refused(bench, tmp_path, run_bert(folder, data), "below its floor", "accuracy", str(folder))


@pytest.mark.parametrize("content", ["not json", '{"format": 99}', "{}"])
def test_a_record_that_cannot_be_read(bench, tmp_path: Path, content: str) -> None:
    path = tmp_path / "work/results/small/bert/bert/sst2/20260101T000000Z-00000000-s0.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    refused(bench, tmp_path, ["report"], path.name)
    refused(bench, tmp_path, ["claims"], path.name)


def test_a_results_folder_that_cannot_be_written(bench, tmp_path: Path, teacher: Path, data: Path) -> None:
    """A file stands where the folder should be (the user root may write into any folder)."""
    (tmp_path / "work" / "results").write_text("a file")
    refused(bench, tmp_path, run_bert(teacher, data), "results")
