"""Post-training quantisation: weights in 8 bits, arithmetic in floats, as TensorFlow Lite's default has it.

Source: Sun et al. 2020, arXiv 2004.02984v2, section 4.6.3, and the released code's converter call: no data is seen and
nothing is trained. A matrix has a symmetric range per output, a table one per row (D12); vectors stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models.load import register
from papers.mobilebert.heads import MobileBertClassifier, MobileBertEncoder, MobileBertForSpans
from papers.mobilebert.student import Architecture

LARGEST = 127
"""Of a code: the range is narrow, without -128, so that it is symmetric."""


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, int8, and the step of each row, fp32: weight ~ codes * step. [R, C] -> [R, C], [R, 1]"""
    step = (weight.abs().amax(1, keepdim=True) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    return (weight / step).round().to(torch.int8), step


class Rounded(nn.Module):
    """A matrix or table that is kept as codes and steps; `weight` is what it stands for."""

    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.codes = nn.Parameter(torch.zeros(rows, columns, dtype=torch.int8), requires_grad=False)
        self.register_buffer("step", torch.ones(rows, 1))
        self.step: Tensor

    def take(self, weight: Tensor) -> None:
        """Keep these weights."""
        codes, step = rounded(weight.detach().float())
        self.codes.copy_(codes)
        self.step.copy_(step)

    @property
    def weight(self) -> Tensor:
        return self.codes * self.step


class RoundedLinear(Rounded):
    """A dense layer. Shapes: [..., inputs] -> [..., outputs]."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(outputs, inputs)
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.weight, self.bias)


class RoundedTable(Rounded):
    """An embedding. Shapes: ids [...] -> [..., width]."""

    is_table = True

    def forward(self, ids: Tensor) -> Tensor:
        return self.codes[ids] * self.step[ids]


def _round_inside(model: nn.Module) -> None:
    """Put codes, still without values, in the place of every dense layer and table."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, RoundedLinear(child.in_features, child.out_features))
            elif isinstance(child, nn.Embedding):
                setattr(module, name, RoundedTable(child.num_embeddings, child.embedding_dim))


@register
class RoundedClassifier(MobileBertClassifier):
    """MobileBERT with a classifier, its weights in 8 bits."""

    def __init__(self, config: Architecture):
        super().__init__(config)
        _round_inside(self)


@register
class RoundedForSpans(MobileBertForSpans):
    """The same for spans."""

    def __init__(self, config: Architecture):
        super().__init__(config)
        _round_inside(self)


_CLASSES: dict[type[MobileBertEncoder], type[RoundedClassifier | RoundedForSpans]] = {
    MobileBertClassifier: RoundedClassifier,
    MobileBertForSpans: RoundedForSpans,
}


@torch.no_grad()
def quantised(model: MobileBertEncoder) -> RoundedClassifier | RoundedForSpans:
    """The model with weights in 8 bits."""
    found, given = _CLASSES[type(model)](model.config), dict(model.named_modules())
    for name, module in found.named_modules():
        theirs = given.get(name)
        if isinstance(module, Rounded):
            assert isinstance(theirs, nn.Linear | nn.Embedding)
            module.take(theirs.weight)
            if isinstance(module, RoundedLinear):
                assert isinstance(theirs, nn.Linear)
                module.bias.copy_(theirs.bias)
        elif theirs is not None:
            for own, other in zip(module.parameters(recurse=False), theirs.parameters(recurse=False), strict=True):
                own.copy_(other)
    return found.eval()
