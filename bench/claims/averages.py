"""Printed averages, recomputed from the cells that the paper printed beside them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bench.claims.claim import Claim, Entry, Ledger, Part
from bench.claims.units import AVERAGE, UNITS


class Recomputed(Part):
    """A printed average beside the one that its own cells give, both as printed."""

    printed: float
    recomputed: float
    fits: bool
    """Whether rounding of the cells and of the average explains the difference."""


def cells(ledger: Ledger, claim: Claim) -> dict[tuple[str, str, str], Claim]:
    """The printed cells of an average: the claims whose id is the same up to its last dot, by (task, metric, split)."""
    row = claim.id.rpartition(".")[0]
    wanted = {cell for entry in claim.tasks for cell in entry.cells()}
    found = {
        (other.task, other.metric, other.split): other
        for other in ledger.claims
        if other.id.rpartition(".")[0] == row and other.value is not None
    }
    return {cell: found[cell] for cell in wanted & found.keys()}


def recompute(ledger: Ledger, claim: Claim) -> Recomputed | None:
    """The average from the paper's own cells; None where the claim is no average, or its cells are not printed.

    A task with several metrics or splits enters with their mean. Units: as printed.
    """
    if claim.metric != AVERAGE or claim.derive != "none" or not claim.recompute or claim.kind == "ordering":
        return None
    known = cells(ledger, claim)
    means = []
    for entry in claim.tasks:
        values = [known[cell].number() for cell in entry.cells() if cell in known]
        if len(values) < len(entry.cells()):
            return None
        means.append(sum(values) / len(values))
    value = sum(means) / len(means)
    # Cells and average are rounded to a tenth of a percent: each is off by half of one at most.
    most = UNITS[claim.unit].to_print(0.001)
    return Recomputed(printed=claim.number(), recomputed=value, fits=abs(value - claim.number()) <= most * (1 + 1e-9))


def printed_on(ledger: Ledger, ordering: Claim, entries: Sequence[Entry]) -> dict[str, float] | None:
    """What each variant of an ordering has on average over some tasks, by the cells of its own table, as printed.

    None where a cell is not printed. Worst variant of the ordering first.
    """
    known = {(one.variant, one.task, one.metric, one.split): one.number() for one in ledger.claims
             if one.table == ordering.table and one.kind == "quality" and one.value is not None}  # fmt: skip
    if any((variant, *cell) not in known for variant in ordering.order for one in entries for cell in one.cells()):
        return None
    return {variant: fmean(fmean(known[variant, *cell] for cell in one.cells()) for one in entries)
            for variant in ordering.order}  # fmt: skip
