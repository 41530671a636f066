"""Training on cached teacher logits against plain fine-tuning: examples per second of the same model and rows.

    python tests/benchmarks/cached_logits.py             about 2 minutes on two cores

Both go through `fit`; one takes labels, the other the teacher's logits from a memory-mapped file. The sides take turns
in random order. Making the logits is one pass of the teacher and is printed by itself.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from bench.data.batches import Batch, Batches, Encoded, WithLogits
from bench.models.outputs import forward
from bench.train.fit import fit
from bench.train.losses import soft_cross_entropy, supervised
from bench.train.predict import predict
from bench.train.settings import Training
from papers.tinybert.student import student_config

TRAINING = Training(epochs=1, batch_size=32, lr=3e-5)


def data(rows: int) -> Encoded:
    rng = np.random.default_rng(0)
    texts = [rng.integers(5, 30000, rng.integers(8, 48)).tolist() for _ in range(rows)]
    return Encoded.from_lists(texts, [[0] * len(text) for text in texts], rng.integers(0, 2, rows))


def soft(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    return {"prediction": soft_cross_entropy(forward(model, batch).logits, batch["teacher_logits"], 1.0).mean()}


def seconds(batches: Batches, loss, config: BertConfig, accelerator: Accelerator) -> float:
    torch.manual_seed(0)
    return fit(BertForSequenceClassification(config), loss, batches, TRAINING, accelerator).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    base = BertConfig(num_hidden_layers=6, hidden_size=384, intermediate_size=1536)
    student, rows, accelerator = student_config(base, 3, 312, 1200), data(arguments.rows), Accelerator(cpu=True)
    started = time.perf_counter()
    answers = predict(BertForSequenceClassification(base), rows, accelerator)
    print(f"making the logits of {len(rows)} rows: {time.perf_counter() - started:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "logits.npy", answers)
        mapped = np.load(Path(folder) / "logits.npy", mmap_mode="r")
        sides = {
            "labels": (Batches(rows, 32, 0), supervised("label")),
            "logits": (Batches(rows, 32, 0, transform=WithLogits(mapped)), soft),
        }
        found: dict[str, list[float]] = {name: [] for name in sides}
        seconds(*sides["labels"], student, accelerator)  # warm-up
        chance = random.Random(0)
        for _ in range(arguments.rounds):
            for name in chance.sample(list(sides), len(sides)):
                found[name].append(seconds(*sides[name], student, accelerator))
    for name, values in found.items():
        print(f"{name:6} {len(rows) / statistics.median(values):8.1f} examples/s")
    ratio = statistics.median(a / b for a, b in zip(found["labels"], found["logits"], strict=True))
    print(f"throughput on cached logits / plain fine-tuning: {ratio:.3f}")


if __name__ == "__main__":
    main()
