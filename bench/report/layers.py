"""What a paper's page tells of models of few bits: their packed files, and each layer's bits and sensitivity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core.record import Record
from bench.core.stats import mean
from bench.report.gather import Model
from bench.report.markdown import table
from bench.report.numbers import DASH, Interval, interval, percent, show
from bench.report.plots import COLOURS, MARKERS, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE, FORMULA = "packed-file", "packed-formula"
"""Splits of size_bytes: the file that was written, and what the paper's arithmetic gives for it."""

_PACKED_WORDS = (
    "Three things that are not the same. By arithmetic: parameters times bits, as the paper counts. File: what was "
    "written, read back and scored, ranges and floats included. Kernel: what the file's weights were also run on; int8 "
    "means real 8-bit multiplications on the processor named, whose score and speed-up over the fp32 teacher are its "
    "own. Elsewhere on this page the rounded weights are floats while they are used, and nothing is faster."
)
_LAYER_WORDS = (
    "Means over seeds. The sensitivity is |mean| + std of the largest eigenvalue of the loss's Hessian in the layer, "
    "over random parts of the training rows; negative counts the parts in which that eigenvalue was below zero."
)


def packed_section(models: Sequence[Model]) -> list[str]:
    """The packed files of a paper's models, or nothing."""
    rows = [_packed_row(model) for model in models if model.typical("size_bytes", FILE)]
    sizes, scores = ("floats, MB", "file, MB", "by arithmetic, MB", "smaller"), ("its score", "as trained")
    return ["## Packed files", _PACKED_WORDS, table(rows, (), (*sizes, "largest difference", *scores))] if rows else []


def _packed_row(model: Model) -> dict[str, str]:
    floats, file, formula = (model.typical("size_bytes", split) for split in ("artefact", FILE, FORMULA))
    difference = [entry.value for (metric, _), entries in model.found.items() if metric == "packed_difference"
                  for entry in entries if entry.value is not None]  # fmt: skip
    same = [record for record in model.used if _same_score(record)]
    kernels = sorted({split.split("-", 2)[2] for metric, split, _ in model.timed
                      if metric == "latency_s" and split.count("-") == 2})  # fmt: skip
    return {
        "scale": model.scale, "variant": model.label,
        "floats, MB": show(_mb(floats), 2), "file, MB": show(_mb(file), 2),
        "by arithmetic, MB": show(_mb(formula), 2),
        "smaller": f"{floats / file:.1f}x" if floats and file else DASH,
        "scores as trained": f"{len(same)} of {len(model.used)} runs",
        "largest difference": f"{max(difference):.1g}" if difference else DASH,
        "kernel": ", ".join(kernels) or "floats", "its score": interval(_mean(model, "int8_score"), 1, "%"),
        "as trained": interval(_mean(model, "packed_score"), 1, "%"),
        "its speed-up": "; ".join(f"{interval(ratio, 2, 'x')} on {machine}" for machine in model.machines()
                                  if (ratio := model.speedup(machine, "batch1-length128-int8"))) or DASH,
    }  # fmt: skip


def _mean(model: Model, metric: str) -> Interval | None:
    """The mean over runs and splits, in percent."""
    values = [entry.value for (name, _), entries in model.found.items() if name == metric
              for entry in entries if entry.value is not None]  # fmt: skip
    return Interval.of(values).scaled(100) if values else None


def _mb(size: float | None) -> float | None:
    return size / 1e6 if size else None


def _same_score(record: Record) -> bool:
    """Whether the file that was read back has exactly the score of the model that was packed, on every split."""
    scores = {m.split: m.value for m in record.measurements if m.metric == "packed_score"}
    return all(
        any(m.split == split and m.value == score for m in record.measurements if m.metric != "packed_score")
        for split, score in scores.items()
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """One variant and task, layer by layer."""

    label: str
    task: str
    sensitivity: tuple[Interval, ...]
    negative: tuple[float, ...]
    """Share of the random parts whose largest eigenvalue is below zero."""
    bits: tuple[tuple[float, ...], ...]
    """Per layer, the bits of each seed."""


def profiles(models: Sequence[Model]) -> list[Profile]:
    """Every variant and task whose runs measured their layers."""
    out = []
    for model in models:
        for task in sorted({record.spec.task for record in model.used}):
            runs = [record for record in model.used if record.spec.task == task]
            found = [{key: _by_layer(record, key) for key in ("sensitivity", "eigenvalue", "bits")} for record in runs]
            whole = [one for one in found if one["sensitivity"]]
            if whole:
                layers = range(len(whole[0]["sensitivity"]))
                out.append(Profile(
                    model.label, task,
                    tuple(Interval.of([one["sensitivity"][i][0] for one in whole]) for i in layers),
                    tuple(mean([float(v < 0) for one in whole for v in one["eigenvalue"][i]]) for i in layers),
                    tuple(tuple(one["bits"][i][0] for one in whole) for i in layers),
                ))  # fmt: skip
    return out


def _by_layer(record: Record, metric: str) -> list[list[float]]:
    """The numbers of each layer, in order; empty where the record has none."""
    found = {int(m.split[5:]): m.samples or [m.value or 0.0] for m in record.measurements
             if m.metric == metric and re.fullmatch(r"layer\d+", m.split)}  # fmt: skip
    return [found[i] for i in sorted(found)]


def layer_section(models: Sequence[Model], figures: Sequence[str]) -> list[str]:
    """Bits and sensitivities by layer, with the figures by their names, or nothing."""
    rows = [
        {
            "variant": one.label, "task": one.task, "layer": str(i), "sensitivity": interval(value, 3),
            "negative": percent(one.negative[i]) + "%",
            "bits, by seed": " ".join(f"{bits:g}" for bits in one.bits[i]),
        }
        for one in profiles(models) for i, value in enumerate(one.sensitivity)
    ]  # fmt: skip
    if not rows:
        return []
    pictures = [f"![{name.split('-')[0]}]({name})" for name in figures]
    return ["## Layer by layer", _LAYER_WORDS, *pictures, table(rows, (), ("layer", "sensitivity", "negative"))]


@dataclass(frozen=True, slots=True)
class Layers:
    """The figure: one line of sensitivities per task."""

    lines: tuple[Profile, ...]


def layers(models: Sequence[Model]) -> Layers | None:
    """One profile per task (variants of one task measured the same), or None."""
    by_task = {one.task: one for one in reversed(profiles(models))}
    return Layers(tuple(by_task[task] for task in sorted(by_task))) if by_task else None


def draw(layers: Layers) -> Figure:
    """The figure in matplotlib: sensitivity on a logarithmic axis, with 95% bars over seeds."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.0, 3.6))
        axes = figure.add_axes((0.12, 0.14, 0.84, 0.76))
        axes.set_yscale("log")
        axes.set_title("Sensitivity of each encoder layer", fontsize=9.5, loc="left")
        axes.set_xlabel("layer, from the embeddings on")
        axes.set_ylabel("|mean| + std of the top eigenvalue (log)")
        axes.grid(True, color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        for place, line in enumerate(layers.lines):
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            values = [one.value for one in line.sensitivity]
            axes.plot(range(len(values)), values, color=colour, marker=marker, markersize=4, linewidth=1.0,
                      label=line.task)  # fmt: skip
            for i, one in enumerate(line.sensitivity):
                if one.low is not None and one.high is not None and one.low > 0:
                    axes.vlines(i, one.low, one.high, color=colour, linewidth=0.8, alpha=0.6)
        axes.set_xticks(range(max(len(line.sensitivity) for line in layers.lines)))
        axes.legend(frameon=False, fontsize=8)
        return figure
