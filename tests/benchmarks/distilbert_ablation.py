"""Where DistilBERT loses what its teacher knew: the dev score of a task after each piece of the chain.

    python tests/benchmarks/distilbert_ablation.py --teacher FOLDER --data FOLDER --corpus FOLDER     about 40 minutes

The teacher, its halves without distillation (as DistilBERT, with the token type that is always read added to the words,
and as a BERT that keeps token types), and the student after distillation: by L_cos alone, by all terms, and by all
terms from a teacher that was adapted to the corpus. Each is fine-tuned in the same way, at every rate and number of
epochs asked for. The last lines are the table.
"""

from __future__ import annotations

import argparse
import copy
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
)

from bench.data import sequences
from bench.data.batches import Batches, Encoded, InTurn, Vocabulary, encode
from bench.data.corpus import corpus_texts
from bench.data.masking import Masking
from bench.data.metrics import compute
from bench.data.sources import open_source
from bench.data.tasks import get_task
from bench.models import load
from bench.models.outputs import frozen
from bench.train.fit import FitLog, fit
from bench.train.losses import supervised
from bench.train.mlm import HEADS, with_lm_head
from bench.train.predict import answers, predict
from bench.train.settings import Training
from bench.train.tuning import classifier_config, load_encoder
from papers.bert.adapt import Adapting, adapted
from papers.distilbert.positions import Attended, smoothed
from papers.distilbert.recipe import Distillation, triple_loss
from papers.distilbert.student import config, copy_layers, teacher_layers


class Bench:
    """The data, and as much of a stage's context as masked-LM training asks for."""

    def __init__(self, given: argparse.Namespace):
        self.given, self.folder, self.task = given, Path(given.teacher), get_task(given.task)
        self.tokenizer, self.accelerator = load.tokenizer(self.folder), Accelerator()
        self.device, self.vocabulary = self.accelerator.device, Vocabulary.of(self.tokenizer)
        source = open_source(given.data)
        rows = source.rows(self.task, self.task.train)
        self.train = encode(rows.take(given.rows) if given.rows else rows, self.tokenizer, 128)
        self.dev = encode(source.rows(self.task, self.task.scored[0]), self.tokenizer, 128)
        self.lines = list(sequences.lines_of(corpus_texts(Path(given.corpus))))

    def corpus(self, tokens: int, length: int, least: int = 1) -> Encoded:
        return sequences.sequences(
            sequences.Packed(self.lines), self.tokenizer, tokens, length, least, self.given.corpus
        )

    def batches(self, rows: Encoded, training: Training, transform: Any = None) -> Batches:
        return Batches(rows, training.batch_size, 0, tokens=training.batch_tokens, transform=transform)

    def fit(self, model: nn.Module, loss: Any, batches: Batches, training: Training, groups: Any = ()) -> FitLog:
        return fit(model, loss, batches, training, self.accelerator, groups=groups)

    def score(self, model: nn.Module) -> float:
        found = compute(self.task, answers(self.task, predict(model, self.dev, self.accelerator)), self.dev.labels)
        return found[self.task.primary] or 0.0


def encoder(bench: Bench) -> BertModel:
    return BertModel.from_pretrained(bench.folder, dtype=torch.float32)


@functools.cache
def lm(bench: Bench, adapt: bool = False) -> BertForMaskedLM:
    """The teacher with a masked-LM head; adapted on as many tokens as the student is distilled on."""
    torch.manual_seed(1)
    if adapt:
        return adapted(encoder(bench), Adapting(corpus_tokens=bench.given.tokens, margin=0.0), bench)[0]  # pyright: ignore
    return with_lm_head(encoder(bench), HEADS["small"], bench)[0]  # pyright: ignore


def half(teacher: BertForMaskedLM, fold: bool = False) -> DistilBertForMaskedLM:
    """The student as it is initialised; `fold` adds the vector of token type 0 to every word's."""
    student = DistilBertForMaskedLM(config(teacher.config))
    copy_layers(student, teacher)
    if fold:
        embeddings = teacher.bert.embeddings
        with torch.no_grad():
            words: Any = student.distilbert.embeddings.word_embeddings
            words.weight += embeddings.token_type_embeddings.weight[0]
    return student


