"""What `bench show` prints: a claim, a run or a variant on one screen."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.claims.averages import recompute
from bench.claims.claim import Claim, Ledger
from bench.core.errors import SpecError
from bench.judge.chance import QUALITY
from bench.judge.rules import VERDICTS, Judged
from bench.judge.runs import SHAPE, Run
from bench.judge.series import Series, SeriesIndex
from bench.report.claims import p_value, printed, with_interval
from bench.report.headlines import fine_print
from bench.report.listing import read
from bench.report.numbers import DASH, interval
from bench.report.papers import MEANINGS, NOTHING
from bench.report.rows import INT8, ONE, Row, rows


def show(results: Path, name: str) -> list[tuple[str, str]]:
    """(heading, text) lines about a claim, a run or a variant, or about all claims whose ids begin with a name.

    Raises: SpecError for a name that is none of them, with the closest ones.
    """
    ledgers, book, judged = read(results)
    index = book.index
    entry = next((entry for entry in judged if entry.claim.id == name), None)
    if entry is not None:
        owner = next(ledger for ledger in ledgers if ledger.paper.name == entry.claim.paper)
        return _claim(owner, entry, index)
    if name in index.by_id:
        return _run(index.by_id[name], judged)
    keys = [key for key in index.keys if key[1] == name]
    own = [entry for entry in judged if entry.claim.variant == name and entry.claim.maker == entry.claim.paper]
    if keys or own:
        references = {ledger.paper.name for ledger in ledgers if ledger.paper.reference}
        key = keys[0] if keys else (own[0].claim.paper, name)
        return _variant(key, [row for row in rows(book, references)
                              if (row.paper, row.suite.variant) == key], own)  # fmt: skip
    below = [entry for entry in judged if entry.claim.id.startswith(f"{name.rstrip('.')}.")]
    if below:
        return [(entry.claim.id, _one_line(entry, index)) for entry in below]
    names = [entry.claim.id for entry in judged] + list(index.by_id) + [key[1] for key in index.keys]
    names += sorted({".".join(entry.claim.id.split(".")[:2]) for entry in judged})
    close = difflib.get_close_matches(name, names, 3, 0.5)
    raise SpecError("no claim, run or variant has this name", found=name,
                    expected=f"for example {', '.join(close)}" if close else "an id of bench claims, or a variant",
                    fix="bench list for variants, bench claims --paper PAPER --kind KIND for ids")  # fmt: skip


def _one_line(entry: Judged, index: SeriesIndex) -> str:
    """The verdict, what the claim says, and what was measured; of a ranking, on which tasks."""
    how = "Computed" if entry.claim.by_arithmetic else "Measured"
    if entry.claim.kind == "ordering" and entry.records:
        how += f" on {', '.join(sorted({index.by_id[name].task for name in entry.records}))}"
    measured = "" if entry.measured is None else f" {how}: {with_interval(entry)}."
    return f"{entry.verdict}: {entry.claim.says}{measured}"


def _claim(ledger: Ledger, entry: Judged, index: SeriesIndex) -> list[tuple[str, str]]:
    claim = entry.claim
    lines = [("claim", f"{claim.id}: {claim.says}"), ("printed", printed(claim)), *_source(ledger, claim)]
    again = recompute(ledger, claim)
    if again is not None:
        fits = "fits" if again.fits else "does not fit"
        lines.append(("recomputed", f"{again.recomputed:.2f} from its own cells, which {fits}"))
    if claim.kind != "ordering":
        low, high = ledger.printed_band(claim)
        tolerance = ledger.tolerance(claim)
        unit = "% of the teacher's" if claim.unit == "% of" else claim.unit
        lines.append(("band", f"{low:.4g} to {high:.4g} {unit}" + (f": {tolerance.why}" if tolerance else "")))
    told = "" if entry.p is None else f", p {p_value(entry)}"
    _, settles = MEANINGS[entry.verdict]
    lines += [("measured", with_interval(entry)), ("verdict", entry.verdict + told), ("why", entry.why)]
    if settles != NOTHING and entry.verdict != "inconclusive":  # of which `why` says it, with the number of seeds
        lines.append(("what would change it", settles))
    if claim.fine_print:
        lines.append(("fine print", fine_print(ledger, claim)))
    runs = [index.by_id[name] for name in entry.records if name in index.by_id]
    return lines + [("run", _short(run, claim)) for run in runs[:20]] + (
        [("", f"and {len(runs) - 20} more")] if len(runs) > 20 else [])  # fmt: skip


def _source(ledger: Ledger, claim: Claim) -> list[tuple[str, str]]:
    if claim.derived_from:
        parts = [ledger.by_id[name] for name in claim.derived_from]
        return [("made of", f"{part.id}: {printed(part)}, {part.source}") for part in parts]
    by = claim.printed_by or ledger.paper.title
    told = [("printed by", by), ("source", f"{claim.source} ({claim.transcription})")]
    return told + [(name, text) for name, text in (("conditions", claim.conditions), ("device", claim.device)) if text]


def _short(run: Run, claim: Claim | None = None) -> str:
    """A run with the number that a claim is about; else with its scores, or its speed."""
    if claim and claim.metric not in QUALITY and (own := run.value(claim.metric, claim.split)) is not None:
        told = [f"{claim.metric} {_with_unit(claim.metric, own)}"]
    else:
        told = [f"{metric} {entry.value:.4f} on {split}" for (metric, split), entry in run.measured.items()
                if entry.value is not None and metric in QUALITY]  # fmt: skip
        speed = run.value("speedup", ONE)
        told += [f"speed-up {speed:.2f} at batch 1"] if speed and not told else []
    return f"{run.id} ({run.scale}, {run.variant}, {run.task}, seed {run.seed}): {', '.join(told) or 'sizes'}"


def _run(run: Run, judged: Sequence[Judged]) -> list[tuple[str, str]]:
    tier = run.tier + (", proxy for times on another device" if run.timed else "")
    code = f"{run.code.commit[:12]}{' with uncommitted changes' if run.code.dirty else ''}"
    lines = [
        ("run", _short(run) if run.ok else f"{run.id}: failed"), ("status", "ok" if run.ok else run.reason),
        ("tier", tier), ("started", run.started), ("machine", run.environment.machine), ("code", code),
    ]  # fmt: skip
    budget = ", ".join(f"{name} {value}" for name, value in run.settings.budget.items() if value is not None)
    lines += [("budget", budget or "the recipe's own"), ("teacher", run.teacher or DASH)]
    if run.data is not None:
        lines.append(("rows", ", ".join(f"{split} {number:,}" for split, number in sorted(run.data.rows.items()))))
    lines += [("measured", f"{metric} {split}: {_with_unit(metric, entry.value)}")
              for (metric, split), entry in run.measured.items() if entry.value is not None]  # fmt: skip
    judging = [entry.claim.id for entry in judged if run.id in entry.records]
    told = f"{len(judging)} claims" + (f", among them {', '.join(judging[:3])}" if judging else "")
    return [*lines, ("judges", told)]


def _with_unit(metric: str, value: float) -> str:
    """`1,934 MB`, `7.76 ms`; a metric's name tells its unit."""
    if metric.endswith("bytes"):
        return f"{value / 1e6:,.1f} MB"
    if metric.endswith("_s"):
        return f"{value * 1e3:.3g} ms"
    return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:.6g}"


