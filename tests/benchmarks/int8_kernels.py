"""BERT-base by 8-bit kernels beside fp32, batch 1 of 128 tokens: the last line is how many times faster they are.

    python tests/benchmarks/int8_kernels.py                                  a minute on one core
    python tests/benchmarks/int8_kernels.py --model FOLDER --data FOLDER [--task sst2]

Weights are random: the shape alone decides the time. The sides (bf16 too, where the hardware has it) take turns in
random order. With a fine-tuned classifier and its task's rows, the kernels' score stands beside that of fp32.
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator
from transformers import BertConfig, BertForSequenceClassification

from bench.data.batches import encode
from bench.data.metrics import compute
from bench.data.sources import open_source
from bench.data.tasks import get_task
from bench.measure.backends import BACKENDS, with_int8_linears
from bench.measure.latency import Protocol, interleaved, speedup
from bench.models import load
from bench.models.device import native_bf16
from bench.train.predict import answers, predict

LENGTH = 128


def times(rounds: int) -> dict[str, list[float]]:
    """Seconds of a forward pass by backend, one per round."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig()).eval()
    ids = torch.randint(1000, 30000, (1, LENGTH))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    names = ["eager", "int8", *(["bf16"] if native_bf16(torch.device("cpu")) else [])]
    calls = {name: BACKENDS[name](model, batch) for name in names}
    return interleaved(calls, Protocol(warmup=2, rounds=rounds, calls_per_round=3))


def scores(folder: str, data: str, task_name: str) -> dict[str, float | None]:
    """The primary score on the first scored split, as fp32 and by the kernels."""
    task = get_task(task_name)
    checkpoint = load.check(load.find(folder))
    model = load.realign(load.load(checkpoint.folder, load.architecture(checkpoint.architecture)), task.labels)
    tokenizer, rows = load.tokenizer(checkpoint.folder), open_source(data).rows(task, task.scored[0])
    encoded = encode(rows, tokenizer, 128)
    sides = {"fp32": model.eval(), "int8": with_int8_linears(model.eval())}
    accelerator = Accelerator(cpu=True)
    return {
        name: compute(task, answers(task, predict(side, encoded, accelerator)), rows.labels)[task.primary]
        for name, side in sides.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--task", default="sst2")
    given = parser.parse_args()
    if (given.model is None) != (given.data is None) or get_task(given.task).kind not in ("label", "score"):
        parser.error("a score takes --model and --data, and a task with one answer per row")
    if given.model:
        found = scores(given.model, given.data, given.task)
        print(f"{given.task}: " + ", ".join(f"{name} {100 * (score or 0):.2f}" for name, score in found.items()))
    seconds = times(given.rounds)
    for name in seconds:
        ratio = speedup(seconds["eager"], seconds[name])
        print(f"{name:6} {1e3 * sorted(seconds[name])[given.rounds // 2]:8.1f} ms, {ratio.value:.2f}x fp32 "
              f"[{ratio.low:.2f}, {ratio.high:.2f}]")  # fmt: skip
    print(f"8-bit kernels over fp32: {speedup(seconds['eager'], seconds['int8']).value:.2f}x")


if __name__ == "__main__":
    main()
