"""MobileBERT's knowledge transfer: which layers run and learn when, and what a loss is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import scatter
from torch import Tensor
from torch.nn import functional

from bench.core.errors import DataError
from bench.data.batches import Batches, Encoded
from bench.train.fit import fit
from bench.train.settings import Training
from papers.mobilebert.heads import MobileBertForPreTraining
from papers.mobilebert.settings import Transfer
from papers.mobilebert.student import PAPER, TEACHER
from papers.mobilebert.transfer import Loss, layer_loss, phases, word_loss

K = 3
"""Layers of the tiny pair; its heads are 4, as in the paper."""
WIDTHS: dict[str, Any] = {"vocab_size": 60, "max_position_embeddings": 128, "embedding_size": 8, "hidden_size": 16,
                          "num_hidden_layers": K, "intermediate_size": 24}  # fmt: skip
SMALL_TEACHER = replace(TEACHER, intra_bottleneck_size=24, **WIDTHS)
SMALL_STUDENT = replace(PAPER, intra_bottleneck_size=8, attention_dropout=0.0, **WIDTHS)
Pair = tuple[MobileBertForPreTraining, MobileBertForPreTraining]


@pytest.fixture
def pair() -> Pair:
    """Student and teacher with nothing in common; the teacher as the stages freeze it, the student without dropout."""
    student, teacher = MobileBertForPreTraining(SMALL_STUDENT), MobileBertForPreTraining(SMALL_TEACHER)
    scatter(student, 1)
    scatter(teacher, 2)
    return student, teacher.eval().requires_grad_(False)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    ids = torch.randint(5, 60, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[1, 1], labels[2, 6] = 9, 11, 13
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids), "labels": labels,
            "follows": torch.tensor([0, 1, 1])}  # fmt: skip


def states(model: MobileBertForPreTraining, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    return model.encoder(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])


def rows(count: int) -> Encoded:
    lists = [[2, *range(5, 9 + i % 5), 3] for i in range(count)]
    return Encoded.from_lists(lists, [[0] * len(row) for row in lists], np.arange(count) % 2)


@contextmanager
def layers_run(model: MobileBertForPreTraining) -> Iterator[Counter[int]]:
    """How often each layer of a model ran, from 1."""
    ran: Counter[int] = Counter()
    hooks = [layer.register_forward_hook(lambda *_, number=number: ran.update([number]))
             for number, layer in enumerate(model.encoder.layers, 1)]  # fmt: skip
    yield ran
    for hook in hooks:
        hook.remove()


# Walking through the layers


def test_a_walk_makes_the_states_of_a_forward(pair: Pair, batch: dict[str, Tensor]) -> None:
    for model in pair:
        whole = states(model, batch)
        walked = list(model.encoder.walk(batch, K, (2, 3)))
        assert len(walked) == K and [seen is None for _, seen in walked] == [True, False, False]
        for (state, _), want in zip(walked, whole[1:], strict=True):
            torch.testing.assert_close(state, want, rtol=1e-5, atol=1e-4)
        seen = walked[1][1]
        assert seen is not None and seen.shape == (3, 4, 7, 7) and seen.isfinite().all()
        torch.testing.assert_close(seen.exp().sum(-1), torch.ones(3, 4, 7))
        assert not seen.exp()[1, :, :, 4:].any() and seen.exp()[1, :, :, :4].all()


def test_a_walk_ends_where_it_is_told(pair: Pair, batch: dict[str, Tensor]) -> None:
    with layers_run(pair[0]) as ran:
        assert len(list(pair[0].encoder.walk(batch, 2))) == 2
    assert ran == {1: 1, 2: 1}


# Schedules


def test_the_progressive_schedule_reads_each_row_once() -> None:
    given = rows(50)
    found = list(phases(Transfer(), 24, given))
    assert [phase.layers for phase in found] == [(number,) for number in range(1, 25)]
    assert np.concatenate([phase.rows.ids for phase in found]).tolist() == list(range(50))
    assert {len(phase.rows) for phase in found} <= {2, 3}, "equal parts, as far as they go"


def test_the_progressive_schedule_says_how_fast_each_parameter_learns() -> None:
    names = [
        name for name, _ in MobileBertForPreTraining(replace(SMALL_STUDENT, num_hidden_layers=12)).named_parameters()
    ]
    for number, phase in enumerate(phases(Transfer(), 12, rows(12)), 1):
        for name in names:
            rate = next(group.rate for group in phase.groups if fnmatchcase(name, group.match))
            layer = int(name.split(".")[2]) + 1 if name.startswith("encoder.layers.") else None
            wanted = 0.0 if layer is None or layer > number else 3.0 if layer == number else 0.3
            assert rate == wanted, (number, name)


def test_the_joint_schedule_is_one_phase_of_all_layers() -> None:
    (phase,) = phases(Transfer(schedule="joint"), K, rows(5))
    assert phase.layers == (1, 2, 3) and len(phase.rows) == 5
    assert [(group.match, group.rate) for group in phase.groups] == [("encoder.*", 1.0), ("*", 0.0)]


@pytest.mark.parametrize(("schedule", "count", "least"), [("progressive", 2, 3), ("joint", 0, 1)])
def test_fewer_rows_than_phases_are_refused(schedule: Any, count: int, least: int) -> None:
    with pytest.raises(DataError, match=f"too short.*found {count} pairs of texts; expected {least} or more"):
        list(phases(Transfer(schedule=schedule), K, rows(count)))


ONE_STEP = Training(epochs=1, batch_size=64, lr=1e-3, weight_decay=0.0, warmup=0.0, schedule="constant", clip=None)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_phase_neither_runs_nor_changes_what_is_above_its_layer(pair: Pair, number: int) -> None:
    student, teacher = pair
    before = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
    phase = list(phases(Transfer(), K, rows(12)))[number - 1]
    with layers_run(student) as ran, layers_run(teacher) as ran_of_teacher:
        loss = layer_loss(teacher, Transfer(), phase.layers)
        fit(student, loss, Batches(phase.rows, 64, 0), ONE_STEP, Accelerator(cpu=True), groups=phase.groups)
    assert ran == ran_of_teacher == dict.fromkeys(range(1, number + 1), 1)
    moved: dict[int | None, float] = {}
    for name, parameter in student.named_parameters():
        layer = int(name.split(".")[2]) + 1 if name.startswith("encoder.layers.") else None
        moved[layer] = max(moved.get(layer, 0.0), (parameter.detach() - before[name]).abs().max().item())
    # AdamW's first step is as long as the rate, whatever the gradient.
    wanted = {layer: 0.0 if layer is None or layer > number else 3e-3 if layer == number else 3e-4 for layer in moved}
    assert moved == pytest.approx(wanted, rel=1e-2) and len(moved) == K + 1
    assert all(parameter.requires_grad for parameter in student.parameters()), "what was frozen is not so any more"


# What a loss is made of


def plain(pair: Pair, batch: dict[str, Tensor], layer: int, mask: Tensor) -> dict[str, Tensor]:
    """The four differences at a layer by their formulas; attention from the keys and queries that the layers make."""
    kept: list[Tensor] = []
    hooks = [part.register_forward_hook(lambda _, __, out: kept.append(out))
             for model in pair for part in (layer_of(model, layer).query, layer_of(model, layer).key)]  # fmt: skip
    with torch.no_grad():
        ours, theirs = (states(model, batch)[layer] for model in pair)
    for hook in hooks:
        hook.remove()
    query, key, query_t, key_t = (tensor.unflatten(-1, (4, -1)).transpose(1, 2) for tensor in kept)
    hidden = (1 - batch["attention_mask"][:, None, None, :]) * -1e9
    said, said_t = ((q @ k.mT / q.shape[-1] ** 0.5 + hidden).softmax(-1) for q, k in ((query, key), (query_t, key_t)))
    divergence = torch.where(said_t > 0, said_t * (said_t / said).log(), 0.0).sum(-1).mean(1)
    at = mask.bool()
    ours, theirs = ours[at], theirs[at]
    apart = functional.normalize(ours - ours.mean(-1, True), dim=-1) - functional.normalize(
        theirs - theirs.mean(-1, True), dim=-1
    )
    return {
        "feature_map": apart.square().sum(-1).mean(),  # a normalised state's length is the root of its width
        "mean": (ours.mean(-1) - theirs.mean(-1)).square().mean(),
        "variance": (ours.var(-1, correction=0) - theirs.var(-1, correction=0)).abs().mean(),
        "attention": divergence[at].mean(),
    }


def layer_of(model: MobileBertForPreTraining, number: int) -> Any:
    layer: Any = model.encoder.layers[number - 1]
    return layer.attention


WEIGHTS = {"feature_map": 100 / K, "mean": 5000 / K, "variance": 5 / K, "attention": 1 / K}
"""The released code's, each divided by the number of layers."""


