"""How fast this device trains: a few real training steps of an encoder, timed for a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from transformers import BertConfig, BertForSequenceClassification

from bench.models.flops import encoder_formula
from bench.run.device import using_threads
from bench.train.precision import choose
from bench.train.recipe import EncoderFacts

ROWS, LENGTH = 16, 32
"""Of the batch that is timed: short texts, as GLUE has them."""
MOMENT_S = 1.0
"""How long each of the two kinds of step is timed at most, beside a first one."""
WORDS = 1000
"""Of its vocabulary: few, since the table's update is not so many times as long in a deeper one."""
LAYERS = 2
"""Of the encoder that is timed; steps of a deeper one are so many times as long."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What work takes on a device."""

    flops_per_s: float
    batch_s: float
    """Of a training step, what does not depend on the batch: starting kernels, moving the weights."""

    def seconds(self, flops: float, batches: float) -> float:
        return flops / self.flops_per_s + batches * self.batch_s


NOMINAL = {"cuda": Pace(4e13, 0.003)}
"""By device, ours: what is recorded corrects it, so that the proportion of the two numbers is what counts."""
NOMINAL_CPU = Pace(5e10, 0.02)


def nominal(device: torch.device) -> Pace:
    """What recorded runs on such a device are held against."""
    return NOMINAL.get(device.type, NOMINAL_CPU)


def measured(facts: EncoderFacts, device: torch.device) -> Pace:
    """The pace of a machine that no run is recorded of; of an encoder with such facts."""
    if device.type != "cpu":
        return nominal(device)  # a step of graphs takes longer to record than a moment
    layers = min(LAYERS, facts.layers)
    config = BertConfig(vocab_size=WORDS, hidden_size=facts.hidden, num_hidden_layers=layers,
                        num_attention_heads=facts.heads, intermediate_size=4 * facts.hidden)  # fmt: skip
    threads = torch.get_num_threads()
    # Where other programs are busy, several threads spend most of their time waiting for each other: one is timed, and
    # the others are taken to share the arithmetic evenly.
    with torch.random.fork_rng(devices=[]), using_threads(1):
        model = BertForSequenceClassification(config).train()
        whole, least = (_step_s(model, rows, length) for rows, length in ((ROWS, LENGTH), (1, 8)))
    deeper = facts.layers / layers
    flops = 3 * encoder_formula(layers, facts.hidden, 4 * facts.hidden, facts.heads, ROWS, LENGTH)
    return Pace(threads * flops / max(whole - least, 0.1 * whole), least * deeper)


def _step_s(model: torch.nn.Module, rows: int, length: int) -> float:
    """Seconds of a training step on a machine that does nothing else: the best of those that a moment has room for.

    Processor time: what other programs take is no property of the machine.
    """
    device = Accelerator().device
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    ids = torch.ones(rows, length, dtype=torch.long)
    best, ends = float("inf"), time.perf_counter() + MOMENT_S
    for number in range(1000):
        started = time.process_time()
        with choose("auto", device).autocast(device):
            loss = model(input_ids=ids, labels=torch.zeros(rows, dtype=torch.long)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        took = time.process_time() - started
        best = min(best, took) if number else best  # the first one allocates
        if number and time.perf_counter() > ends:
            break
    return best
