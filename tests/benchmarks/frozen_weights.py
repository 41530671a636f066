"""Steps of distillation on a CPU with the teacher's weights rounded once, and in every pass: CPU time, and the ratio.

    python tests/benchmarks/frozen_weights.py             about 2 minutes

A BERT of 6 layers of 384 teaches TinyBERT's student in its ratios, layer by layer, on batches of 16 in bf16; the two
sides take turns in random order. Both make the same losses to the last bit, which is checked first.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from bench.data.batches import Batch
from bench.train import cpu
from bench.train.optimizer import made
from bench.train.settings import Training
from bench.train.step import move
from papers.tinybert.layers import layer_loss
from papers.tinybert.settings import Layers
from papers.tinybert.student import mapped, student_config, with_projections

ROWS = 16


class Step:
    """A student, a teacher and an optimiser; `rounded_once` is what is measured, all else is as in `fit`."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        base = BertConfig(num_hidden_layers=6, hidden_size=384, intermediate_size=1536, vocab_size=8000)
        teacher: nn.Module = BertModel(base, add_pooling_layer=False).eval().requires_grad_(False)
        config = student_config(base, 3, 312, 1200)
        self.model = with_projections(config, base.hidden_size, 2, False).train()
        self.loss = layer_loss(teacher, Layers(), mapped(config.num_hidden_layers, 6, "uniform"))
        self.training = Training()
        self.optimizer = made(self.model, self.training, torch.device("cpu"), {})
        self.parameters = list(self.model.parameters())

    def cost(self, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.stack(list(self.loss(self.model, batch).values())).sum()

    def seconds(self, batch: Batch, steps: int, once: bool) -> float:
        """CPU seconds of a step."""
        with ExitStack() as stack:
            for part in (cpu.cheap_dropout(self.model), cpu.cheap_attention(), *([cpu.rounded_once()] if once else [])):
                stack.enter_context(part)
            for number in range(steps + 1):
                if number == 1:  # the first one warms up
                    started = time.process_time()
                self.cost(batch).backward()
                move(self.optimizer, self.parameters, self.training)
                self.optimizer.zero_grad()
            return (time.process_time() - started) / steps

    def same(self, batch: Batch) -> bool:
        """Whether both sides make the same loss; dropout draws the same numbers."""
        found = []
        for once in (False, True):
            torch.manual_seed(1)
            with cpu.rounded_once() if once else ExitStack():
                found.append(float(self.cost(batch).detach()))
        return found[0] == found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 32, 64])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cpu.keep_large_blocks()
    step, chance = Step(), random.Random(0)
    ratios: list[float] = []
    for length in arguments.lengths:
        ids = torch.randint(5, 8000, (ROWS, length))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        if not step.same(batch):
            raise SystemExit(f"{length} tokens: the two sides make different losses")
        found: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(arguments.rounds):
            for once in chance.sample((False, True), 2):
                found[once].append(step.seconds(batch, arguments.steps, once))
        ratios.append(statistics.median(a / b for a, b in zip(found[False], found[True], strict=True)))
        each, once = (1000 * statistics.median(found[side]) for side in (False, True))
        print(f"{ROWS} x {length:3}: {each:6.1f} ms a step rounded in every pass, {once:6.1f} rounded once")
    print(f"speed-up: {statistics.geometric_mean(ratios):.3f}")


if __name__ == "__main__":
    main()
