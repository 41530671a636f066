"""What a paper's page tells of each layer's bits and sensitivity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core.record import Record
from bench.core.stats import mean
from bench.report.gather import Model
from bench.report.markdown import table
from bench.report.numbers import DASH, Interval, geometric, interval, percent
from bench.report.plots import COLOURS, MARKERS, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LAYER_WORDS = (
    "The sensitivity is |mean| + std of the largest eigenvalue of the loss's Hessian in the layer, over random parts "
    "of the training rows: the geometric mean over seeds with its 95% interval. Negative counts the parts in which "
    "that eigenvalue was below zero; residual is the largest relative one of those eigenvalues, where it was kept. The "
    "landscape reaches as far as the radius in the run's settings. Under each variant stand the bits that it gave the "
    "layer, seed by seed."
)


@dataclass(frozen=True, slots=True)
class Profile:
    """The layers of one task's teachers, measured once per seed, and what variants made of them."""

    task: str
    measured: dict[int, list[list[float]]]
    """Seed -> per layer, its sensitivity."""
    eigenvalues: dict[int, list[list[float]]]
    """Seed -> per layer, the largest eigenvalue in each random part of the rows."""
    residuals: dict[int, list[list[float]]]
    """The same of their relative residuals, for the seeds whose records have them."""
    bits: dict[str, dict[int, list[float]]]
    """Variant -> seed -> the bits of each layer."""

    @property
    def sensitivity(self) -> tuple[Interval, ...]:
        """Per layer over the seeds: they differ by factors, so the mean is geometric."""
        by_layer = zip(*self.measured.values(), strict=True)
        values = ([one for (one,) in layer] for layer in by_layer)
        return tuple(geometric(layer) if min(layer) > 0 else Interval.of(layer) for layer in values)

    @property
    def negative(self) -> tuple[float, ...]:
        """Per layer, the share of the random parts whose largest eigenvalue is below zero."""
        by_layer = zip(*self.eigenvalues.values(), strict=True)
        return tuple(mean([float(value < 0) for one in layer for value in one]) for layer in by_layer)


def profiles(models: Sequence[Model]) -> list[Profile]:
    """Every task whose runs measured layers; variants stand together where their common seeds saw the same."""
    out: list[Profile] = []
    for model, task in ((m, t) for m in models for t in sorted({record.spec.task for record in m.used})):
        runs = [record for record in model.used if record.spec.task == task and _by_layer(record, "sensitivity")]
        if not runs:
            continue
        found = {record.spec.seed: _by_layer(record, "sensitivity") for record in runs}
        same = [one for one in out if one.task == task and _agree(one.measured, found)]
        if not same:
            out.append(Profile(task, {}, {}, {}, {}))
        home = same[0] if same else out[-1]
        home.measured.update(found)
        home.eigenvalues.update({record.spec.seed: _by_layer(record, "eigenvalue") for record in runs})
        home.residuals.update({r.spec.seed: told for r in runs if (told := _by_layer(r, "residual"))})
        home.bits[model.label] = {
            record.spec.seed: [bits for (bits,) in _by_layer(record, "bits")] for record in runs
        }  # fmt: skip
    return sorted(out, key=lambda one: (one.task, -len(one.measured)))


def _agree(some: dict[int, list[list[float]]], others: dict[int, list[list[float]]]) -> bool:
    common = some.keys() & others.keys()
    return bool(common) and all(some[seed] == others[seed] for seed in common)


def _told(one: Profile, variant: str, layer: int) -> str:
    """The bits of a layer by seed, in the order of all seeds that were measured; a dash for a seed without."""
    given = one.bits.get(variant, {})
    return " ".join(f"{given[seed][layer]:g}" if seed in given else DASH for seed in sorted(one.measured))


def _worst(one: Profile, layer: int) -> str:
    found = [value for layers in one.residuals.values() for value in layers[layer]]
    return percent(max(found)) + "%" if found else DASH


def _by_layer(record: Record, metric: str) -> list[list[float]]:
    """The numbers of each layer, in order; empty where the record has none."""
    found = {int(m.split[5:]): m.samples or [m.value or 0.0] for m in record.measurements
             if m.metric == metric and re.fullmatch(r"layer\d+", m.split)}  # fmt: skip
    return [found[i] for i in sorted(found)]


def layer_section(models: Sequence[Model], figures: Sequence[str]) -> list[str]:
    """Sensitivities and bits by layer, with the figures by their names, or nothing."""
    found = profiles(models)
    if not found:
        return []
    variants = sorted({name for one in found for name in one.bits})
    rows = [
        {"task": one.task, "layer": str(i), "sensitivity": interval(value, 3), "seeds": str(value.n),
         "negative": percent(one.negative[i]) + "%", "residual": _worst(one, i)}
        | {name: _told(one, name, i) for name in variants}
        for one in found for i, value in enumerate(one.sensitivity)
    ]  # fmt: skip
    pictures = [f"![{name.split('-')[0]}]({name})" for name in figures]
    return [
        "## Layer by layer",
        _LAYER_WORDS,
        *pictures,
        table(rows, (), ("layer", "sensitivity", "seeds", "negative", "residual")),
    ]


@dataclass(frozen=True, slots=True)
class Layers:
    """The figure: one line of sensitivities per task."""

    lines: tuple[Profile, ...]


def layers(models: Sequence[Model]) -> Layers | None:
    """The profile of each task with the most seeds, or None."""
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
