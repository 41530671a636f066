"""AdaBERT's probes: what they read of a teacher, how they are trained, and how often the teacher is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import FakeContext, scatter
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, BertModel

from bench.core.errors import ModelError
from bench.data.batches import Encoded
from bench.data.tasks import get_task
from bench.models import load
from bench.run.context import StageContext
from bench.train.predict import predict
from bench.train.progress import silent
from bench.train.settings import Training
from bench.train.teacher import fine_tuned_bert
from bench.train.tuning import classifier_config
from papers.adabert import probes as module
from papers.adabert.probes import OfLayers, Probes, answers, trained

LAYERS, WIDTH = 3, 8
TRAINING = Training(epochs=40, batch_size=4, lr=5e-2, weight_decay=0.0, warmup=0.1, precision="fp32")


def teacher(task: str = "rte") -> BertForSequenceClassification:
    """A little BERT whose layers all differ, with dropout, as it is while it trains."""
    torch.manual_seed(0)
    shape: Any = classifier_config(BertConfig(
        vocab_size=60, num_hidden_layers=LAYERS, hidden_size=WIDTH, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=24, initializer_range=0.4), get_task(task))  # fmt: skip
    return BertForSequenceClassification(shape).train()


def of_three_layers(labels: int = 2) -> Probes:
    made = Probes(LAYERS, WIDTH, labels)
    scatter(made, 4)
    return made


def batch() -> dict[str, Tensor]:
    ids = torch.randint(5, 60, (3, 7), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


# What is read


def test_logits_are_what_the_formula_says() -> None:
    states, found = torch.randn(5, LAYERS, WIDTH), of_three_layers(4)
    logits = found(states)
    assert logits.shape == (5, LAYERS, 4)
    for layer in range(LAYERS):
        by_hand = states[:, layer] @ found.weight[layer] + found.bias[layer]
        torch.testing.assert_close(logits[:, layer], by_hand)
        each = found.each([states[:, i] for i in range(layer)])
        assert len(each) == layer
        assert all(torch.allclose(ours, logits[:, i], atol=1e-6) for i, ours in enumerate(each))


def test_a_probe_sees_its_own_layer_alone() -> None:
    states, found = torch.randn(5, LAYERS, WIDTH, requires_grad=True), of_three_layers()
    found(states)[:, 1].sum().backward()
    assert states.grad is not None and [bool(layer.any()) for layer in states.grad.unbind(1)] == [False, True, False]
    assert found.weight.grad is not None and [bool(g.any()) for g in found.weight.grad] == [False, True, False]


def test_probes_read_the_first_token_of_every_layer_but_the_embeddings() -> None:
    bert, found, given = teacher().eval(), of_three_layers(), batch()
    hidden = bert(**given, output_hidden_states=True).hidden_states
    assert len(hidden) == LAYERS + 1
    states = OfLayers(bert)(**given).logits
    assert states is not None and states.shape == (3, LAYERS * WIDTH)
    torch.testing.assert_close(states, torch.cat([state[:, 0] for state in hidden[1:]], 1))
    logits = OfLayers(bert, found)(**given).logits
    by_hand = [state[:, 0] @ found.weight[i] + found.bias[i] for i, state in enumerate(hidden[1:])]
    torch.testing.assert_close(logits, torch.cat(by_hand, 1))
    padded = {name: torch.nn.functional.pad(value, (0, 5)) for name, value in given.items()}
    torch.testing.assert_close(OfLayers(bert, found)(**padded).logits, logits)


def test_what_was_read_stands_by_layer(context: Callable[..., FakeContext]) -> None:
    """[N, K * C] unflattened is [N, K, C]: the order that the losses of the student read."""
    ctx, found = context(given=teacher()), of_three_layers()
    rows = ctx.train_rows(16)
    said = torch.from_numpy(answers(ctx, rows, found)).unflatten(1, (-1, 2))  # pyright: ignore
    states = predict(OfLayers(ctx.fine_tuned_teacher()), rows, Accelerator(cpu=True))
    expected = found(torch.from_numpy(states).unflatten(1, (LAYERS, WIDTH)))  # pyright: ignore
    torch.testing.assert_close(said, expected)
    assert [asked for asked in ctx.asked if asked[0] == "teacher_logits"] == [("teacher_logits", 12)]


def test_probes_come_back_from_disk(tmp_path: Path) -> None:
    found = of_three_layers()
    load.save(found, tmp_path / "probes")
    again = load.load_saved(tmp_path / "probes")
    assert isinstance(again, Probes) and again.sizes == {"layers": LAYERS, "hidden": WIDTH, "labels": 2}
    assert torch.equal(again.weight, found.weight) and torch.equal(again.bias, found.bias)


# Training


def of_words(ctx: FakeContext) -> Encoded:
    """Rows whose label is their first token, which is the one that is read."""
    rows = [[5 + 7 * (i % 2), *range(20 + i % 9, 26 + i % 9), 3] for i in range(16)]
    return Encoded.from_lists(rows, [[0] * len(row) for row in rows], np.arange(16) % 2)


def test_the_teacher_is_frozen_and_each_layer_is_read(context: Callable[..., FakeContext]) -> None:
    ctx = context(given=teacher())
    bert, rows = ctx.teacher(), of_words(ctx)
    before = {name: value.clone() for name, value in bert.state_dict().items()}
    found, right = trained(ctx, rows, TRAINING)
    assert all(torch.equal(value, before[name]) for name, value in bert.state_dict().items())
    assert all(parameter.grad is None for parameter in bert.parameters())
    assert len(ctx.fitted) == 1 and ctx.fitted[0][0] is found, "the probes alone are trained"
    assert list(right) == ["layer1", "layer2", "layer3"]
    assert all(len(share) == 1 and 0.9 < share[0] <= 1 for share in right.values()), right
    states = predict(OfLayers(bert), rows, Accelerator(cpu=True)).reshape(16, LAYERS, WIDTH)
    for layer in range(LAYERS):
        logits = states[:, layer] @ found.weight[layer].detach().numpy() + found.bias[layer].detach().numpy()
        assert right[f"layer{layer + 1}"] == [pytest.approx(float((logits.argmax(1) == rows.labels).mean()))]
    assert [asked for asked in ctx.asked if asked[0] == "teacher_logits"] == [("teacher_logits", 16)]


def test_the_loss_is_the_sum_of_the_layers_cross_entropies(context: Callable[..., FakeContext]) -> None:
    ctx = context("mnli", given=teacher("mnli"), trains=False)
    found, right = trained(ctx, ctx.train_rows(16), TRAINING)
    assert found.sizes == {"layers": LAYERS, "hidden": WIDTH, "labels": 3} and set(right) == {
        f"layer{k}" for k in (1, 2, 3)
    }
    _, loss, batches, training = ctx.fitted[0]
    assert training == TRAINING
    scatter(found, 7)
    given = batches.batch(0, 0, batches.order(0)[0])
    states = given["teacher_logits"].reshape(-1, LAYERS, WIDTH)
    each = [-math.log(torch.softmax(found(states)[b, k], 0)[given["labels"][b]].item())
            for b in range(len(states)) for k in range(LAYERS)]  # fmt: skip
    total = sum(loss(found, given).values())
    assert isinstance(total, Tensor) and total.item() == pytest.approx(sum(each) / len(states), rel=1e-4)


def test_many_rows_are_read_a_part_at_a_time(
    context: Callable[..., FakeContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    for at_once in (4096, 5):
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        ctx = context(given=teacher())
        torch.manual_seed(0)
        shares.append(trained(ctx, ctx.train_rows(16), TRAINING.model_copy(update={"epochs": 1}))[1])
    assert shares[0] == shares[1]


@pytest.mark.parametrize("kind", ["raw", "another task"])
def test_a_teacher_that_is_not_fine_tuned_is_refused(context: Callable[..., FakeContext], kind: str) -> None:
    given = BertModel(teacher().config) if kind == "raw" else teacher("mnli")
    ctx = context("rte", given=given, trains=False)
    for ask in (lambda: fine_tuned_bert(ctx), lambda: trained(ctx, ctx.train_rows(16), TRAINING)):
        with pytest.raises(ModelError, match="not fine-tuned on the task; in rte") as error:
            ask()
        assert "\n" not in str(error.value) and "next:" in str(error.value) and error.value.exit_code == 2
    assert not ctx.fitted


# How often the teacher is asked


@pytest.fixture
def passes() -> list[int]:
    """One for each pass of the teacher."""
    return []


@pytest.fixture
def stage(passes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StageContext]:
    """Make the view of a new stage that asks for the teacher with this key."""
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    bert = teacher()
    bert.register_forward_hook(lambda *_: passes.append(1))

    def make(key: str = "of the teacher") -> StageContext:
        owner = SimpleNamespace(key=key)
        job: Any = SimpleNamespace(teachers=[owner], inputs=None, spec=None)
        plan: Any = SimpleNamespace(stage=None, seed=0)

        def ask(kind: str) -> tuple[nn.Module, Path]:
            assert kind == "fine_tuned"
            return bert, tmp_path

        return StageContext(job, plan, accelerator=Accelerator(cpu=True), tokenizer_folder=tmp_path,
                            progress_folder=tmp_path, ask=ask, bars=lambda label: silent)  # fmt: skip

    return make


def test_answers_are_made_once_and_then_read(
    stage: Callable[..., StageContext], context: Callable[..., FakeContext], passes: list[int]
) -> None:
    rows, found = context().train_rows(16), of_three_layers()
    first = stage()
    said = answers(first, rows, found)  # pyright: ignore[reportArgumentType]
    assert first.teacher_logits_from == "made" and len(passes) == 1
    second = stage()
    again = answers(second, rows, found)  # pyright: ignore[reportArgumentType]
    assert second.teacher_logits_from == "cache" and len(passes) == 1, "no pass of the teacher"
    assert isinstance(again, np.memmap) and np.array_equal(said, again) and said.shape == (12, LAYERS * 2)
    copied = Probes.from_saved(found.saved_config())
    copied.load_state_dict(found.state_dict())
    assert np.array_equal(answers(stage(), rows, copied), said)  # pyright: ignore[reportArgumentType]
    assert len(passes) == 1, "probes that hold the same say the same"


def test_other_probes_rows_and_teachers_are_asked_anew(
    stage: Callable[..., StageContext], context: Callable[..., FakeContext], passes: list[int]
) -> None:
    rows, found = context().train_rows(16), of_three_layers()
    said = answers(stage(), rows, found)  # pyright: ignore[reportArgumentType]
    other = of_three_layers()
    with torch.no_grad():
        other.bias[2, 1] += 1.0
    moved = answers(stage(), rows, other)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(moved - said, [[0, 0, 0, 0, 0, 1]] * 12, atol=1e-5)
    assert len(answers(stage(), rows.between(0, 5), found)) == 5  # pyright: ignore[reportArgumentType]
    answers(stage("another"), rows, found)  # pyright: ignore[reportArgumentType]
    assert len(passes) == 4
    plain = stage().teacher_logits(rows)
    assert plain.shape == (12, 2) and len(passes) == 5, "its own answers are kept apart from what is read of it"
    answers(stage(), rows, found)  # pyright: ignore[reportArgumentType]
    assert len(passes) == 5
