"""Q-BERT's quantiser: weights, embeddings and activations that are rounded to a few bits while a BERT trains.

Everything stays a float: a rounded tensor takes at most 2^k values per group, and gradients pass the rounding
straight through. The modules here keep the names of the plain model's parameters, so its weights load into them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification

from bench.core.errors import ModelError, SpecError
from bench.train.settings import Settings

FLOAT_BITS = 32
"""The number of bits that leaves a tensor as it is."""
MOST_BITS = 8

Bert = BertForSequenceClassification | BertForQuestionAnswering | BertForTokenClassification
"""A BERT with a task's head; what is rounded is its encoder and its tables."""
AnyBert = TypeVar("AnyBert", bound=Bert)

MATRICES = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "intermediate.dense", "output.dense",
)  # fmt: skip
"""The weight matrices of a layer."""
ROUNDED_OUTPUTS = MATRICES[:3] + MATRICES[4:5]
"""Matrices whose outputs are rounded: those that the released code rounds; it passes over modules named output."""
TABLES = ("word", "position", "token_type")
"""The embedding tables, each a field of `Scheme` and, with `_embeddings`, a module of BERT."""

Zero = Literal["exact", "rounded"]
Axis = Literal["output", "input"]


class Quantiser(Settings):
    """How ranges and gradients are taken, and the bits of all but the encoder's matrices."""

    word: int = 8
    """Bits of the word embeddings."""
    position: int = 8
    """Bits of the position embeddings."""
    token_type: int = 8
    """Bits of the token type embeddings."""
    groups: int = Field(default=128, ge=1)
    """Groups that each matrix is cut into, each with a range of its own (Table 2: 1, 12, 128, 768)."""
    axis: Axis = "output"
    """What is grouped: output neurons (the paper) or input features (the released code)."""
    embedding_groups: int = Field(default=128, ge=1)
    """Groups of consecutive features that each table is cut into."""
    activations: int = 8
    """Bits of the outputs of query, key, value and the first feed-forward matrix, one range per tensor."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Share of the old value in the moving range of an activation."""
    range: Literal["minmax", "percentile"] = "minmax"
    """What a weight's range is: all of the group, or without its two tails."""
    tail: float = Field(default=0.1, ge=0, lt=50)
    """Percent of a group cut off on each side when the range is a percentile (an option of the released code)."""
    zero: Zero = "exact"
    """Where the grid starts: at the smallest value (the paper's formula), or moved so that 0 is on it (the code)."""
    gradient: Literal["clamped", "identity"] = "clamped"
    """Straight through inside the range only (the paper), or everywhere (the released code)."""


class Scheme(Quantiser):
    """A quantiser and the bits of each layer: all that there is to know of how a model is rounded.

    Raises: SpecError for bits other than 1 to 8 and 32, and for no layers.
    """

    layers: tuple[int, ...]
    """Bits of the matrices of each encoder layer."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.layers:
            raise SpecError("a scheme has no layers", expected="the bits of each encoder layer")
        named = {f"layer {i}": bits for i, bits in enumerate(self.layers)}
        named |= {name: getattr(self, name) for name in (*TABLES, "activations")}
        for name, bits in named.items():
            check_bits(bits, name)
        return self


def check_bits(bits: int, where: object) -> int:
    """The same bits. Raises: SpecError unless they are 1 to 8, or 32 for none of it."""
    if not (1 <= bits <= MOST_BITS or bits == FLOAT_BITS):
        raise SpecError("so many bits cannot be quantised to", where=where, found=bits,
                        expected=f"1 to {MOST_BITS}, or {FLOAT_BITS} to leave it as it is")  # fmt: skip
    return bits


@dataclass(frozen=True, slots=True)
class Grid:
    """The values low + scale * (0 ... top) of each group; tensors are shaped to broadcast over the grouped values."""

    low: Tensor
    high: Tensor
    scale: Tensor
    top: int

    def codes(self, values: Tensor) -> Tensor:
        """The nearest point of the grid as a number from 0 to `top`, still a float; outside the range, its ends."""
        return (values.float() - self.low).div_(self.scale).round_().clamp_(0, self.top)

    def values(self, codes: Tensor) -> Tensor:
        """The values of codes, which are overwritten."""
        return codes.mul_(self.scale).add_(self.low)


def grid(low: Tensor, high: Tensor, bits: int, zero: Zero = "exact") -> Grid:
    """The grid of 2^bits points between two ends; a range of no width keeps its one value exactly.

    Shapes: `low` and `high` alike, as the values of a group are to be broadcast. A `rounded` zero is D2.
    Source: arXiv 1909.05840v2, section 3 (as described in notes on it): steps of (high - low) / (2^k - 1) from low.
    """
    top = 2**bits - 1
    scale = high / top - low / top  # divided first: the difference of two finite ends may overflow
    tiny = torch.finfo(torch.float32).tiny
    wide = scale > tiny
    scale = scale.clamp_min(tiny)  # of a constant range: all codes are its value, and nothing is divided by zero
    # Low becomes a whole number of steps, so that 0 is on the grid; the ends move by half a step at most.
    if zero == "rounded":
        low = torch.where(wide, torch.round(low / scale) * scale, low)
        high = torch.where(wide, low + scale * top, low)
    return Grid(low, high, scale, top)


class _Round(torch.autograd.Function):
    """Values to their grid; the gradient passes unchanged, or only where `clamped` finds the value in its range."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, to: Grid, clamped: bool) -> Tensor:
        ctx.clamped = clamped
        if clamped:
            ctx.save_for_backward((values >= to.low) & (values <= to.high))
        return to.values(to.codes(values)).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (upstream,) = grad_outputs
        return upstream * ctx.saved_tensors[0] if ctx.clamped else upstream, None, None


