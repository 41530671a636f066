"""The Lanczos search: extreme eigenvalues of a symmetric matrix that is known by its products with vectors alone."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

MISSED = 1e-3
"""The chance that the eigenvalue of largest magnitude is farther off than the tolerance, when a search ends."""


class Lanczos:
    """A symmetric matrix's extreme eigenvalues from its products with one vector after another.

    Without `keep` three vectors are held: extreme values come out right, vectors do not. Source: Lanczos 1950; the
    error of a value is at most its residual, and its residual squared over the gap to the next one.
    """

    def __init__(self, start: Tensor, keep: bool = False):
        self.vector = start / start.norm()
        self.before = torch.zeros_like(start)
        self.diagonal: list[float] = []
        self.beside: list[float] = []
        self.basis: list[Tensor] | None = [self.vector] if keep else None

    def advance(self, product: Tensor) -> None:
        """Take the product of the matrix with `vector`, and make the next one."""
        along = torch.dot(self.vector, product)
        rest = product - along * self.vector - (self.beside[-1] if self.beside else 0.0) * self.before
        if self.basis is not None:
            for _ in range(2):  # rounding lets old directions back in, and one pass leaves a rest
                for other in self.basis:
                    rest = rest - torch.dot(other, rest) * other
        self.diagonal.append(float(along))
        self.beside.append(float(rest.norm()))
        if not self.exhausted:
            self.before, self.vector = self.vector, rest / self.beside[-1]
            if self.basis is not None:
                self.basis.append(self.vector)

    @property
    def exhausted(self) -> bool:
        """Whether the products span all that the start can reach, down to rounding."""
        return self.beside[-1] <= 1e-6 * max(map(abs, [*self.diagonal, *self.beside[:-1]])) or self.beside[-1] == 0

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Values by falling magnitude, their residuals, bounds of their errors, and vectors in the basis' terms."""
        size = len(self.diagonal)
        matrix = np.diag(self.diagonal) + np.diag(self.beside[:-1], 1) + np.diag(self.beside[:-1], -1)
        values, vectors = np.linalg.eigh(matrix)
        order = np.argsort(-np.abs(values), kind="stable")
        values, vectors = values[order], vectors[:, order]
        residuals = np.abs(vectors[-1]) * self.beside[-1]  # all that H v leaves outside the basis
        gaps = np.abs(values[:, None] - values[None, :]) + np.diag(np.full(size, np.inf))
        gap = gaps.min(1) if size > 1 else np.zeros(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = np.fmin(residuals, residuals**2 / gap)
        return values, residuals, bounds, vectors

    def found(self, count: int, tolerance: float) -> bool:
        """Whether the first `count` values are within the tolerance, by their bounds, and no larger one can be hidden.

        Values of both signs can be nearly tied: as long as the other end of the spectrum is not known well enough to
        be smaller, the search goes on. A value that the start hardly holds comes late, when others look finished: the
        search goes on until a random start would miss it, at either end, with a chance of MISSED at most.
        """
        values, residuals, bounds, _ = self.ritz()
        if self.exhausted:
            return True
        if len(values) <= max(count, 2):
            return False
        fine = bounds <= tolerance * np.abs(values)
        opposite = np.flatnonzero(values * values[0] < 0)[:1]  # the largest of the other sign, if there is one
        open_end = ~fine[opposite] & (np.abs(values[opposite]) + residuals[opposite] > np.abs(values[count - 1]))
        if not fine[:count].all() or open_end.any():
            return False
        edge = float((1 + tolerance) * np.abs(values[0]))
        return max(self.chance_of_missing(edge), self.chance_of_missing(-edge)) <= MISSED

    def chance_of_missing(self, value: float) -> float:
        """How likely a Gaussian start is that would hide an eigenvalue there, beyond all values found so far.

        What the start holds of its vector u grows by a known factor from one vector of the search to the next, and all
        of them are orthonormal: sum_j <u, v_j>^2 <= 1 bounds |<u, v_1>|, which is small by chance alone; ours.
        """
        # <u, v_j> / <u, v_1> by the three-term recurrence; `scale` is the logarithm of what both were divided by.
        before, now, scale, total = 0.0, 1.0, 0.0, 1.0
        for along, beside, last in zip(self.diagonal, self.beside, [0.0, *self.beside], strict=False):
            before, now = now, ((value - along) * now - last * before) / max(beside, 1e-300)
            total += now * now
            if total > 1e100:
                before, now, total, scale = before * 1e-50, now * 1e-50, total * 1e-100, scale + math.log(1e50)
        held = math.exp(-scale) / math.sqrt(total)
        return min(1.0, held * math.sqrt(2 * self.vector.numel() / math.pi))