def distilled(bench: Bench, teacher: BertForMaskedLM, **weights: float) -> DistilBertForMaskedLM:
    """The student after one pass over the tokens asked for."""
    torch.manual_seed(2)
    student, settings, vocabulary = half(teacher), Distillation.model_validate(weights), bench.vocabulary
    rows, words = bench.corpus(bench.given.tokens, 64, settings.min_length), student.config.vocab_size
    masking = Masking(vocabulary.mask, words, vocabulary.special, settings.mask_probability,
                      smoothed(rows, words, vocabulary.special, settings.smoothing))  # fmt: skip
    training = settings.training.model_copy(
        update={"epochs": 1, "batch_tokens": 1024, "accumulation": 1, "lr": bench.given.distil_lr}
    )
    batches = bench.batches(rows, training, InTurn((masking, Attended(settings.ce_share))))
    bench.fit(student, triple_loss(frozen(teacher, bench.device), settings), batches, training)
    return student


def classifier(bench: Bench, source: Any) -> nn.Module:
    """The encoder of a masked LM, or a BERT, under a new head for the task."""
    heads: dict[bool, Any] = {True: BertForSequenceClassification, False: DistilBertForSequenceClassification}
    model = heads[isinstance(source.config, BertConfig)](classifier_config(source.config, bench.task))
    load_encoder(model, source)
    return model


def every_second(bench: Bench) -> BertModel:
    """The same layers as the student's in a BERT that keeps its token types and pooler."""
    model = encoder(bench)
    model.encoder.layer = nn.ModuleList([model.encoder.layer[i] for i in teacher_layers(len(model.encoder.layer))])
    model.config.num_hidden_layers = len(model.encoder.layer)
    return model


def sources(bench: Bench) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "the teacher", lambda: encoder(bench)
    yield "half of it", lambda: half(lm(bench))
    yield "half of it, token type 0 in the words", lambda: half(lm(bench), fold=True)
    yield "half of it, a BERT with token types", lambda: every_second(bench)
    yield "distilled by L_cos alone", lambda: distilled(bench, lm(bench), weight_ce=0.0, weight_mlm=0.0)
    yield "distilled", lambda: distilled(bench, lm(bench), ce_share=0.25)
    yield "the adapted teacher", lambda: lm(bench, adapt=True)
    yield "distilled from the adapted teacher", lambda: distilled(bench, lm(bench, adapt=True), ce_share=0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--teacher", "--data", "--corpus"):
        parser.add_argument(name, required=True)
    parser.add_argument("--task", default="stsb")
    parser.add_argument("--rows", type=int, default=3000, help="training rows; 0 for all")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--distil-lr", type=float, default=5e-4)
    parser.add_argument("--tune", nargs="+", default=["1e-4:3", "3e-4:3"], metavar="RATE:EPOCHS")
    bench = Bench(parser.parse_args())
    transformers.logging.set_verbosity_error()
    table: list[str] = []
    for name, make in sources(bench):
        source = make()
        for one in bench.given.tune:
            rate, epochs = one.split(":")
            torch.manual_seed(0)
            model, started = classifier(bench, copy.deepcopy(source)), time.perf_counter()
            training = Training(epochs=int(epochs), batch_size=16, lr=float(rate), warmup=0.1)
            log = bench.fit(model, supervised(bench.task.kind), bench.batches(bench.train, training), training)
            table.append(f"{name:40} rate {rate:>6} epochs {epochs:>2}  {bench.task.primary} {bench.score(model):.4f}  "
                         f"last loss {log.last_loss:.3f}  {time.perf_counter() - started:.0f} s")  # fmt: skip
            print(table[-1], flush=True)
    print(*table, sep="\n")


if __name__ == "__main__":
    main()
