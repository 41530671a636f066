"""Paper-sized shapes of AdaBERT and the low-resource students: counts, FLOPs, padding and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.core.errors import ModelError
from bench.models.flops import count
from bench.models.load import load_saved, save
from bench.models.outputs import forward
from bench.models.shape import Shape
from bench.models.size import parameters, parameters_without_embeddings
from papers.adabert import shapes as adabert_shapes
from papers.adabert import student as adabert
from papers.adabert.student import Edge, Genotype
from papers.lowresource import shapes as lowresource_shapes
from papers.lowresource import student as lowresource
from papers.qbert import shapes as qbert_shapes

VOCABULARY = 50
BUILT = {**adabert_shapes.SHAPES, **lowresource_shapes.SHAPES}


def nodes(*edges: tuple[int, str]) -> tuple[tuple[Edge, ...], ...]:
    """Six edges, two for each node in turn."""
    made = [Edge(*edge) for edge in edges]
    return tuple(tuple(made[i : i + 2]) for i in (0, 2, 4))


ONE = nodes((0, "conv3"), (1, "dilated5"), (0, "max-pool"), (2, "average-pool"), (1, "identity"), (3, "conv7"))
OTHER = nodes((0, "conv5"), (1, "zero"), (2, "dilated3"), (1, "dilated7"), (3, "max-pool"), (2, "identity"))


def tiny_adabert(edges: tuple[tuple[Edge, ...], ...], cells: int, pair: bool) -> PreTrainedModel:
    config = adabert.config(Genotype(edges, cells), pair)
    config.vocab_size, config.hidden_size, config.max_position_embeddings, config.dropout = VOCABULARY, 6, 24, 0.0
    return adabert.AdaBertForSequenceClassification(config)


SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "embedding_size": 5, "dropout": 0.0}
TINY: dict[str, Callable[[], PreTrainedModel]] = {
    "adabert-single": lambda: tiny_adabert(ONE, 3, False),
    "adabert-pair": lambda: tiny_adabert(ONE, 2, True),
    "adabert-other-pair": lambda: tiny_adabert(OTHER, 3, True),
    "bilstm": lambda: lowresource.BiLstmForSequenceClassification(lowresource.BiLstmConfig(**SMALL, hidden_size=4)),
    "cbow-ffn": lambda: lowresource.CbowFfnForSequenceClassification(lowresource.CbowFfnConfig(**SMALL, hidden_size=7)),
    "cnn": lambda: lowresource.CnnForSequenceClassification(
        lowresource.CnnConfig(**SMALL, filters=7, widths=(1, 3, 4))
    ),
}
FORMULAS: dict[type[PreTrainedModel], Callable[[Any, int, int], int]] = {
    adabert.AdaBertForSequenceClassification: adabert.flops,
    lowresource.BiLstmForSequenceClassification: lowresource.bilstm_flops,
    lowresource.CbowFfnForSequenceClassification: lowresource.cbow_ffn_flops,
    lowresource.CnnForSequenceClassification: lowresource.cnn_flops,
}


def made(name: str) -> PreTrainedModel:
    """A tiny model in which nothing is zero by chance: random weights, biases and running statistics."""
    torch.manual_seed(0)
    model = TINY[name]()
    for _, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.2, 1.0).mul_(torch.where(torch.rand_like(tensor) < 0.4, -1.0, 1.0))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_var is not None:
            module.running_var.abs_()
    return model


def rows(lengths: list[int], length: int) -> dict[str, Tensor]:
    """Rows of random tokens, the last third of each a second sentence; after a row's end stand random ids, too."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    ids = torch.cat([ids, torch.full((len(lengths), length - max(lengths)), 7)], 1)
    places, ends = torch.arange(length)[None], torch.tensor(lengths)[:, None]
    types = (places >= ends - ends // 3) & (places < ends)
    return {"input_ids": ids, "attention_mask": (places < ends).long(), "token_type_ids": types.long()}


def answer(model: nn.Module, batch: Any) -> Tensor:
    return forward(model, batch).logits


# Shapes


def on_meta(shape: Shape) -> nn.Module:
    assert shape.build is not None
    with torch.device("meta"):
        return shape.build()


def test_the_shapes_that_are_there() -> None:
    assert set(adabert_shapes.SHAPES) == {"adabert-smallest", "adabert-largest"}
    assert set(lowresource_shapes.SHAPES) == {"bilstm", "cbow-ffn", "cnn"}
    assert all(shape.says and shape.build and shape.flops and not shape.packed for shape in BUILT.values())
    arithmetic = qbert_shapes.SHAPES.values()
    assert len(arithmetic) == 13 and all(s.says and s.packed and not (s.build or s.flops) for s in arithmetic)


@pytest.mark.parametrize("name", BUILT)
def test_flops_at_paper_size(name: str) -> None:
    model, formula = on_meta(BUILT[name]), BUILT[name].flops
    assert isinstance(model, PreTrainedModel) and formula is not None
    assert count(model, 3, 13) == formula(3, 13) > 0
    assert model.config.vocab_size in (30522, 5000) and model.config.num_labels == 2


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 9)])
def test_flops_of_tiny_models(name: str, batch: int, length: int) -> None:
    model = TINY[name]()
    assert count(model, batch, length) == FORMULAS[type(model)](model.config, batch, length)


