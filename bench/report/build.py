"""Renders reports/ from records and claims, and writes or checks it.  Same inputs, same bytes; never imports torch.

`bench report` writes reports/README.md, a page per paper and the figures; `bench report --check` writes nothing and
lists what is stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.claims.claim import Ledger
from bench.claims.ledger import load
from bench.core import registry, store
from bench.core.collection import no_collection
from bench.core.record import Record
from bench.judge.verdict import Judged, judge
from bench.report import overview
from bench.report.drawing import Drawing
from bench.report.gather import gather
from bench.report.markdown import MARK
from bench.report.page import page_figures, paper_page

SCALES = ("small", "full", "shape")
"""What reports/ covers; made-up data (smoke) has a report of its own."""

FIGURES = ("pareto-", "sweep-", "layers-", "landscape-")
"""How the names of our figures start."""

NONE_BROKEN: Mapping[str, str] = {}


def write(results: Path, reports: Path, scale: str = "") -> list[Path]:
    """Writes the report of a scale (`smoke`, or empty for the real ones) over the ledgers of all known papers."""
    scales, folder = place(reports, scale)
    ledgers, broken = load_ledgers()
    return write_report(results, folder, ledgers, scales, broken)


def stale(results: Path, reports: Path, scale: str = "") -> list[Path]:
    """The files that `write` would change, make or remove."""
    scales, folder = place(reports, scale)
    ledgers, broken = load_ledgers()
    return stale_report(results, folder, ledgers, scales, broken)


def write_report(
    results: Path, reports: Path, ledgers: Sequence[Ledger], scales: tuple[str, ...],
    broken: Mapping[str, str] = NONE_BROKEN,
) -> list[Path]:  # fmt: skip
    """Writes every page and figure, each atomically, and removes pages of ours that are no longer made.

    `broken` gives the reason per paper that could not be read.
    Returns: the paths, sorted.  Raises: RecordError for an unreadable record, or a folder that cannot be written.
    """
    pages = _read_and_render(results, reports, ledgers, scales, broken)
    for path in sorted(pages):
        store.write_atomic(path, pages[path])
    for path in _orphans(reports, pages):
        path.unlink()
    return sorted(pages)


def stale_report(
    results: Path, reports: Path, ledgers: Sequence[Ledger], scales: tuple[str, ...],
    broken: Mapping[str, str] = NONE_BROKEN,
) -> list[Path]:  # fmt: skip
    """The files on disk that differ from what `write_report` would write, sorted; writes nothing."""
    pages = _read_and_render(results, reports, ledgers, scales, broken)
    changed = [path for path, text in pages.items() if not path.is_file() or path.read_bytes() != text.encode()]
    return sorted([*changed, *_orphans(reports, pages)])


def _read_and_render(
    results: Path, reports: Path, ledgers: Sequence[Ledger], scales: tuple[str, ...], broken: Mapping[str, str]
) -> dict[Path, str]:
    """Many objects and no garbage: looking for cycles among all records again and again would double the time."""
    with no_collection(), Drawing() as drawing:
        return render(results, reports, ledgers, store.read_records(results, scales), drawing, broken)


def render(
    results: Path, reports: Path, ledgers: Sequence[Ledger], records: Sequence[Record], drawing: Drawing,
    broken: Mapping[str, str] = NONE_BROKEN,
) -> dict[Path, str]:  # fmt: skip
    """All files of a report as text; a pure function of what it is given."""
    ledgers = sorted(ledgers, key=lambda ledger: ledger.paper.name)
    references = {ledger.paper.name for ledger in ledgers if ledger.paper.reference}
    models = gather(records, references)
    figures = overview.figures(models)
    of_papers = {ledger.paper.name: page_figures(ledger.paper.name, models) for ledger in ledgers}
    drawing.draw(figures | {name: figure for own in of_papers.values() for name, figure in own.items()})
    verdicts = by_paper(ledgers, judge(ledgers, records))
    pages = {reports / "README.md": overview.readme(ledgers, verdicts, models, records, sorted(figures), broken)}
    for ledger in ledgers:
        page = reports / f"{ledger.paper.name}.md"
        own = [model for model in models if model.paper == ledger.paper.name]
        pages[page] = paper_page(
            ledger, verdicts[ledger.paper.name], own, page, results, tuple(of_papers[ledger.paper.name])
        )
    return pages | {reports / name: text for name, text in drawing.drawn().items()}


def by_paper(ledgers: Sequence[Ledger], judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """The verdicts of each ledger, in its own order of claims."""
    owner = {claim.id: ledger.paper.name for ledger in ledgers for claim in ledger.claims}
    found: dict[str, list[Judged]] = {ledger.paper.name: [] for ledger in ledgers}
    for entry in judged:
        found[owner[entry.claim.id]].append(entry)
    return found


def load_ledgers() -> tuple[list[Ledger], dict[str, str]]:
    """The ledgers of all papers the registry finds, and the reason of each paper that is broken."""
    papers, broken = registry.find()
    return [load(papers[name].folder) for name in sorted(papers)], dict(broken)


def place(reports: Path, scale: str) -> tuple[tuple[str, ...], Path]:
    """Which scales a report covers, and its folder."""
    if scale in ("", *SCALES):
        return (SCALES, reports)
    return (scale,), reports / scale


def _orphans(reports: Path, pages: Mapping[Path, str]) -> list[Path]:
    """Pages and figures on disk that this report made once and makes no more."""
    found = [path for path in sorted(reports.glob("*.md")) if path not in pages]
    ours = [path for path in found if path.read_text(encoding="utf-8", errors="replace").startswith(MARK)]
    return ours + [
        path for path in sorted(reports.glob("*.svg")) if path.stem.startswith(FIGURES) and path not in pages
    ]
