"""One job, one function: nothing is kept between two calls, and two jobs may be made at once in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from bench.core import answers
from bench.core.record import Record
from bench.core.store import Store
from bench.models import load
from bench.run import plan as planning
from bench.run.cache import Cache
from bench.run.job import _corpus, run_job
from bench.run.plan import Job, Plan
from bench.run.request import Request

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Plan]:
    """Two teachers (two seeds) and two students on a tiny task; the name is that of results folder and cache."""
    words = [*SPECIAL, *(f"w{i}" for i in range(55))]
    raw = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                        sep_token="[SEP]", mask_token="[MASK]")  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(vocab_size=60, num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=32,
                        max_position_embeddings=128, initializer_range=0.2)  # fmt: skip
    load.save(BertModel(config), tmp_path / "teacher", tokenizer)
    for split, count in (("train_subset", 96), ("validation_subset", 32)):
        path = tmp_path / "data" / "sst2" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"w{i % 2} w{5 + i % 40} w{7 + i % 30}" for i in range(count)]
        pq.write_table(pa.table({"sentence": texts, "label": [i % 2 for i in range(count)], "idx": range(count)}), path)

    def make(name: str) -> Plan:
        monkeypatch.setenv("BENCH_HOME", str(tmp_path / name / "home"))
        return planning.make(Request(
            scale="smoke", paper=("bert", "lowresource"), task=("sst2",), teacher=str(tmp_path / "teacher"), seeds=2,
            data=str(tmp_path / "data"), results=str(tmp_path / name / "results"),
            set={"fine_tune.epochs": "12", "fine_tune.lr": "3e-3", "least_steps": "30"},
        ))  # fmt: skip

    return make


def scores(record: Record) -> dict[tuple[str, str], float | None]:
    """What of a record is neither time nor memory: it must not depend on what else the process did."""
    return {(m.metric, m.split): m.value for m in record.measurements
            if m.unit in ("fraction", "count") or m.metric in ("retention", "size_bytes")}  # fmt: skip


def test_two_jobs_at_once_make_the_records_that_they_make_one_after_the_other(plan: Callable[[str], Plan]) -> None:
    alone = plan("alone")
    store = Store(Path(alone.request.results))
    wanted = {job.hash: run_job(job, store, alone.cache) for job in alone.jobs}
    assert [record.status for record in wanted.values()] == ["ok"] * 4

    together = plan("together")
    store = Store(Path(together.request.results))
    found: dict[str, Record] = {}

    def make(job: Job) -> None:
        found[job.hash] = run_job(job, store, together.cache)

    for part in (together.jobs[:2], together.jobs[2:]):  # the teachers, then their students
        threads = [threading.Thread(target=make, args=(job,)) for job in part]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found.keys() == wanted.keys()
    for hash_, record in found.items():
        assert scores(record) == scores(wanted[hash_]) and record.code == wanted[hash_].code
        assert record.answers == wanted[hash_].answers


def test_a_record_says_which_rows_were_right(plan: Callable[[str], Plan]) -> None:
    made = plan("rows")
    store = Store(Path(made.request.results))
    records = [run_job(job, store, made.cache) for job in made.jobs]
    for record in records:
        right = answers.correct(record, "validation")
        assert right is not None and len(right) == 32 and right.mean() == record.value("accuracy", "validation")
        first, own = records[0].answers["validation"], record.answers["validation"]
        assert (own.n, own.rows_sha256) == (first.n, first.rows_sha256)
        assert record.code.measure_hash and not record.session
        times = [{m.split for m in record.measurements if m.metric == name} for name in ("latency_s", "aa_ratio")]
        assert times[0] == times[1] and len(times[0]) == 2
    assert len(records) == 4


def test_a_record_that_is_there_is_found_and_nothing_is_made(plan: Callable[[str], Plan]) -> None:
    made = plan("once")
    store, job = Store(Path(made.request.results)), made.jobs[0]
    first = run_job(job, store, made.cache)
    nowhere = Cache(Path(made.request.results).parent / "empty")
    assert run_job(job, store, nowhere) == first and not nowhere.root.exists()


def test_a_job_without_what_it_needs_says_so_in_its_record(plan: Callable[[str], Plan]) -> None:
    made = plan("early")
    store, student = Store(Path(made.request.results)), made.jobs[-1]
    record = run_job(student, store, made.cache)
    assert record.status == "failed" and "has no record; in bert/bert/sst2/smoke/s1" in record.reason
    assert store.find(student.spec, student.hash) is None
    assert run_job(student, store, made.cache).id == record.id, "the same failure leaves no second record"


@pytest.mark.parametrize(("own", "needed", "said"), [(True, False, "sha"), (False, True, "sha"), (False, False, "")])
def test_a_record_names_the_text_only_where_a_stage_read_it(own: bool, needed: bool, said: str) -> None:
    def made(reads: bool, *before: Any) -> Any:
        return SimpleNamespace(stages=[SimpleNamespace(corpus=False), SimpleNamespace(corpus=reads)], needed=before,
                               inputs=SimpleNamespace(corpus_identity="sha"))  # fmt: skip

    assert _corpus(made(own, made(needed))) == said
