"""What only Q-BERT's page shows: packed files, and the bits and sensitivity of each layer with the figures of both."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.report.numbers import DASH, Estimate, interval, mean_of, percent, percent_of, ratio_of, show
from bench.report.page import Block, Cell, Figure, Note, Outcome, Section, Table
from bench.report.plots import COLOURS, MARKERS, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

FILE, FORMULA = "packed-file", "packed-formula"
"""Splits of size_bytes: the file that was written, and what the paper's arithmetic gives for it."""

MOST_PANELS = 3
"""Landscapes side by side; a fourth would not be readable."""

_SIZES = (
    "Three things that are not the same. By arithmetic: parameters times bits, as the paper counts. File: what was "
    "written, read back and scored, ranges and floats included. Kernel: what the file's weights were also run on; "
    "int8 means real 8-bit multiplications on the processor named, whose speed-up over the fp32 teacher is its own. "
    "Elsewhere on this page the rounded weights are floats while they are used, and nothing is faster."
)
_SCORES = (
    "The score of each task's first split: of the model as it was trained, and of the same file on 8-bit kernels, in "
    "percent; the difference is paired by seed, in points. Alike counts the runs whose file, read back, has exactly "
    "the trained model's score on every split; beside it stands the largest difference of any logit."
)
_LAYERS = (
    "The sensitivity is |mean| + std of the largest eigenvalue of the loss's Hessian in the layer, over random parts "
    "of the training rows: the geometric mean over seeds with its 95% interval. Negative counts the parts in which "
    "that eigenvalue was below zero; residual is the largest relative one of those eigenvalues, where it was kept. "
    "The landscape reaches as far as the radius in the run's settings. Under each variant stand the bits that it gave "
    "the layer, seed by seed."
)


def sections(outcomes: Sequence[Outcome]) -> list[Section]:
    """The sections of the page, those without content left out."""
    speaking = [one for one in outcomes if one.speaks]
    return [*_packed(speaking), *_layers(speaking)]


def _packed(outcomes: Sequence[Outcome]) -> list[Section]:
    """What packed files weigh, what they answer, and what runs on 8-bit kernels."""
    packed: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for one in outcomes:
        if one.value("size_bytes", FILE):
            packed[one.scale, one.label].append(one)
    if not packed:
        return []
    scores = [_score_row(found, task) for found in packed.values() for task in sorted({one.task for one in found})]
    right = ("floats, MB", "file, MB", "by arithmetic, MB", "smaller")
    return [Section("Packed files", (
        Note(_SIZES), Table.of([_size_row(found) for found in packed.values()], (), right),
        Note(_SCORES), Table.of(scores, (), ("seeds", "as trained", "on int8", "difference", "largest logit")),
    ))]  # fmt: skip


def _size_row(found: Sequence[Outcome]) -> dict[str, Cell]:
    floats, file, formula = (_typical(found, split) for split in ("artefact", FILE, FORMULA))
    kernels = sorted({split.split("-", 2)[2] for one in found for metric, split in one.numbers
                      if metric == "latency_s" and split.count("-") == 2})  # fmt: skip
    speeds: dict[str, list[float]] = defaultdict(list)
    for one in found:
        ratio = one.value("speedup", "batch1-length128-int8")
        if ratio:
            speeds[one.machine].append(ratio)
    return {
        "scale": found[0].scale, "variant": found[0].label,
        "floats, MB": show(_mb(floats), 2), "file, MB": show(_mb(file), 2),
        "by arithmetic, MB": show(_mb(formula), 2),
        "smaller": f"{floats / file:.1f}x" if floats and file else DASH,
        "kernel": ", ".join(kernels) or "floats",
        "its speed-up": "; ".join(f"{interval(ratio_of(ratios), 2, 'x')} on {machine}"
                                  for machine, ratios in sorted(speeds.items())) or DASH,
    }  # fmt: skip


