"""`bench export --format`: the model of a run as one file of another runtime, scored and timed from that file."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from bench.core import plain
from bench.core.errors import ModelError, SpecError
from bench.core.files import whole_folder
from bench.core.record import Record
from bench.data.batches import encode, in_order
from bench.data.metrics import compute
from bench.data.sources import open_source
from bench.data.tasks import Task, get_task
from bench.models import load
from bench.models.export import CARD, TOKENIZER, check_target
from bench.models.files import FORMATS, check_same
from bench.models.outputs import forward
from bench.run import recipes
from bench.run.cache import Cache, home
from bench.run.exports import find_record, model_folder
from bench.train.predict import answers, predict

APART = 2
"""Rows of the dev set on which a file may answer otherwise than its record says: sums are rounded in another order, and
some rows lie on the border."""
TIMED = 50
"""Rows that are timed."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an exported file."""

    score: float
    recorded: float
    rows: int
    latency_s: float
    eager_s: float
    bytes: int


def export_file(results: Path, run_id: str, target: Path, form: str, data: str) -> tuple[Path, Found]:
    """Write the file beside its tokenizer and a card into a new folder, when it scores what the record says.

    The dev rows come from `data`, as `bench run` takes it. Times are medians of single rows, one thread each.
    Raises SpecError for an unknown format, or a task that is not one of rows; DeviceError for missing packages;
    RecordError as `find_record` does; ModelError for a model that the format has not, or another score.
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
    model, length = load.load_saved(folder).eval(), int(record.hyper.get("max_length", 128))
    with whole_folder(goal, taken="raise") as staging:
        chosen.write(model, staging / chosen.file, length)
        read = chosen.read(staging / chosen.file, 1)
        check_same(model, read, length)
        found = _found(record, task, folder, model, read, staging / chosen.file, data)
        for name in TOKENIZER:
            if (folder / name).is_file():
                (staging / name).write_bytes((folder / name).read_bytes())
        labels = json.dumps({"labels": list(task.labels), "max_length": length}, indent=2)
        (staging / "labels.json").write_text(labels + "\n")
        (staging / CARD).write_text(_card(record, chosen.file, task, found), encoding="utf-8")
    return target, found


def _found(
    record: Record, task: Task, folder: Path, model: nn.Module, read: nn.Module, file: Path, data: str
) -> Found:  # fmt: skip
    split, length = task.scored[0], int(record.hyper.get("max_length", 128))
    rows = open_source(data).rows(task, split)
    limit = record.hyper.get("budget", {}).get("dev_limit")
    encoded = encode(rows.take(limit) if limit else rows, load.tokenizer(folder), length)
    said = predict(read, encoded, Accelerator(cpu=True))
    score, recorded = compute(task, answers(task, said), encoded.labels)[task.primary], _recorded(record, task)
    if score is None or recorded is None or abs(score - recorded) > max(APART / len(encoded), 1e-3):
        raise ModelError("the file does not score what its record says", where=f"{split}, {len(encoded)} rows",
                         found=f"{task.primary} {score}", expected=recorded,
                         fix="give with --data the rows that the run was scored on")  # fmt: skip
    some = encoded.between(0, min(TIMED, len(encoded)))
    torch.set_num_threads(1)
    return Found(score, recorded, len(encoded), _median_s(read, some), _median_s(model, some), file.stat().st_size)


def _recorded(record: Record, task: Task) -> float | None:
    return record.value(task.primary, task.scored[0])


@torch.inference_mode()
def _median_s(model: nn.Module, rows: object) -> float:
    """Seconds for one row."""
    times = []
    for batch in in_order(rows, 1):  # pyright: ignore[reportArgumentType]
        started = time.perf_counter()
        forward(model, batch)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _card(record: Record, file: str, task: Task, found: Found) -> str:
    score = f"{plain.escape(task.primary)} {found.score:.4f} on {found.rows:,} dev rows"
    lines = [
        f"# {plain.escape(record.spec.variant)} on {plain.escape(record.spec.task)}, as {file}", "",
        f"Scored from this very file: {score} (its run: {found.recorded:.4f}).",
        f"A row takes {1000 * found.latency_s:.2f} ms on one thread, in PyTorch {1000 * found.eager_s:.2f} ms.", "",
        f"labels.json names the outputs in order. Run {plain.code(record.id)} of {plain.code(record.spec.paper)}.", "",
    ]  # fmt: skip
    return "\n".join(lines)