def test_flops_by_hand() -> None:
    # AdaBERT, width 6: ONE has kernels of 3, 5 and 7 in each of 3 cells; classifier 6 * 2.
    config: dict[str, Any] = {name: build().config for name, build in TINY.items()}
    assert adabert.flops(config["adabert-single"], 2, 9) == 2 * 2 * (9 * 3 * 15 * 36 + 12)
    # BiLSTM: 2 directions * 4 gates * 4 units * (5 + 4) inputs, then * (8 + 4); classifier 8 * 2.
    assert lowresource.bilstm_flops(config["bilstm"], 2, 9) == 2 * 2 * (9 * 32 * (9 + 12) + 16)
    assert lowresource.cbow_ffn_flops(config["cbow-ffn"], 2, 9) == 2 * 2 * (5 * 7 + 7 * 2)
    # CNN: widths 1, 3, 4 see 9, 11, 12 windows; 5 * 7 products for each place in a window; classifier 21 * 2.
    assert lowresource.cnn_flops(config["cnn"], 2, 9) == 2 * 2 * (35 * (9 + 33 + 48) + 42)


# Parameters against what is printed


def test_adabert_sizes() -> None:
    smallest, largest = (parameters(on_meta(shape)) for shape in adabert_shapes.SHAPES.values())
    tables = (30522 + 512) * 128
    rest = 256 + 8 * 6 * 256 + 8 * 3 + 9 + 258  # LayerNorm, batch norms, both mixtures, classifier
    assert smallest == tables + 8 * 6 * 3 * 128**2 + rest == 6_344_483
    assert largest == tables + 8 * 6 * 7 * 128**2 + rest == 9_490_211
    # Printed 9.5M and 11.5 times smaller (BERT-base is printed as 109M).
    assert round(largest / 1e6, 1) == 9.5 and round(109e6 / largest, 1) == 11.5
    # Printed 6.4M and 17.0 times smaller: 0.9% and 1.1% off, not within the rounding.
    assert smallest / 6.4e6 == pytest.approx(1, abs=0.01) and 109e6 / smallest == pytest.approx(17.0, rel=0.02)
    assert parameters_without_embeddings(on_meta(adabert_shapes.SHAPES["adabert-largest"])) == largest - tables


def test_a_printed_size_does_not_say_which_network_it_is() -> None:
    with torch.device("meta"):
        sizes_of = [
            parameters(adabert.AdaBertForSequenceClassification(adabert.config(adabert_shapes.uniform(*choice))))
            for choice in (("conv5", 5), ("zero", 1))
        ]
    assert round(sizes_of[0] / 1e6, 1) == 6.4, "five cells of width 5 print as the low end, too"
    assert round(sizes_of[1] / 1e6, 2) == 3.97, "the search space reaches far below the printed low end"


def test_low_resource_sizes() -> None:
    found = {name: parameters(on_meta(shape)) for name, shape in lowresource_shapes.SHAPES.items()}
    assert found == {"bilstm": 658_882, "cbow-ffn": 80_306, "cnn": 496_902}
    # Printed in the blog: 0.66M and 167 times smaller than BERT-base, which is 110M there; MLP of about 80 thousand.
    assert round(found["bilstm"] / 1e6, 2) == 0.66 and round(110e6 / found["bilstm"]) == 167
    assert found["cbow-ffn"] == pytest.approx(80_000, rel=0.01)


# Forward and backward


