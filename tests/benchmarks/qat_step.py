"""A training step of a Q-BERT beside one of the plain BERT: the last line is the ratio of their times.

    python tests/benchmarks/qat_step.py [ROUNDS]          a minute on one core

Both in bf16 where the hardware has it, else in fp32, as the trainer chooses; the last line says which.
A BERT of 6 layers of 384 with BERT's vocabulary, 16 rows of 128 tokens, the same loss, clipping and AdamW; 4 bits, 128
groups, embeddings and activations at 8. The two take turns in random order; the ratio is the median of the paired ones,
with its spread over the rounds.
"""

from __future__ import annotations

import random
import statistics
import sys
import time

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from bench.train.losses import supervised
from bench.train.precision import choose
from papers.qbert.quantize import Scheme
from papers.qbert.student import from_float

ROWS, LENGTH = 16, 128
SHAPE = BertConfig(
    vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
)  # fmt: skip


class Side:
    """A model with its optimiser, ready to take steps."""

    def __init__(self, model: nn.Module):
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)
        self.loss, self.precision = supervised("label"), choose("auto", torch.device("cpu"))

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        """Seconds of one optimiser step."""
        started = time.perf_counter()
        with self.precision.autocast(torch.device("cpu")):
            loss = self.loss(self.model, batch)["task"]
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - started


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    torch.manual_seed(0)
    plain = BertForSequenceClassification(SHAPE)
    scheme = Scheme(layers=(4,) * SHAPE.num_hidden_layers)
    sides = {"quantised": Side(from_float(plain, scheme)), "plain": Side(plain)}
    ids = torch.randint(5, SHAPE.vocab_size, (ROWS, LENGTH))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids),
             "labels": torch.randint(0, 2, (ROWS,))}  # fmt: skip
    for side in sides.values():
        side.step(batch)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    chance = random.Random(0)
    for _ in range(rounds):
        for name in chance.sample(list(sides), len(sides)):
            seconds[name].append(sides[name].step(batch))
    for name, values in seconds.items():
        print(f"{name:10} {statistics.median(values) * 1e3:8.1f} ms a step")
    ratios = sorted(a / b for a, b in zip(seconds["quantised"], seconds["plain"], strict=True))
    print(f"paired ratios from {ratios[0]:.3f} to {ratios[-1]:.3f} in {rounds} rounds")
    name = sides["plain"].precision.name
    print(f"quantised step over plain step, both in {name}: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
