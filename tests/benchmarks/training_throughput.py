"""fit against a stock transformers.Trainer and a loop by hand: examples per second, and the ratios.

    python tests/benchmarks/training_throughput.py --teacher FOLDER --data FOLDER      about 10 minutes on two cores

Same model, rows, batch size, epochs and precision; the sides take turns in random order within each round. The loop by
hand takes the same steps over the same batches and does nothing else: what fit costs beyond it is the harness. With
--score both sides also fine-tune from scratch over several seeds, and their dev scores are compared.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from torch import nn
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

from bench.data.batches import Batches, encode
from bench.data.metrics import compute
from bench.data.sources import open_source
from bench.data.tasks import get_task
from bench.models import load
from bench.models.device import native_bf16
from bench.train import cpu, words
from bench.train.fit import fit
from bench.train.losses import supervised
from bench.train.optimizer import made
from bench.train.predict import answers, predict
from bench.train.settings import Training
from bench.train.step import clip_gradients, move

BATCH = 32


class Sides:
    """The same work: by `fit`, by a loop by hand and by the stock trainer."""

    def __init__(self, arguments: argparse.Namespace):
        self.folder, self.epochs, self.lr = Path(arguments.teacher), arguments.epochs, 1e-4
        self.training = Training(epochs=self.epochs, batch_size=BATCH, lr=self.lr, warmup=0.1)
        self.task = get_task("sst2")
        self.tokenizer = load.tokenizer(self.folder)
        source = open_source(arguments.data)
        self.rows = source.rows(self.task, "train").take(arguments.rows)
        self.train = encode(self.rows, self.tokenizer, 128)
        self.dev = encode(source.rows(self.task, "validation"), self.tokenizer, 128)
        self.accelerator = Accelerator()
        self.bf16 = native_bf16(self.accelerator.device)

    def model(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return AutoModelForSequenceClassification.from_pretrained(self.folder, num_labels=2, dtype=torch.float32)

    def ours(self, model: nn.Module, seed: int) -> None:
        fit(model, supervised("label"), Batches(self.train, BATCH, seed), self.training, self.accelerator)

    def by_hand(self, model: nn.Module, seed: int, without: str = "") -> None:
        """The bare steps; `without` one of what makes them cheaper: words, dropout, attention, clipping, memory."""
        with_memory(without != "memory")
        batches, loss = Batches(self.train, BATCH, seed), supervised("label")
        parts = {
            "words": words.only_those_of(batches, model, self.training),
            "dropout": cpu.cheap_dropout(model),
            "attention": cpu.cheap_attention(),
        }
        with ExitStack() as stack:
            for name, part in parts.items():
                if name != without:
                    stack.enter_context(part)
            optimizer = made(model, self.training, self.accelerator.device, {})
            parameters = list(model.parameters())
            model.train()
            for epoch in range(self.epochs):
                for place, rows in enumerate(batches.order(epoch)):
                    with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                        total = sum(loss(model, batches.batch(epoch, place, rows)).values(), torch.zeros(()))
                    total.backward()
                    if without == "clipping":
                        clip_gradients(parameters, self.training)
                        optimizer.step()
                    else:
                        move(optimizer, parameters, self.training)
                    optimizer.zero_grad()
        with_memory(True)

    def stock(self, model: nn.Module, seed: int, grouped: bool) -> None:
        """transformers.Trainer with its usual collator, memory as it finds it; `grouped` takes rows of like length."""
        with_memory(False)
        features = self.tokenizer(*self.rows.columns, truncation=True, max_length=128)  # pyright: ignore
        rows = [
            {**{k: v[i] for k, v in features.items()}, "labels": int(self.rows.labels[i])}
            for i in range(len(self.rows))
        ]
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, per_device_train_batch_size=BATCH, num_train_epochs=self.epochs, learning_rate=self.lr,
                seed=seed, warmup_steps=0.1, weight_decay=0.01, bf16=self.bf16, report_to=[],
                use_cpu=self.accelerator.device.type == "cpu",
                save_strategy="no", logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
                train_sampling_strategy="group_by_length" if grouped else "random",
            )  # fmt: skip
            Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(self.tokenizer)).train()  # pyright: ignore
        with_memory(True)

    def score(self, model: nn.Module) -> float:
        logits = predict(model, self.dev, self.accelerator)
        return compute(self.task, answers(self.task, logits), self.dev.labels)["accuracy"] or 0.0


def with_memory(kept: bool) -> None:
    """Whether glibc keeps freed blocks, as in `cpu.keep_large_blocks`, or has the values that it starts with."""
    if kept:
        cpu.keep_large_blocks()
    else:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(cpu.MMAP_MAX, 65536)
        libc.mallopt(cpu.TRIM_THRESHOLD, 128 * 1024)
        libc.malloc_trim(0)


def timed(run: Callable[[nn.Module, int], None], model: nn.Module, seed: int) -> float:
    started = time.perf_counter()
    run(model, seed)
    return time.perf_counter() - started


def matmul_rate(device: torch.device, size: int = 1024, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations per second of a matmul, the best of a few."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, default=1600, help="few rows cannot be sorted into batches of one length")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", help="some of them, by the names that are printed; fit is always timed")
    parser.add_argument("--score", type=int, default=0, help="seeds for the comparison of dev scores")
    return parser.parse_args()


def main() -> None:
    arguments = asked()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sides = Sides(arguments)
    runs = {
        "fit": sides.ours,
        "by hand": sides.by_hand,
        "by hand, all words": lambda model, seed: sides.by_hand(model, seed, "words"),
        "by hand, torch's dropout": lambda model, seed: sides.by_hand(model, seed, "dropout"),
        "by hand, torch's attention": lambda model, seed: sides.by_hand(model, seed, "attention"),
        "by hand, clipped apart": lambda model, seed: sides.by_hand(model, seed, "clipping"),
        "by hand, memory given back": lambda model, seed: sides.by_hand(model, seed, "memory"),
        "trainer, rows of like length": lambda model, seed: sides.stock(model, seed, grouped=True),
        "trainer, dynamic padding": lambda model, seed: sides.stock(model, seed, grouped=False),
    }
    if arguments.sides:
        runs = {name: run for name, run in runs.items() if name == "fit" or name in arguments.sides}
    sides.ours(sides.model(0), 0)  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    chance = random.Random(0)
    for number in range(arguments.rounds):
        for name in chance.sample(list(runs), len(runs)):
            seconds[name].append(timed(runs[name], sides.model(number), number))
    examples = len(sides.train) * arguments.epochs
    print(f"rows {len(sides.train)}, epochs {arguments.epochs}, batch {BATCH}, bf16 native: {sides.bf16}")
    for name, values in seconds.items():
        print(f"{name:30} {examples / statistics.median(values):8.1f} examples/s")
    batches = Batches(sides.train, BATCH, 0)
    tokens = sum(batches.batch(0, place, rows)["input_ids"].numel() for place, rows in enumerate(batches.order(0)))
    print(f"fit computes {tokens / len(sides.train):.1f} tokens an example, padding included")
    weights = sum(p.numel() for n, p in sides.model(0).named_parameters() if "embeddings" not in n)
    operations = 6 * weights * int(sides.train.offsets[-1]) * arguments.epochs
    rate = operations / statistics.median(seconds["fit"])
    print(f"fit uses {rate / matmul_rate(sides.accelerator.device):.2f} of the machine's fp32 matmul rate")
    if arguments.score:
        scores = {name: [] for name in ("fit", "trainer, dynamic padding")}
        for seed in range(arguments.score):
            for name in scores:
                model = sides.model(seed)
                runs[name](model, seed)
                scores[name].append(sides.score(model))
        for name, values in scores.items():
            print(
                f"{name:30} dev accuracy {np.mean(values):.4f} +- {np.std(values, ddof=1):.4f} over {len(values)} seeds"
            )
    for name in list(runs)[1:]:
        ratio = statistics.geometric_mean(a / b for a, b in zip(seconds[name], seconds["fit"], strict=True))
        print(f"fit is {ratio:.3f} times as fast as {name}")


if __name__ == "__main__":
    main()
