"""Every choice of Q-BERT as frozen data; values are those of the paper or its code (README, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from bench.core.errors import SpecError
from bench.train.recipe import EncoderFacts, Variant
from bench.train.settings import WINDOWS, Settings, Training, Windowing, unless_none
from papers.qbert.bits import Order, mixed, uniform
from papers.qbert.hessian import Sensing
from papers.qbert.scheme import Quantiser, Scheme


class Assignment(Settings):
    """Which layers get how many bits."""

    high: int = 4
    """Bits of every layer, or of those that get more."""
    low: int | None = None
    """Bits of the other layers; None gives all layers the same."""
    more: int | None = None
    """How many layers get more; None is half of them."""
    order: Order = "sensitivity"
    """Which ones: the most sensitive, the least (the paper's control), or any (ours)."""


class Hyper(Settings):
    """All of Q-BERT's choices."""

    bits: Assignment = Assignment()
    """The layers' bits."""
    quantiser: Quantiser = Quantiser()
    """The rounding, and the bits of embeddings and activations."""
    sensing: Sensing = Sensing()
    """How the Hessian is looked at."""
    schedule: Literal["joint", "progressive"] = "joint"
    """All layers rounded from the start, or one more per pass in order of the damage that rounding does (the code)."""
    training: Training = Training(epochs=3, batch_size=32, lr=2e-5, weight_decay=0.01, warmup=0.1)
    """Of the rounded model; with `progressive` the passes are those after each layer."""
    max_length: int = Field(default=128, ge=8, le=512)
    """Word pieces per example."""
    windows: Windowing | None = unless_none()
    """Set for SQuAD, whose examples are windows of `max_length` word pieces."""


def hyper(variant: Variant, task: str, scale: str, encoder: EncoderFacts | None) -> Hyper:
    """The paper's settings at full scale, declared fractions of them elsewhere (README, D10), and the variant's own.

    They do not depend on the encoder: groups are fitted to each matrix as it is quantised (D9).
    """
    return _of_scale(task, scale).changed(variant.changes)


def _of_scale(task: str, scale: str) -> Hyper:
    """What all variants share."""
    length, windows = WINDOWS[scale] if task == "squad" else (64 if scale == "smoke" else 128, None)
    base = Hyper(max_length=length, windows=windows)
    if scale == "smoke":
        few = {"epochs": 1, "lr": 2e-4}
        return base.model_copy(update={
            "sensing": Sensing(share=1.0, most_rows=32, repeats=2, max_steps=20, landscape_points=7),
            "training": base.training.model_copy(update=few),
        })  # fmt: skip
    if scale == "small":
        few = {"epochs": 2, "batch_size": 16, "lr": 1e-4}
        sensing = Sensing(most_rows=32, repeats=5, landscape_points=11)
        return base.model_copy(update={"sensing": sensing, "training": base.training.model_copy(update=few)})
    if task == "squad":
        of_squad = {"batch_size": 12, "lr": 3e-5}
        return base.model_copy(update={"training": base.training.model_copy(update=of_squad)})
    return base


def assigned(chosen: Assignment, omega: Sequence[float], seed: int = 0) -> tuple[int, ...]:
    """The bits of each layer, given the layers' sensitivities. Raises: SpecError for what is impossible."""
    if chosen.low is None:
        return uniform(chosen.high, len(omega))
    return mixed(omega, chosen.high, chosen.low, chosen.more, chosen.order, seed)


def check(variant: Variant, chosen: Hyper, encoder: EncoderFacts) -> None:
    """Refuse, before anything runs, bits that are impossible or not the variant's, and groups that divide nothing.

    Raises: SpecError for the first of them.
    """
    bits, mixture = chosen.bits, any("sensing" in stage.uses for stage in variant.stages)
    if mixture != (bits.low is not None):
        raise SpecError("bits.low does not go with the variant", where=variant.says, found=bits.low,
                        expected="the fewer bits of a mixture" if mixture else "none: all layers have bits.high",
                        fix=f"choose {'a variant of one number of bits' if mixture else 'a mixture'}")  # fmt: skip
    if not mixture and (bits.more, bits.order) != (None, "sensitivity"):
        raise SpecError("bits.more and bits.order are a mixture's", where=variant.says,
                        found=f"bits.more={bits.more}, bits.order={bits.order}", expected="neither is set",
                        fix="choose a mixture")  # fmt: skip
    Scheme(layers=assigned(chosen.bits, [0.0] * encoder.layers), **chosen.quantiser.model_dump())
    for name in ("groups", "embedding_groups"):
        groups = getattr(chosen.quantiser, name)
        # Fewer groups than asked for are D9; one group in place of many would be another method.
        if groups > 1 and math.gcd(groups, encoder.hidden) == 1:
            raise SpecError("the groups do not divide a matrix", where=f"quantiser.{name}", found=groups,
                            expected=f"a number that shares a divisor with the hidden size {encoder.hidden}",
                            fix=f"--set quantiser.{name}=1, or a divisor")  # fmt: skip
