"""The losses of TinyBERT, one function per equation (arXiv 1909.10351v5, section 3.1).

The two mean squared errors are fused: their gradients are formed while the scores, or the projected states, are at
hand, so that neither outlives its layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.models.attention import Attended
from bench.train.losses import soft_cross_entropy, task_loss

CHUNK = {"cpu": 2**20, "cuda": 2**26}
"""Scores held at a time: those of a CPU stay in its cache."""


class _ScoresMSE(torch.autograd.Function):
    """Mean squared difference of two layers' scores; saves the gradients of queries and keys only."""

    @staticmethod
    def forward(ctx, query, key, teacher_query, teacher_key, keep, scaling, teacher_scaling):
        # Shapes: queries and keys [B, A, L, D], the two models' D may differ; keep [B or 1, 1, L, L], or None.
        rows, heads, length, _ = query.shape
        step = max(1, CHUNK.get(query.device.type, 2**24) // (heads * length * length))
        grad_query = torch.empty(query.shape, device=query.device) if ctx.needs_input_grad[0] else None
        grad_key = torch.empty(key.shape, device=key.device) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), device=query.device)
        factor = 2.0 * scaling / (rows * heads * length * length)
        with torch.autocast(query.device.type, enabled=False):
            for start in range(0, rows, step):
                part = slice(start, start + step)
                q, k = query[part].float().flatten(0, 1), key[part].float().flatten(0, 1)
                t = teacher_query[part].float().flatten(0, 1), teacher_key[part].float().flatten(0, 1)
                # scaling * Q K^T - teacher_scaling * Q_t K_t^T, in the buffer of the teacher's scores
                difference = torch.bmm(t[0], t[1].mT)
                difference.baddbmm_(q, k.mT, beta=-teacher_scaling, alpha=scaling)
                if keep is not None:
                    shaped = difference.view(-1, heads, length, length)
                    shaped.mul_(keep if len(keep) == 1 else keep[part])  # finite, so a product is a `where`
                flat = difference.view(-1)
                total += torch.dot(flat, flat)
                # With S = scaling Q K^T and loss mean(D^2): dQ = 2 scaling / count * D K, and dK the same of D^T Q.
                if grad_query is not None:
                    grad_query[part] = torch.bmm(difference, k).mul_(factor).view_as(grad_query[part])
                if grad_key is not None:
                    grad_key[part] = torch.bmm(difference.mT, q).mul_(factor).view_as(grad_key[part])
        ctx.save_for_backward(grad_query, grad_key)
        ctx.dtypes = (query.dtype, key.dtype)
        return total / (rows * heads * length * length)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (upstream,) = grad_outputs
        scaled = [
            None if grad is None else (grad * upstream).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return *scaled, None, None, None, None, None


def attention(student: Attended, teacher: Attended) -> Tensor:
    """Mean over heads and places of (S_student - S_teacher)^2, scores before the softmax (equation 7).

    Where a key is padding both models count as 0; such places stay in the denominator, padded queries count in full.
    Shapes: queries and keys [B, A, L, D]; B, A, L and the padding are the same in both models, D is each one's own.
    Raises: AssertionError for other numbers of rows, heads or tokens.
    Source: arXiv 1909.10351v5, equation 7; padding see D5.
    """
    assert student.query.shape[:3] == teacher.query.shape[:3], (student.query.shape, teacher.query.shape)
    return _ScoresMSE.apply(  # pyright: ignore[reportReturnType]
        student.query, student.key, teacher.query.detach(), teacher.key.detach(), student.keep,
        student.scaling, teacher.scaling,
    )  # fmt: skip


class _ProjectedMSE(torch.autograd.Function):
    """Mean squared error behind a linear layer; saves gradients of the inputs, not the projection of the states."""

    @staticmethod
    def forward(ctx, student, weight, bias, teacher):
        device = student.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        with torch.autocast(device, enabled=False):
            states, matrix = student.reshape(-1, student.shape[-1]).to(low), weight.to(low)
            difference = (states @ matrix.mT).float()
            if bias is not None:
                difference += bias
            difference -= teacher.reshape(difference.shape)
            flat = difference.view(-1)
            loss = torch.dot(flat, flat) / difference.numel()
            # From here on the gradient of the projected states; both products take it in the precision of autocast.
            difference *= 2.0 / difference.numel()
            rounded = difference.to(low)
            grad_student = (rounded @ matrix).to(student.dtype).view_as(student) if ctx.needs_input_grad[0] else None
            grad_weight = (rounded.mT @ states).to(weight.dtype) if ctx.needs_input_grad[1] else None
            grad_bias = difference.sum(0).to(weight.dtype) if bias is not None and ctx.needs_input_grad[2] else None
        ctx.save_for_backward(grad_student, grad_weight, grad_bias)
        return loss

    @staticmethod
    def backward(ctx, *grad_outputs):
        (upstream,) = grad_outputs
        scaled = [None if grad is None else grad * upstream.to(grad.dtype) for grad in ctx.saved_tensors]
        return *scaled, None


def hidden(student: Tensor, teacher: Tensor, projection: nn.Linear) -> Tensor:
    """Mean over positions and units of (W h_student - h_teacher)^2 (equations 8 and 9); padding counts.

    Shapes: `student` [B, L, H_s], `teacher` [B, L, H_t], `projection` from H_s to H_t.
    Source: arXiv 1909.10351v5, equations 8 and 9; padding see D5, the projections D1.
    """
    return _ProjectedMSE.apply(  # pyright: ignore[reportReturnType]
        student, projection.weight, projection.bias, teacher.detach()
    )


def prediction(
    student: Tensor, batch: dict[str, Tensor], *, regression: bool, target: str, temperature: float,
    mean_over_classes: bool,
) -> Tensor:  # fmt: skip
    """The loss of the prediction layer: soft cross-entropy, without T^2, or squared error where the task is a score.

    The released code takes the mean over classes, too: 1 / C of the sum (D3).
    `target` says whose scores a regression copies: the `teacher`'s (the paper), or the `gold` ones (released code).
    Shapes: `student` and `teacher_logits` of the batch [B, C], C = 1 for a score; `labels` of the batch [B].
    Source: arXiv 1909.10351v5, equation 10; D3 for the mean and the score.
    """
    if not regression:
        value = soft_cross_entropy(student, batch["teacher_logits"], temperature).mean()
        return value / student.shape[-1] if mean_over_classes else value
    wanted: Any = batch["teacher_logits"].squeeze(-1) if target == "teacher" else batch["labels"]
    return task_loss(student, wanted, regression=True)
