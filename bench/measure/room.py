"""Whether a batch fits in memory, asked of the architecture before any process starts.

A process that takes more than there is is ended by the system, and others with it. Nothing is allocated here: the
module is built on torch's meta device, and one example passes through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bench.core import environment
from bench.core.errors import DeviceError
from bench.models import outputs
from bench.models.flops import has_default
from bench.models.shape import Key, Shape

TOKEN_BYTES = 2**18
"""More than a token takes in any encoder of BERT's size (BERT-large: 80 kB)."""

BESIDE = 2
"""What lives beside the largest layer's input and output, as a multiple of them (ours: residuals, an activation)."""


def check(shapes: Mapping[Key, Shape], batches: Sequence[int], length: int) -> None:
    """Raises DeviceError for a batch beyond free memory."""
    free = free_bytes()
    if max(batches) * length * TOKEN_BYTES <= free:
        return  # no model is that large, and each is looked at for a quarter of a second
    for (_, variant), shape in shapes.items():
        if shape.build is None:
            continue
        with torch.device("meta"):
            model = shape.build().eval()
        each = example_bytes(model, length)
        needed = each * max(batches)
        if needed > free:
            raise DeviceError("the batch does not fit in memory", where=f"{variant}, --batch {max(batches)}",
                              found=f"{free / 2**30:.1f} GiB free", expected=f"about {needed / 2**30:.1f} GiB",
                              fix=f"--batch {max(1, free // each)} or less")  # fmt: skip


def example_bytes(model: nn.Module, length: int) -> int:
    """About what one example of a batch takes in a forward pass of a model on the meta device, in bytes."""
    largest = 0

    def seen(_: nn.Module, inputs: tuple, output: object) -> None:
        nonlocal largest
        largest = max(largest, sum(map(_bytes, (*inputs, output))))

    leaves = [module for module in model.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(seen) for module in leaves]
    ids = torch.ones((1, length), dtype=torch.long, device="meta")
    offered = {"input_ids": ids, "token_type_ids": ids}
    if not has_default(model, "attention_mask"):  # where it is left out, all counts; nobody can look into one of meta
        offered["attention_mask"] = ids
    try:
        with torch.inference_mode():
            model(**outputs.inputs(model, offered))
    finally:
        for hook in hooks:
            hook.remove()
    return BESIDE * largest + 3 * _bytes(ids)


def free_bytes() -> int:
    """Memory that is free where models run: the GPU's, else this machine's or its container's."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return environment.free_bytes()


def _bytes(held: object) -> int:
    """Of a tensor, or of all tensors in a list or tuple."""
    if isinstance(held, Tensor):
        return held.numel() * held.element_size()
    return sum(map(_bytes, held)) if isinstance(held, list | tuple) else 0