@pytest.mark.parametrize("name", TINY)
def test_padding_changes_nothing(name: str) -> None:
    lengths = [9, 4, 7]
    model = made(name).eval()
    wide = answer(model, rows(lengths, 15))
    assert wide.shape == (3, 2) and bool(torch.isfinite(wide).all())
    torch.testing.assert_close(answer(model, rows(lengths, 9)), wide)
    for i, length in enumerate(lengths):
        alone = {key: value[i : i + 1, :length] for key, value in rows(lengths, 15).items()}
        torch.testing.assert_close(answer(model, alone), wide[i : i + 1])
        torch.testing.assert_close(answer(model, {**alone, "attention_mask": None}), wide[i : i + 1])
    other = rows(lengths, 15)
    other["input_ids"][1, 0] += 1 if other["input_ids"][1, 0] < VOCABULARY - 1 else -1
    assert not torch.equal(answer(model, other)[1], wide[1]), "a token does change it"


def test_a_filter_sees_no_window_of_padding_alone() -> None:
    model: Any = made("cnn").eval()
    model.word_embeddings.weight.data.abs_()
    for convolution in model.convolutions:
        convolution.weight.data.abs_().neg_()
        convolution.bias.data.fill_(10.0)  # what a window without tokens would give, and any token lowers it
    torch.testing.assert_close(answer(model, rows([9, 4], 15)), answer(model, rows([9, 4], 9)))


@pytest.mark.parametrize("name", ["adabert-single", "adabert-other-pair"])
def test_padding_changes_no_batch_statistics(name: str) -> None:
    narrow, wide = made(name).train(), made(name).train()
    torch.testing.assert_close(answer(narrow, rows([9, 4], 9)), answer(wide, rows([9, 4], 15)))
    buffers = dict(narrow.named_buffers())
    assert len(buffers) >= 3 * 2 * 3, "running mean, variance and count of each norm"
    before = dict(made(name).named_buffers())
    for key, tensor in wide.named_buffers():
        torch.testing.assert_close(tensor, buffers[key])
        assert not torch.equal(tensor, before[key])


@pytest.mark.parametrize("name", TINY)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = made(name).train()
    F.cross_entropy(answer(model, rows([9, 4, 7], 12)), torch.tensor([0, 1, 1])).backward()
    named = dict(model.named_parameters())
    without = [n for n, p in named.items() if p.grad is None or not bool(p.grad.any())]
    assert len(named) >= 5 and not without
    assert all(bool(torch.isfinite(p.grad).all()) for p in named.values() if p.grad is not None)


@pytest.mark.parametrize("name", TINY)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model = made(name).eval()
    save(model, tmp_path)
    loaded = load_saved(tmp_path).eval()
    assert type(loaded) is type(model)
    torch.testing.assert_close(answer(loaded, rows([9, 4], 9)), answer(model, rows([9, 4], 9)), rtol=0, atol=0)


def test_hidden_states_of_adabert() -> None:
    model = made("adabert-single").eval()
    out = model(**rows([9, 4], 9), output_hidden_states=True)
    assert len(out.hidden_states) == 3 + 1 and {state.shape for state in out.hidden_states} == {(2, 9, 6)}
    assert not any(bool(state[1, 4:].any()) for state in out.hidden_states), "padding stays zero"


# AdaBERT's operations, each on seven tokens and two places of padding

STATE = [-1.0, 2.0, 3.0, -4.0, 5.0, 6.0, 7.0]
"""After ReLU, which only convolutions begin with: 0 2 3 0 5 6 7. Kernels below are 1, 2, 3, ... from left to right."""
BY_HAND = {
    "conv3": [6, 13, 8, 18, 28, 38, 20],
    "conv5": [23, 18, 38, 58, 77, 56, 38],
    "conv7": [28, 58, 90, 123, 100, 77, 56],
    "dilated3": [9, 4, 21, 20, 34, 12, 19],
    "dilated5": [37, 36, 64, 28, 49, 20, 34],
    "dilated7": [94, 44, 79, 36, 64, 28, 49],
    "average-pool": [1 / 2, 4 / 3, 1 / 3, 4 / 3, 7 / 3, 6, 13 / 2],
    "max-pool": [2, 3, 3, 5, 6, 7, 7],
    "identity": STATE,
    "zero": [0] * 7,
}


def state_of(values: list[float], length: int) -> tuple[Tensor, Tensor]:
    """One row of width 1 and its mask, both [1, 1, length]."""
    x = torch.tensor([values + [0.0] * (length - len(values))])[:, None]
    return x, (torch.arange(length) < len(values))[None, None]


