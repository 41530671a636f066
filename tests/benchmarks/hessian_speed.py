"""All layers' top eigenvalues to 1%: ours beside a power iteration per layer; the last line is the ratio.

    python tests/benchmarks/hessian_speed.py [ROUNDS]          about five minutes on one core

Two small BERTs, of 2 and 3 labels, after some fine-tuning. The reference is the textbook method: for each layer, each
step runs the model forward, takes the gradient with its graph and multiplies once; it stops when two estimates differ
by less than 0.1%, since the released code's 1% can stop too early. Both are compared with values whose error is bounded
by 0.01%. The last line is the median over starts and models.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from bench.data.batches import Batch
from bench.train.losses import supervised
from papers.qbert.hessian import top_eigenvalues

SHAPE: dict[str, int] = dict(
    vocab_size=184, hidden_size=256, num_hidden_layers=6, num_attention_heads=4, intermediate_size=1024
)  # fmt: skip
ROWS, LENGTH, STEPS, STOP, MOST = 16, 24, 60, 1e-3, 200
LOSS = supervised("label")


def power_iteration(model: BertForSequenceClassification, batch: Batch, layer: int, seed: int) -> tuple[float, int]:
    """The eigenvalue of largest magnitude of one layer's block, and the products it took."""
    parameters = list(model.bert.encoder.layer[layer].parameters())
    generator = torch.Generator().manual_seed(seed * 1009 + layer)
    vector = torch.randn(sum(p.numel() for p in parameters), generator=generator)
    vector, value = vector / vector.norm(), 0.0
    for step in range(1, MOST + 1):
        loss = LOSS(model, batch)["task"]
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        parts: list[Tensor] = [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters,
                                                           strict=True)]  # fmt: skip
        product = torch.cat([h.reshape(-1) for h in torch.autograd.grad(gradients, parameters, parts)])
        before, value = value, float(vector @ product)
        if abs(value - before) <= STOP * abs(value):
            return value, step
        vector = product / product.norm()
    return value, MOST


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
    ratios, worst = [], {"ours": 0.0, "reference": 0.0}
    for seed in range(1, rounds + 1):
        started = time.perf_counter()
        ours = top_eigenvalues(model, LOSS, [batch], seed=seed)
        middle = time.perf_counter()
        reference = {layer: power_iteration(model, batch, layer, seed) for layer in layers}
        ended = time.perf_counter()
        ratios.append((ended - middle) / (middle - started))
        products = sum(one.steps for one in ours.values()), sum(steps for _, steps in reference.values())
        print(f"{labels} labels, start {seed}: ours {middle - started:.1f} s, {products[0]} products; "
              f"reference {ended - middle:.1f} s, {products[1]} products")  # fmt: skip
        for layer in layers:
            worst["ours"] = max(worst["ours"], abs(ours[layer].value / truth[layer] - 1))
            worst["reference"] = max(worst["reference"], abs(reference[layer][0] / truth[layer] - 1))
    print(f"  eigenvalues {', '.join(f'{value:.3g}' for value in truth.values())}")
    print(f"  largest error: ours {worst['ours']:.2%}, reference {worst['reference']:.2%}")
    return ratios


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    ratios = [ratio for labels in (2, 3) for ratio in measured(labels, rounds)]
    print(f"ratios from {min(ratios):.1f} to {max(ratios):.1f}")
    print(f"reference over ours: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
