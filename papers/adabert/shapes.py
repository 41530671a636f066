"""AdaBERT at paper size: the two ends of its printed range of sizes.

No searched network was published. Width, vocabulary and depth are known, so a size says how many convolution weights
there are, and not where: eight cells of width 3 come close to the printed low end, and five cells of width 5 print it
as well. The sizes that are known of single tasks (QNLI, MRPC, RTE) leave as much open, so there is no shape of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from bench.models.shape import Shape
from papers.adabert import student
from papers.adabert.names import KEPT, MAX_CELLS, NODES
from papers.adabert.student import AdaBertForSequenceClassification, Edge, Genotype


def uniform(operation: str, cells: int = MAX_CELLS) -> Genotype:
    """The same operation on every edge, each node reading both inputs of its cell.

    Which states the edges read changes neither size nor FLOPs.
    Raises: ModelError for an operation or a number of cells that the search space does not hold.
    """
    return Genotype(tuple(tuple(Edge(i, operation) for i in range(KEPT)) for _ in range(NODES)), cells)


SMALLEST = uniform("conv3")
"""The cheapest network of full depth with a convolution on every edge: 6.34 million parameters; printed are 6.4.

Not the least that the search space holds: with one cell, or with edges that hold no weights, a network comes down to
its embedding tables, 3.97 million. The printed range begins far above, where this one is.
"""
LARGEST = uniform("conv7")
"""The dearest network of the search space, full depth and the widest convolution on every edge: 9.49 million, as
printed (9.5)."""


def _shape(says: str, genotype: Genotype) -> Shape:
    return Shape(
        says,
        lambda: AdaBertForSequenceClassification(student.config(genotype)),  # a config of its own: models write in it
        partial(student.flops, student.config(genotype)),
        guessed="no searched network was published, and a size does not fix one",
    )


SHAPES: Mapping[str, Shape] = {
    "adabert-smallest": _shape("8 cells of six 3-wide convolutions, width 128: the low end of the sizes", SMALLEST),
    "adabert-largest": _shape("8 cells of six 7-wide convolutions, width 128: the high end of the sizes", LARGEST),
}
