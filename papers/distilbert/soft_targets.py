"""DistilBERT's soft targets over the vocabulary (arXiv 1910.01108v4, section 3, L_ce), in little memory."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.device import lacks_for_compile


class _SoftTargets(torch.autograd.Function):
    """T^2 * mean KL(teacher || student) through both vocabulary projections, a chunk of positions at a time.

    The gradient of a chunk is formed while its logits are at hand, so neither [P, V] tensor ever exists whole.
    """

    @staticmethod
    def forward(ctx, student, weight, bias, teacher, teacher_weight, teacher_bias, temperature, chunk, counts):
        # Shapes: student [P, H_s], teacher [P, H_t], weight [V, H_s], counts [P] or None.
        device, positions, words = student.device, student.shape[0], len(weight)
        low = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else student.dtype
        of_chunk = _divergence_by_kernel if _has_kernel(device.type) else _divergence
        loss = torch.zeros((), device=device, dtype=torch.float32)
        grad_student = torch.empty_like(student)
        with torch.autocast(device.type, enabled=False):
            # T divides what is projected, not the many more logits; each matrix is cast once, not once a chunk.
            matrix, teacher_matrix = _cast(weight, low), _cast(teacher_weight, low)
            offset, teacher_offset = _cast(bias / temperature, low), _cast(teacher_bias / temperature, low)
            grad_weight = torch.zeros(matrix.shape, device=device, dtype=torch.float32)
            grad_bias = torch.zeros(offset.shape, device=device, dtype=torch.float32)
            for start in range(0, positions, chunk):
                part = slice(start, start + chunk)
                states = student[part].to(low)
                ours = F.linear(states / temperature, matrix, offset)
                theirs = F.linear(teacher[part].to(low) / temperature, teacher_matrix, teacher_offset)
                value, grad = of_chunk(ours, theirs, None if counts is None else counts[part], words)
                loss += value
                grad_bias += grad.sum(0, dtype=torch.float32)
                grad = grad.to(low)
                grad_student[part] = (grad @ matrix).to(student.dtype)
                grad_weight += grad.T @ states
        mean = 1.0 / (positions if counts is None else counts.sum().clamp(min=1.0))
        ctx.save_for_backward(grad_student, grad_weight[:words], grad_bias[:words])
        ctx.scale, ctx.dtypes = mean * temperature, (weight.dtype, bias.dtype)
        return loss * (mean * temperature**2)

    @staticmethod
    def backward(ctx, *grad_outputs):
        # d KL / d logits = (softmax(s/T) - softmax(t/T)) / T, times T^2 over the number of positions
        scale = grad_outputs[0] * ctx.scale
        grad_student, grad_weight, grad_bias = ctx.saved_tensors
        weight, bias = (grad_weight * scale).to(ctx.dtypes[0]), (grad_bias * scale).to(ctx.dtypes[1])
        return (grad_student * scale).to(grad_student.dtype), weight, bias, *[None] * 6


def _divergence(student: Tensor, teacher: Tensor, counts: Tensor | None, words: int) -> tuple[Tensor, Tensor]:
    """The sum over positions of KL(softmax(teacher) || softmax(student)), and softmax(student) - softmax(teacher).

    Shapes: logits [P, V], `counts` [P] or None for ones; the gradient [P, V] is in fp32.
    """
    log_s = torch.log_softmax(student, -1, dtype=torch.float32)
    log_t = torch.log_softmax(teacher, -1, dtype=torch.float32)
    t = log_t.exp()
    difference, grad = log_t.sub_(log_s), log_s.exp_().sub_(t)
    if counts is None:
        return torch.dot(t.view(-1), difference.view(-1)), grad
    return torch.dot(t.mul_(difference).sum(-1), counts), grad.mul_(counts[:, None])


def _divergence_by_kernel(student: Tensor, teacher: Tensor, counts: Tensor | None, words: int) -> tuple[Tensor, Tensor]:
    """The same by a kernel that reads each logit twice; `student` becomes the gradient, in its own format.

    Shapes: logits [P, V or more], of which the first `words` count.
    """
    from papers.distilbert.kernels import divergence_

    return divergence_(student, teacher, counts, words).sum(), student


@functools.cache
def _has_kernel(device: str) -> bool:
    """Whether Triton and the C compiler that it starts are there, for a GPU."""
    return device == "cuda" and lacks_for_compile(torch.device(device)) is None


ALIGNED = 64
"""On a GPU a vocabulary is filled up to a multiple of it: matrix products of an odd width run at half their speed."""


def _cast(of_words: Tensor, dtype: torch.dtype) -> Tensor:
    """A matrix [V, H] or vector [V] in another format; where the kernel runs with rows of zeros behind it."""
    cast = of_words.to(dtype)
    if not _has_kernel(of_words.device.type):
        return cast
    return F.pad(cast, (0,) * (2 * cast.ndim - 1) + (-len(cast) % ALIGNED,))


CHUNK_ON_CPU = 256
"""Positions at a time: their logits stay near a CPU's cache."""
SHARE_OF_MEMORY = 16
"""The part of another device's memory that the logits of a chunk may take."""
BYTES_A_LOGIT = 20
"""Of both models, in both formats, with their gradient."""


@functools.cache
def chunk_of(device: torch.device, vocabulary: int) -> int:
    """Positions whose logits are made at a time. Of the whole memory, not of what is free, so that it never changes."""
    if device.type != "cuda":
        return CHUNK_ON_CPU
    room = torch.cuda.get_device_properties(device).total_memory // SHARE_OF_MEMORY
    return max(CHUNK_ON_CPU, min(room // BYTES_A_LOGIT, 2**31 - 1) // vocabulary)


def soft_targets(
    student: Tensor, teacher: Tensor, head: nn.Linear, teacher_head: nn.Linear, temperature: float,
    chunk: int | None = None, counts: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """T^2 * mean over positions of KL(softmax(teacher / T) || softmax(student / T)) over the vocabulary.

    Shapes: `student` [P, H_s] and `teacher` [P, H_t] are the inputs of the vocabulary projections `head` [V, H_s]
    and `teacher_head` [V, H_t]; memory is O(chunk * V), not O(P * V). Of positions that only fill up `counts` [P] is 0,
    else 1. Without a position the value is 0.
    Source: Hinton et al. 2015 (arXiv 1503.02531v1), section 2; the T^2 factor stands in DistilBERT's official code.
    """
    assert head.bias is not None and teacher_head.bias is not None, "masked-LM projections carry a bias"
    if len(student) == 0:
        return student.sum() * 0.0
    return _SoftTargets.apply(  # pyright: ignore[reportReturnType]
        student, head.weight, head.bias, teacher, teacher_head.weight, teacher_head.bias, temperature,
        chunk or chunk_of(student.device, len(head.weight)), counts,
    )  # fmt: skip
