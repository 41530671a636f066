"""Q-BERT's rounding of one tensor: grids, straight-through gradients, groups of a matrix, ranges of activations.

Everything stays a float: a rounded tensor takes at most 2^k values per group, and gradients pass straight through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from bench.core.errors import ModelError
from bench.train.processes import highest, lowest
from papers.qbert.scheme import FLOAT_BITS, Axis, Zero


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
    """How one weight matrix [rows, columns] is rounded; of a convolution a row is a filter, whatever its width."""

    bits: int
    groups: int
    axis: Axis
    zero: Zero = "exact"
    tail: float | None = None
    """Percent cut off at each end of a group's range; None takes its smallest and largest value."""
    identity: bool = False

    def fitted(self, weight: Tensor) -> Self:
        """The same with as many groups as divide the weight: the greatest common divisor (D9)."""
        return replace(self, groups=math.gcd(self.groups, weight.flatten(1).shape[0 if self.axis == "output" else 1]))

    def grouped(self, values: Tensor) -> Tensor:
        """Values in a shape over which the ranges broadcast.

        Shapes: [rows, columns] -> [G, rows / G * columns]; over input features [..., columns] -> [N, G, columns / G].
        """
        if self.axis == "output":
            return values.reshape(self.groups, -1)
        return values.reshape(-1, self.groups, values.shape[-1] // self.groups)

    def grid_of(self, weight: Tensor) -> Grid:
        """The grid of a weight's groups: ranges are [G, 1], or [1, G, 1] over input features."""
        weight = weight.detach().float().flatten(1)
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
        return rounded(self.grouped(weight.flatten(1)), self.grid_of(weight), self.clamped).view(weight.shape)


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
        low, high = torch.aminmax(values.float())
        for old, new in ((self.low, lowest(low)), (self.high, highest(high))):
            old.copy_(torch.where(unknown, new, old * self.momentum + new * (1 - self.momentum)))
