"""Low-resource students on cached teacher logits against fine-tuning their teacher: examples per second, and the ratio.

    python tests/benchmarks/student_throughput.py --teacher FOLDER --data FOLDER      about 3 minutes on two cores

Real SST-2 rows; the sides take turns in random order within each round. Students read with their own vocabulary.
"""

from __future__ import annotations

import argparse
import random
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bench.core.registry import load_recipe
from bench.data.batches import Batch, Batches, WithLogits, encode
from bench.data.rows import Texts
from bench.data.sources import open_source
from bench.data.tasks import get_task
from bench.models import load
from bench.models.outputs import forward
from bench.train.fit import Loss, fit
from bench.train.losses import supervised
from bench.train.settings import Training
from bench.train.tuning import classifier_config
from papers.lowresource.losses import logit_mse
from papers.lowresource.recipe import MODELS
from papers.lowresource.vocabulary import vocabulary


@dataclass
class Side:
    """One model with its rows and its loss."""

    build: type[nn.Module]
    config: object
    batches: Batches
    loss: Loss
    training: Training


def on_logits(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    return {"logits": logit_mse(forward(model, batch).logits, batch["teacher_logits"])}


def sides(arguments: argparse.Namespace) -> dict[str, Side]:
    task, source = get_task("sst2"), open_source(arguments.data)
    rows = source.rows(task, "train")
    few, many = rows.take(arguments.rows), rows.take(50 * arguments.rows)
    checkpoint = load.check(Path(arguments.teacher))
    words = load.tokenizer(checkpoint.folder)
    bert = load.BERT_HEADS["label"]
    tuned = Training(epochs=1, batch_size=32, lr=2e-5)
    found = {"teacher": Side(bert, classifier_config(checkpoint.config, task),
                             Batches(encode(few, words, 128), 32, 0), supervised("label"), tuned)}  # fmt: skip
    recipe = load_recipe("lowresource")
    own = vocabulary(Texts(rows.columns, rows.labels), 5000)
    for name in ("bilstm", "cnn", "cbow-ffn"):
        hyper = recipe.hyper(recipe.variants[name], "sst2", "small", None)
        encoded = encode(many, own, hyper.max_length)
        made = WithLogits(np.random.default_rng(0).standard_normal((len(encoded), 2), np.float32))
        batches = Batches(encoded, hyper.training.batch_size, 0, transform=made)
        config = classifier_config(hyper.student.config(), task)
        found[name] = Side(MODELS[name], config, batches, on_logits, hyper.training.model_copy(update={"epochs": 1}))
    return found


def rate(side: Side, accelerator: Accelerator) -> float:
    torch.manual_seed(0)
    made = fit(side.build(side.config), side.loss, side.batches, side.training, accelerator)
    return made.examples / made.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, default=320, help="of the teacher; a student reads 50 times as many")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    accelerator, found = Accelerator(), sides(arguments)
    rate(found["teacher"], accelerator)  # warm-up
    rates: dict[str, list[float]] = {name: [] for name in found}
    chance = random.Random(0)
    for _ in range(arguments.rounds):
        for name in chance.sample(list(found), len(found)):
            rates[name].append(rate(found[name], accelerator))
    print(f"threads {torch.get_num_threads()}, rounds {arguments.rounds}")
    for name, values in rates.items():
        print(f"{name:10} {statistics.median(values):10.0f} examples/s")
    ratios = {name: statistics.median(a / b for a, b in zip(rates[name], rates["teacher"], strict=True))
              for name in rates if name != "teacher"}  # fmt: skip
    print("times the teacher's fine-tuning: " + ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main()
