"""Q-BERT's quantiser of a whole model: weights, embeddings and activations that are rounded while it trains.

It takes any model whose parts it can name: an encoder of layers (BERT, DistilBERT), or LSTMs, convolutions and hidden
linear layers (D12). The modules here keep the names of the plain model's parameters, so its weights load into them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bench.core.errors import ModelError, SpecError
from bench.models.attention import layers_of
from papers.qbert.rounding import MovingRange, Rounding, rounded
from papers.qbert.scheme import FLOAT_BITS, TABLES, Scheme

Model = TypeVar("Model", bound=nn.Module)

ROUNDED_OUTPUTS = ("query", "key", "value", "intermediate.dense", "q_lin", "k_lin", "v_lin", "lin1")
"""How the names of those matrices of an encoder's layer end whose outputs are rounded, in BERT and DistilBERT: those
that the released code rounds; it passes over modules named output."""
RANGES = (".output.low", ".output.high")
"""How the only new entries of a quantised model's state end: the ranges of activations."""


class QuantizedLinear(nn.Linear):
    """A linear layer whose weight, and output where asked, is rounded at each use; it takes over the parameters.

    Shapes: as nn.Linear, weight [outputs, inputs].
    """

    def __init__(self, linear: nn.Linear, rounding: Rounding, output: MovingRange | None):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.roundings, self.output = {"weight": rounding.fitted(linear.weight)}, output

    def forward(self, input: Tensor) -> Tensor:
        out = F.linear(input, self.roundings["weight"](self.weight), self.bias)
        return out if self.output is None else self.output(out)


class QuantizedConv1d(nn.Conv1d):
    """A convolution whose weight, and output where asked, is rounded at each use; it takes over the parameters.

    Shapes: as nn.Conv1d, weight [filters, inputs, width]: a matrix of one row per filter.
    """

    def __init__(self, conv: nn.Conv1d, rounding: Rounding, output: MovingRange | None):
        how: Any = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
        super().__init__(conv.in_channels, conv.out_channels, *how, bias=conv.bias is not None,
                         padding_mode=conv.padding_mode, device="meta")  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.roundings, self.output = {"weight": rounding.fitted(conv.weight)}, output

    def forward(self, input: Tensor) -> Tensor:
        out = self._conv_forward(input, self.roundings["weight"](self.weight), self.bias)
        return out if self.output is None else self.output(out)


class QuantizedLSTM(nn.LSTM):
    """An LSTM whose weights, and output where asked, are rounded at each use; it takes over the parameters.

    Rounded are the weights of all its levels, directions and gates, each by groups of its own rows; of its outputs
    the last level's. Shapes: as nn.LSTM, packed sequences too; a weight is [4 * hidden, inputs].
    """

    def __init__(self, lstm: nn.LSTM, rounding: Rounding, output: MovingRange | None):
        dropout = lstm.dropout if lstm.num_layers > 1 else 0.0
        super().__init__(lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.bias, lstm.batch_first, dropout,
                         lstm.bidirectional, lstm.proj_size, device="meta")  # fmt: skip
        for name, parameter in lstm.named_parameters():
            setattr(self, name, parameter)
        self.roundings = {name: rounding.fitted(weight) for name, weight in lstm.named_parameters()
                          if name.startswith("weight")}  # fmt: skip
        self.output = output

    def forward(self, input: Any, hx: Any = None) -> Any:
        # torch runs the tensors of this list: for this pass they are the rounded ones. It first fills it anew where
        # parameters were replaced, which has to happen before and not after.
        self._update_flat_weights()
        own = self._flat_weights
        self._flat_weights = [self.roundings[name](weight) if name in self.roundings else weight
                              for name, weight in zip(self._flat_weights_names, own, strict=True)]  # fmt: skip
        try:
            out, state = super().forward(input, hx)
        finally:
            self._flat_weights = own
        if self.output is not None:
            out = out._replace(data=self.output(out.data)) if isinstance(out, PackedSequence) else self.output(out)
        return out, state


class QuantizedEmbedding(nn.Embedding):
    """A table whose rows are rounded as they are looked up; the ranges are those of the whole table (D4).

    Shapes: ids [B, L] -> [B, L, H].
    """

    def __init__(self, table: nn.Embedding, rounding: Rounding):
        super().__init__(table.num_embeddings, table.embedding_dim, table.padding_idx, device="meta")
        self.weight, self.roundings = table.weight, {"weight": rounding.fitted(table.weight)}

    def forward(self, input: Tensor) -> Tensor:
        rows, rounding = super().forward(input), self.roundings["weight"]
        if rounding.bits == FLOAT_BITS:
            return rows
        return rounded(rounding.grouped(rows), rounding.grid_of(self.weight), rounding.clamped).view(rows.shape)


