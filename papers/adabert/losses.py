"""The parts of AdaBERT's loss: labels, knowledge read off the teacher by probes, and the price of the structure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.train.losses import soft_cross_entropy
from bench.train.processes import mean_of_rows

Weighing = Literal["batch", "example", "even"]


def mapped(layers: int, teacher_layers: int) -> tuple[int, ...]:
    """The teacher's layer (from 1) that each layer of a student copies: ceil(i K_T / K), the last one the last (D3)."""
    return tuple(math.ceil(i * teacher_layers / layers) for i in range(1, layers + 1))


def layer_weights(teacher: Tensor, labels: Tensor, weighing: Weighing) -> Tensor:
    """mu: how much each layer's knowledge counts, by how well its probe knows the labels; they add up to 1.

    A softmax over the layers of minus the cross-entropies of the teacher's probes: of each row ("example", [B, K]), or
    of their means over the batch ("batch", [1, K]). "even" is 1 / K, [1, K].
    Shapes: `teacher` [B, K, C] logits of the probes that are copied, `labels` [B].
    Source: arXiv 2001.04246v2, section 3.2; D4.
    """
    rows, layers, classes = teacher.shape
    if weighing == "even":
        return teacher.new_full((1, layers), 1.0 / layers)
    known = labels.repeat_interleave(layers)
    costs = F.cross_entropy(teacher.reshape(-1, classes), known, reduction="none").view(rows, layers)
    return (-(costs if weighing == "example" else mean_of_rows(costs))).softmax(1)


def probe_knowledge(
    student: Sequence[Tensor], teacher: Tensor, labels: Tensor, temperature: float, weighing: Weighing
) -> Tensor:
    """L_KD: each layer of the student against the probe of the teacher's layer that it copies, weighed by mu.

    Shapes: `student` K tensors [B, C], the last one the network's own logits; `teacher` [B, K_T, C]; `labels` [B].
    Source: arXiv 2001.04246v2, section 3.2; D3 and D4.
    """
    copied = teacher[:, [j - 1 for j in mapped(len(student), teacher.shape[1])]].float()
    each = soft_cross_entropy(torch.stack(list(student), 1), copied, temperature)
    return (layer_weights(copied, labels, weighing) * each).sum(1).mean()


def efficiency(edges: Sequence[Tensor], costs: Sequence[Tensor], depth: Tensor, max_cells: int) -> Tensor:
    """L_E = K / K_max times the mean over the edges of what their operations cost.

    Shapes: `edges` one-hot choices [O] of each edge, as straight-through samples; `costs` [O] of each edge; `depth` K,
    a scalar of such a sample. Source: arXiv 2001.04246v2, section 3.3; the mean is the codes' (D5).
    """
    # No matrix product, which autocast would round to bf16: prices differ in the fifth place.
    each = [(edge * cost).sum() for edge, cost in zip(edges, costs, strict=True)]
    return depth / max_cells * torch.stack(each).mean()
