"""What engines stand on: losses looked at late, batches made ahead, few shapes, places; and which engine may run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
)

from bench.core.errors import DeviceError, Diverged, TrainError
from bench.data.batches import Batch, Batches, Encoded
from bench.data.masking import IGNORED, Masking
from bench.data.positions import filled, of_rows
from bench.models.outputs import Moved, forward, inputs
from bench.train import engine, fit, meter
from bench.train.checkpoint import Checkpointer, Position
from bench.train.feed import ahead, feed
from bench.train.losses import masked_lm, span_loss, supervised, tag_loss
from bench.train.meter import Meter
from bench.train.settings import Training
from bench.train.step import Rates
from papers.distilbert.recipe import Distillation, triple_loss
from papers.lowresource.student import BiLstmConfig, BiLstmForSequenceClassification
from papers.qbert.scheme import Scheme
from papers.qbert.student import from_float

WORDS = 40


def encoded(count: int = 60, longest: int = 21) -> Encoded:
    rng = np.random.default_rng(0)
    rows = [[2, *rng.integers(5, WORDS, rng.integers(3, longest - 1)).tolist(), 3] for _ in range(count)]
    rows[7] = [2] * longest
    return Encoded.from_lists(rows, [[0] * len(row) for row in rows], rng.integers(0, 2, count))


def bert(kind: Any = BertForSequenceClassification, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    return kind(BertConfig(vocab_size=WORDS, hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0, **shape))


MASKING = Masking(4, WORDS, frozenset({0, 2, 3}))


# Losses that are looked at late


def bad_after(steps: int) -> Any:
    calls = 0

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        terms = supervised("label")(model, batch)
        return terms | {"extra": torch.tensor(float("inf") if calls > steps else 0.0)}

    return loss


@pytest.mark.parametrize("every", [1, 3, 4, 100])
def test_a_late_look_names_the_step_and_nothing_after_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setitem(meter.EVERY, "cpu", every)
    saved = Checkpointer(tmp_path / "fit", every_s=0.0 if every == 4 else 1e9)
    with pytest.raises(Diverged, match=r"not finite at step 5 of 24; found task [\d.]+, extra inf"):
        fit.fit(bert(), bad_after(5), Batches(encoded(), 8, 0), Training(epochs=3, batch_size=8), Accelerator(),
                checkpointer=saved)  # fmt: skip
    kept = sorted(path.name for path in tmp_path.glob("fit/*"))
    assert kept == (["step-000000004", "step-000000005"] if every == 4 else [])


def test_after_a_loss_that_is_not_finite_random_numbers_are_those_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for every in (1, 7):  # by when someone looks more steps were made, and more drawn by dropout
        monkeypatch.setitem(meter.EVERY, "cpu", every)
        torch.manual_seed(3)
        with pytest.raises(Diverged):
            fit.fit(bert(dropout=0.1), bad_after(5), Batches(encoded(), 8, 0), Training(epochs=3, batch_size=8),
                    Accelerator())  # fmt: skip
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_code_ends_with_the_training() -> None:
    model = bert()
    with engine.compiled_in_place(model):
        assert model._compiled_call_impl is not None and model.base_model._compiled_call_impl is not None
    assert model._compiled_call_impl is None and model.base_model._compiled_call_impl is None


def test_late_looks_change_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs, ends = [], []
    for every in (1, 7):
        monkeypatch.setitem(meter.EVERY, "cpu", every)
        model = bert()
        training = Training(epochs=2, batch_size=8, accumulation=2, lr=1e-3, precision="fp32")
        logs.append(fit.fit(model, supervised("label"), Batches(encoded(), 8, 0), training, Accelerator()))
        ends.append(model.state_dict())
    assert (logs[0].first_loss, logs[0].last_loss) == (logs[1].first_loss, logs[1].last_loss)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_meter_tells_the_batch_of_several_in_a_step() -> None:
    found = Meter(Position(), 9, 50)
    for step in range(4):
        for part in range(2):
            value = torch.tensor(float("nan") if (step, part) == (2, 1) else 1.0 + step)
            found.saw(step, value, {"a": value, "b": torch.tensor(1.0 + part)})
        found.ended(torch.tensor(1.0 + step))
    with pytest.raises(Diverged, match=r"step 2 of 9; found a nan, b 2"):
        found.look()
    assert found.at.first_loss is None


# Batches that are made ahead


def test_ahead_hands_on_all_and_raises_where_it_happened() -> None:
    def items() -> Iterator[int]:
        yield from range(9)
        raise KeyError("nine")

    got = []
    with pytest.raises(KeyError, match="nine"):
        for item in ahead(items(), 3):
            got.append(item)
    assert got == list(range(9))
    assert list(ahead(iter(range(5)), 1)) == [0, 1, 2, 3, 4] and list(ahead(iter(()), 1)) == []


def test_closing_ends_the_thread_even_where_it_waits() -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    before = threading.active_count()
    stream = ahead(endless(), 2)
    assert [next(stream), next(stream)] == [0, 1]
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("fill", [False, True])
def test_a_feed_begins_where_training_stands(fill: bool) -> None:
    batches = Batches(encoded(), 8, 0, transform=MASKING)
    training = Training(epochs=2, batch_size=8, accumulation=3)
    whole = list(feed(batches, training, Position(), Accelerator(), fill))
    assert len(whole) == 2 * 3 and [one.position for one in whole] == [3, 6, 8] * 2
    rest = list(feed(batches, training, Position(epoch=1, position=3), Accelerator(), fill))
    assert [(one.epoch, one.position) for one in rest] == [(1, 6), (1, 8)]
    assert sum(one.examples for one in whole) == 2 * 60
    for a, b in zip(rest, whole[4:], strict=True):
        for one, other in ((x.batch, y.batch) for x, y in zip(a.parts, b.parts, strict=True)):
            assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Few shapes


def test_few_shapes_keep_every_example_and_round_lengths_up() -> None:
    rows = encoded(400, longest=150)
    for batches in (Batches(rows, 8, 0), Batches(rows, 8, 0, tokens=512)):
        few = batches.of_few_shapes()
        assert few.allowed == (*range(16, 150, 16), 150)
        order = few.order(0)
        assert sorted(np.concatenate(order)) == list(range(400))
        found = [few.batch(0, place, chosen) for place, chosen in enumerate(order)]
        assert {one["input_ids"].shape[1] for one in found} <= set(few.allowed)
        if few.tokens:
            assert all(one["input_ids"].numel() <= 512 for one in found)
        for one, chosen in zip(found, order, strict=True):
            longest = int(rows.lengths[chosen].max())
            assert one["input_ids"].shape[1] == min(length for length in few.allowed if length >= longest)
            assert int(one["attention_mask"].sum()) == int(rows.lengths[chosen].sum())
    assert Batches(encoded(), 8, 0).of_few_shapes().allowed == (8, 16, 21)
    assert Batches(encoded(), 8, 0).allowed == (), "no batch changes where nobody asks"


def both(batches: Batches) -> Iterator[tuple[Batch, Batch]]:
    """The batches of an epoch, and the same examples in one of few lengths, with filled places."""
    few = batches.of_few_shapes()
    for place, chosen in enumerate(batches.order(0)):
        batch = batches.batch(0, place, chosen)
        wide = replace(few, transform=None).batch(0, place, chosen)
        if "masked_at" in batch:  # the same draw, carried over
            length, wider = batch["input_ids"].shape[1], wide["input_ids"].shape[1]
            for name in ("input_ids", "labels"):
                fill = torch.full((len(chosen), wider - length), 0 if name == "input_ids" else IGNORED)
                wide[name] = torch.cat([batch[name], fill], 1)
            wide["masked_at"] = wide["labels"].flatten().ne(IGNORED).nonzero().squeeze(1)
            wide["attended_at"] = wide["attention_mask"].flatten().nonzero().squeeze(1)
        yield batch, filled(wide)


def gradients(model: nn.Module, terms: dict[str, Tensor]) -> list[Tensor]:
    torch.stack(list(terms.values())).sum().backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


def test_padding_and_filling_up_change_no_loss() -> None:
    model, rows = bert(), Batches(encoded(), 8, 0)
    lm, teacher = bert(BertForMaskedLM), bert(BertForMaskedLM).eval()
    student = DistilBertForMaskedLM(DistilBertConfig(vocab_size=WORDS, dim=16, n_layers=1, n_heads=2, hidden_dim=32,
                                                     dropout=0.0, attention_dropout=0.0))  # fmt: skip
    masked = lambda m, b: {"mlm": masked_lm(m.bert(b["input_ids"], b["attention_mask"])[0], b, m.cls)}  # noqa: E731
    seen = 0
    for net, loss, batches in (
        (model, supervised("label"), rows),
        (lm, masked, replace(rows, transform=MASKING)),
        (student, triple_loss(teacher, Distillation()), replace(rows, transform=MASKING)),
        (student, triple_loss(teacher, Distillation(positions="masked")), replace(rows, transform=MASKING)),
    ):
        for plain, wide in both(batches):
            a, b = loss(net, plain), loss(net, wide)
            for name in a:
                torch.testing.assert_close(b[name], a[name], rtol=1e-5, atol=1e-6)
            for one, other in zip(gradients(net, a), gradients(net, b), strict=True):
                torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
            seen += 1
    assert seen == 4 * 8


def test_spans_and_tags_of_padded_batches_cost_the_same() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 6, 2)
    wide = torch.cat([logits, torch.full((3, 2, 2), torch.finfo(torch.float32).min)], 1)
    labels = torch.tensor([[0, 2], [5, 5], [-1, 3]])
    torch.testing.assert_close(span_loss(wide, labels), span_loss(logits, labels))
    tags = torch.tensor([[1, IGNORED, 0, 1, IGNORED, 0]] * 3)
    want = tag_loss(logits, tags)
    torch.testing.assert_close(tag_loss(torch.cat([logits, torch.randn(3, 2, 2)], 1), tags), want)
    torch.testing.assert_close(tag_loss(logits, torch.cat([tags, torch.full((3, 4), IGNORED)], 1)), want)


def test_places_go_with_their_rows() -> None:
    batches = Batches(encoded(), 8, 0, transform=MASKING)
    batch = batches.batch(0, 0, batches.order(0)[0])
    parts = [of_rows(batch, torch.arange(start, len(batch["input_ids"]), 3)) for start in range(3)]
    assert sum(len(part["masked_at"]) for part in parts) == len(batch["masked_at"]) > 0
    for part in parts:
        marked = part["labels"].flatten().ne(IGNORED).nonzero().squeeze(1)
        assert torch.equal(part["masked_at"].sort().values, marked)
    assert filled(parts[0])["masked_weight"].sum() == len(parts[0]["masked_at"])


# What the host knows of a batch


def test_a_moved_batch_asks_nobody_whether_it_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert().eval()
    batches = Batches(encoded(), 8, 0)
    for place, chosen in enumerate(batches.order(0)):
        batch = batches.batch(0, place, chosen)
        padded = not bool(batch["attention_mask"].all())
        moved = Moved(batch, padded=padded)
        torch.testing.assert_close(forward(model, moved).logits, forward(model, batch).logits, rtol=1e-4, atol=1e-6)
        given = inputs(model, moved).get("attention_mask")
        assert (given is None) == (not padded) and (given is None or given.ndim == 4)
    monkeypatch.setattr(model.config, "_attn_implementation", "eager")
    assert inputs(model, moved)["attention_mask"].ndim == 2


# Which engine


def test_an_engine_that_the_device_has_not_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"engine graph was asked for; in .*; found a cpu device; .*engine=auto"):
        fit.fit(bert(), supervised("label"), Batches(encoded(), 8, 0), Training(engine="graph"), Accelerator())
    monkeypatch.setattr("bench.core.compilers.shutil.which", lambda name: None)
    with pytest.raises(DeviceError, match=r"engine compile was asked for; in .*; found no C\+\+ compiler"):
        engine.choose(Training(engine="compile"), torch.device("cpu"))
    files = sorted((Path(__file__).parents[1] / "benchmarks").glob("gpu-*.json"))
    for checked in (json.loads(file.read_text()) for file in files):
        same = [checked[name] == 0 for name in checked if name.startswith(("equal_", "resume_")) and "bits" not in name]
        assert len(same) >= 4 and all(same), "graphs are the default as long as a GPU was seen to make the same bits"
    assert len(files) >= 2
    assert engine.choose(Training(), torch.device("cuda")) == "graph"
    assert engine.choose(Training(), torch.device("cpu")) == "eager"
    assert engine.choose(Training(), torch.device("cuda"), processes=2) == "eager"
    with pytest.raises(DeviceError, match=r"engine graph was asked for; .*found 2 processes; expected one"):
        engine.choose(Training(engine="graph"), torch.device("cuda"), processes=2)
    assert engine.choose(Training(engine="graph"), torch.device("cuda")) == "graph"
    places = [("cuda", 1), ("cuda", 2), ("cpu", 1)]
    shapes = [SimpleNamespace(device=torch.device(name), num_processes=processes) for name, processes in places]
    assert [engine.records("compile", cast(Accelerator, one)) for one in shapes] == [True, False, False]


def test_rates_are_the_schedule_times_that_of_the_group() -> None:
    one, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([{"params": [one], "rate": 1.0}, {"params": [other], "rate": 0.1}], lr=1.0)
    training = Training(lr=0.5, warmup=0.5)
    rates = Rates(optimizer, training, 10, torch.device("cpu"))
    for step in range(10):
        rates.set(step)
        lr = training.lr_at(step, 10)
        assert [group["lr"] for group in optimizer.param_groups] == [lr, lr * 0.1]


def test_a_full_device_names_the_setting_to_lower() -> None:
    def full(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    with pytest.raises(TrainError, match=r"no memory left for a batch; found \d+ x \d+ tokens; next: lower batch_size"):
        fit.fit(bert(), full, Batches(encoded(), 8, 0), Training(batch_size=8), Accelerator())


def test_a_model_that_hands_on_what_it_reads_is_asked_nothing_either() -> None:
    model = from_float(bert(), Scheme(layers=(8, 8))).train()
    batches = Batches(encoded(), 8, 0)
    batch = batches.batch(0, 0, batches.order(0)[0])
    forward(model, batch)
    model.eval()
    given = Moved(batch, padded=True)
    torch.testing.assert_close(forward(model, given).logits, forward(model, batch).logits, rtol=1e-4, atol=1e-5)
    assert inputs(model, given)["attention_mask"].ndim == 4
    own = BiLstmForSequenceClassification(BiLstmConfig(vocab_size=WORDS))
    assert inputs(own, given)["attention_mask"].ndim == 2, "it reads the mask itself"
