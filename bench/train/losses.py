"""Losses that two papers or more share, in fp32; those that return a `Loss` are ready for `fit`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.batches import Batch
from bench.data.masking import IGNORED
from bench.data.positions import positions
from bench.data.tasks import Kind
from bench.models.outputs import forward
from bench.train.processes import mean_over
from bench.train.step import Loss


def task_loss(logits: Tensor, labels: Tensor, regression: bool) -> Tensor:
    """Mean cross-entropy of logits [B, C], or mean squared error of scores [B, 1]; labels [B], a scalar out."""
    if regression:
        return F.mse_loss(logits.float().squeeze(-1), labels.float())
    return F.cross_entropy(logits.float(), labels)


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """-sum over classes of softmax(teacher / T) log softmax(student / T). No T^2.

    Shapes: both [..., C]; [...] out.
    """
    targets = (teacher.float() / temperature).softmax(-1)
    return -(targets * (student.float() / temperature).log_softmax(-1)).sum(-1)


def attended_only(logits: Tensor, attention_mask: Tensor) -> Tensor:
    """Start and end logits in fp32 that give padding no probability. Shapes: [B, L, 2] and [B, L]."""
    return logits.float().masked_fill(attention_mask[..., None] == 0, torch.finfo(torch.float32).min)


def span_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of the cross-entropies of the start and of the end over the tokens; a place outside of them counts nothing.

    Shapes: `logits` [B, L, 2], `labels` [B, 2]. Without a place inside the value is 0.
    Source: Devlin et al. 2019 (arXiv 1810.04805v2), section 4.2.
    """
    inside = (labels >= 0) & (labels < logits.shape[1])
    return _mean_cross_entropy(logits.transpose(1, 2).flatten(0, 1), labels.where(inside, IGNORED).flatten())


def tag_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pieces that carry a tag.

    Shapes: `logits` [B, L, C]; `labels` [B, L or more] with the ignore index elsewhere. Without a tag the value is 0.
    """
    width = min(labels.shape[1], logits.shape[1])  # beyond either of them there is padding alone
    return _mean_cross_entropy(logits[:, :width].flatten(0, 1), labels[:, :width].flatten())


def _mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """In fp32, over the labels that are not ignored; 0 where all are. No number of labels is asked of the device.

    Shapes: [P, C] and [P].
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
    count = (labels != IGNORED).sum()
    return mean_over(total / count.clamp(min=1), count)


def supervised(kind: Kind) -> Loss:
    """The loss of plain fine-tuning on labels, scores, spans or tags, in the form that `fit` takes."""

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits, labels = forward(model, batch).logits, batch["labels"]
        if kind == "span":
            return {"task": span_loss(attended_only(logits, batch["attention_mask"]), labels)}
        if kind == "tags":
            return {"task": tag_loss(logits, labels)}
        return {"task": task_loss(logits, labels, regression=kind == "score")}

    return loss


def masked_lm(hidden: Tensor, batch: Batch, head: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean cross-entropy over the masked positions; only those are projected on the vocabulary.

    Shapes: `hidden` [B, L, H]; `labels` of the batch [B, L] with the ignore index where nothing is predicted.
    A batch without a masked position costs 0.
    """
    masked = positions(batch, "masked", batch["labels"] != IGNORED)
    logits, labels = head(masked.of(hidden)).float(), masked.of(batch["labels"])
    each = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return mean_over(masked.mean(each), masked.count)
