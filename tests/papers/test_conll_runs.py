"""CoNLL-2003 through the command line with a tiny given teacher: the papers that have it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Call, Result, add_task, config, measured, refused
from tokenizers import normalizers
from transformers import BertForTokenClassification, BertModel, PreTrainedTokenizerFast

from bench.core import answers
from bench.core.record import Record
from bench.models import load
from papers.qbert import packed

ROWS = 160
NAMED = {2: (1, 2), 3: (5, 6)}
"""Word number -> the tags of it and of the word behind it: w2 begins a person, w3 a place."""


def table(count: int, seed: int) -> pa.Table:
    """Sentences of up to ten words in which w2 and w3 begin a name of two words."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        words = [int(i) for i in rng.integers(10, 50, rng.integers(4, 9))]
        tags, place, name = [0] * len(words), int(rng.integers(0, len(words) - 1)), (2, 3)[number % 2]
        words[place] = name
        tags[place : place + 2] = NAMED[name]
        rows.append({"id": str(number), "tokens": [f"w{i}" for i in words], "ner_tags": tags})
    return pa.Table.from_pylist(rows)


@pytest.fixture
def call(bench_run: Call, folder: Path) -> Call:
    """`bench run SCALE --paper PAPER --task conll2003` on made-up sentences."""
    add_task(folder, "conll2003", table, ROWS, 40)

    def run(paper: str, *arguments: str, **options: str) -> Result:
        return bench_run(paper, *arguments, task="conll2003", **options)

    return run


def test_bert_learns_it_and_qbert_packs_it(call: Call, folder: Path) -> None:
    changes = ("--set", "fine_tune.epochs=60", "--set", "training.lr=1e-3")
    code, out, error = call("qbert", "--variant", "qbert-w8", *changes, "--json")
    assert code == 0, error
    teacher, student = json.loads(out)
    assert teacher["data"]["rows"] == {"train": ROWS, "validation": 40} and teacher["data"]["partial"]
    assert measured(teacher, "f1")["validation"] > 0.5 and not measured(teacher, "majority")
    assert student["teacher"]["score"] == measured(teacher, "f1")["validation"]
    assert measured(student, "packed_score")["validation"] == measured(student, "f1")["validation"]
    assert measured(student, "packed_difference")["validation"] <= 1e-5
    assert measured(student, "int8_score") and measured(student, "retention") and measured(student, "flops")
    right, f1 = (of(Record.model_validate(student), "validation") for of in (answers.correct, answers.f1))
    assert right is not None and f1 is not None and len(right) == len(f1) == 40
    assert set(f1[right]) == {1.0} and f1.mean() > 0.3
    assert measured(student, "aa_ratio").keys() == measured(student, "latency_s").keys()
    (file,) = (folder / "home" / "further").glob("*")
    assert type(packed.load(file)) is BertForTokenClassification


def test_an_uncased_vocabulary_is_refused(call: Call, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    lowering = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **tokenizer.special_tokens_map)
    lowering.backend_tokenizer.normalizer = normalizers.BertNormalizer()
    load.save(BertModel(config()), folder / "uncased", lowering)
    refused(call("bert", teacher="uncased"), folder, "takes a cased vocabulary", "conll2003", "bert-base-cased")


def test_tags_outside_the_names_are_refused(call: Call, folder: Path) -> None:
    rows = table(3, 5).to_pylist()
    rows[1]["ner_tags"][0] = 9
    path = folder / "data" / "conll2003" / "validation_subset.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    refused(call("bert"), folder, str(path), "field ner_tags", "9 in row 1")
