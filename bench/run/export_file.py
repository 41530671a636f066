"""`bench export --format`: the model of a run as one file of another runtime, scored and timed from that file."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from bench.core import markup
from bench.core.errors import ModelError, SpecError
from bench.core.files import whole_folder
from bench.core.paths import home
from bench.core.record import Measurement, Record
from bench.data.batches import Encoded, encode, pad
from bench.data.metrics import compute
from bench.data.sources import open_source
from bench.data.tasks import Task, get_task
from bench.models import load
from bench.models.checkpoint import tokenizer_files
from bench.models.export import CARD, check_target
from bench.models.files import FORMATS, InFile, check_same
from bench.models.outputs import forward
from bench.run import recipes
from bench.run.cache import Cache
from bench.run.device import using_threads
from bench.run.exports import find_record, model_folder
from bench.run.modelindex import front_matter
from bench.train.predict import answers, predict

APART = 2
"""Rows of the dev set on which a file may answer otherwise than its model: sums are rounded in another order, and some
rows lie on the border."""
CLOSE = 0.01
"""How far the scores may be apart that a file and its model give one row of a regression."""
TIMED, WARM = 50, 5
"""Rows that are timed, one after another; the first ones do not count."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What is known of an exported file."""

    score: float
    recorded: float
    rows: int
    latency_s: float
    eager_s: float
    """Of the same rows, padded as the file pads them."""
    bytes: int
    length: int | None
    """Tokens to which the file pads every row; None where it does not."""

    @property
    def padded(self) -> str:
        return f" padded to {self.length} tokens" if self.length else ""


def export_file(results: Path, run_id: str, target: Path, form: str, data: str) -> tuple[Path, Exported]:
    """Write the file beside its tokenizer and a card into a new folder, when it scores what the record says.

    The dev rows come from `data`, as `bench run` takes it. Times are medians of single rows, one thread each.
    Raises SpecError for an unknown format, or a task that is not one of rows; DeviceError for missing packages;
    RecordError as `find_record` does; ModelError for a model that the format does not have, or another score.
    """
    if form not in FORMATS:
        raise SpecError("unknown format", where="--format", found=form,
                        expected=f"one of safetensors, {', '.join(FORMATS)}")  # fmt: skip
    chosen = FORMATS[form]
    chosen.check()
    recipes.usable()  # a paper's own classes are known once its recipe is imported
    record = find_record(results, run_id)
    task = get_task(record.spec.task)
    if task.spans or task.tags:
        raise SpecError("only models that answer a row with one label or score are exported so", where=run_id,
                        found=task.name, fix="export it as safetensors")  # fmt: skip
    folder = model_folder(Cache(home()), record)
    goal = check_target(target, folder)
    model, length = load.load_saved(folder).eval(), int(record.hyper["max_length"])
    with whole_folder(goal, taken="raise") as staging:
        chosen.write(model, staging / chosen.file, length)
        read = chosen.read(staging / chosen.file, 1)
        check_same(model, read, length)
        found = _found(record, task, folder, model, read, staging / chosen.file, data)
        for file in tokenizer_files(folder):
            (staging / file.name).write_bytes(file.read_bytes())
        labels = json.dumps({"labels": list(task.labels), "max_length": length}, indent=2)
        (staging / "labels.json").write_text(labels + "\n")
        (staging / CARD).write_text(_card(record, chosen.file, task, found), encoding="utf-8")
    return target, found


def _found(
    record: Record, task: Task, folder: Path, model: nn.Module, read: InFile, file: Path, data: str
) -> Exported:  # fmt: skip
    split, length = task.scored[0], int(record.hyper["max_length"])
    rows = open_source(data).rows(task, split)
    limit = record.hyper.get("budget", {}).get("dev_limit")
    encoded = encode(rows.take(limit) if limit else rows, load.tokenizer(folder), length)
    by_file, by_model = (answers(task, predict(one, encoded, Accelerator(cpu=True))) for one in (read, model))
    other = np.abs(by_file - by_model) > CLOSE if task.regression else by_file != by_model
    if other.sum() > APART:
        raise ModelError("the exported file does not answer as the model does", where=f"{split}, {len(encoded)} rows",
                         found=f"{other.sum()} rows answered otherwise", expected=f"at most {APART}",
                         fix="choose another --format")  # fmt: skip
    score, own = (compute(task, said, encoded.labels)[task.primary] for said in (by_file, by_model))
    recorded = record.value(task.primary, split)
    if score is None or own is None or recorded is None or abs(own - recorded) > 2 / len(encoded) + 1e-6:
        raise ModelError("the model does not score what its record says", where=f"{split}, {len(encoded)} rows",
                         found=f"{task.primary} {own}", expected=recorded,
                         fix="give with --data the rows that the run was scored on")  # fmt: skip
    latency, eager = _median_s(read, model, encoded.between(0, min(TIMED, len(encoded))), read.length)
    return Exported(score, recorded, len(encoded), latency, eager, file.stat().st_size, read.length)


@torch.inference_mode()
def _median_s(file: nn.Module, model: nn.Module, rows: Encoded, length: int | None) -> tuple[float, float]:
    """Seconds for one row, of the file and of the model in turn; both read rows padded to `length` where it is set."""
    times: tuple[list[float], list[float]] = ([], [])
    with using_threads(1):
        for number in range(len(rows)):
            batch = pad(rows, np.array([number]), (length,) if length else ())
            for one, into in zip((file, model), times, strict=True):
                started = time.perf_counter()
                forward(one, batch)
                into.append(time.perf_counter() - started)
    first, second = (statistics.median(found[WARM:] or found) for found in times)
    return first, second


def _card(record: Record, file: str, task: Task, found: Exported) -> str:
    score = f"{markup.escape(task.primary)} {found.score:.4f} on {found.rows:,} dev rows"
    # The scores of the file itself, which is what lies beside the card.
    scored = Measurement(metric=task.primary, split=task.scored[0], value=found.score, unit="fraction", n=found.rows)
    lines = [
        *front_matter(record, [scored]),
        f"# {markup.escape(record.spec.variant)} on {markup.escape(record.spec.task)}, as {file}", "",
        f"Scored from this very file: {score} (its run: {found.recorded:.4f}).",
        f"A row{found.padded} takes {1000 * found.latency_s:.2f} ms on one thread, and "
        f"{1000 * found.eager_s:.2f} ms in PyTorch.", "",
        f"labels.json names the outputs in order. Run {markup.code(record.id)} of "
        f"{markup.code(record.spec.paper)}.", "",
    ]  # fmt: skip
    return "\n".join(lines)