def _typical(found: Sequence[Outcome], split: str) -> float | None:
    values = sorted(value for one in found if (value := one.value("size_bytes", split)) is not None)
    return values[len(values) // 2] if values else None


def _mb(size: float | None) -> float | None:
    return size / 1e6 if size else None


def _score_row(every: Sequence[Outcome], task: str) -> dict[str, Cell]:
    found = [one for one in every if one.task == task]
    trained, kernel = ({one.seed: value for one in found if (value := one.value(metric or one.metric, one.split))
                        is not None} for metric in ("", "int8_score"))  # fmt: skip
    both = sorted(trained.keys() & kernel.keys())
    logits = [number.value for one in found for (metric, _), number in one.numbers.items()
              if metric == "packed_difference" and number.value is not None]  # fmt: skip
    return {
        "scale": found[0].scale, "variant": found[0].label, "task": task, "seeds": str(len(found)),
        "as trained": percent_of(list(trained.values())), "on int8": percent_of(list(kernel.values())),
        "difference": percent_of([kernel[seed] - trained[seed] for seed in both]),
        "alike": f"{sum(map(_alike, found))} of {len(found)}",
        "largest logit": f"{max(logits):.1g}" if logits else DASH,
    }  # fmt: skip


def _alike(one: Outcome) -> bool:
    """Whether the file that was read back has exactly the score of the model that was packed, on every split."""
    packed = {split: number.value for (metric, split), number in one.numbers.items() if metric == "packed_score"}
    return bool(packed) and all(one.value(one.metric, split) == score for split, score in packed.items())


@dataclass(frozen=True, slots=True)
class Profile:
    """The layers of one task's base models, measured once per seed, and what variants made of them."""

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
    def sensitivity(self) -> tuple[Estimate, ...]:
        """Per layer over the seeds: they differ by factors, so the mean is geometric."""
        by_layer = zip(*self.measured.values(), strict=True)
        values = ([one for (one,) in layer] for layer in by_layer)
        return tuple(ratio_of(layer) if min(layer) > 0 else mean_of(layer) for layer in values)

    @property
    def negative(self) -> tuple[float, ...]:
        """Per layer, the share of the random parts whose largest eigenvalue is below zero."""
        by_layer = zip(*self.eigenvalues.values(), strict=True)
        return tuple(fmean(float(value < 0) for one in layer for value in one) for layer in by_layer)


def profiles(outcomes: Sequence[Outcome]) -> list[Profile]:
    """Every task whose runs measured layers; variants stand together where their common seeds saw the same."""
    by_variant: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
    for one in outcomes:
        if _by_layer(one, "sensitivity"):
            by_variant[one.scale, one.label, one.task].append(one)
    out: list[Profile] = []
    for (_, label, task), runs in by_variant.items():
        found = {one.seed: _by_layer(one, "sensitivity") for one in runs}
        same = [one for one in out if one.task == task and _agree(one.measured, found)]
        if not same:
            out.append(Profile(task, {}, {}, {}, {}))
        home = same[0] if same else out[-1]
        home.measured.update(found)
        home.eigenvalues.update({one.seed: _by_layer(one, "eigenvalue") for one in runs})
        home.residuals.update({one.seed: told for one in runs if (told := _by_layer(one, "residual"))})
        home.bits[label] = {one.seed: [bits for (bits,) in _by_layer(one, "bits")] for one in runs}
    return sorted(out, key=lambda one: (one.task, -len(one.measured)))


def _by_layer(one: Outcome, metric: str) -> list[list[float]]:
    """The numbers of each layer, in order; empty where the run has none."""
    found = {int(split[5:]): list(number.samples) or [number.value or 0.0]
             for (name, split), number in one.numbers.items()
             if name == metric and re.fullmatch(r"layer\d+", split)}  # fmt: skip
    return [found[i] for i in sorted(found)]


def _agree(some: dict[int, list[list[float]]], others: dict[int, list[list[float]]]) -> bool:
    common = some.keys() & others.keys()
    return bool(common) and all(some[seed] == others[seed] for seed in common)


def _layers(outcomes: Sequence[Outcome]) -> list[Section]:
    """Sensitivities and bits by layer, with the figures."""
    found = profiles(outcomes)
    if not found:
        return []
    variants = sorted({name for one in found for name in one.bits})
    rows: list[Mapping[str, Cell]] = [
        {"task": one.task, "layer": str(i), "sensitivity": interval(value, 3), "seeds": str(value.n),
         "negative": percent(one.negative[i]) + "%", "residual": _worst(one, i)}
        | {name: _told(one, name, i) for name in variants}
        for one in found for i, value in enumerate(one.sensitivity)
    ]  # fmt: skip
    drawn: list[Block] = [figure for figure in (sensitivity_figure(found), landscape_figure(outcomes)) if figure]
    table = Table.of(rows, (), ("layer", "sensitivity", "seeds", "negative", "residual"))
    return [Section("Layer by layer", (Note(_LAYERS), *drawn, table))]


def _told(one: Profile, variant: str, layer: int) -> str:
    """The bits of a layer by seed, in the order of all seeds that were measured; a dash for a seed without."""
    given = one.bits.get(variant, {})
    return " ".join(f"{given[seed][layer]:g}" if seed in given else DASH for seed in sorted(one.measured))


def _worst(one: Profile, layer: int) -> str:
    found = [value for layers in one.residuals.values() for value in layers[layer]]
    return percent(max(found)) + "%" if found else DASH


def sensitivity_figure(found: Sequence[Profile]) -> Figure:
    """One line of sensitivities per task: of each the profile with the most seeds."""
    by_task = {one.task: one for one in reversed(found)}
    lines = [{"task": task, "layers": [[one.value, *(one.interval() or (None, None))]
                                       for one in by_task[task].sensitivity]}
             for task in sorted(by_task)]  # fmt: skip
    return Figure("layers-qbert.svg", "Sensitivity of each layer", f"{__name__}:draw_sensitivity", {"lines": lines})


def draw_sensitivity(data: Mapping[str, Any]) -> Drawing:
    """Sensitivity on a logarithmic axis, with 95% bars over seeds."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=(6.0, 3.6))
        axes = drawing.add_axes((0.12, 0.14, 0.84, 0.76))
        axes.set_yscale("log")
        axes.set_title("Sensitivity of each encoder layer", fontsize=9.5, loc="left")
        axes.set_xlabel("layer, from the embeddings on")
        axes.set_ylabel("|mean| + std of the top eigenvalue (log)")
        for place, line in enumerate(data["lines"]):
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            values = [value for value, _, _ in line["layers"]]
            axes.plot(range(len(values)), values, color=colour, marker=marker, markersize=4, linewidth=1.0,
                      label=line["task"])  # fmt: skip
            for i, (_, low, high) in enumerate(line["layers"]):
                if low is not None and low > 0:
                    axes.vlines(i, low, high, color=colour, linewidth=0.8, alpha=0.6)
        axes.set_xticks(range(max(len(line["layers"]) for line in data["lines"])))
        axes.legend(frameon=False, fontsize=8)
        return drawing


def landscape_figure(outcomes: Sequence[Outcome]) -> Figure | None:
    """The loss around the model of each task's run with the lowest seed, on a square grid; None without any."""
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for one in outcomes:
        for (metric, split), number in one.numbers.items():
            points = math.isqrt(len(number.samples))
            if metric != "landscape" or points < 2 or points**2 != len(number.samples):
                continue
            loss = [list(number.samples[i * points : (i + 1) * points]) for i in range(points)]
            where = re.sub(r"layer(\d+)", r"layer \1", split)
            title = f"{one.task}, {where}, seed {one.seed}"
            if one.task not in found or one.seed < found[one.task][0]:
                found[one.task] = one.seed, {"title": title, "loss": loss}
    panels = [found[task][1] for task in sorted(found)][:MOST_PANELS]
    says = "The loss around a model along the two directions in which it bends most"
    return Figure("landscape-qbert.svg", says, f"{__name__}:draw_landscape", {"panels": panels}) if panels else None


def draw_landscape(data: Mapping[str, Any]) -> Drawing:
    """Contours of the loss, each panel with a scale of its own."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    panels = data["panels"]
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        width = 3.6 * len(panels) + 0.3
        drawing = Drawing(figsize=(width, 3.4))
        for place, panel in enumerate(panels):
            axes = drawing.add_axes(((0.5 + 3.6 * place) / width, 0.14, 2.6 / width, 0.74))
            filled = axes.contourf(panel["loss"], levels=12, cmap="viridis")
            middle = (len(panel["loss"]) - 1) / 2
            axes.plot(middle, middle, marker="o", color="white", markeredgecolor="black", markersize=5)
            axes.set_title(panel["title"], fontsize=9, loc="left")
            axes.set_xlabel("along the second eigenvector")
            axes.set_ylabel("along the first eigenvector")
            axes.set_xticks([])
            axes.set_yticks([])
            place_of_bar = ((3.15 + 3.6 * place) / width, 0.14, 0.1 / width, 0.74)
            bar = drawing.colorbar(filled, cax=drawing.add_axes(place_of_bar))
            bar.ax.tick_params(labelsize=7)
        return drawing
