"""The words of AdaBERT's search space and of its tasks: plain names, which are read without torch."""

from __future__ import annotations

from collections.abc import Mapping

CONVOLUTIONS = {
    "conv3": (3, 1), "conv5": (5, 1), "conv7": (7, 1),
    "dilated3": (3, 2), "dilated5": (5, 2), "dilated7": (7, 2),
}  # fmt: skip
"""Operation -> (kernel width, dilation)."""
OPERATIONS = (*CONVOLUTIONS, "average-pool", "max-pool", "identity", "zero")
"""The ten candidates of an edge."""
INPUTS = 2
"""A cell reads the outputs of the two cells before it; before the first cell stand the embeddings, twice."""
NODES = 3
"""Intermediate nodes of a cell."""
KEPT = 2
"""Edges into a node that derivation keeps."""
MAX_CELLS = 8
"""K_max."""

TASKS = ("sst2", "mrpc", "qqp", "mnli", "qnli", "rte")
"""The paper's."""
LENT: Mapping[str, str] = {f"adabert-from-{task}": task for task in TASKS}
"""Variant -> the task on which its structure was searched (Table 3)."""
