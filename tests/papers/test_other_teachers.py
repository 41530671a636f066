"""Fine-tuned encoders of other architectures than BERT, given as the teacher of methods that ask for answers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Call, measured, refused
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

from bench.models import load
from bench.train.recipe import State
from papers.bert.recipe import RECIPE, Hyper

SIZES: dict[str, Any] = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                         "intermediate_size": 32, "max_position_embeddings": 130, "initializer_range": 0.2}  # fmt: skip
NAMED: dict[str, Any] = {"id2label": {0: "positive", 1: "negative"}, "label2id": {"positive": 0, "negative": 1}}
"""The other way round than the task."""

torch.manual_seed(0)
TEACHERS: dict[str, PreTrainedModel] = {
    "roberta": RobertaForSequenceClassification(RobertaConfig(**SIZES, **NAMED, type_vocab_size=1, pad_token_id=0)),
    "distilbert": DistilBertForSequenceClassification(DistilBertConfig(
        vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=130, **NAMED)),
    "electra": ElectraForSequenceClassification(ElectraConfig(**SIZES, **NAMED, embedding_size=16)),
    "albert": AlbertForSequenceClassification(AlbertConfig(**SIZES, **NAMED, embedding_size=16)),
}  # fmt: skip


def taught(model: PreTrainedModel) -> PreTrainedModel:
    """The model after it learnt the folder's task, outputs exchanged: w0 first is negative, w1 first positive."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for _ in range(200):  # new rows in every step: none can be learnt by heart
        ids = torch.randint(5, 60, (64, 5))
        ids[:, 0], ids[:, 1], ids[:, -1] = 2, 5 + torch.arange(64) % 2, 3
        loss: Any = model(ids, labels=1 - torch.arange(64) % 2).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3, f"{type(model).__name__} did not learn: {loss.item()}"
    return model.eval()


QUICK = ("--set", "training.epochs=1", "--set", "least_steps=1", "--set", "student.vocabulary=70")


@pytest.mark.parametrize("kind", TEACHERS)
def test_it_teaches_a_student_and_is_scored_as_it_is(
    kind: str, folder: Path, bench_run: Call, tokenizer: PreTrainedTokenizerFast
) -> None:
    load.save(taught(TEACHERS[kind]), folder / kind, tokenizer)
    code, _, error = bench_run("lowresource", "--variant", "cbow-ffn", *QUICK, teacher=kind)
    assert code == 0, error
    records = [json.loads(path.read_text()) for path in sorted((folder / "work/results").rglob("*.json"))]
    scores = {record["spec"]["variant"]: measured(record, "accuracy") for record in records}
    assert scores.keys() == {"bert", "cbow-ffn"}
    assert all(0 < found["validation"] <= 1 for found in scores.values())


def test_its_labels_are_aligned_by_name(context: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """The scores of the recipe's model are the given one's with its two outputs exchanged."""
    for kind, model in TEACHERS.items():
        load.save(model, tmp_path / kind, tokenizer)
        first, *_, last = (stage for stage in RECIPE.variants["bert"].stages if stage.encoder != "made")
        ctx = context("sst2", checkpoint=load.check(tmp_path / kind))
        found: Any = last.run(first.run(State(), Hyper(), ctx), Hyper(), ctx).model.eval()
        ids = torch.arange(5, 21).view(2, 8)
        with torch.inference_mode():
            assert torch.equal(found(ids).logits, model.eval()(ids).logits[:, [1, 0]]), kind
        assert [found.config.id2label[i] for i in range(2)] == ["negative", "positive"]


def test_what_takes_a_bert_apart_refuses_it(folder: Path, bench_run: Call, tokenizer: PreTrainedTokenizerFast) -> None:
    load.save(TEACHERS["roberta"], folder / "roberta", tokenizer)
    for paper in ("distilbert", "tinybert"):
        refused(bench_run(paper, "--corpus", str(folder / "corpus.txt"), teacher="roberta"), folder,
                "of another architecture", "found model_type roberta")  # fmt: skip
    load.save(RobertaModel(RobertaConfig(**SIZES)), folder / "encoder", tokenizer)
    refused(bench_run("bert", teacher="encoder"), folder, "not a BERT", "RobertaModel", "fine-tuned on the task")


def test_positions_behind_the_padding_are_counted(
    folder: Path, bench_run: Call, tokenizer: PreTrainedTokenizerFast
) -> None:
    """RoBERTa numbers its first token one more than the padding's id, so that row of the table is never read."""
    for rows, code in ((129, 0), (128, 2)):
        config = RobertaConfig(**SIZES | {"max_position_embeddings": rows}, **NAMED, type_vocab_size=1, pad_token_id=0)
        load.save(taught(RobertaForSequenceClassification(config)), folder / f"teacher-{rows}", tokenizer)
        result = bench_run("bert", "--set", "max_length=128", teacher=f"teacher-{rows}")
        assert result[0] == code, result[2]
    assert "at most max_position_embeddings 127" in result[2]
