"""The losses of a training, left on the device until somebody looks: a look waits for all that was sent before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

from bench.core.errors import Diverged
from bench.train.checkpoint import Position

EVERY = {"cpu": 1}
"""Optimiser steps between two looks: a CPU has nothing to wait for, so that a bad loss stops it before the update."""
SELDOM = 64
"""The same on other devices."""


def every(device: torch.device) -> int:
    """Optimiser steps between two looks on a device."""
    return EVERY.get(device.type, SELDOM)


@dataclass(slots=True)
class Meter:
    """What the batches of the last steps cost, and what `at` says of the first and the last step."""

    at: Position
    steps: int
    """Of the whole training, for messages."""
    every: int
    _values: list[Tensor] = field(default_factory=list)
    """[1 + T] of each batch since the last look: its loss, then its terms."""
    _names: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    """(step, names of the terms) of the same."""
    _totals: list[Tensor] = field(default_factory=list)
    """The loss of each optimiser step since the last look."""

    def saw(self, step: int, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """One batch. Raises Diverged, of a meter that looks at every step, where its loss is not finite."""
        if self.every == 1:
            if not bool(torch.isfinite(loss)):
                self._refuse(step, list(terms), [float(term.detach()) for term in terms.values()])
            return
        self.kept(step, tuple(terms), stacked(loss, terms))

    def kept(self, step: int, names: tuple[str, ...], values: Tensor) -> None:
        """One batch whose loss and terms are stacked already, as `stacked` gives them."""
        self._values.append(values)
        self._names.append((step, names))

    def ended(self, total: Tensor) -> None:
        """One optimiser step, and its loss. Raises Diverged as `look` does, when it is time for one."""
        self._totals.append(total)
        if len(self._totals) >= self.every:
            self.look()

    def look(self) -> None:
        """Wait for the device, and bring `at` up to date.

        Raises Diverged for the first loss that was not finite: nothing made after it may be kept.
        """
        if self._values:
            found = torch.cat(self._values).tolist()
            for step, names in self._names:
                loss, terms, found = found[0], found[1 : 1 + len(names)], found[1 + len(names) :]
                if not abs(loss) < float("inf"):
                    self._refuse(step, list(names), terms)
        if self._totals:
            losses = [float(self._totals[0])] if len(self._totals) == 1 else torch.stack(self._totals).tolist()
            self.at.first_loss = losses[0] if self.at.first_loss is None else self.at.first_loss
            self.at.last_loss = losses[-1]
        self._values, self._names, self._totals = [], [], []

    @property
    def text(self) -> str:
        """The last loss that is known, for a progress bar."""
        return "" if self.at.last_loss is None else f"loss {self.at.last_loss:.4f}"

    def _refuse(self, step: int, names: list[str], terms: list[float]) -> NoReturn:
        shown = ", ".join(f"{name} {term:.4g}" for name, term in zip(names, terms, strict=True))
        raise Diverged(f"the loss is not finite at step {step} of {self.steps}", found=shown,
                       expected="finite terms", fix="lower the learning rate or use fp32")  # fmt: skip


def stacked(loss: Tensor, terms: Mapping[str, Tensor]) -> Tensor:
    """The loss and its terms as one tensor [1 + T] in fp32, without a gradient."""
    return torch.stack([one.detach().to(loss.device, torch.float32) for one in (loss, *terms.values())])
