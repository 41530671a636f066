"""What a paper's page tells of packed files: what they weigh, what they answer, and what runs on 8-bit kernels."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.record import Record
from bench.report.gather import Model, TaskScores
from bench.report.markdown import table
from bench.report.numbers import DASH, Interval, interval, show

FILE, FORMULA = "packed-file", "packed-formula"
"""Splits of size_bytes: the file that was written, and what the paper's arithmetic gives for it."""

_SIZE_WORDS = (
    "Three things that are not the same. By arithmetic: parameters times bits, as the paper counts. File: what was "
    "written, read back and scored, ranges and floats included. Kernel: what the file's weights were also run on; int8 "
    "means real 8-bit multiplications on the processor named, whose speed-up over the fp32 teacher is its own. "
    "Elsewhere on this page the rounded weights are floats while they are used, and nothing is faster."
)
_SCORE_WORDS = (
    "The score of each task's first split: of the model as it was trained, and of the same file on 8-bit kernels, in "
    "percent; the difference is paired by seed, in points. Alike counts the runs whose file, read back, has exactly "
    "the trained model's score on every split; beside it stands the largest difference of any logit."
)


def packed_section(models: Sequence[Model]) -> list[str]:
    """The packed files of a paper's models, or nothing."""
    packed = [model for model in models if model.typical("size_bytes", FILE)]
    if not packed:
        return []
    scores = [_score_row(model, model.tasks[task]) for model in packed for task in sorted(model.tasks)]
    return [
        "## Packed files",
        _SIZE_WORDS,
        table([_size_row(model) for model in packed], (), ("floats, MB", "file, MB", "by arithmetic, MB", "smaller")),
        _SCORE_WORDS,
        table(scores, (), ("seeds", "as trained", "on int8", "difference", "largest logit")),
    ]


def _size_row(model: Model) -> dict[str, str]:
    floats, file, formula = (model.typical("size_bytes", split) for split in ("artefact", FILE, FORMULA))
    kernels = sorted({split.split("-", 2)[2] for metric, split, _ in model.timed
                      if metric == "latency_s" and split.count("-") == 2})  # fmt: skip
    return {
        "scale": model.scale, "variant": model.label,
        "floats, MB": show(_mb(floats), 2), "file, MB": show(_mb(file), 2),
        "by arithmetic, MB": show(_mb(formula), 2),
        "smaller": f"{floats / file:.1f}x" if floats and file else DASH,
        "kernel": ", ".join(kernels) or "floats",
        "its speed-up": "; ".join(f"{interval(ratio, 2, 'x')} on {machine}" for machine in model.machines()
                                  if (ratio := model.speedup(machine, "batch1-length128-int8"))) or DASH,
    }  # fmt: skip


def _score_row(model: Model, scores: TaskScores) -> dict[str, str]:
    records = [score.record for score in scores.scores]
    trained, kernel = _by_seed(records, scores.metric, scores.split), _by_seed(records, "int8_score", scores.split)
    both = sorted(trained.keys() & kernel.keys())
    logits = [m.value for record in records for m in record.measurements
              if m.metric == "packed_difference" and m.value is not None]  # fmt: skip
    return {
        "scale": model.scale, "variant": model.label, "task": scores.task, "seeds": str(len(records)),
        "as trained": _percent(list(trained.values())), "on int8": _percent(list(kernel.values())),
        "difference": _percent([kernel[seed] - trained[seed] for seed in both]),
        "alike": f"{sum(_alike(record, scores.metric) for record in records)} of {len(records)}",
        "largest logit": f"{max(logits):.1g}" if logits else DASH,
    }  # fmt: skip


def _by_seed(records: Sequence[Record], metric: str, split: str) -> dict[int, float]:
    return {record.spec.seed: m.value for record in records for m in record.measurements
            if (m.metric, m.split) == (metric, split) and m.value is not None}  # fmt: skip


def _percent(values: Sequence[float]) -> str:
    return interval(Interval.of(values).scaled(100), 1) if values else DASH


def _alike(record: Record, metric: str) -> bool:
    """Whether the file that was read back has exactly the score of the model that was packed, on every split."""
    packed, trained = ({m.split: m.value for m in record.measurements if m.metric == name}
                       for name in ("packed_score", metric))  # fmt: skip
    return bool(packed) and all(trained.get(split) == score for split, score in packed.items())


def _mb(size: float | None) -> float | None:
    return size / 1e6 if size else None