def test_every_operation_by_hand() -> None:
    assert tuple(BY_HAND) == adabert.OPERATIONS and len(BY_HAND) == 10
    x, mask = state_of(STATE, 9)
    for name, expected in BY_HAND.items():
        module = adabert.operation(name, 1).eval()
        for conv in module.modules():
            if isinstance(conv, nn.Conv1d):
                assert conv.bias is None
                conv.weight.data = torch.arange(1.0, conv.kernel_size[0] + 1)[None, None]
        out = module(x, mask)[0, 0]
        torch.testing.assert_close(out, torch.tensor([*expected, 0.0, 0.0]), rtol=1e-4, atol=1e-4)


def test_the_maximum_of_negative_tokens_is_not_padding() -> None:
    out = adabert.max_pool(*state_of([-3.0, -2.0], 4))
    assert out.tolist() == [[[-2.0, -2.0, 0.0, 0.0]]]


def test_batch_norm_by_hand() -> None:
    norm = adabert.TokenBatchNorm(1).train()
    out = norm(*state_of([1.0, 3.0], 5))
    torch.testing.assert_close(out, torch.tensor([[[-1.0, 1.0, 0.0, 0.0, 0.0]]]), rtol=1e-4, atol=1e-4)
    mean, variance = norm.norm.running_mean, norm.norm.running_var
    assert mean is not None and mean.item() == pytest.approx(0.1 * 2)
    assert variance is not None and variance.item() == pytest.approx(0.9 + 0.1 * 2), "unbiased, momentum 0.1"


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
def test_batch_norm_over_processes_is_that_of_one_in_each_precision(
    kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(4, 8, 6).to(kind) + 3, torch.arange(6) < torch.tensor([[[6]], [[3]], [[5]], [[1]]])
    alone, spread = adabert.TokenBatchNorm(8).train(), adabert.TokenBatchNorm(8).train()
    wanted = alone(x * mask, mask)
    monkeypatch.setattr(adabert, "is_spread", lambda: True)  # of one process, which has all rows
    found = spread(x * mask, mask)
    assert found.dtype == wanted.dtype == kind
    torch.testing.assert_close(found, wanted)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(spread.norm, name), getattr(alone.norm, name))


def test_a_cell_by_hand() -> None:
    edges = nodes((0, "identity"), (1, "identity"), (0, "identity"), (2, "identity"), (2, "zero"), (3, "identity"))
    cell = adabert.Cell(edges, 1)
    cell.scores.data = torch.tensor([1.0, 1.0, 2.0]).log()
    (a, mask), (b, _) = state_of([1.0, 2.0], 2), state_of([10.0, 20.0], 2)
    # Nodes: a + b, 2a + b, 2a + b; mixed 1 : 1 : 2.
    torch.testing.assert_close(cell(a, b, mask), 1.75 * a + b)


def test_a_pair_is_two_sentences_that_begin_at_the_first_place() -> None:
    ids = torch.tensor([[11, 12, 13, 21, 22, 0], [11, 21, 22, 23, 24, 25]])
    tokens, second = ids > 0, ids > 20
    (first_ids, first), (second_ids, rest) = adabert.split_pair(ids, tokens, second)
    assert [row[on].tolist() for row, on in zip(first_ids, first, strict=True)] == [[11, 12, 13], [11]]
    assert [row[on].tolist() for row, on in zip(second_ids, rest, strict=True)] == [[21, 22], [21, 22, 23, 24, 25]]
    assert rest.long().tolist() == [[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("edges", "cells"),
    [
        (ONE, 0), (ONE, 9), (ONE[:2], 3), ((ONE[0], ONE[1], ONE[2][:1]), 3),
        (nodes((0, "conv3"), (0, "conv3"), *[(0, "zero"), (1, "zero")] * 2), 3),
        (nodes((0, "conv3"), (2, "conv3"), *[(0, "zero"), (1, "zero")] * 2), 3),
        (nodes((0, "conv3"), (1, "conv9"), *[(0, "zero"), (1, "zero")] * 2), 3),
    ],
    ids=["no cells", "nine cells", "two nodes", "one edge", "same source", "later source", "unknown operation"],
)  # fmt: skip
def test_what_the_search_space_does_not_hold(edges: tuple[tuple[Edge, ...], ...], cells: int) -> None:
    with pytest.raises(ModelError, match="genotype"):
        Genotype(edges, cells)
