"""Which layers get how many bits: the same for all, or more for the layers whose loss surface bends most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from bench.core.errors import SpecError
from papers.qbert.scheme import check_bits

Order = Literal["sensitivity", "reversed", "random"]


def uniform(bits: int, layers: int) -> tuple[int, ...]:
    """The same bits in each layer. Raises: SpecError for impossible bits, and for no layers."""
    if layers < 1:
        raise SpecError("there are no layers to give bits to", found=layers, expected="1 or more")
    return (check_bits(bits, "every layer"),) * layers


def mixed(
    omega: Sequence[float], high: int, low: int, more: int | None = None, order: Order = "sensitivity", seed: int = 0
) -> tuple[int, ...]:
    """Bits of each layer: `high` for the `more` layers of largest omega (half of them by default), `low` for the rest.

    `reversed` gives them to the layers of smallest omega (the paper's control MP-rev), `random` to layers drawn
    at random (ours). Of equal layers the earlier one counts as larger.
    Raises: SpecError for no layers, an omega that is not finite, impossible bits, a `high` that is not above `low`, or
    more layers than there are.
    Source: arXiv 1909.05840v2; half of the layers fits the sizes for SST-2 and SQuAD, the tables were not at hand.
    """
    layers = len(omega)
    given, more = more, layers // 2 if more is None else more
    check_bits(high, "the more bits")
    check_bits(low, "the fewer bits")
    if not layers or not all(math.isfinite(value) for value in omega):
        raise SpecError("the sensitivities cannot be ordered", found=list(omega), expected="one number per layer",
                        fix="measure them again in fp32")  # fmt: skip
    if not 0 <= more <= layers:
        raise SpecError("so many layers cannot get more bits", found=more, expected=f"0 to {layers}")
    if layers == 1 and given is None:
        raise SpecError("a mixture takes two layers or more", found=f"{layers} layer", expected="2 or more",
                        fix="choose a variant of one number of bits")  # fmt: skip
    if high <= low:
        raise SpecError("the more bits are not more", found=f"{high} and {low}", expected="the higher number first")
    ranked = sorted(range(layers), key=lambda layer: -omega[layer])
    if order == "reversed":
        ranked = ranked[::-1]
    elif order == "random":
        ranked = np.random.default_rng([seed, layers]).permutation(layers).tolist()
    chosen = set(ranked[:more])
    return tuple(high if layer in chosen else low for layer in range(layers))
