"""The stages of every recipe on a few rows by 1, 2 and 3 processes: what each optimiser step of each fit cost.

    python recipe_losses.py FOLDER PROCESSES...

Writes FOLDER/PROCESSES-RANK.json: case -> fit -> losses, and a sum over the weights that were trained. The processes
are forked, so that torch is imported once. Dropout is off: it draws other numbers in each process.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from conftest import WORDS, FakeContext, whole_words
from searches import FOUND
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedModel,
)

from bench.core import registry
from bench.data.batches import Batches, Encoded, Transform, Vocabulary
from bench.data.masking import IGNORED
from bench.data.tasks import Task, get_task
from bench.models.load import BERT_HEADS
from bench.train import meter
from bench.train.fit import FitLog, Loss, fit
from bench.train.recipe import EncoderFacts, State
from bench.train.settings import Group, Training, Windowing
from bench.train.tuning import classifier_config
from papers.adabert import student
from papers.mobilebert.heads import MobileBertForPreTraining
from papers.mobilebert.student import PAPER, TEACHER

SHAPE = BertConfig(
    vocab_size=WORDS, num_hidden_layers=6, hidden_size=24, num_attention_heads=4, intermediate_size=32,
    max_position_embeddings=128, initializer_range=0.2,
)  # fmt: skip
FACTS = EncoderFacts(layers=6, hidden=24, heads=4, vocabulary=WORDS, lm_head=True, positions=128)
ROWS, BATCH = 12, 5
"""The last batch has two rows: two processes have one each, three have both."""
WIDTHS: dict[str, Any] = {"vocab_size": WORDS, "max_position_embeddings": 128, "embedding_size": 8, "hidden_size": 16,
                          "num_hidden_layers": 3, "intermediate_size": 24}  # fmt: skip


@dataclass
class Context(FakeContext):
    """Trains on a few rows; its teachers are little ones with weights of their own."""

    pretrained: nn.Module | None = None
    accumulation: int = 1
    double: bool = False
    curves: dict[str, list[float]] = field(default_factory=dict)
    stage: str = ""

    def train_rows(self, max_length: int, windows: Windowing | None = None) -> Encoded:
        found = self._examples(np.arange(ROWS) % max(2, len(self.task.labels)))
        rng = np.random.default_rng(1)
        if self.task.regression:
            return replace(found, labels=rng.random(ROWS).astype(np.float32))
        if self.task.kind == "span":  # every third row has no answer inside
            starts = np.where(np.arange(ROWS) % 3 == 0, -1, rng.integers(1, 6, ROWS))
            return replace(found, labels=np.stack([starts, np.where(starts < 0, -1, starts + 1)], 1))
        if self.task.kind == "tags":
            tags = rng.integers(0, len(self.task.labels), (ROWS, 14))
            return replace(found, labels=np.where(rng.random(tags.shape) < 0.6, tags, IGNORED))
        return found

    def teacher(self) -> Any:
        return self.pretrained

    def fine_tuned_teacher(self) -> Any:
        return tuned(self.task)

    def base(self) -> Any:
        return self.fine_tuned_teacher()

    def sentence_pairs(self, max_tokens: int, max_length: int, short: float = 0.1) -> Encoded:
        return self._examples(np.arange(2 * ROWS) % 2)

    def corpus(self, max_tokens: int, max_length: int, min_length: int = 1) -> Encoded:
        return replace(self._examples(np.arange(ROWS)), labels=np.empty(0, np.int64))

    def _little(self, training: Training) -> Training:
        return training.model_copy(update={"epochs": 1, "batch_size": BATCH, "batch_tokens": None, "precision": "fp32",
                                           "accumulation": self.accumulation})  # fmt: skip

    def batches(self, rows: Encoded, training: Training, transform: Transform | None = None) -> Batches:
        return super().batches(rows, self._little(training), transform)

    def fit(
        self, model: nn.Module, loss: Loss, batches: Batches, training: Training, groups: Sequence[Group] = ()
    ) -> FitLog:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                setattr(module, "dropout", 0.0)  # noqa: B010
        if self.double:
            model.double()
        STEPS.clear()
        log = fit(model, loss, batches, self._little(training), Accelerator(), groups=groups)
        name = f"{self.stage}-{len(self.curves)}"
        self.curves[name] = list(STEPS)
        self.curves[f"{name} weights"] = [float(p.detach().double().abs().sum()) for p in model.state_dict().values()]
        return log

    def dev_score(self, model: nn.Module) -> float:
        return 0.5


STEPS: list[float] = []


def watch_steps() -> None:
    """Keep the loss of each optimiser step."""
    ended = meter.Meter.ended

    def keep(self: meter.Meter, total: torch.Tensor) -> None:
        STEPS.append(float(total))
        ended(self, total)

    meter.Meter.ended = keep


def seeded(make: Callable[[], Any], seed: int = 7) -> Any:
    torch.manual_seed(seed)
    return make()


def tuned(task: Task) -> PreTrainedModel:
    return seeded(lambda: BERT_HEADS[task.kind](classifier_config(SHAPE, task)))


def ib_bert() -> MobileBertForPreTraining:
    return seeded(lambda: MobileBertForPreTraining(replace(TEACHER, intra_bottleneck_size=24, **WIDTHS)))


def thin() -> MobileBertForPreTraining:
    return seeded(
        lambda: MobileBertForPreTraining(
            replace(PAPER, intra_bottleneck_size=8, attention_dropout=0.0, hidden_dropout=0.0, **WIDTHS)
        )
    )


@dataclass(frozen=True)
class Case:
    """Some stages of a variant."""

    paper: str
    variant: str
    stages: tuple[str, ...]
    task: str = "sst2"
    changes: dict[str, Any] = field(default_factory=dict)
    pretrained: Callable[[], nn.Module] = lambda: seeded(lambda: BertForMaskedLM(SHAPE))
    start: Callable[[], State] = State
    accumulation: int = 1
    double: bool = False
    """In fp64: where activations are rounded, a last bit of fp32 moves one of them to the next of 256 values."""
    tail: str = ""

    @property
    def name(self) -> str:
        return f"{self.variant}/{self.task}{self.tail}"


def of_words() -> State:
    return State({"model": seeded(lambda: BertForMaskedLM(SHAPE))})


def structured() -> nn.Module:
    return seeded(lambda: student.AdaBertForSequenceClassification(student.config(FOUND)))


PLAIN = {"augmentation.use": False}
TINY = {"initialise_student", "distil_general", "distil_intermediate", "distil_prediction"}
NARROW = {"student.hidden": 8, "student.max_cells": 4, **PLAIN}
CASES = (
    Case("bert", "bert", ("pretrain",), changes={"pretrain.hidden": 16, "pretrain.layers": 2, "pretrain.ffn": 16}),
    *(Case("bert", "bert", ("fine_tune",), task, start=of_words) for task in ("mnli", "stsb", "squad", "conll2003")),
    Case("distilbert", "distilbert", ("prepare_teacher", "initialise_student", "distil_general", "fine_tune"),
         pretrained=lambda: seeded(lambda: BertModel(SHAPE)), accumulation=2),
    Case("distilbert", "distilbert", ("prepare_teacher", "initialise_student", "distil_general"),
         changes={"general.positions": "masked"}, tail=" masked"),
    Case("distilbert", "distilbert", ("prepare_teacher", "initialise_student", "distil_general"),
         changes={"general.ce_share": 0.4}, tail=" share"),
    Case("distilbert", "distilbert-d", ("prepare_teacher", "initialise_student", "distil_general", "distil_second"),
         "squad"),
    Case("tinybert", "tinybert-4", ("initialise_student", "distil_general", "distil_intermediate",
                                    "distil_prediction"), "mnli", PLAIN),
    Case("tinybert", "tinybert-4", ("initialise_student", "distil_prediction"), "stsb", PLAIN),
    Case("tinybert", "tinybert-4-init-bert", ("initialise_student", "pretrain_student", "fine_tune"), changes=PLAIN),
    Case("mobilebert", "mobilebert", ("transfer", "distil_words", "fine_tune"), pretrained=ib_bert,
         start=lambda: State({"model": thin()})),
    Case("mobilebert", "mobilebert-joint", ("transfer",), pretrained=ib_bert, start=lambda: State({"model": thin()}),
         changes={"transfer.padding": "counted", "transfer.statistics_of": "all_layers"}),
    Case("mobilebert", "mobilebert-auxiliary", ("distil_words",), "squad", pretrained=ib_bert,
         start=lambda: State({"model": thin()})),
    Case("mobilebert", "ib-bert-large", ("pretrain_teacher", "pretrain_guided_teacher")),
    *(Case("qbert", "qbert-w4", ("start_from_base", "train_quantised"), task, {"quantiser.activations": 32})
      for task in ("sst2", "squad")),
    Case("qbert", "qbert-mp23", ("start_from_base", "measure_sensitivity", "train_quantised"), double=True),
    Case("adabert", "adabert", ("train_probes", "search", "retrain"), changes=NARROW),
    Case("adabert", "adabert", ("train_probes", "search"), "rte",
         {**NARROW, "search.steps": "alternating", "knowledge.weights": "example"}, tail=" in turn"),
    Case("adabert", "adabert-base-kd", ("search", "retrain"), changes=NARROW),
    Case("adabert", "adabert-random", ("train_probes", "train_random"),
         changes={**NARROW, "knowledge.weights": "even"}),
    *(Case("lowresource", variant, ("build_student", stage)) for variant, stage in (
        ("bilstm", "distil"), ("bilstm-supervised", "train_on_labels"), ("cbow-ffn", "distil"), ("cnn", "distil"))),
)  # fmt: skip


def run(case: Case, folder: Path, tokenizer: Any) -> dict[str, list[float]]:
    """The curves of a case."""
    recipe = registry.load_recipe(case.paper)
    variant, task = recipe.variants[case.variant], get_task(case.task)
    ctx = Context(task, Vocabulary.of(tokenizer), tokenizer, folder, pretrained=case.pretrained(),
                  accumulation=case.accumulation, double=case.double)  # fmt: skip
    facts = None if case.stages[0] == "pretrain" else FACTS
    hyper = recipe.hyper(variant, case.task, "smoke", facts).changed(case.changes)
    known = {stage.name: stage for stage in variant.stages}
    state = case.start()
    for number, name in enumerate(case.stages):
        torch.manual_seed(100 + number)
        ctx.stage = name
        state = known[name].run(state, hyper.only(*known[name].uses), ctx)
    return ctx.curves


def work(folder: Path, processes: int, rank: int, port: int) -> None:
    """One process of a group: all cases, one after another."""
    torch.set_num_threads(1)
    if processes > 1:
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        os.environ |= {name: str(value) for name, value in numbers.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    assert Accelerator().num_processes == processes
    watch_steps()
    tokenizer = whole_words()
    wanted = os.environ.get("CASES", "")
    curves = {case.name: run(case, folder, tokenizer) for case in CASES if wanted in case.name}
    (folder / f"{processes}-{rank}.json").write_text(json.dumps(curves))
    if processes > 1:
        torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def main() -> int:
    folder, failed = Path(sys.argv[1]), 0
    os.environ["ACCELERATE_USE_CPU"] = "true"
    for processes in map(int, sys.argv[2:]):
        port, children = free_port(), []
        for rank in range(processes):
            child = os.fork()
            if child == 0:
                try:
                    work(folder, processes, rank, port)
                    code = 0
                except BaseException:
                    import traceback

                    traceback.print_exc()
                    code = 1
                sys.stderr.flush()
                os._exit(code)
            children.append(child)
        failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
