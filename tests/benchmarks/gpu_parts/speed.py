"""Speeds: what the card can do, training by each engine and by a stock Trainer, distillation, answers, measuring."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gpu_parts.work import Work
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainerCallback, TrainingArguments

from bench.data.batches import Batches, Encoded, InTurn
from bench.data.masking import Masking
from bench.models.device import native_bf16
from bench.models.outputs import frozen
from bench.train.losses import supervised
from bench.train.predict import predict
from bench.train.settings import Training
from papers.distilbert.positions import Attended
from papers.distilbert.recipe import Distillation, triple_loss
from papers.distilbert.student import DistilBertForMaskedLM, config

RATE: dict[str, float] = {}
"""The card's own matmul rate, once it is known: operations a second."""


def matmul(work: Work) -> dict[str, float]:
    """Tera-operations per second of a product of square bf16 matrices of random numbers, the median of several."""
    size = work.size.matmul
    a, b = (torch.randn(size, size, device=work.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(12):
        work.wait()
        started = time.perf_counter()
        for _ in range(8):
            a @ b
        work.wait()
        seconds.append((time.perf_counter() - started) / 8)
    RATE["matmul"] = 2 * size**3 / sorted(seconds)[6]
    return {"matmul_tflops": RATE["matmul"] / 1e12}


def _train(
    work: Work, name: str, shape: dict[str, int], rows: Encoded, batch: int, engines: tuple[str, ...] = ()
) -> dict[str, float]:
    found: dict[str, float] = {}
    tokens = float(rows.lengths.mean()) * batch
    for engine in engines or work.engines:
        model = work.classifier(shape)
        weights = sum(p.numel() for n, p in model.named_parameters() if "embeddings" not in n)
        attention = 2 * shape["num_hidden_layers"] * shape["hidden_size"] * float(rows.lengths.mean())
        training = Training(epochs=1, batch_size=batch, engine=engine)
        rate, log = work.timed(model, supervised("label"), Batches(rows, batch, 0), training, len(rows) // batch)
        found[f"{name}_{engine}_steps"] = rate
        if "matmul" in RATE:
            found[f"{name}_{engine}_share"] = 6 * (weights + attention) * tokens * rate / RATE["matmul"]
        print(f"  {name}: {log.engine}, {log.precision}, peak {log.peak_bytes / 2**30:.2f} GiB")
        del model
        work.tidy()
    return found


def base(work: Work) -> dict[str, float]:
    """Fine-tuning BERT-base, 32 x 128: steps a second, and their share of the matmul rate.

    A token costs 6 operations a weight, and as many a unit for each of two products with the tokens that it attends.
    """
    return _train(work, "base", work.size.base, base_rows(work), 32)


def small(work: Work) -> dict[str, float]:
    """Fine-tuning the small encoder, 16 rows of 10 to 50 tokens."""
    return _train(work, "small", work.size.small, small_rows(work), 16)


def base_rows(work: Work) -> Encoded:
    return work.rows(32 * work.size.steps[0], work.size.base_length, work.size.base_length)


def small_rows(work: Work) -> Encoded:
    longest = 50 if work.gpu else 14
    return work.rows(16 * work.size.steps[1], 10, longest)


def distil(work: Work) -> dict[str, float]:
    """General distillation of the small encoder by all three losses: tokens a second by tokens of a batch."""
    found: dict[str, float] = {}
    teacher = frozen(work.masked_lm(work.size.small), work.device)
    transform = InTurn((Masking(4, work.size.words, frozenset({0, 2, 3})), Attended()))
    for tokens in work.size.tokens:
        steps = max(work.size.steps[2] * work.size.tokens[0] // tokens, work.size.look)
        # Padded to one length, so that few steps are enough to meet it often.
        shortest, longest = (57, 64) if work.gpu else (12, 16)
        rows = work.rows(2 * steps * tokens // (shortest + longest), shortest, longest)
        for engine in work.engines:
            torch.manual_seed(0)
            with work.device:
                student = DistilBertForMaskedLM(config(teacher.config))
            batches = Batches(rows, 32, 0, tokens=tokens, transform=transform)
            training = Training(epochs=1, batch_tokens=tokens, lr=1e-4, engine=engine)
            rate, log = work.timed(student, triple_loss(teacher, Distillation()), batches, training, steps)
            found[f"distil_{engine}_{tokens}"] = rate * len(rows.tokens) / log.steps
            print(f"  distil {tokens}: {log.engine}, peak {log.peak_bytes / 2**30:.2f} GiB")
            del student
            work.tidy()
    return found


def answers(work: Work) -> dict[str, float]:
    """Examples a second that BERT-base answers as a teacher, and that the small encoder answers at evaluation."""
    found = {}
    for name, shape, rows in (
        (
            "teacher_logits",
            work.size.base,
            work.rows(work.size.rows // 4, work.size.base_length, work.size.base_length),
        ),
        ("evaluation", work.size.small, work.rows(work.size.rows, 10, 50 if work.gpu else 14)),
    ):
        model = work.classifier(shape)
        predict(model, rows, work.accelerator)
        started = time.perf_counter()
        predict(model, rows, work.accelerator)
        found[f"{name}_per_s"] = len(rows) / (time.perf_counter() - started)
    return found


class _Marks(TrainerCallback):
    """When the steps of a Trainer ended, in its second half."""

    def __init__(self, work: Work, steps: int):
        self.work, self.marks, self.at = work, [], (steps // 2, steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in self.at:
            self.work.wait()
            self.marks.append(time.perf_counter())


def _collated(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    ids = pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.stack([r["labels"] for r in rows])}


def _stock(work: Work, shape: dict[str, int], rows: Encoded, batch: int, steps: int, compiled: bool) -> float:
    """Steps per second of transformers.Trainer with its usual settings: rows in any order, padded to the longest."""
    examples = [
        {"input_ids": torch.from_numpy(rows.tokens[a:b].astype("int64")), "labels": torch.tensor(int(label))}
        for a, b, label in zip(rows.offsets[:-1], rows.offsets[1:], rows.labels, strict=True)
    ]
    marks = _Marks(work, steps)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=batch, max_steps=steps, learning_rate=2e-5, warmup_steps=0.1,
            bf16=native_bf16(work.device), report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            use_cpu=not work.gpu, dataloader_pin_memory=work.gpu, torch_compile=compiled,
        )  # fmt: skip
        model: Any = work.classifier(shape)
        Trainer(model, arguments, train_dataset=examples, data_collator=_collated, callbacks=[marks]).train()  # pyright: ignore
    return (marks.at[1] - marks.at[0]) / (marks.marks[1] - marks.marks[0])


def _both(work: Work, name: str, compiled: bool) -> dict[str, float]:
    steps = 120 if work.gpu else 4
    found = {}
    for model, shape, rows, batch in (
        ("small", work.size.small, small_rows(work), 16),
        ("base", work.size.base, base_rows(work), 32),
    ):
        found[f"{model}_{name}_steps"] = _stock(work, shape, rows, batch, steps, compiled)
        work.tidy()
    return found


def stock(work: Work) -> dict[str, float]:
    """The same fine-tuning by a stock Trainer: steps a second."""
    return _both(work, "stock", compiled=False)


def compiled(work: Work) -> dict[str, float]:
    """The engine `compile`, which on a GPU is recorded too; not on a CPU, where there may be no compiler."""
    if not work.gpu:
        return {}
    base = _train(work, "base", work.size.base, base_rows(work), 32, ("compile",))
    return base | _train(work, "small", work.size.small, small_rows(work), 16, ("compile",))


def stock_compiled(work: Work) -> dict[str, float]:
    """The stock Trainer, compiled; not on a CPU either."""
    return _both(work, "stock_compiled", compiled=True) if work.gpu else {}


def measure(work: Work) -> dict[str, float]:
    """A quick session of `bench measure` on five shapes: its seconds, and its exit code."""
    if not work.size.shapes:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        variants = [text for name in work.size.shapes for text in ("--variant", name)]
        command = [sys.executable, "-m", "bench", "measure", *variants, "--quick", "--results", folder]
        started = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False,
                                  cwd=Path(__file__).resolve().parents[3])  # fmt: skip
        except subprocess.TimeoutExpired:
            print("  measure: more than 60 s")
            return {"measure_s": 60.0, "measure_failed": 1.0}
        print("  " + "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-14:]))
        records = len(list(Path(folder).rglob("*.json")))
    return {"measure_s": time.monotonic() - started, "measure_exit": float(done.returncode),
            "measure_records": float(records)}  # fmt: skip