Quantized = QuantizedLinear | QuantizedConv1d | QuantizedLSTM | QuantizedEmbedding
Matrices = nn.Linear | nn.Conv1d | nn.LSTM
"""Modules with weights that are rounded by rows."""
QUANTIZED: dict[type[nn.Module], Callable[[Any, Rounding, MovingRange | None], nn.Module]] = {
    nn.Linear: QuantizedLinear, nn.Conv1d: QuantizedConv1d, nn.LSTM: QuantizedLSTM,
}  # fmt: skip


def layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a model, each with bits of its own: its encoder's, or, where there is none, each LSTM, convolution
    and linear layer in the order of the module tree, without the last linear one, which is the classifier (D12).

    Raises: ModelError where there is nothing of the kind.
    """
    try:
        return list(layers_of(model))
    except ModelError:
        found: list[nn.Module] = [module for module in model.modules() if isinstance(module, Matrices)]
    last = [module for module in found if isinstance(module, nn.Linear)][-1:]
    found = [module for module in found if module not in last]
    if not found:
        raise ModelError("the model has no layers to quantise", found=type(model).__name__,
                         expected="an encoder, an LSTM, a convolution or a hidden linear layer")  # fmt: skip
    return found


def tables(model: nn.Module) -> Iterator[tuple[str, str, nn.Embedding]]:
    """The embedding tables: name of each, the field of the scheme that holds its bits, and the table itself."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            last = name.rpartition(".")[2]
            yield name, next((table for table in TABLES if last.startswith(table)), "word"), module


def _matrices(model: nn.Module) -> Iterator[tuple[int, str, nn.Module, bool]]:
    """(layer, name, module, whether its output is rounded) of each module whose weights are rounded by rows."""
    names = {module: name for name, module in model.named_modules()}
    for place, layer in enumerate(layers(model)):
        for inner, module in layer.named_modules():
            if isinstance(module, Matrices):
                name = f"{names[layer]}.{inner}" if inner else names[layer]
                yield place, name, module, not inner or inner.endswith(ROUNDED_OUTPUTS)


def quantize(model: Model, scheme: Scheme) -> Model:
    """Make a model round its weights, embeddings and activations from now on, in place; returns the same model.

    Biases, LayerNorms, pooler and task head stay as they are. Parameters keep their names; the only new entries of
    the state are the ranges of activations.
    Raises: ModelError for a model that is quantised already or has nothing to quantise; SpecError when the scheme has
    another number of layers. Then the model is as it was.
    """
    count = len(layers(model))
    if count != len(scheme.layers):
        raise SpecError("the bits do not fit the model", found=f"bits of {len(scheme.layers)} layers",
                        expected=f"{count} layers")  # fmt: skip
    tail = scheme.tail if scheme.range == "percentile" else None
    identity = scheme.gradient == "identity"
    new: dict[str, nn.Module] = {}
    for place, name, module, seen in _matrices(model):
        _check_plain(module, name, *QUANTIZED)
        rounding = Rounding(scheme.layers[place], scheme.groups, scheme.axis, scheme.zero, tail, identity)
        output = None
        if seen and scheme.activations != FLOAT_BITS:
            output = MovingRange(scheme.activations, scheme.momentum, scheme.zero, identity)
            output.to(next(module.parameters()).device)
        new[name] = QUANTIZED[type(module)](module, rounding, output).train(module.training)
    for name, table, module in tables(model):
        _check_plain(module, name, nn.Embedding)
        rounding = Rounding(getattr(scheme, table), scheme.embedding_groups, "input", scheme.zero, tail, identity)
        new[name] = QuantizedEmbedding(module, rounding).train(module.training)
    for name, module in new.items():  # only now, when nothing can fail any more
        model.set_submodule(name, module, strict=True)
    return model


def _check_plain(module: nn.Module, name: str, *kinds: type[nn.Module]) -> None:
    if type(module) not in kinds:
        raise ModelError("the model cannot be quantised", where=name, found=type(module).__name__,
                         expected=f"a plain {' or '.join(kind.__name__ for kind in kinds)}",
                         fix="start from the model in floats")  # fmt: skip


def quantized_weights(model: nn.Module) -> dict[str, tuple[Tensor, Rounding]]:
    """The rounded weights of a model by the name of their parameter; those at 32 bits are not among them."""
    return {
        f"{name}.{weight}".removeprefix("."): (getattr(module, weight), rounding)
        for name, module in model.named_modules()
        if isinstance(module, Quantized)
        for weight, rounding in module.roundings.items()
        if rounding.bits != FLOAT_BITS
    }
