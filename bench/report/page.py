"""One page per paper: every claim with its verdict, every task's scores beside the teacher's, times and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.claims.averages import recompute
from bench.claims.claim import Ledger
from bench.core.stats import mean, median
from bench.judge.verdict import Judged
from bench.judge.verdict import counts as tally
from bench.report.gather import BATCHES, Model, TaskScores, stages
from bench.report.landscape import Landscape, landscape
from bench.report.layers import Layers, layer_section, layers
from bench.report.markdown import counts, document, link, table
from bench.report.numbers import DASH, Interval, interval, percent, show, significant, spread
from bench.report.packed import packed_section
from bench.report.table import speed


def printed(entry: Judged) -> str:
    """The number as the paper printed it, or the order it stated."""
    claim = entry.claim
    if claim.value is None:
        return ("" if claim.is_printed else "not printed: ") + " < ".join(claim.order)
    return f"{claim.value:g} {claim.unit}" + ("" if claim.metric_stated else " (metric not stated)")


def _measured(entry: Judged) -> str:
    """The measured value in the printed unit; of an ordering, its smallest step."""
    if entry.measured is None:
        return DASH
    return f"{significant(entry.measured)} {'points' if entry.claim.kind == 'ordering' else entry.claim.unit}"


def claim_rows(judged: Sequence[Judged]) -> list[dict[str, str]]:
    """One row per claim, in ledger order: what was printed, what was measured, and why the verdict is what it is."""
    rows = []
    for entry in judged:
        claim = entry.claim
        bounds = DASH
        if entry.low is not None and entry.high is not None:
            bounds = f"[{significant(entry.low)}, {significant(entry.high)}]"
        told = "" if str(claim.transcription) == "seen" else f" ({claim.transcription})"
        rows.append({
            "claim": claim.id, "says": claim.says, "printed": printed(entry), "source": f"{claim.source}{told}",
            "measured": _measured(entry), "95% interval": bounds, "seeds": str(entry.seeds or DASH),
            "tier": str(entry.tier or DASH), "verdict": f"**{entry.verdict}**", "why": entry.why,
        })  # fmt: skip
    return rows


def page_figures(paper: str, models: Sequence[Model]) -> dict[str, Layers | Landscape]:
    """The figures of a paper's own page, by file name."""
    own = [model for model in models if model.paper == paper]
    found = {f"layers-{paper}.svg": layers(own), f"landscape-{paper}.svg": landscape(own)}
    return {name: figure for name, figure in found.items() if figure}


def paper_page(
    ledger: Ledger, judged: Sequence[Judged], models: Sequence[Model], page: Path, results: Path,
    figures: Sequence[str] = (),
) -> str:  # fmt: skip
    """The markdown of one paper."""
    sections: list[str] = [_head(ledger, page)]
    sections += ["## Verdicts", f"{sum(tally(judged).values())} claims: {counts(tally(judged)) or 'none'}."]
    for kind in sorted({str(entry.claim.kind) for entry in judged}):
        rows = claim_rows([entry for entry in judged if str(entry.claim.kind) == kind])
        sections += [f"### {kind.capitalize()}", table(rows, (), ("measured", "95% interval", "seeds"))]
    sections += [*_averages(ledger), "## Sources and conditions", _conditions(judged), "## Scores"]
    scored = [model for model in models if model.tasks]
    sections += [_scores(scored)] if scored else [_NO_SCORES if models else _NO_RECORDS]
    sections += [*_budgets(scored), *packed_section(models), *layer_section(models, figures)]
    timed = [row for model in models for row in _speeds(model)]
    if timed:
        sections += ["## Speed", _SPEED_WORDS, table(timed, (), ("latency, ms", "teacher, ms", "runs"))]
    spent = [row for model in models for row in _costs(model)]
    if spent:
        sections += ["## Cost of training", _COST_WORDS, table(spent, (), ("runs", "from cache", "median s", "steps"))]
    if models:
        sections += ["## Records", table([_records(model, page, results) for model in models], (), ("used", "failed"))]
    return document(ledger.paper.title, sections)


_NO_RECORDS = "No records yet: nothing was run."
_NO_SCORES = "No scores: the runs at hand measured size and speed only, or failed."
_AVERAGE_WORDS = "An average fits where the rounding of its cells explains the difference."
_BUDGET_WORDS = (
    "The same variant under several settings, by training rows: what more rows bring the student and its teacher. One "
    "of them enters the other tables: of those with two seeds or more, one scored on all rows, then the one with the "
    "most seeds, then the newest."
)
_SPEED_WORDS = (
    "Wall-clock time of one forward pass, without tokenisation. Latency is the median over runs; the speed-up is over "
    "the run's own teacher in the same session, rounds interleaved. Times of different machines are never pooled. Rows "
    "may have been timed under different load: compare a latency with the teacher's beside it only."
)
_COST_WORDS = (
    "Per stage, over the runs that did it. A stage taken from the cache was paid for by another run, "
    "and its time is not counted here again."
)


def _head(ledger: Ledger, page: Path) -> str:
    """The paper, its code, and where its deviations and what was tried are told."""
    paper = ledger.paper
    ways = [paper.venue]
    if paper.arxiv:
        ways.append(f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})")
    if paper.code:
        ways.append(f"[code]({paper.code})" + (f" at {paper.commit[:12]}" if paper.commit else ""))
    told = Path(ledger.file).with_name("README.md")
    ours = f" {link('Deviations, and why results fall short', told, page)}." if told.is_file() else ""
    return f"{', '.join(ways)}.{ours} Back to [the table](README.md)."