def rounded(values: Tensor, to: Grid, clamped: bool = True) -> Tensor:
    """Values on the grid, with a straight-through gradient that is zero outside the range where `clamped` (D6).

    Shapes: `values` as `Rounding.grouped` gives them, or any with a grid of scalars; the same shape out.
    """
    return _Round.apply(values, to, clamped)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, slots=True)
class Rounding:
    """How one weight matrix [rows, columns] is rounded."""

    bits: int
    groups: int
    axis: Axis
    zero: Zero = "exact"
    tail: float | None = None
    """Percent cut off at each end of a group's range; None takes its smallest and largest value."""
    identity: bool = False

    def check(self, weight: Tensor, where: object) -> None:
        """Refuse a weight that cannot be cut so. Raises: SpecError when the groups do not divide what they cut."""
        size = weight.shape[0 if self.axis == "output" else 1]
        if self.bits != FLOAT_BITS and size % self.groups:
            raise SpecError("the groups do not divide the matrix", where=where, found=f"{self.groups} groups",
                            expected=f"a divisor of its {size} {self.axis}s")  # fmt: skip

    def grouped(self, values: Tensor) -> Tensor:
        """Values in a shape over which the ranges broadcast.

        Shapes: [rows, columns] -> [G, rows / G * columns]; over input features [..., columns] -> [N, G, columns / G].
        """
        if self.axis == "output":
            return values.reshape(self.groups, -1)
        return values.reshape(-1, self.groups, values.shape[-1] // self.groups)

    def grid_of(self, weight: Tensor) -> Grid:
        """The grid of a weight's groups: ranges are [G, 1], or [1, G, 1] over input features."""
        weight = weight.detach().float()
        if self.tail is not None:
            low, high = self._percentiles(weight)
        elif self.axis == "output":
            groups = weight.reshape(self.groups, -1)
            low, high = groups.amin(1), groups.amax(1)  # twenty times faster on a CPU than `aminmax` along a dimension
        else:
            low, high = weight.amin(0), weight.amax(0)
            low, high = low.view(self.groups, -1).amin(1), high.view(self.groups, -1).amax(1)
        shape = (-1, 1) if self.axis == "output" else (1, -1, 1)
        return grid(low.view(shape), high.view(shape), self.bits, self.zero)

    def _percentiles(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """[G] and [G]: the smallest and largest values that are left without the tails."""
        assert self.tail is not None
        flat = weight if self.axis == "output" else weight.t()
        flat = flat.reshape(self.groups, -1)
        size = flat.shape[1]
        # As many at each end, and at least one value left; the k-th smallest saves sorting the group.
        cut = min(int(size * self.tail / 100), (size - 1) // 2)
        return flat.kthvalue(cut + 1, dim=1).values, flat.kthvalue(size - cut, dim=1).values

    @property
    def clamped(self) -> bool:
        """Whether a value may lie outside the range, and then has no gradient."""
        return not self.identity and (self.tail is not None or self.zero == "rounded")

    def __call__(self, weight: Tensor) -> Tensor:
        """The weight on its own grid."""
        if self.bits == FLOAT_BITS:
            return weight
        return rounded(self.grouped(weight), self.grid_of(weight), self.clamped).view(weight.shape)


class MovingRange(nn.Module):
    """Rounds a tensor to a range that follows its smallest and largest values while the model trains.

    A range of width zero at zero means none yet: the first batch sets it. Shapes: any in and out, one range for all.
    Raises: ModelError when the model answers before it has seen a batch in training mode.
    Source: the released code; of activations the paper gives no more than their bits (D5).
    """

    def __init__(self, bits: int, momentum: float, zero: Zero = "exact", identity: bool = False):
        super().__init__()
        self.bits, self.momentum, self.identity = bits, momentum, identity
        self.zero: Zero = zero
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self._known = False

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            self._follow(values.detach())
        elif not self._known:  # looked at once: reading a buffer waits for the device
            if not bool((self.low != 0) | (self.high != 0)):
                raise ModelError("the activations have no range yet", expected="a model that was trained or calibrated",
                                 fix="run it on data in training mode first")  # fmt: skip
            self._known = True
        return rounded(values, grid(self.low, self.high, self.bits, self.zero), not self.identity)

    @torch.no_grad()
    def _follow(self, values: Tensor) -> None:
        unknown = (self.low == 0) & (self.high == 0)
        for old, new in zip((self.low, self.high), torch.aminmax(values.float()), strict=True):
            old.copy_(torch.where(unknown, new, old * self.momentum + new * (1 - self.momentum)))


class QuantizedLinear(nn.Linear):
    """A linear layer whose weight, and output where asked, is rounded at each use; it takes over the parameters.

    Shapes: as nn.Linear, weight [outputs, inputs].
    """

    def __init__(self, linear: nn.Linear, rounding: Rounding, output: MovingRange | None):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.rounding, self.output = rounding, output

    def forward(self, input: Tensor) -> Tensor:
        out = F.linear(input, self.rounding(self.weight), self.bias)
        return out if self.output is None else self.output(out)


class QuantizedEmbedding(nn.Embedding):
    """A table whose rows are rounded as they are looked up; the ranges are those of the whole table (D4).

    Shapes: ids [B, L] -> [B, L, H].
    """

    def __init__(self, table: nn.Embedding, rounding: Rounding):
        super().__init__(table.num_embeddings, table.embedding_dim, table.padding_idx, device="meta")
        self.weight, self.rounding = table.weight, rounding

    def forward(self, input: Tensor) -> Tensor:
        rows = super().forward(input)
        if self.rounding.bits == FLOAT_BITS:
            return rows
        rounding = self.rounding
        return rounded(rounding.grouped(rows), rounding.grid_of(self.weight), rounding.clamped).view(rows.shape)


def quantize(model: AnyBert, scheme: Scheme) -> AnyBert:
    """Make a BERT round its weights, embeddings and activations from now on, in place; returns the same model.

    Biases, LayerNorms, pooler and task head stay as they are. Parameters keep their names; the only new entries of
    the state are the ranges of activations.
    Raises: ModelError for a model that is quantised already; SpecError when the scheme has another number of layers
    or its groups do not divide a matrix. Then the model is as it was.
    """
    new: list[tuple[nn.Module, str, nn.Module]] = []
    layers = model.bert.encoder.layer
    if len(layers) != len(scheme.layers):
        raise SpecError("the bits do not fit the model", found=f"bits of {len(scheme.layers)} layers",
                        expected=f"{len(layers)} layers")  # fmt: skip
    tail = scheme.tail if scheme.range == "percentile" else None
    identity = scheme.gradient == "identity"
    for place, (layer, bits) in enumerate(zip(layers, scheme.layers, strict=True)):
        rounding = Rounding(bits, scheme.groups, scheme.axis, scheme.zero, tail, identity)
        for name in MATRICES:
            linear = _plain(layer, name, nn.Linear)
            rounding.check(linear.weight, f"layer {place} {name}")
            output = None
            if name in ROUNDED_OUTPUTS and scheme.activations != FLOAT_BITS:
                output = MovingRange(scheme.activations, scheme.momentum, scheme.zero, identity)
                output.to(linear.weight.device).train(linear.training)
            new.append((layer, name, QuantizedLinear(linear, rounding, output).train(linear.training)))
    for name in TABLES:
        table = _plain(model.bert.embeddings, f"{name}_embeddings", nn.Embedding)
        rounding = Rounding(getattr(scheme, name), scheme.embedding_groups, "input", scheme.zero, tail, identity)
        rounding.check(table.weight, f"{name} embeddings")
        new.append((model.bert.embeddings, f"{name}_embeddings", QuantizedEmbedding(table, rounding)))
    for parent, name, module in new:  # only now, when nothing can fail any more
        owner, _, last = name.rpartition(".")
        setattr(parent.get_submodule(owner), last, module)
    return model


def _plain(parent: nn.Module, name: str, kind: type[nn.Module]) -> Any:
    module = parent.get_submodule(name)
    if type(module) is not kind:
        raise ModelError("the model cannot be quantised", where=name, found=type(module).__name__,
                         expected=f"a plain {kind.__name__}", fix="start from the fine-tuned BERT")  # fmt: skip
    return module


def quantized_weights(model: nn.Module) -> dict[str, tuple[Tensor, Rounding]]:
    """The rounded weights of a model by the name of their parameter; those at 32 bits are not among them."""
    return {
        f"{name}.weight": (module.weight, module.rounding)
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear | QuantizedEmbedding) and module.rounding.bits != FLOAT_BITS
    }
