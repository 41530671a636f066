"""MobileBERT's losses: values worked by hand in plain arithmetic, what they do not see, and where gradients go."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.data.positions import Positions
from papers.mobilebert import losses

STUDENT = [[1.0, 3.0, 5.0, 3.0], [0.0, 2.0, 0.0, 2.0], [9.0, 0.0, 1.0, 7.0]]
TEACHER = [[2.0, 2.0, 0.0, 0.0], [4.0, 0.0, 0.0, 4.0], [5.0, 5.0, 6.0, 1.0]]
"""States of three positions, the last of which is padding where a mask says so."""
PADDED = torch.tensor([[1, 1, 0]])
WHOLE = torch.tensor([[1, 1, 1]])
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def moments(row: list[float]) -> tuple[float, float]:
    mean = sum(row) / len(row)
    return mean, sum((x - mean) ** 2 for x in row) / len(row)


def normal(row: list[float]) -> list[float]:
    mean, variance = moments(row)
    return [(x - mean) / math.sqrt(variance) for x in row]


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def states(*, rows: list[list[float]]) -> Tensor:
    return torch.tensor([rows])


# Values


@pytest.mark.parametrize(("mask", "counted"), [(PADDED, 2), (WHOLE, 3)])
def test_feature_map_by_hand(mask: Tensor, counted: int) -> None:
    apart = [sum((a - b) ** 2 for a, b in zip(normal(s), normal(t), strict=True)) / 4
             for s, t in zip(STUDENT, TEACHER, strict=True)]  # fmt: skip
    # The first two positions in numbers: [-√2, 0, √2, 0] against [1, 1, -1, -1]; [-1, 1, -1, 1] against [1, -1, -1, 1].
    assert apart[0] == pytest.approx(((math.sqrt(2) + 1) ** 2 + 1 + (math.sqrt(2) + 1) ** 2 + 1) / 4)
    assert apart[1] == pytest.approx(8 / 4)
    got = losses.feature_map(states(rows=STUDENT), states(rows=TEACHER), mask)
    assert got.item() == pytest.approx(sum(apart[:counted]) / counted, rel=1e-5)


@pytest.mark.parametrize(("mask", "counted"), [(PADDED, 2), (WHOLE, 3)])
def test_statistics_by_hand(mask: Tensor, counted: int) -> None:
    pairs = [(moments(s), moments(t)) for s, t in zip(STUDENT, TEACHER, strict=True)]
    assert pairs[0] == ((3.0, 2.0), (1.0, 1.0)) and pairs[1] == ((1.0, 1.0), (2.0, 4.0))
    mean, variance = losses.statistics(states(rows=STUDENT), states(rows=TEACHER), mask)
    assert mean.item() == pytest.approx(sum((s[0] - t[0]) ** 2 for s, t in pairs[:counted]) / counted)
    assert variance.item() == pytest.approx(sum(abs(s[1] - t[1]) for s, t in pairs[:counted]) / counted)


@pytest.mark.parametrize(("mask", "counted"), [(torch.tensor([[1, 0]]), 1), (torch.tensor([[1, 1]]), 2)])
def test_attention_by_hand(mask: Tensor, counted: int) -> None:
    """Two heads of two queries and keys; KL(teacher || student) a head and query, and its mean over both."""
    ours = [[[0.5, 0.5], [0.25, 0.75]], [[0.9, 0.1], [0.5, 0.5]]]
    theirs = [[[0.75, 0.25], [0.25, 0.75]], [[0.5, 0.5], [0.2, 0.8]]]
    apart = [[sum(t * math.log(t / s) for s, t in zip(*rows, strict=True)) for rows in zip(*heads, strict=True)]
             for heads in zip(ours, theirs, strict=True)]  # fmt: skip
    want = sum(head[query] for head in apart for query in range(counted)) / (2 * counted)
    got = losses.attention(torch.tensor([ours]).log(), torch.tensor([theirs]).log(), mask)
    assert got.item() == pytest.approx(want, rel=1e-5)


def test_a_key_that_is_padding_adds_nothing_to_attention() -> None:
    ours, theirs = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.75, 0.25]).log()
    without = losses.attention(ours.expand(1, 1, 2, 2), theirs.expand(1, 1, 2, 2), torch.ones(1, 2))
    hidden = torch.tensor([-1e4])
    wide = [torch.cat((row, hidden)).expand(1, 1, 3, 3) for row in (ours, theirs)]
    torch.testing.assert_close(losses.attention(wide[0], wide[1], torch.tensor([[1, 1, 0]])), without)


def test_words_by_hand() -> None:
    student, teacher, labels = [[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]], [[0.0, 1.0, 0.0], [3.0, 0.0, 1.0]], [2, 1]
    ours, theirs = [softmax(row) for row in student], [softmax(row) for row in teacher]
    picked = [-math.log(row[label]) for row, label in zip(ours, labels, strict=True)]
    apart = [sum(t * math.log(t / s) for s, t in zip(*rows, strict=True)) for rows in zip(ours, theirs, strict=True)]
    given = torch.tensor(student), torch.tensor(teacher), torch.tensor(labels)
    hard, soft = losses.words(*given, Positions(torch.tensor([0, 1])), 0.25)
    assert hard.item() == pytest.approx(0.25 * sum(picked) / 2) and soft.item() == pytest.approx(0.75 * sum(apart) / 2)
    filled = Positions(torch.tensor([0, 1]), torch.tensor([1.0, 0.0]))  # the second place only fills up
    hard, soft = losses.words(*given[:2], torch.tensor([2, -100]), filled, 0.25)
    assert hard.item() == pytest.approx(0.25 * picked[0]) and soft.item() == pytest.approx(0.75 * apart[0])


def test_words_without_a_masked_place_cost_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    hard, soft = losses.words(torch.zeros(0, 3), torch.zeros(0, 3), none, Positions(none), 0.5)
    assert hard.item() == soft.item() == 0.0


# Properties


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equal_models_have_nothing_to_learn() -> None:
    state, attended, mask = random(2, 5, 8), random(2, 3, 5, 5).log_softmax(-1), torch.ones(2, 5)
    found = (losses.feature_map(state, state, mask), *losses.statistics(state, state, mask),
             losses.attention(attended, attended, mask))  # fmt: skip
    assert [value.item() for value in found] == [0.0] * 4
    logits, at = random(4, 7), Positions(torch.arange(4))
    assert losses.words(logits, logits, torch.zeros(4, dtype=torch.int64), at, 0.5)[1].item() == 0.0


@pytest.mark.parametrize("scale", [3.0, 1e-3], ids=["larger", "as small as new layers make it"])
def test_scale_and_shift_are_seen_by_the_statistics_alone(scale: float) -> None:
    state, teacher, mask = random(2, 5, 16), random(2, 5, 16, seed=1), torch.ones(2, 5)
    other = state * scale + scale
    torch.testing.assert_close(
        losses.feature_map(other, teacher, mask), losses.feature_map(state, teacher, mask), rtol=1e-4, atol=1e-4
    )
    assert all(value.item() > 1e-3 for value in losses.statistics(other, state, mask))
    moved, spread = losses.statistics(state + 1.0, state, mask)
    assert moved.item() == pytest.approx(1.0, rel=1e-5) and spread.item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    "loss",
    [losses.feature_map, lambda *given: sum(losses.statistics(*given))],
    ids=["feature_map", "statistics"],
)
def test_padding_has_no_part_in_value_or_gradient(loss: Loss) -> None:
    student, teacher = random(2, 4, 8).requires_grad_(), random(2, 4, 8, seed=1)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    value = loss(student, teacher, mask)
    value.backward()
    assert student.grad is not None and torch.equal(student.grad.any(-1), mask.bool())
    moved = torch.where(mask[..., None].bool(), teacher, 100 * teacher + 7)
    torch.testing.assert_close(loss(student, moved, mask), value)
    alone = (
        3 * loss(student[:1, :3], teacher[:1, :3], WHOLE) + loss(student[1:, :1], teacher[1:, :1], WHOLE[:, :1])
    ) / 4
    torch.testing.assert_close(value, alone)


def test_words_have_the_gradient_of_one_mixed_cross_entropy() -> None:
    """Half of it against the word that stood there, half against the teacher: the released code's mixed target."""
    student, teacher = random(6, 11).double().requires_grad_(), random(6, 11, seed=1).double()
    labels = torch.arange(6)
    sum(losses.words(student, teacher, labels, Positions(torch.arange(6)), 0.5)).backward()  # pyright: ignore
    mixed = 0.5 * torch.nn.functional.one_hot(labels, 11) + 0.5 * teacher.softmax(-1)
    (wanted,) = torch.autograd.grad(-(mixed * student.log_softmax(-1)).sum(-1).mean(), student)
    torch.testing.assert_close(student.grad, wanted, rtol=1e-5, atol=1e-7)


def test_attention_has_the_gradient_of_its_cross_entropy() -> None:
    """The released code leaves out the teacher's entropy, which the student cannot change."""
    scores, teacher = random(1, 2, 3, 3).requires_grad_(), random(1, 2, 3, 3, seed=1).log_softmax(-1)
    losses.attention(scores.log_softmax(-1), teacher, torch.ones(1, 3)).backward()
    (wanted,) = torch.autograd.grad(-(teacher.exp() * scores.log_softmax(-1)).sum(-1).mean(), scores)
    torch.testing.assert_close(scores.grad, wanted)