@pytest.mark.parametrize("layers", [(2,), (1, 2, 3)], ids=["one layer", "all layers"])
@pytest.mark.parametrize("padding", ["left_out", "counted"])
def test_a_layer_loss_is_the_weighted_sum_of_its_terms(
    pair: Pair, batch: dict[str, Tensor], layers: tuple[int, ...], padding: Any
) -> None:
    mask = batch["attention_mask"] if padding == "left_out" else torch.ones(3, 7)
    found = layer_loss(pair[1], Transfer(padding=padding), layers)(pair[0], batch)
    each = [plain(pair, batch, layer, mask) for layer in layers]
    assert found.keys() == WEIGHTS.keys()
    for name, weight in WEIGHTS.items():
        assert found[name].item() == pytest.approx(weight * sum(terms[name].item() for terms in each), rel=1e-3), name


@pytest.mark.parametrize("layers", [(1,), (1, 2, 3)])
def test_statistics_of_all_layers_pull_to_the_average_over_the_teacher(
    pair: Pair, batch: dict[str, Tensor], layers: tuple[int, ...]
) -> None:
    """As in the released code: the mean over the teacher's K + 1 states, its embeddings' among them."""
    with torch.no_grad():
        ours, theirs = (states(model, batch) for model in pair)
    at = batch["attention_mask"].bool()
    assert len(theirs) == K + 1
    mean = sum((ours[layer][at].mean(-1) - other[at].mean(-1)).square().mean() / (K + 1)
               for layer in layers for other in theirs)  # fmt: skip
    variance = sum((ours[layer][at].var(-1, correction=0) - other[at].var(-1, correction=0)).abs().mean() / (K + 1)
                   for layer in layers for other in theirs)  # fmt: skip
    found = layer_loss(pair[1], Transfer(statistics_of="all_layers"), layers)(pair[0], batch)
    assert found["mean"].item() == pytest.approx(5000 / K * float(mean), rel=1e-4)
    assert found["variance"].item() == pytest.approx(5 / K * float(variance), rel=1e-4)
    usual = layer_loss(pair[1], Transfer(), layers)(pair[0], batch)
    assert all(torch.equal(found[name], usual[name]) for name in ("feature_map", "attention"))


