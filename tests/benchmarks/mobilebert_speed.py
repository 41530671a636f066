"""Three ratios of MobileBERT: its forward pass beside that of transformers, a transfer step, and an early phase's step.

    python tests/benchmarks/mobilebert_speed.py     about 4 minutes on one core; --quick for a rehearsal

Forward: released layout, 24 layers, batches of 1 and 32 x 128, one row of padding; aims at 1.0 or more. A transfer step
(all losses over all layers, forward and backward) over the teacher's forward and the student's forward and backward
pass alone; aims at 1.25 or less. The step of phase 1 of 6 layers over that of phase 6; aims at 0.5 or less. The second
and third are at the small scale's size for a BERT of 6 layers of 384. Rounds are interleaved; the last line has the
figures.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bench.data.batches import Batch
from bench.models.outputs import frozen
from papers.mobilebert import exchange, settings
from papers.mobilebert.heads import MobileBertClassifier, MobileBertForPreTraining
from papers.mobilebert.settings import Hyper, Transfer, ratios
from papers.mobilebert.student import RELEASED
from papers.mobilebert.transfer import layer_loss

WORDS = 30522


def batch_of(rows: int, length: int) -> Batch:
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[-1, length // 2 :] = 0
    ids = torch.randint(1000, WORDS, (rows, length)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def ratio(first: Callable[[], object], second: Callable[[], object], rounds: int) -> float:
    """Median over the rounds of the time of the first over that of the second."""
    found = []
    for number in range(rounds + 1):
        times = []
        for call in (first, second) if number % 2 else (second, first):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        one, other = times if number % 2 else reversed(times)
        found.append(one / other)
    return statistics.median(found[1:])  # the first round warms up


def forward_ratio(rows: int, rounds: int) -> float:
    """Time of transformers' pass over that of ours."""
    ours = MobileBertClassifier(RELEASED).eval()
    theirs, batch = exchange.to_transformers(ours), batch_of(rows, 128)

    def call(model: torch.nn.Module) -> Callable[[], Tensor]:
        return torch.inference_mode()(lambda: model(**batch).logits)

    return ratio(call(theirs), call(ours), rounds)


def small_pair(layers: int) -> tuple[MobileBertForPreTraining, MobileBertForPreTraining]:
    """Teacher and student in the paper's ratios to a BERT of so many layers of 384."""
    hyper = Hyper().changed(ratios(layers, 384))
    student = replace(settings.student_of(hyper, WORDS, 0), attention_dropout=0.0)
    teacher = frozen(MobileBertForPreTraining(settings.teacher_of(hyper, WORDS, 0)), torch.device("cpu"))
    return MobileBertForPreTraining(student).train(), teacher


def step(student: MobileBertForPreTraining, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward and backward; gradients are forgotten."""

    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            value = loss()
        value.backward()
        student.zero_grad(set_to_none=True)

    return call


def transfer_ratio(rounds: int) -> float:
    """A step of joint transfer over the two models' passes."""
    student, teacher = small_pair(6)
    batch, transfer = batch_of(16, 64), layer_loss(teacher, Transfer(), range(1, 7))

    def alone() -> Tensor:
        with torch.no_grad():
            teacher.last(batch)
        return student.last(batch).float().square().mean()

    return ratio(step(student, lambda: torch.stack(list(transfer(student, batch).values())).sum()),
                 step(student, alone), rounds)  # fmt: skip


def phase_ratio(rounds: int) -> float:
    """A step of the first of six phases over one of the last, what each freezes frozen."""
    student, teacher = small_pair(6)
    batch = batch_of(16, 64)

    def phase(number: int) -> Callable[[], None]:
        loss = layer_loss(teacher, Transfer(), (number,))

        def value() -> Tensor:
            for name, parameter in student.named_parameters():
                layer = int(name.split(".")[2]) if name.startswith("encoder.layers.") else number
                parameter.requires_grad_(layer < number)
            return torch.stack(list(loss(student, batch).values())).sum()

        return step(student, value)

    return ratio(phase(1), phase(6), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds = 2 if parser.parse_args().quick else 15
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures = {
        "forward_batch1": forward_ratio(1, 2 * rounds), "forward_batch32": forward_ratio(32, max(2, rounds // 3)),
        "transfer_step": transfer_ratio(2 * rounds), "phase_1_of_6": phase_ratio(2 * rounds),
    }  # fmt: skip
    print(" ".join(f"{name}={value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
