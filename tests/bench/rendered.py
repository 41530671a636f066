"""Pages made of fabricated records, and how to read a table of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from bench.claims.claim import Ledger
from bench.claims.ledger import load
from bench.core.record import Record
from bench.report import build
from bench.report.drawing import Drawing

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


def pages(records: list[Record], folder: Path = Path("x")) -> dict[str, str]:
    with Drawing() as drawing:
        rendered = build.render(folder / "results", folder / "reports", ledgers(), records, drawing)
    return {path.name: text for path, text in rendered.items()}


def row(page: str, *starts: str) -> list[str]:
    """The cells of the first table row whose first cells are these."""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and cells[: len(starts)] == list(starts):
            return cells
    raise AssertionError(f"no row {starts}")


def column(page: str, name: str, *starts: str) -> str:
    """A cell of that row, by the name of its column in the nearest head above."""
    head: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and name in cells:
            head = cells
        if head and line.startswith("|") and cells[: len(starts)] == list(starts):
            return cells[head.index(name)]
    raise AssertionError(f"no column {name} in a row {starts}")
