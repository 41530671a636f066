"""What `fit` costs over a bare loop with the same batches, losses and optimiser.

    python tests/benchmarks/harness_overhead.py               about a minute on two cores

Rounds of the two loops take turns; the figure is the median of their paired ratios, minus one.
"""

from __future__ import annotations

import math
import random
import statistics
import time

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from bench.data.batches import Batches, Encoded
from bench.train.cpu import cheaper
from bench.train.fit import fit
from bench.train.losses import supervised
from bench.train.settings import Training

ROUNDS, ROWS = 15, 320


def data() -> Encoded:
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 2000, rng.integers(6, 40)).tolist() for _ in range(ROWS)]
    return Encoded.from_lists(rows, [[0] * len(r) for r in rows], rng.integers(0, 2, ROWS))


def fresh() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=2000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
    )
    return BertForSequenceClassification(config)


def bare(model: nn.Module, batches: Batches, training: Training) -> None:
    """The shortest loop that does the same work."""
    loss = supervised("label")
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=training.lr, fused=True)
    model.train()
    steps, step = training.epochs * math.ceil(ROWS / training.batch_size), 0
    with cheaper(model):
        for epoch in range(training.epochs):
            for position, indices in enumerate(batches.order(epoch)):
                for group in optimizer.param_groups:
                    group["lr"] = training.lr_at(step, steps)
                value = loss(model, batches.batch(epoch, position, indices))["task"]
                value.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                step += 1


def main() -> None:
    encoded, training, accelerator = data(), Training(epochs=1, batch_size=32, precision="fp32"), Accelerator()
    batches = Batches(encoded, 32, 0)
    sides = {
        "bare": lambda: bare(fresh(), batches, training),
        "fit": lambda: fit(fresh(), supervised("label"), batches, training, accelerator),
    }
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    chance = random.Random(0)
    for _ in range(ROUNDS):
        for name in chance.sample(list(sides), len(sides)):
            started = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(seconds["fit"], seconds["bare"], strict=True)]
    print(f"bare {statistics.median(seconds['bare']):.3f} s, fit {statistics.median(seconds['fit']):.3f} s per pass")
    print(f"overhead of fit: {100 * (statistics.median(ratios) - 1):.1f}%")


if __name__ == "__main__":
    main()
