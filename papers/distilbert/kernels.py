"""A GPU kernel of our own, in Triton: imported where a GPU, Triton and the C compiler that it starts are there."""

from __future__ import annotations

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

BLOCK, WARPS = 4096, 8
"""Logits of a row that are looked at together, and the warps that do it."""
LOWEST = tl.constexpr(-1e30)
"""Below every logit, and finite: the difference of two of them is 0, not NaN."""


@triton.jit
def _divergence(
    student, teacher, counts, losses,
    width: tl.constexpr, stride: tl.constexpr, weighted: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    student += row * stride
    teacher += row * stride
    columns = tl.arange(0, block)
    high_s = tl.full([block], LOWEST, tl.float32)
    high_t = tl.full([block], LOWEST, tl.float32)
    sum_s = tl.zeros([block], tl.float32)
    sum_t = tl.zeros([block], tl.float32)
    # Each lane keeps the sum of its own exponentials, relative to the largest value that it has seen.
    for start in range(0, width, block):
        inside = start + columns < width
        s = tl.load(student + start + columns, mask=inside, other=LOWEST).to(tl.float32)
        t = tl.load(teacher + start + columns, mask=inside, other=LOWEST).to(tl.float32)
        new_s, new_t = tl.maximum(high_s, s), tl.maximum(high_t, t)
        sum_s = sum_s * tl.exp(high_s - new_s) + tl.where(inside, tl.exp(s - new_s), 0.0)
        sum_t = sum_t * tl.exp(high_t - new_t) + tl.where(inside, tl.exp(t - new_t), 0.0)
        high_s, high_t = new_s, new_t
    top_s, top_t = tl.max(high_s, 0), tl.max(high_t, 0)
    all_s = top_s + tl.log(tl.sum(sum_s * tl.exp(high_s - top_s), 0))
    all_t = top_t + tl.log(tl.sum(sum_t * tl.exp(high_t - top_t), 0))
    count = tl.load(counts + row) if weighted else 1.0
    total = tl.zeros([block], tl.float32)
    for start in range(0, stride, block):
        inside = start + columns < width
        log_s = tl.load(student + start + columns, mask=inside, other=LOWEST).to(tl.float32) - all_s
        log_t = tl.load(teacher + start + columns, mask=inside, other=LOWEST).to(tl.float32) - all_t
        p = tl.exp(log_t)
        total += tl.where(inside, p * (log_t - log_s), 0.0)
        grad = tl.where(inside, (tl.exp(log_s) - p) * count, 0.0)
        tl.store(student + start + columns, grad.to(student.dtype.element_ty), mask=start + columns < stride)
    tl.store(losses + row, tl.sum(total, 0) * count)


def divergence_(student: Tensor, teacher: Tensor, counts: Tensor | None, width: int) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) of each row, times its count; `student` becomes its gradient.

    Of each row the first `width` logits count; the gradient of the others is 0.
    Shapes: logits [P, V or more], contiguous, of one dtype; `counts` [P] fp32 or None for ones; the value [P] fp32.
    """
    assert student.is_contiguous() and teacher.is_contiguous() and student.shape == teacher.shape
    losses = torch.empty(len(student), device=student.device, dtype=torch.float32)
    _divergence[(len(student),)](  # pyright: ignore[reportIndexIssue]
        student, teacher, losses if counts is None else counts, losses, width=width, stride=student.shape[1],
        weighted=counts is not None, block=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return losses
