"""All layers' top eigenvalues to 1%: ours beside a power iteration per layer; the last line is the ratio.

    python tests/benchmarks/hessian_speed.py [ROUNDS]          about five minutes on one core

Two small BERTs, of 2 and 3 labels, after some fine-tuning. The reference is the textbook method: for each layer, each
step runs the model forward, takes the gradient with its graph and multiplies once. It is told the answer (whose error
is bounded by 0.01%) and stops as soon as it is within 1% of it, which no real search could know: its time is the least
that the method needs. Ours has to know by itself, and fails here if it is off by more. The last line is the median over
starts and models; above it stands what the reference takes with the released code's stop, two estimates within 1%,
and how far off it then is.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from bench.data.batches import Batch
from bench.train.losses import supervised
from papers.qbert.hessian import top_eigenvalues

SHAPE: dict[str, int] = dict(
    vocab_size=184, hidden_size=256, num_hidden_layers=6, num_attention_heads=4, intermediate_size=1024
)  # fmt: skip
ROWS, LENGTH, STEPS, WITHIN, MOST = 16, 24, 60, 0.01, 300
LOSS = supervised("label")


@dataclass
class Search:
    """One layer's power iteration: when it was right, and when it would have stopped by itself."""

    seconds: float = 0.0
    products: int = 0
    stop_seconds: float = 0.0
    stop_error: float = math.inf


def power_iteration(
    model: BertForSequenceClassification, batch: Batch, layer: int, seed: int, truth: float
) -> Search:  # fmt: skip
    """Until the eigenvalue of largest magnitude of one layer's block is right and the released stop is passed."""
    parameters = list(model.bert.encoder.layer[layer].parameters())
    generator = torch.Generator().manual_seed(seed * 1009 + layer)
    vector = torch.randn(sum(p.numel() for p in parameters), generator=generator)
    vector, value, found, started = vector / vector.norm(), 0.0, Search(), time.perf_counter()
    for step in range(1, MOST + 1):
        loss = LOSS(model, batch)["task"]
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        parts: list[Tensor] = [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters,
                                                           strict=True)]  # fmt: skip
        product = torch.cat([h.reshape(-1) for h in torch.autograd.grad(gradients, parameters, parts)])
        before, value = value, float(vector @ product)
        error, passed = abs(value / truth - 1), time.perf_counter() - started
        if error <= WITHIN and not found.products:
            found.seconds, found.products = passed, step
        if abs(value - before) <= WITHIN * abs(value) and not found.stop_seconds:
            found.stop_seconds, found.stop_error = passed, error
        if found.products and found.stop_seconds:
            return found
        vector = product / product.norm()
    raise SystemExit(f"power iteration did not find the eigenvalue of layer {layer} in {MOST} products")


def drawn(rows: int, labels: int, seed: int) -> Batch:
    """Random words, three of four from the part that belongs to the label; a tenth of the labels is drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, labels, (rows,), generator=generator)
    other = torch.randint(0, labels, (rows, LENGTH), generator=generator)
    parts = torch.where(torch.rand(rows, LENGTH, generator=generator) < 0.75, truth[:, None], other)
    ids = 4 + parts * 60 + torch.randint(0, 60, (rows, LENGTH), generator=generator)
    anew = torch.randint(0, labels, (rows,), generator=generator)
    given = torch.where(torch.rand(rows, generator=generator) < 0.1, anew, truth)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids),
            "labels": given}  # fmt: skip


def fine_tuned(labels: int) -> BertForSequenceClassification:
    """A model whose curvature is measured."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SHAPE, num_labels=labels))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    value = torch.zeros(())
    for step in range(STEPS):
        value = LOSS(model, drawn(32, labels, 1000 + step))["task"]
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"{labels} labels: fine-tuned to a loss of {value.item():.2f}")
    model.eval().set_attn_implementation("eager")
    return model


def measured(labels: int, rounds: int) -> list[float]:
    """The ratios of one model, one per start; both sides' products and errors are printed."""
    model, batch = fine_tuned(labels), drawn(ROWS, labels, 0)
    layers = range(model.config.num_hidden_layers)
    truth = {i: one.value for i, one in top_eigenvalues(model, LOSS, [batch], tolerance=1e-4, max_steps=150).items()}
    ratios, worst = [], 0.0
    for seed in range(1, rounds + 1):
        started = time.perf_counter()
        ours = top_eigenvalues(model, LOSS, [batch], tolerance=WITHIN, seed=seed)
        seconds = time.perf_counter() - started
        reference = [power_iteration(model, batch, layer, seed, truth[layer]) for layer in layers]
        least, stopped = sum(one.seconds for one in reference), sum(one.stop_seconds for one in reference)
        ratios.append(least / seconds)
        worst = max(worst, *(abs(ours[layer].value / truth[layer] - 1) for layer in layers))
        products = sum(one.steps for one in ours.values()), sum(one.products for one in reference)
        print(f"{labels} labels, start {seed}: ours {seconds:.1f} s, {products[0]} products; reference {least:.1f} s, "
              f"{products[1]} products; by its own stop {stopped:.1f} s, off by up to "
              f"{max(one.stop_error for one in reference):.1%}")  # fmt: skip
    print(f"  eigenvalues {', '.join(f'{value:.3g}' for value in truth.values())}; ours off by up to {worst:.2%}")
    if worst > WITHIN:
        raise SystemExit(f"an eigenvalue of ours is off by {worst:.2%}, more than {WITHIN:.0%}")
    return ratios


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    ratios = [ratio for labels in (2, 3) for ratio in measured(labels, rounds)]
    print(f"ratios from {min(ratios):.1f} to {max(ratios):.1f}")
    print(f"reference over ours: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
