"""What MobileBERT learns from its teacher, layer by layer and word by word.

Shapes: states [B, L, H] of student and teacher, log-probabilities of attention [B, A, L, L], `mask` [B, L], 1 where a
token is; every loss is a scalar, a mean over the positions of `mask`. The released code counts padding, too (D5).
Source: Sun et al. 2020, arXiv 2004.02984v2, section 3.5, and the released code, `run_pretraining.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bench.data.positions import Positions


def feature_map(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of two states, each normalised over its features, without a scale or shift (equation 1).

    Source: the normalisation, and what it adds to the variance, is that of the released code; equation 1 has none.
    """
    width = student.shape[-1:]
    ours, theirs = (functional.layer_norm(state.float(), width, eps=1e-12) for state in (student, teacher))
    return _mean((ours - theirs).square().mean(-1), mask)


def statistics(student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What the normalisation hides: squared difference of the means, absolute difference of the variances.

    Both are over the features of a position.
    """
    ours, theirs = student.float(), teacher.float()
    mean = (ours.mean(-1) - theirs.mean(-1)).square()
    variance = (ours.var(-1, correction=0) - theirs.var(-1, correction=0)).abs()
    return _mean(mean, mask), _mean(variance, mask)


def attention(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher || student) of the attention of each head and query (equation 2): heads match one to one."""
    apart = (teacher.exp() * (teacher - student)).sum(-1)
    return _mean(apart.mean(1), mask)


def words(student: Tensor, teacher: Tensor, labels: Tensor, at: Positions, hard: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy at masked positions: a share `hard` (0 to 1) against the word that stood there, the rest against
    the teacher.

    Shapes: logits [P, V], `labels` [P]; two scalars out, the hard part and the soft one.
    The teacher's part is a KL, which has the same gradient (equation 3).
    """
    of_student = student.float().log_softmax(-1)
    of_teacher = teacher.float().log_softmax(-1)
    picked = -of_student.gather(-1, labels.clamp(min=0)[:, None])[:, 0]
    apart = (of_teacher.exp() * (of_teacher - of_student)).sum(-1)
    return hard * at.mean(picked), (1 - hard) * at.mean(apart)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Of [B, L], over the positions of the mask."""
    mask = mask.to(torch.float32)
    return (values * mask).sum() / mask.sum().clamp(min=1)
