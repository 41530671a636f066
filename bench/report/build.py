"""Renders reports/ from records and claims, and writes or checks it.  Same inputs, same bytes; never imports torch.

`bench report` writes the first screen (README.md), table.md, environments.md, budgets.md, a page per paper, the named
tables and the claims as CSV, JSON and LaTeX, the figures, and index.html; `bench report --check` writes nothing and
lists what is stale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.claims.claim import Ledger
from bench.claims.ledger import load_all
from bench.core import registry, store
from bench.core.collection import no_collection
from bench.core.errors import BenchError, RecordError
from bench.core.spec import record_scales
from bench.judge.runs import read_each
from bench.judge.scores import ScoreBook
from bench.judge.series import SeriesIndex
from bench.judge.verdict import judge
from bench.report import (
    budgets,
    environments,
    exchange,
    formats,
    html,
    launches,
    markdown,
    paper,
    papers,
    screen,
    table,
)
from bench.report.drawing import Drawing
from bench.report.page import Page, Section, figures, tables
from bench.report.rows import Row, rows
from bench.report.systems import systems

REAL = ("small", "full", "shape")
"""What reports/ covers; made-up data (smoke) has a report of its own."""


@dataclass(frozen=True, slots=True)
class Request:
    """What `bench report` was asked for."""

    results: tuple[Path, ...]
    """Folders of records; machines that only a later one has stand beside those of the first."""
    reports: Path
    ledgers: tuple[Ledger, ...]
    scales: tuple[str, ...] = REAL
    broken: Mapping[str, str] = field(default_factory=dict)
    """The reason of each paper that could not be read."""


@dataclass(frozen=True, slots=True)
class Report:
    """All files of a report as text, and the lines that sum it up."""

    files: Mapping[Path, str]
    summary: tuple[str, ...]


def request(results: Sequence[Path], reports: Path, scale: str = "") -> Request:
    """The report of a scale (`smoke`, or empty for the real ones) over the ledgers of all known papers.

    Raises: SpecError for an unknown scale.
    """
    record_scales([scale] if scale else [])
    ledgers, broken = load_all()
    made_up = scale == "smoke"
    return Request(tuple(results), reports / scale if made_up else reports, tuple(ledgers),
                   (scale,) if made_up else REAL, broken)  # fmt: skip


def write(asked: Request) -> Report:
    """Writes every file, each atomically, and removes files of ours that are no longer made.

    Raises: RecordError for an unreadable record, a folder without any, or one that cannot be written.
    """
    report = make(asked)
    for path in sorted(report.files):
        store.write_atomic(path, report.files[path])
    for path in _orphans(asked.reports, report.files):
        path.unlink()
    return report


def stale(asked: Request) -> list[Path]:
    """The files on disk that differ from what `write` would write, sorted; writes nothing."""
    files = make(asked).files
    changed = [path for path, text in files.items() if not path.is_file() or path.read_bytes() != text.encode()]
    return sorted([*changed, *_orphans(asked.reports, files)])


def make(asked: Request) -> Report:
    """The report.  Raises: RecordError for an unreadable record, or a folder that is missing or has none."""
    # Looking for cycles among all runs again and again would double the time.
    with no_collection(), Drawing() as drawing:
        found = read_each(asked.results, asked.scales)
        if not any(found):
            raise RecordError("there are no records", where=", ".join(map(str, asked.results)),
                              expected=f"records of {', '.join(asked.scales)}",
                              fix="bench run smoke, or --results FOLDER")  # fmt: skip
        known = {run.environment.machine for run in found[0]}
        new = {run.environment.machine for more in found[1:] for run in more} - known
        return render(asked, SeriesIndex(run for runs in found for run in runs), drawing, sorted(new))


def render(asked: Request, index: SeriesIndex, drawing: Drawing, beside: Sequence[str] = ()) -> Report:
    """All files of a report; a pure function of what it is given."""
    ledgers = sorted(asked.ledgers, key=lambda ledger: ledger.paper.name)
    book = ScoreBook(index)
    judged = judge(ledgers, book)
    every = rows(book, {ledger.paper.name for ledger in ledgers if ledger.paper.reference})
    views = systems(ledgers, judged, book)
    names = {ledger.paper.name for ledger in ledgers}
    own = {name: [row for row in every if row.paper == name] for name in names}
    more, unread = _more(own)
    bands = tolerance_digest(ledgers)
    broken = {**asked.broken, **unread}
    first = screen.page(ledgers, judged, views, index, broken, beside, bands)
    lists = table.page(every, judged, launches.section(index))
    rules, allowed = papers.page(ledgers, judged, bands), budgets.page(every, index)
    pages = [first, lists, rules, environments.page(index.runs), allowed]
    for ledger in ledgers:
        name = ledger.paper.name
        verdicts = [entry for entry in judged if entry.claim.paper == name]
        pages.append(paper.page(ledger, verdicts, own[name], names, asked.results[0], asked.reports, more[name]))
    drawing.draw([figure for page in pages for figure in figures(page.blocks)])
    files = {asked.reports / page.file: _rendered(page, bands) for page in pages}
    for one in (named for page in pages for named in tables(page)):
        files[asked.reports / f"{one.name}.csv"] = formats.csv(one)
        files[asked.reports / f"{one.name}.json"] = formats.as_json(one)
        files[asked.reports / f"{one.name}.tex"] = formats.latex(one)
    files |= {asked.reports / name: text for name, text in exchange.files(judged).items()}
    files |= {asked.reports / name: text for name, text in drawing.drawn().items()}
    source = html.Source(first, lists, rules, allowed, ledgers, judged, views, index, asked.results[0], asked.reports,
                         bands)  # fmt: skip
    files[asked.reports / html.FILE] = html.render(source)
    readme = (asked.reports / "README.md").as_posix()
    return Report(files, tuple(screen.summary(judged, views, index, readme, beside)))


def _rendered(page: Page, bands: str) -> str:
    return markdown.render(page) + f"\n<!-- tolerance bands {bands} -->\n"


def _more(rows_of: Mapping[str, Sequence[Row]]) -> tuple[dict[str, tuple[Section, ...]], dict[str, str]]:
    """The sections that papers bring themselves (papers/<name>/sections.py), and why those of some cannot be read."""
    found: dict[str, tuple[Section, ...]] = {}
    unread: dict[str, str] = {}
    for name in sorted(rows_of):
        found[name] = ()
        try:
            sections = registry.load_sections(name)
            if sections and rows_of[name]:
                found[name] = tuple(sections([outcome for row in rows_of[name] for outcome in row.outcomes()]))
        except BenchError as error:
            unread[name] = f"its own sections: {error}"
        except Exception as error:  # somebody else's code, on which only its own page depends
            unread[name] = " ".join(f"its own sections: {type(error).__name__}: {error}".split())
    return found, unread


def tolerance_digest(ledgers: Sequence[Ledger]) -> str:
    """A short hash over every tolerance band: whoever moves one after a run changes it on every page."""
    bands = [
        (ledger.paper.name, name, tolerance.absolute, tolerance.relative)
        for ledger in ledgers
        for name, tolerance in [*ledger.tolerances.items(),
                                *((claim.id, claim.tolerance) for claim in ledger.claims if claim.tolerance)]
    ]  # fmt: skip
    return hashlib.sha256(repr(sorted(bands)).encode()).hexdigest()[:12]


def _orphans(reports: Path, files: Mapping[Path, str]) -> list[Path]:
    """Files on disk that this report made once and makes no more: pages with our mark, and what only we would name."""
    pages = [path for path in sorted(reports.glob("*.md")) if path not in files]
    ours = [path for path in pages if path.read_text(encoding="utf-8", errors="replace").startswith(markdown.MARK)]
    if not ours and not (reports / "README.md").is_file():
        return []
    made = [path for ending in ("svg", "csv", "json", "tex") for path in sorted(reports.glob(f"*.{ending}"))
            if path not in files and _is_ours(path)]  # fmt: skip
    return [*ours, *made]


def _is_ours(path: Path) -> bool:
    """Drawings say who made them; tables have the names that we give."""
    if path.suffix == ".svg":
        return "bench report" in path.read_text(encoding="utf-8", errors="replace")[:2000]
    return path.stem in ("no-free-lunch", "table", exchange.NAME)
