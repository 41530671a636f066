"""Q-BERT's sensitivity: the top eigenvalue of the loss's Hessian in each layer, over random parts of the data.

A layer's block takes all parameters of that layer. Products with the blocks come from a second backward pass; one
forward and one first backward pass serve all layers at once. Eval mode, fp32, eager attention and no fused LSTM,
because dropout makes a Hessian random and what is fused has no second derivative; the model is left as it was found.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.core.errors import DataError, ModelError, SpecError, TrainError
from bench.data.batches import Batch, Encoded, pad
from bench.train.settings import Settings
from bench.train.step import Loss
from papers.qbert.lanczos import Lanczos
from papers.qbert.quantize import layers as layers_of_model

LOG = logging.getLogger(__name__)


class Sensing(Settings):
    """How much data is looked at, how often, and how exactly."""

    share: float = Field(default=0.1, gt=0, le=1)
    """Share of the training rows in each subset (the paper's; the released commands take 0.01 and 0.001)."""
    most_rows: int | None = Field(default=None, ge=1)
    """At most so many rows in a subset."""
    repeats: int = Field(default=10, ge=1, le=100_000)
    """Random subsets."""
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Rows per forward pass; a subset that fits one batch is passed through the model only once."""
    tolerance: float = Field(default=0.01, gt=0, lt=1)
    """Relative error at which an eigenvalue is good enough (the released code's stop). It is estimated from
    the residual and the gap to the next value found, and the search goes on until no larger one can be hidden."""
    max_steps: int = Field(default=50, ge=1, le=1_000_000)
    """Products with a block after which the search stops anyhow."""
    landscape_points: int = Field(default=0, ge=0, le=1_000)
    """Points on each side of the picture of the loss around the most sensitive layer; 0 draws none."""
    landscape_radius: float = Field(default=0.5, gt=0)
    """How far it goes from the model, as a Euclidean distance in the layer's parameters."""


@dataclass(frozen=True, slots=True)
class TopEigenvalue:
    """The eigenvalue of largest magnitude, with its sign."""

    value: float
    residual: float
    """|H v - value v| of the unit vector v that was found."""
    steps: int
    """Products with the block that it took."""
    converged: bool


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One layer's top eigenvalues, one per subset of the data."""

    found: tuple[TopEigenvalue, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """The eigenvalue of each subset."""
        return tuple(one.value for one in self.found)

    @property
    def residuals(self) -> tuple[float, ...]:
        """Of each, relative to its eigenvalue, which is no farther than that from one of the block's."""
        return tuple(one.residual / abs(one.value) if one.value else 0.0 for one in self.found)

    @property
    def mean(self) -> float:
        """Over the subsets, signs kept."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Over the subsets, divided by their number."""
        return float(np.std(self.values))

    @property
    def omega(self) -> float:
        """|mean| + std. Source: Q-BERT, arXiv 1909.05840v2, section 3.1 (as described in notes on it)."""
        return abs(self.mean) + self.std

    @property
    def negative(self) -> int:
        """In how many subsets the eigenvalue of largest magnitude is negative."""
        return sum(value < 0 for value in self.values)


@contextmanager
def _prepared(model: nn.Module, layers: Sequence[int]) -> Iterator[dict[int, list[nn.Parameter]]]:
    """The parameters of the layers, the only ones with a gradient, in a model set up for second derivatives."""
    own = layers_of_model(model)
    if not layers or not all(0 <= layer < len(own) for layer in layers):
        raise SpecError("there is no such layer", found=list(layers), expected=f"some of 0 to {len(own) - 1}")
    other = {str(p.dtype) for p in model.parameters()} - {"torch.float32", "torch.float64"}
    if other:
        raise ModelError("curvature needs fp32 weights", found=", ".join(sorted(other)), expected="torch.float32",
                         fix="load the model in fp32")  # fmt: skip
    training = model.training
    needed = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    blocks = {layer: list(own[layer].parameters()) for layer in layers}
    with _unfused(model):
        try:
            model.eval().requires_grad_(False)
            for parameters in blocks.values():
                for parameter in parameters:
                    parameter.requires_grad_(True)
            with torch.enable_grad():
                yield blocks
        finally:
            model.train(training)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(needed[name])


@contextmanager
def _unfused(model: nn.Module) -> Iterator[None]:
    """Inside, the model runs operations that have a second derivative: neither fused attention nor fused LSTMs."""
    encoders = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    attention = [encoder.config._attn_implementation for encoder in encoders]
    with ExitStack() as stack:
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "TF32 acceleration", UserWarning)  # said of a device that is not used
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        try:
            for encoder in encoders:
                encoder.config._attn_implementation = "eager"
            yield
        finally:
            for encoder, before in zip(encoders, attention, strict=True):
                encoder.config._attn_implementation = before


class BlockProducts:
    """Products of the Hessian's diagonal blocks with vectors; the loss is the mean over the rows of all batches.

    Raises: DataError without batches; when it is called, TrainError for a loss that is not finite.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, batches: Sequence[Batch], blocks: Mapping[int, list[nn.Parameter]]
    ):
        if not batches:
            raise DataError("there are no rows to measure curvature on", expected="at least one batch")
        self.model, self.loss, self.batches, self.blocks = model, loss, batches, blocks
        self.rows = sum(len(batch["input_ids"]) for batch in batches)
        self._only: dict[int, tuple[Tensor, ...]] = {}

    def __call__(self, vectors: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Layer -> H v, flat like v, for each layer that a vector is given for; not the same layers in every call."""
        if strange := sorted(vectors.keys() - self.blocks.keys()):
            raise SpecError("there is no block of this layer", found=strange, expected=f"some of {list(self.blocks)}")
        out = {layer: torch.zeros_like(vector) for layer, vector in vectors.items()}
        for batch in self.batches:
            gradients = self._gradients(batch, sorted(vectors))
            for layer, vector in vectors.items():
                parameters = self.blocks[layer]
                # H v is the gradient of (gradient . v); the graph stays, for the other layers and the next product.
                parts = [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters,
                                                      strict=True)]  # fmt: skip
                products = torch.autograd.grad(gradients[layer], parameters, parts, retain_graph=True,
                                               materialize_grads=True)  # fmt: skip
                out[layer] += torch.cat([product.reshape(-1) for product in products])
        return out

    def _gradients(self, batch: Batch, layers: Sequence[int]) -> dict[int, tuple[Tensor, ...]]:
        """The share of a batch in the gradient of each layer, with its graph, which is kept when it is the only one."""
        layers = [layer for layer in layers if layer not in self._only]
        if not layers:
            return self._only
        terms = self.loss(self.model, batch)
        loss = torch.stack(list(terms.values())).sum() * (len(batch["input_ids"]) / self.rows)
        if not bool(torch.isfinite(loss)):
            raise TrainError("the loss is not finite where its curvature is measured", found=loss.item(),
                             expected="a number", fix="check the model that the sensitivity starts from")  # fmt: skip
        parameters = [parameter for layer in layers for parameter in self.blocks[layer]]
        flat = iter(torch.autograd.grad(loss, parameters, create_graph=True))
        gradients = {layer: tuple(next(flat) for _ in self.blocks[layer]) for layer in layers}
        if len(self.batches) > 1:
            return gradients
        self._only |= gradients
        return self._only


def top_eigenvalues(
    model: nn.Module, loss: Loss, batches: Sequence[Batch], *, tolerance: float = 0.01,
    max_steps: int = 50, seed: int = 0, layers: Sequence[int] | None = None,
) -> dict[int, TopEigenvalue]:  # fmt: skip
    """Layer -> the eigenvalue of largest magnitude of its block of the Hessian of the mean loss over all rows.

    All layers search at once, each by Lanczos (D7) from its own random start; a layer that has converged drops out.
    Raises: SpecError for a layer that is not there, DataError without batches, ModelError for weights below fp32,
    TrainError for a loss that is not finite.
    """
    layers = range(len(layers_of_model(model))) if layers is None else layers
    out: dict[int, TopEigenvalue] = {}
    with _prepared(model, layers) as blocks:
        products = BlockProducts(model, loss, batches, blocks)
        searches = {layer: Lanczos(_start(blocks[layer], seed, layer)) for layer in layers}
        for step in range(1, max_steps + 1):
            for layer, product in products({layer: one.vector for layer, one in searches.items()}).items():
                search = searches[layer]
                search.advance(product)
                done = search.found(1, tolerance)
                values, residuals, _, _ = search.ritz()
                if done or step == max_steps:
                    out[layer] = TopEigenvalue(float(values[0]), float(residuals[0]), step, done)
                    del searches[layer]
            if not searches:
                break
    return dict(sorted(out.items()))


def _start(parameters: Sequence[nn.Parameter], seed: int, layer: int) -> Tensor:
    """A Gaussian vector, the same on every device."""
    generator = torch.Generator().manual_seed(seed * 1009 + layer)
    size = sum(parameter.numel() for parameter in parameters)
    return torch.randn(size, generator=generator).to(parameters[0])


def sensitivity(
    model: nn.Module, loss: Loss, rows: Encoded, sensing: Sensing, seed: int = 0
) -> tuple[Sensitivity, ...]:
    """Each layer's top eigenvalues over `repeats` random subsets of the rows; their `omega` is the sensitivity.

    Raises: ModelError and TrainError as `top_eigenvalues` does.
    """
    device = next(model.parameters()).device
    found: dict[int, list[TopEigenvalue]] = {}
    for repeat in range(sensing.repeats):
        batches = subset_batches(rows, sensing, device, seed, repeat)
        values = top_eigenvalues(model, loss, batches, tolerance=sensing.tolerance, max_steps=sensing.max_steps,
                                 seed=seed + repeat)  # fmt: skip
        for layer, one in values.items():
            found.setdefault(layer, []).append(one)
            LOG.info("repeat=%d layer=%d eigenvalue=%.4g sign=%s residual=%.2g products=%d converged=%s", repeat, layer,
                     one.value, "-" if one.value < 0 else "+", one.residual, one.steps, one.converged)  # fmt: skip
    out = tuple(Sensitivity(tuple(found[layer])) for layer in sorted(found))
    early = sum(not one.converged for layer in out for one in layer.found)
    if early:
        LOG.warning("%d of %d eigenvalues are not within %g after %d products, relative residuals up to %.2g; "
                    "next: raise sensing.max_steps", early, len(out) * sensing.repeats, sensing.tolerance,
                    sensing.max_steps, max(value for layer in out for value in layer.residuals))  # fmt: skip
    return out


def subset_batches(rows: Encoded, sensing: Sensing, device: torch.device, seed: int, repeat: int) -> list[Batch]:
    """The padded batches of one random subset."""
    return [
        {name: tensor.to(device) for name, tensor in pad(rows, chosen).items()}
        for chosen in subset(rows, sensing, seed, repeat)
    ]


def subset(rows: Encoded, sensing: Sensing, seed: int, repeat: int) -> list[np.ndarray]:
    """The rows of one subset, drawn without replacement, in batches of rows of similar length."""
    count = max(1, round(sensing.share * len(rows)))
    count = count if sensing.most_rows is None else min(count, sensing.most_rows)
    chosen = np.random.default_rng([seed, repeat]).choice(len(rows), count, replace=False)
    chosen = chosen[np.argsort(-rows.lengths[chosen], kind="stable")]
    return [chosen[start : start + sensing.batch_size] for start in range(0, count, sensing.batch_size)]


def top_vectors(
    model: nn.Module, loss: Loss, batches: Sequence[Batch], layer: int, *, count: int = 2,
    tolerance: float = 0.01, max_steps: int = 50, seed: int = 0,
) -> tuple[np.ndarray, Tensor]:  # fmt: skip
    """The `count` eigenvalues of largest magnitude of a layer's block, and their unit vectors [count, parameters].

    Holds one vector of the block's size per product. Raises: SpecError when the block or `max_steps` allow fewer
    vectors than that; else as `top_eigenvalues`.
    """
    with _prepared(model, [layer]) as blocks:
        products = BlockProducts(model, loss, batches, blocks)
        search = Lanczos(_start(blocks[layer], seed, layer), keep=True)
        for _ in range(max_steps):
            search.advance(products({layer: search.vector})[layer])
            if search.found(count, tolerance):
                break
        else:
            LOG.warning("layer %d: %d eigenvectors are not within %g after %d products; next: raise sensing.max_steps",
                        layer, count, tolerance, max_steps)  # fmt: skip
        values, _, _, inner = search.ritz()
        if len(values) < count or search.basis is None:
            raise SpecError("the search ended with too few eigenvectors", found=len(values), expected=count,
                            fix="allow more steps")  # fmt: skip
        basis = torch.stack(search.basis[: len(values)])
        vectors = torch.as_tensor(inner[:, :count].T.copy(), dtype=basis.dtype, device=basis.device) @ basis
        return values[:count], vectors / vectors.norm(dim=1, keepdim=True)


@dataclass(frozen=True, slots=True)
class Landscape:
    """The loss around a model: `loss[i, j]` at `steps[i]` along the first and `steps[j]` along the second direction."""

    steps: np.ndarray
    """[points]: Euclidean distances from the model, in the space of the layer's parameters."""
    loss: np.ndarray
    """[points, points]"""


def landscape(
    model: nn.Module, loss: Loss, batches: Sequence[Batch], layer: int, directions: Tensor, *,
    radius: float = 0.5, points: int = 21,
) -> Landscape:  # fmt: skip
    """The mean loss over all rows on a square grid around one layer's parameters; the model is left as it was.

    Shapes: `directions` [2, parameters of the layer], as `top_vectors` gives them.
    Raises: SpecError for fewer than 2 points, a radius that is no length, or directions of another size.
    """
    parameters = list(layers_of_model(model)[layer].parameters())
    sizes = [parameter.numel() for parameter in parameters]
    if points < 2 or not (radius > 0 and math.isfinite(radius)) or directions.shape != (2, sum(sizes)):
        raise SpecError(
            "no landscape can be drawn",
            found=f"{points} points, radius {radius}, directions {list(directions.shape)}",
            expected=f"2 points or more, and directions [2, {sum(sizes)}]",
        )
    kept = [parameter.detach().clone() for parameter in parameters]
    parts = [direction.split(sizes) for direction in directions]
    steps, total = np.linspace(-radius, radius, points), sum(len(batch["input_ids"]) for batch in batches)
    out, training = np.zeros((points, points)), model.training
    try:
        model.eval()
        with torch.no_grad():
            for i, j in np.ndindex(points, points):
                for parameter, start, first, second in zip(parameters, kept, *parts, strict=True):
                    shift = float(steps[i]) * first + float(steps[j]) * second
                    parameter.copy_(start + shift.view_as(parameter))
                out[i, j] = sum(_value(model, loss, batch) * len(batch["input_ids"]) for batch in batches) / total
    finally:
        with torch.no_grad():
            for parameter, start in zip(parameters, kept, strict=True):
                parameter.copy_(start)
        model.train(training)
    return Landscape(steps, out)


def _value(model: nn.Module, loss: Loss, batch: Batch) -> float:
    return sum(float(term) for term in loss(model, batch).values())