def _averages(ledger: Ledger) -> list[str]:
    """Every printed average beside the one that the paper's own cells give."""
    rows = []
    for claim in ledger.claims:
        found = recompute(ledger, claim)
        if found is not None:
            rows.append({
                "claim": claim.id, "tasks": f"{claim.average} ({len(claim.tasks)})", "printed": f"{found.printed:g}",
                "from its cells": show(found.recomputed, 2), "fits": "yes" if found.fits else "**no**",
                "why not": claim.misprint or DASH,
            })  # fmt: skip
    return ["## Averages, recomputed", _AVERAGE_WORDS, table(rows, (), ("printed", "from its cells"))] if rows else []


def _conditions(judged: Sequence[Judged]) -> str:
    """Where the numbers are printed, and under what conditions they were made."""
    groups: dict[tuple[str, ...], int] = {}
    for entry in judged:
        c = entry.claim
        key = c.source, c.conditions or DASH, c.device or DASH, c.aggregation, c.transcription
        groups[key] = groups.get(key, 0) + 1
    names = ("source", "conditions", "device", "aggregation", "transcription")
    rows = [dict(zip(names, key, strict=True)) | {"claims": str(number)} for key, number in groups.items()]
    return table(rows, (), ("claims",))


def _scores(models: Sequence[Model]) -> str:
    """Per scale, variant and task: the distribution over seeds, and the teacher's score on the same seeds."""
    rows = [_score_row(model, model.tasks[task]) for model in models for task in sorted(model.tasks)]
    words = (
        "Percent. † marks a task with runs that look degenerate; they are counted here, and the "
        "[notes](README.md#degenerate-runs) show each score without them. The spread is the sample standard deviation."
    )
    return "\n\n".join([words, table(rows, (), ("mean", "median", "spread", "n", "teacher, mean", "kept (%)"))])


def _score_row(model: Model, scores: TaskScores) -> dict[str, str]:
    values = [score.counted for score in scores.scores]
    taught = [score.teacher for score in scores.scores if score.teacher is not None]
    ratios = [score.counted / score.teacher for score in scores.scores if score.teacher]
    mark = " †" if any(score.degenerate for score in scores.scores) else ""
    return {
        "scale": model.scale, "variant": model.label, "task": scores.task + mark, "split": scores.split,
        "metric": scores.metric, "mean": interval(Interval.of(values).scaled(100)), "median": percent(median(values)),
        "spread": percent(spread(values)), "n": str(len(values)),
        "teacher, mean": percent(mean(taught) if taught else None),
        "kept (%)": interval(Interval.of(ratios).scaled(100)) if ratios else DASH,
        "by seed": " ".join(f"{s.seed}:{percent(s.value)}" for s in scores.scores),
    }  # fmt: skip


def _budgets(models: Sequence[Model]) -> list[str]:
    """Where a task was run under several settings: its scores by training rows."""
    rows = []
    shown = ("scale", "variant", "task", "metric", "mean", "n", "teacher, mean", "kept (%)")
    for model in models:
        for task in sorted({scores.task for scores in model.elsewhere} & set(model.tasks)):
            alike = [model.tasks[task], *(scores for scores in model.elsewhere if scores.task == task)]
            for scores in sorted(alike, key=lambda s: s.rows or 0):
                row = _score_row(model, scores) | {"rows": f"{scores.rows:,}" if scores.rows else DASH}
                rows.append({name: row[name] for name in (*shown[:3], "rows", *shown[3:])})
    return ["## Scores under other budgets", _BUDGET_WORDS, table(rows, (), ("rows", *shown[4:]))] if rows else []


def _speeds(model: Model) -> list[dict[str, str]]:
    rows = []
    for machine in model.machines():
        splits = {split for metric, split in model.found if metric in ("latency_s", "speedup")}
        for split in sorted(splits, key=lambda s: (s not in BATCHES, BATCHES.index(s) if s in BATCHES else 0, s)):
            own, teacher = (model.times(metric, split, machine) for metric in ("latency_s", "teacher_latency_s"))
            if own or teacher or model.speedup(machine, split):
                rows.append({
                    "scale": model.scale, "variant": model.label, "machine": machine, "batch and length": split,
                    "latency, ms": significant(median(own) * 1e3) if own else DASH,
                    "teacher, ms": significant(median(teacher) * 1e3) if teacher else DASH,
                    "speed-up": speed(model, machine, split), "runs": str(len(own)),
                })  # fmt: skip
    return rows


def _costs(model: Model) -> list[dict[str, str]]:
    return [
        {
            "scale": model.scale, "variant": model.label, "machine": row["machine"], "stage": row["stage"],
            "runs": str(row["runs"]), "from cache": str(row["from cache"]),
            "median s": show(row["median s"], 1), "steps": show(row["median steps"], 0),
        }
        for row in stages(model)
    ]  # fmt: skip


def _records(model: Model, page: Path, results: Path) -> Mapping[str, str]:
    folder = results / model.scale / model.paper / model.variant
    return {
        "scale": model.scale, "variant": model.label, "used": str(len(model.used)),
        "failed": str(len(model.failed)), "set aside": str(len(model.repeated) + len(model.aside)),
        "folder": link(f"results/{model.scale}/{model.paper}/{model.variant}", folder, page),
    }  # fmt: skip
