"""Probes: what each layer of the fine-tuned teacher knows of the task, read off by a softmax classifier (section 3.2).

The teacher is frozen. Its states are made once for the task's rows and mapped into memory, the probes are trained on
them, and what the probes answer is made once for all rows that the student is trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from bench.data.batches import Batch, Encoded, WithLogits
from bench.models.load import register
from bench.models.outputs import forward, reads
from bench.train.recipe import Context, View
from bench.train.settings import Training
from bench.train.teacher import fine_tuned_bert

AT_ONCE = 4096
"""Rows whose states are read at a time."""


@register
class Probes(nn.Module):
    """A softmax classifier for each layer of a model.

    Shapes: states [B, K, H] -> logits [B, K, C].
    """

    def __init__(self, layers: int, hidden: int, labels: int) -> None:
        super().__init__()
        self.sizes = {"layers": layers, "hidden": hidden, "labels": labels}
        self.weight = nn.Parameter(torch.empty(layers, hidden, labels).normal_(0.0, 0.02))
        self.bias = nn.Parameter(torch.zeros(layers, labels))

    def forward(self, states: Tensor) -> Tensor:
        return torch.einsum("bkh,khc->bkc", states, self.weight) + self.bias

    def each(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The logits [B, C] of the first layers, as many as states [B, H] are given."""
        return [state @ self.weight[i] + self.bias[i] for i, state in enumerate(states)]

    def saved_config(self) -> dict[str, Any]:
        return self.sizes

    @classmethod
    def from_saved(cls, config: dict[str, Any]) -> Probes:
        return cls(**config)


class OfLayers(nn.Module):
    """A teacher as a model whose logits are read off its layers: the states of a row's first token, side by side
    [B, K * H], or what probes make of them [B, K * C]."""

    def __init__(self, teacher: nn.Module, probes: Probes | None = None) -> None:
        super().__init__()
        self.teacher, self.probes = teacher, probes
        self.reads, self.hands_to = reads(teacher), teacher

    def forward(self, **batch: Tensor) -> SequenceClassifierOutput:
        states = forward(self.teacher, batch, hidden=True).hidden[1:]  # the first are the embeddings
        read = torch.stack([state[:, 0] for state in states], 1).float()
        return SequenceClassifierOutput(logits=(self.probes(read) if self.probes else read).flatten(1))


def trained(ctx: Context, rows: Encoded, training: Training) -> tuple[Probes, dict[str, list[float]]]:
    """Probes on all layers of the teacher, and the share of the rows that each gets right, by layer.

    The classifiers are trained together, by the sum of their cross-entropies; none sees another one.
    Raises: ModelError for a teacher that is not fine-tuned on the task.
    """
    teacher = fine_tuned_bert(ctx)
    layers, width = teacher.config.num_hidden_layers, teacher.config.hidden_size
    probes = Probes(layers, width, len(ctx.task.labels))
    states = ctx.teacher_logits(rows, View(OfLayers, "states of the first token"))

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = model(batch["teacher_logits"].unflatten(1, (layers, width)))
        each = F.cross_entropy(logits.flatten(0, 1), batch["labels"].repeat_interleave(layers))
        return {"probes": each * layers}

    ctx.fit(probes, loss, ctx.batches(rows, training, WithLogits(states)), training)
    return probes, {f"layer{i + 1}": [share] for i, share in enumerate(_right(probes, states, rows))}


@torch.inference_mode()
def _right(probes: Probes, states: np.ndarray, rows: Encoded) -> list[float]:
    """The share of the rows that each layer's probe gets right."""
    layers, width = probes.sizes["layers"], probes.sizes["hidden"]
    probes.cpu().eval()
    right = np.zeros(layers)
    for start in range(0, len(rows), AT_ONCE):
        part = torch.from_numpy(np.array(states[start : start + AT_ONCE])).unflatten(1, (layers, width))
        said = probes(part).argmax(-1).numpy()
        right += (said == rows.labels[start : start + AT_ONCE, None]).sum(0)
    return (right / len(rows)).tolist()


def answers(ctx: Context, rows: Encoded, probes: Probes) -> np.ndarray:
    """What the probes say of rows, [N, K * C]: made once per teacher, probes and rows, mapped into memory."""
    weights = hashlib.sha256(b"".join(tensor.detach().cpu().numpy().tobytes() for tensor in probes.parameters()))
    return ctx.teacher_logits(rows, View(lambda teacher: OfLayers(teacher, probes), f"probes {weights.hexdigest()}"))