@pytest.mark.parametrize(
    ("off", "left"),
    [
        ({"weight_map": 0.0}, {"mean", "variance", "attention"}),
        ({"weight_mean": 0.0, "weight_variance": 0.0}, {"feature_map", "attention"}),
        ({"weight_attention": 0.0}, {"feature_map", "mean", "variance"}),
    ],
)
def test_a_term_of_weight_zero_is_absent(
    pair: Pair, batch: dict[str, Tensor], off: dict[str, Any], left: set[str]
) -> None:
    full = layer_loss(pair[1], Transfer(), (1, 2, 3))(pair[0], batch)
    some = layer_loss(pair[1], Transfer(**off), (1, 2, 3))(pair[0], batch)
    assert some.keys() == left
    for name in left:
        torch.testing.assert_close(some[name], full[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [lambda t: layer_loss(t, Transfer(), (1, 2)), lambda t: word_loss(t, 0.5, Transfer())])
def test_the_teacher_gets_no_gradient(
    pair: Pair, batch: dict[str, Tensor], make: Callable[[MobileBertForPreTraining], Loss]
) -> None:
    student, teacher = pair
    teacher.requires_grad_(True)
    sum(make(teacher)(student, batch).values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    reached = [name for name, parameter in student.named_parameters() if parameter.grad is not None]
    assert any(name.startswith("encoder.layers.1.") for name in reached)


# Words


def test_words_from_the_text_alone(pair: Pair, batch: dict[str, Tensor]) -> None:
    student, teacher = pair
    hidden = states(student, batch)[-1]
    words, follows = student(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    wanted = {"words": functional.cross_entropy(words.flatten(0, 1), batch["labels"].flatten()),
              "follows": functional.cross_entropy(student.follows(hidden[:, 0]), batch["follows"])}  # fmt: skip
    torch.testing.assert_close(follows, student.follows(hidden[:, 0]))
    with layers_run(teacher) as ran:
        for loss in (word_loss(None, 1.0), word_loss(teacher, 1.0)):
            found = loss(student, batch)
            assert found.keys() == wanted.keys()
            for name, value in wanted.items():
                torch.testing.assert_close(found[name], value)
    assert not ran, "a teacher that is not listened to is not asked"


def test_words_from_the_teacher_too(pair: Pair, batch: dict[str, Tensor]) -> None:
    student, teacher = pair
    found = word_loss(teacher, 0.25)(student, batch)
    assert found.keys() == {"words", "soft_words", "follows"}
    at = batch["labels"] != -100
    inputs = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    ours, theirs = (model(*inputs)[0][at].log_softmax(-1) for model in pair)
    picked = -ours[torch.arange(3), batch["labels"][at]].mean()
    torch.testing.assert_close(found["words"], 0.25 * picked)
    torch.testing.assert_close(found["soft_words"], 0.75 * (theirs.exp() * (theirs - ours)).sum(-1).mean())
    alone = word_loss(None, 1.0)(student, batch)
    torch.testing.assert_close(found["words"] / 0.25, alone["words"])
    torch.testing.assert_close(found["follows"], alone["follows"])


def test_auxiliary_transfer_is_all_layers_beside_the_words(pair: Pair, batch: dict[str, Tensor]) -> None:
    student, teacher = pair
    with layers_run(student) as ran, layers_run(teacher) as ran_of_teacher:
        found = word_loss(teacher, 0.5, Transfer(schedule="auxiliary"))(student, batch)
    assert ran == ran_of_teacher == dict.fromkeys((1, 2, 3), 1), "each layer runs once for both"
    wanted = layer_loss(teacher, Transfer(), (1, 2, 3))(student, batch) | word_loss(teacher, 0.5)(student, batch)
    assert found.keys() == wanted.keys() and len(found) == 7
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
