"""Losses that two papers or more share. Every function takes (student, teacher, ...) or (logits, labels)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.batches import Batch
from bench.data.masking import IGNORED
from bench.data.tasks import Kind
from bench.models.outputs import forward


def task_loss(logits: Tensor, labels: Tensor, regression: bool) -> Tensor:
    """Cross-entropy of [B, C] logits, or mean squared error of [B, 1] scores, in fp32."""
    if regression:
        return F.mse_loss(logits.float().squeeze(-1), labels.float())
    return F.cross_entropy(logits.float(), labels)


def attended_only(logits: Tensor, attention_mask: Tensor) -> Tensor:
    """Start and end logits in fp32 that give padding no probability. Shapes: [B, L, 2] and [B, L]."""
    return logits.float().masked_fill(attention_mask[..., None] == 0, torch.finfo(torch.float32).min)


def span_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of the cross-entropies of the start and of the end over the tokens; a place outside of them counts nothing.

    Shapes: `logits` [B, L, 2], `labels` [B, 2]. Without a place inside the value is 0.
    Source: Devlin et al. 2019 (arXiv 1810.04805v2), section 4.2.
    """
    inside = (labels >= 0) & (labels < logits.shape[1])
    if not bool(inside.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits.transpose(1, 2)[inside], labels[inside])


def tag_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pieces that carry a tag.

    Shapes: `logits` [B, L, C]; `labels` [B, L or more] with the ignore index elsewhere. Without a tag the value is 0.
    """
    labels = labels[:, : logits.shape[1]]
    chosen = labels != IGNORED
    if not bool(chosen.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits[chosen].float(), labels[chosen])


def supervised(kind: Kind) -> Callable[[nn.Module, Batch], dict[str, Tensor]]:
    """The loss of plain fine-tuning on labels, scores, spans or tags, in the form that `fit` takes."""

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits, labels = forward(model, batch).logits, batch["labels"]
        if kind == "span":
            return {"task": span_loss(attended_only(logits, batch["attention_mask"]), labels)}
        if kind == "tags":
            return {"task": tag_loss(logits, labels)}
        return {"task": task_loss(logits, labels, regression=kind == "score")}

    return loss


class _SoftTargets(torch.autograd.Function):
    """T^2 * mean KL(teacher || student) through both vocabulary projections, a chunk of positions at a time.

    The gradient of a chunk is formed while its logits are at hand, so neither [P, V] tensor ever exists whole.
    """

    @staticmethod
    def forward(ctx, student, weight, bias, teacher, teacher_weight, teacher_bias, temperature, chunk):
        positions = student.shape[0]
        loss = torch.zeros((), device=student.device, dtype=torch.float32)
        grad_student = torch.empty_like(student)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_bias = torch.zeros_like(bias, dtype=torch.float32)
        for start in range(0, positions, chunk):
            part = slice(start, start + chunk)
            log_s = F.linear(student[part], weight, bias).float().div_(temperature)
            log_s = log_s.sub_(log_s.logsumexp(-1, keepdim=True))
            log_t = F.linear(teacher[part], teacher_weight, teacher_bias).float().div_(temperature)
            log_t = log_t.sub_(log_t.logsumexp(-1, keepdim=True))
            t = log_t.exp()
            loss += torch.dot(t.view(-1), log_t.sub_(log_s).view(-1))
            # d KL / d logits = (softmax(s/T) - softmax(t/T)) / T, times T^2 / P
            grad = log_s.exp_().sub_(t).mul_(temperature / positions)
            grad_bias += grad.sum(0)
            grad = grad.to(student.dtype)
            grad_student[part] = grad @ weight.to(student.dtype)
            grad_weight += grad.T @ student[part]
        ctx.save_for_backward(grad_student, grad_weight, grad_bias)
        ctx.dtypes = (weight.dtype, bias.dtype)
        return loss * (temperature**2 / positions)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (upstream,) = grad_outputs
        grad_student, grad_weight, grad_bias = ctx.saved_tensors
        weight = (grad_weight * upstream).to(ctx.dtypes[0])
        bias = (grad_bias * upstream).to(ctx.dtypes[1])
        return grad_student * upstream.to(grad_student.dtype), weight, bias, None, None, None, None, None


def soft_targets(
    student: Tensor, teacher: Tensor, head: nn.Linear, teacher_head: nn.Linear, temperature: float, chunk: int = 256
) -> Tensor:
    """T^2 * mean over positions of KL(softmax(teacher / T) || softmax(student / T)) over the vocabulary.

    Shapes: `student` [P, H_s] and `teacher` [P, H_t] are the inputs of the vocabulary projections `head` [V, H_s]
    and `teacher_head` [V, H_t]; memory is O(chunk * V), not O(P * V). Without a position the value is 0.
    Source: Hinton et al. 2015 (arXiv 1503.02531v1), section 2; the T^2 factor stands in DistilBERT's official code.
    """
    assert head.bias is not None and teacher_head.bias is not None, "masked-LM projections carry a bias"
    if len(student) == 0:
        return student.sum() * 0.0
    return _SoftTargets.apply(  # pyright: ignore[reportReturnType]
        student, head.weight, head.bias, teacher, teacher_head.weight, teacher_head.bias, temperature, chunk
    )


def soft_targets_plain(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The same value from whole [P, V] logits: the reference that tests and benchmarks compare with."""
    log_s = F.log_softmax(student_logits.float() / temperature, -1)
    log_t = F.log_softmax(teacher_logits.float() / temperature, -1)
    return F.kl_div(log_s, log_t, log_target=True, reduction="batchmean") * temperature**2


def masked_lm(hidden: Tensor, labels: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean cross-entropy over the masked positions; only those are projected on the vocabulary.

    Shapes: `hidden` [B, L, H]; `labels` [B, L] with the ignore index where nothing is predicted.
    A batch without a masked position costs 0.
    """
    chosen = labels != IGNORED
    if not bool(chosen.any()):
        return hidden.sum() * 0.0
    return F.cross_entropy(head(hidden[chosen]).float(), labels[chosen])
