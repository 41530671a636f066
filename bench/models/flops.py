"""FLOPs of one forward pass: counted while it runs, and by formula for a BERT-like encoder.

Two per multiply-add, matrix products and convolutions only: softmax, LayerNorm and activations are not counted, by
either way. The count is of the operations a method needs, not of the kernel that happens to run them, so attention,
LSTM and transformer layers are taken apart into plain products first.
"""

from __future__ import annotations

import copy
import inspect
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from bench.core.errors import ModelError, SpecError
from bench.models import outputs


def example_inputs(
    model: nn.Module, batch: int, length: int, vocabulary: int, device: torch.device | str, seed: int = 0
) -> dict[str, Tensor]:
    """A batch [B, L] of fixed random ids without padding, cut to what this model's forward takes.

    Ids are drawn from 1 to `vocabulary` - 1, since 0 is the padding of every BERT vocabulary.
    Raises SpecError for a shape without tokens or beyond the model's positions, ModelError for a forward without
    `input_ids`.
    """
    if batch < 1 or length < 1 or vocabulary < 2:
        raise SpecError("the shape of a batch is empty", expected="batch and length from 1, vocabulary from 2",
                        found=f"batch {batch}, length {length}, vocabulary {vocabulary}")  # fmt: skip
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if limit is not None and length > limit:
        raise SpecError("the length is beyond the model's positions", found=length, expected=f"at most {limit}",
                        fix="give a smaller --length")  # fmt: skip
    ids = torch.randint(1, vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))
    offered = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    taken = outputs.inputs(model, offered)
    if "input_ids" not in taken:
        raise ModelError("the model cannot be measured", found=f"a forward of {type(model).__name__} "
                         "without input_ids", expected="forward(input_ids, attention_mask, ...)")  # fmt: skip
    return {name: tensor.to(device) for name, tensor in taken.items()}


def count(model: nn.Module, batch: int, length: int) -> int:
    """FLOPs of one forward pass on a batch [B, L] without padding, counted by torch under eager attention.

    The model passed in stays as it is: a copy is run that shares its parameters (never its config, buffers or mode),
    on the model's own device. The meta device works too, and costs no memory.
    Raises SpecError and ModelError as `example_inputs` does.
    """
    twin = _twin(model)
    device = next((parameter.device for parameter in twin.parameters()), torch.device("cpu"))
    batch_inputs = example_inputs(twin, batch, length, 2, device)
    if device.type == "meta" and has_default(twin, "attention_mask"):
        # No mask and a full mask are the same, but transformers looks into the mask, and there is nothing in it here.
        batch_inputs.pop("attention_mask", None)
    # no_grad, not inference_mode: under the latter the counter sees fewer operations.
    with torch.no_grad(), _plain_products(), FlopCounterMode(display=False) as counter:
        twin(**batch_inputs)
    return int(counter.get_total_flops())


def _twin(model: nn.Module) -> nn.Module:
    """A copy in eval mode and eager attention whose parameters are the original's own tensors."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    twin = copy.deepcopy(model, dict(shared)).eval()
    for module in twin.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("eager")
    return twin


def has_default(model: nn.Module, name: str) -> bool:
    """Whether a model's forward can be called without this argument."""
    parameter = inspect.signature(model.forward).parameters.get(name)
    return parameter is not None and parameter.default is not inspect.Parameter.empty


_SWITCHES = threading.Lock()


@contextmanager
def _plain_products() -> Iterator[None]:
    """Inside, torch's fused kernels that the counter does not know run as the products they are made of.

    The switches are the process's: of two threads at once the later would find them off, and leave them so.
    """
    with _SWITCHES, ExitStack() as stack:
        fast_path = torch.backends.mha.get_fastpath_enabled()
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "TF32 acceleration", UserWarning)  # said of a device that is not used
        # oneDNN and cuDNN run a whole LSTM as one operation that the counter counts as nothing.
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        yield


def encoder_formula(
    layers: int, hidden: int, ffn: int, heads: int, batch: int, length: int, *, pooler: bool = True, labels: int = 0
) -> int:
    """FLOPs of a BERT-like encoder in closed form: K layers of width H and inner width F, on a batch [B, L].

    A layer has four H x H products per token, two H x F, and per pair of tokens the scores and the weighted sum, which
    are H wide over all heads together. `pooler` is one H x H product on the first token (BERT's pooler, DistilBERT's
    pre-classifier), `labels` the width C of the classifier after it (0: none).
    Raises SpecError when the heads do not divide the width.
    """
    if min(layers, hidden, ffn, heads, batch, length) < 1 or hidden % heads:
        found = f"{layers} layers, width {hidden}, ffn {ffn}, {heads} heads, batch {batch}, length {length}"
        raise SpecError("the encoder's shape is impossible", found=found,
                        expected="positive sizes, and heads that divide the width")  # fmt: skip
    tokens = batch * length
    projections = 4 * tokens * hidden * hidden
    feed_forward = 2 * tokens * hidden * ffn
    attention = 2 * tokens * length * hidden
    head = batch * hidden * (hidden * pooler + labels)
    return 2 * (layers * (projections + feed_forward + attention) + head)
