"""One step of layer-by-layer distillation against a plain one: time and peak memory.

    python tests/benchmarks/phase_one_step.py             about 2 minutes on two cores, half-width teacher of 6 layers
    python tests/benchmarks/phase_one_step.py --paper     about 10 minutes: BERT-base teaches 4 layers of 312
    python tests/benchmarks/phase_one_step.py --data FILE.parquet --tokenizer FOLDER [--column sentence]

The plain step runs both models in fp32 eager attention, keeps the attentions and hidden states of all layers and takes
mean squared errors of them. Both are a whole step (forward, backward, clip, AdamW) on batch 32, length 128, no padding;
with --data, on rows of a task: the plain step pads each to --length as the released code does (64 for single
sentences), ours batches rows of similar length, so that a step is one over the same rows.
Each side runs in a process of its own, in turns, so that its peak resident memory is its own. What Python and its
libraries take before any model is built is on both sides and in neither figure.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig, BertModel

from bench.data.batches import Batch, Batches, encode, pad
from bench.data.rows import Texts
from bench.models import load
from bench.train.precision import choose
from papers.tinybert.layers import layer_loss
from papers.tinybert.settings import Layers
from papers.tinybert.student import TinyBertForDistillation, mapped, student_config, with_projections

BATCH, LENGTH, STEPS = 32, 128, 3
SIDES = ("plain", "ours")


def models(paper: bool) -> tuple[TinyBertForDistillation, BertModel]:
    """BERT-base and its 4-layer student, or half of BERT-base in width and depth and the student in its ratios."""
    torch.manual_seed(0)
    base = BertConfig() if paper else BertConfig(num_hidden_layers=6, hidden_size=384, intermediate_size=1536)
    student = with_projections(student_config(base, 3, 312, 1200), base.hidden_size, 2, False)
    return student.train(), BertModel(base, add_pooling_layer=False).eval().requires_grad_(False)


def plain(student: TinyBertForDistillation, teacher: BertModel, layers: tuple[int, ...], batch: dict) -> Tensor:
    wanted = {"output_attentions": True, "output_hidden_states": True}
    with torch.no_grad():
        theirs = teacher(**batch, **wanted)
    ours = student.bert(**batch, **wanted)
    loss = F.mse_loss(student.projected_by(0)(ours.hidden_states[0]), theirs.hidden_states[0])
    for m, g in enumerate(layers, 1):
        loss = loss + F.mse_loss(ours.attentions[m - 1], theirs.attentions[g - 1])
        loss = loss + F.mse_loss(student.projected_by(m)(ours.hidden_states[m]), theirs.hidden_states[g])
    return loss


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def made_up() -> list[Batch]:
    """Full batches: nothing is padded."""
    ids = torch.randint(5, 30000, (BATCH, LENGTH))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return [batch] * STEPS


def of_rows(side: str, arguments: argparse.Namespace) -> list[Batch]:
    """Batches over the first rows of a file: bucketed, or in order and padded to one length."""
    texts = pq.read_table(arguments.data)[arguments.column].to_pylist()[: BATCH * STEPS * 4]
    rows = Texts((texts,), np.zeros(len(texts), np.int64))
    encoded = encode(rows, load.tokenizer(Path(arguments.tokenizer)), arguments.length)
    if side == "ours":
        batches = Batches(encoded, BATCH, seed=0)
        return [batches.batch(0, i, indices) for i, indices in enumerate(batches.order(0))]
    found = []
    for start in range(0, len(encoded), BATCH):
        batch = pad(encoded, np.arange(start, min(start + BATCH, len(encoded))))
        names = ("input_ids", "attention_mask", "token_type_ids")
        found.append({n: F.pad(batch[n], (0, arguments.length - batch[n].shape[1])) for n in names})
    return found


def one(side: str, arguments: argparse.Namespace) -> None:
    """Print seconds per step, peak bytes, the bytes in use before the first step, and before there was a model."""
    bare, paper = peak(), arguments.paper
    batches = of_rows(side, arguments) if arguments.data else made_up()
    student, teacher = models(paper)
    layers = mapped(student.config.num_hidden_layers, teacher.config.num_hidden_layers, "uniform")
    if side == "plain":
        for model in (student, teacher):
            model.set_attn_implementation("eager")
    loss, device = layer_loss(teacher, Layers(), layers), torch.device("cpu")
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-5, fused=True)
    before, seconds = peak(), []
    for batch in [batches[0], *batches]:
        started = time.perf_counter()
        if side == "plain":
            value = plain(student, teacher, layers, batch)
        else:
            with choose("auto", device).autocast(device):
                value = torch.stack(list(loss(student, batch).values())).sum()
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - started)
    print(statistics.mean(seconds[1:]), peak(), before, bare)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paper", action="store_true", help="BERT-base as the teacher")
    parser.add_argument("--data", default="", help="a parquet file of rows; full batches of made-up ids without")
    parser.add_argument("--column", default="sentence")
    parser.add_argument("--tokenizer", default="", help="folder")
    parser.add_argument("--length", type=int, default=64, help="what the plain step pads rows to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        return one(arguments.side, arguments)
    found: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    for _ in range(arguments.rounds):
        for side, rows in found.items():
            command = [sys.executable, __file__, "--side", side, *sys.argv[1:]]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows.append([float(word) for word in out.split()])
    for side, rows in found.items():
        seconds, most, before, bare = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{side:6} {seconds:7.2f} s a step   peak {(most - bare) / 2**20:6.0f} MiB over {bare / 2**20:.0f} of "
              f"Python and libraries, {(most - before) / 2**20:6.0f} of it since the models were built")  # fmt: skip
    pairs = list(zip(*(found[side] for side in SIDES), strict=True))
    total = statistics.median((ours[1] - ours[3]) / (theirs[1] - theirs[3]) for theirs, ours in pairs)
    beyond = statistics.median((ours[1] - ours[2]) / (theirs[1] - theirs[2]) for theirs, ours in pairs)
    print(f"precision of ours: {choose('auto', torch.device('cpu')).name}; of the plain step: fp32")
    print(f"peak memory ours / plain: {total:.2f}; beyond the models {beyond:.2f}")
    print(f"speed-up: {statistics.geometric_mean(theirs[0] / ours[0] for theirs, ours in pairs):.2f}")


if __name__ == "__main__":
    main()
