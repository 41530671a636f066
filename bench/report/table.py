"""The "no free lunch" table: what each variant keeps of its teacher, and what each costs, on each machine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from bench.report.averages import averages
from bench.report.gather import BATCHES, Model, Name
from bench.report.markdown import bullets, counts, table
from bench.report.numbers import DASH, Interval, interval, percent, show

Verdicts = Mapping[Name, Mapping[str, int]]
"""Verdict counts per model."""

RIGHT = ("params (M)", "teacher (M)", "MB on disk", "GFLOPs", "seeds")


def overview(models: Sequence[Model], verdicts: Verdicts) -> str:
    """The table and the task lists that its letters stand for."""
    letters: dict[tuple[str, ...], str] = {}
    rows: list[dict[str, str]] = []
    for model in models:
        tasks = tuple(f"{t} ({model.tasks[t].metric}, {model.tasks[t].split})" for t in model.glue_tasks())
        if tasks:
            letters.setdefault(tasks, _letter(len(letters)))
        shared = _quality(model, letters.get(tasks, ""))
        for place, machine in enumerate(model.machines()):
            fixed = shared if place == 0 else dict.fromkeys(shared, '"')
            stand_in = any(record.hyper.get("guessed") for record in model.used)
            names = {"paper": model.paper, "variant": model.label + " ‡" * stand_in, "scale": model.scale}
            rows.append(names | fixed | _times(model, machine) | _verdicts(model, verdicts, place))
    columns = [
        "paper", "variant", "scale", "params (M)", "MB on disk", "GFLOPs", "speed-up, batch 1", "speed-up, batch 32",
        "machine", "GLUE score", "retention (%)", "teacher (M)", "tasks", "seeds", "training, s per run", "tier",
        "verdicts",
    ]  # fmt: skip
    lists = [f"**{letter}**: {', '.join(tasks)}" for tasks, letter in letters.items()]
    return "\n\n".join([table(rows, columns, RIGHT), *(["Task lists:", bullets(lists)] if lists else [])])


def _letter(place: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    return ("" if place < 26 else _letter(place // 26 - 1)) + chr(ord("a") + place % 26)


def _quality(model: Model, letter: str) -> dict[str, str]:
    flops, parameters = model.typical("flops", BATCHES[0]), model.typical("parameters", "all")
    both = averages(model)
    kept = both[1] if both else None
    suspect = any(score.degenerate for t in model.glue_tasks() for score in model.tasks[t].scores)
    return {
        "params (M)": millions(parameters),
        "MB on disk": _megabytes(model),
        "GFLOPs": show(flops and flops / 1e9, 2),
        "GLUE score": (interval(both[0].scaled(100)) if both else DASH) + (" †" if suspect else ""),
        "retention (%)": _retention(model, kept),
        "teacher (M)": millions(model.teacher_parameters),
        "tasks": f"{len(model.glue_tasks())}: {letter}" if letter else DASH,
        "seeds": seeds(model),
        "tier": ", ".join(sorted({record.tier for record in model.used})) or DASH,
    }


def _megabytes(model: Model) -> str:
    """What lies on a disk; a size that is only computed says so."""
    packed = model.typical("size_bytes", "packed")
    if model.size_bytes is None and packed is not None:
        return f"({packed / 1e6:.1f} by arithmetic)"
    shown = show(model.size_bytes and model.size_bytes / 1e6, 1)
    file = model.typical("size_bytes", "packed-file")
    return shown if file is None else f"{shown}; packed {show(file / 1e6, 1)}"


def millions(number: float | None) -> str:
    """A count shown in millions."""
    return show(number and number / 1e6, 2 if number and number < 1e7 else 1)


def _retention(model: Model, kept: Interval | None) -> str:
    if kept is not None and not math.isnan(kept.value):
        return interval(kept.scaled(100))
    return "reference" if model.reference else DASH


def seeds(model: Model) -> str:
    """How many seeds each task has: `5`, or `3-5` where tasks differ."""
    per_task = Counter(record.spec.task for record in model.used)
    low, high = min(per_task.values(), default=0), max(per_task.values(), default=0)
    return str(low) if low == high else f"{low}-{high}"


def _times(model: Model, machine: str) -> dict[str, str]:
    cost = model.training_seconds(machine)
    paid = DASH
    if cost:
        seconds, runs = cost
        paid = f"{show(seconds, 0 if seconds >= 100 else 1)} ({runs} run{'s' if runs > 1 else ''})"
    first, second = (speed(model, machine, batch) for batch in BATCHES)
    kernels = model.speedup(machine, f"{BATCHES[0]}-int8")
    if kernels:
        first += f"; int8 {interval(kernels, 2, 'x')}"
    return {
        "speed-up, batch 1": first,
        "speed-up, batch 32": second,
        "machine": machine,
        "training, s per run": paid,
    }


def speed(model: Model, machine: str, split: str) -> str:
    """`1.93x [1.90, 1.96]`; the reference, which is compared with nothing, is 1 by definition."""
    found = model.speedup(machine, split)
    compared = any(metric == "speedup" for metric, _ in model.found)
    return interval(found, 2, "x") if found else ("1 (reference)" if model.reference and not compared else DASH)


def _verdicts(model: Model, verdicts: Verdicts, place: int) -> dict[str, str]:
    return {"verdicts": '"' if place else counts(verdicts.get(model.name, {})) or DASH}


def degenerates(models: Sequence[Model]) -> str:
    """Every suspect run, and each affected score and average with and without them; nothing is dropped."""
    runs: list[dict[str, str]] = []
    pairs: list[dict[str, str]] = []
    for model in models:
        affected = {t: s for t, s in sorted(model.tasks.items()) if any(x.degenerate for x in s.scores)}
        for task, scores in affected.items():
            for score in scores.scores:
                if score.degenerate:
                    runs.append(model.where() | {
                        "task": task, "seed": str(score.seed), "score": percent(score.value),
                        "why it is suspect": score.degenerate, "record": score.record.id,
                    })  # fmt: skip
            rest = scores.without_degenerate()
            pairs.append(model.where() | {
                "score": f"{task} {scores.metric}, mean",
                "with": interval(Interval.of([s.counted for s in scores.scores]).scaled(100)),
                "without": interval(Interval.of([s.counted for s in rest]).scaled(100)) if rest else DASH,
                "runs": f"{len(scores.scores)} / {len(rest)}",
            })  # fmt: skip
        if affected.keys() & set(model.glue_tasks()):
            pairs += _average_pairs(model)
    if not runs:
        return "No run looks degenerate (constant predictions, an undefined metric, the majority class's score)."
    listed = ["scale", "paper", "variant", "task", "seed", "score", "why it is suspect", "record"]
    return "\n\n".join([
        table(runs, listed, ("seed", "score")),
        "With and without them (an undefined score counts as 0 in the averages; the table above is *with*):",
        table(pairs),
    ])  # fmt: skip


def _average_pairs(model: Model) -> list[dict[str, str]]:
    both, rest = averages(model), averages(model, keep=lambda score: not score.degenerate)
    return [
        model.where() | {
            "score": name,
            "with": interval(both[place].scaled(100)) if both else DASH,
            "without": interval(rest[place].scaled(100)) if rest else DASH,
            "runs": "",
        }
        for place, name in enumerate(("GLUE score", "retention (%)"))
        if both and not math.isnan(both[place].value)
    ]  # fmt: skip