def _variant(key: tuple[str, str], found: Sequence[Row], own: Sequence[Judged]) -> list[tuple[str, str]]:
    numbers = Counter(entry.verdict for entry in own if entry.claim.is_printed)
    told = ", ".join(f"{numbers[verdict]} {verdict}" for verdict in VERDICTS if verdict in numbers) or "none"
    lines = [("variant", f"{key[1]} of {key[0]}"), ("claims", told)]
    for row in found:
        size = row.typical("parameters", "all")
        lines.append(("suite", f"scale {row.scale}, {row.label}" + (f", {size / 1e6:.1f}M parameters" if size else "")))
        lines += [("", _series(row, series)) for series in row.suite.best.values() if row.scale != SHAPE]
        for machine in row.suite.machines():
            for split, kernels in ((ONE, ""), (INT8, ", int8")):
                ratio = row.speedup(machine, split)
                told = f"speed-up at batch 1 on {machine}{kernels}"
                lines += [("", f"{told}: {interval(ratio, 2, 'x')}")] if ratio else []
    return lines if found else [*lines, ("runs", "none yet: bench run --variant NAME, or bench measure --variant NAME")]


def _series(row: Row, series: Series) -> str:
    scores = row.book.of_series(row.suite, series)
    if scores is None:
        return f"{series.task}: no score"
    kept = scores.kept()
    share = f", {interval(kept, factor=100)}% of its teacher's" if kept else ""
    if scores.at_chance:  # a share of a guess means nothing
        share = f"; at chance: {scores.at_chance}"
    average = scores.average()
    return (f"{series.task}: {interval(average.estimate, factor=100)} {scores.entries[0].metrics[0]} over "
            f"{len(series.runs)} seed{'s' * (len(series.runs) != 1)}{share}")  # fmt: skip
