"""Pages made of fabricated records, and how to read a table of them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from bench.claims.claim import Ledger
from bench.claims.ledger import load
from bench.core.record import Record
from bench.judge.runs import runs_of
from bench.judge.scores import ScoreBook
from bench.judge.series import SeriesIndex
from bench.report import build
from bench.report.drawing import Drawing
from bench.report.rows import Row, rows

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "report"


def _made_up() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report_records", FIXTURES / "records.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _made_up()


def ledgers() -> list[Ledger]:
    return [load(FIXTURES / "bert.toml"), load(FIXTURES / "distilbert.toml")]


def enlarged(books: Sequence[Ledger], number: int) -> list[Ledger]:
    """The same ledgers with claims of the last one repeated, until there are so many claims in all."""
    *others, last = books
    lacking = max(0, number - sum(len(book.claims) for book in books))
    printed = [claim for claim in last.claims if not claim.derived_from]
    copies = [printed[place % len(printed)].model_copy(update={"id": f"{last.paper.name}.again-{place}"})
              for place in range(lacking)]  # fmt: skip
    return [*others, last.model_copy(update={"claims": (*last.claims, *copies)})]


def request(folder: Path = Path("x")) -> build.Request:
    return build.Request((folder / "results",), folder / "reports", tuple(ledgers()))


def pages(records: list[Record], folder: Path = Path("x")) -> dict[str, str]:
    with Drawing() as drawing:
        report = build.render(request(folder), SeriesIndex(runs_of(records)), drawing)
    return {path.name: text for path, text in report.files.items()}


def shown(records: list[Record], references: set[str] | None = None) -> list[Row]:
    """The rows of the tables."""
    return rows(ScoreBook(SeriesIndex(runs_of(records))), references or set())


def plain(cell: str) -> str:
    """A cell without its looks."""
    return re.sub(r"<[^>]*>|\*\*", "", cell).replace("\\", "").strip()


def row(page: str, *starts: str) -> list[str]:
    """The cells of the first table row whose first cells are these; of a claim's cell its id is enough."""
    for line in page.splitlines():
        if line.startswith("|") and _begins(_cells(line), starts):
            return _cells(line)
    raise AssertionError(f"no row {starts}")


def column(page: str, name: str, *starts: str) -> str:
    """A cell of that row of the first table with a column of this name."""
    head: list[str] = []
    for line in page.splitlines():
        cells = _cells(line)
        if not line.startswith("|"):
            head = []
        elif name in cells:
            head = cells
        elif head and _begins(cells, starts):
            return cells[head.index(name)]
    raise AssertionError(f"no column {name} in a row {starts}")


def _cells(line: str) -> list[str]:
    return [plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _begins(cells: list[str], starts: tuple[str, ...]) -> bool:
    return len(cells) >= len(starts) and all(
        cell == start or cell.startswith(f"{start}: ") for cell, start in zip(cells, starts, strict=False)
    )
