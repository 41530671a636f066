"""Renders named tables for other programs: CSV for data frames, JSON, LaTeX for papers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.page import Table, plain, whole_rows

_NUMBER = re.compile(r"[+-][0-9][0-9.,]*%?")


def csv(table: Table) -> str:
    """Comma-separated values with a head line; each row is whole."""
    return frame(table.columns, _texts(table))


def frame(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same of any values."""
    import pandas as pd  # imported here: half a second

    plain_rows = [[_no_formula(cell) for cell in row] for row in rows]
    return str(pd.DataFrame(plain_rows, columns=list(columns), dtype=object).to_csv(index=False, lineterminator="\n"))


def _no_formula(cell: Any) -> Any:
    """A text that a spreadsheet would run as a formula, behind an apostrophe; a number with its sign is none."""
    if not isinstance(cell, str):
        return cell
    line = cell.replace("\r", " ")  # which readers take for the end of a row, and pandas does not quote
    return f"'{line}" if line.startswith(("=", "+", "-", "@", "\t")) and not _NUMBER.fullmatch(line) else line


def objects(rows: Sequence[Mapping[str, Any]]) -> str:
    """A JSON list of objects, one on each line."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for row in rows)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def as_json(table: Table) -> str:
    """A JSON list with an object for each row, whose values are the texts of the cells; each row is whole."""
    return objects([dict(zip(table.columns, row, strict=True)) for row in _texts(table)])


def latex(table: Table) -> str:
    """A tabular with rules of the package booktabs; what LaTeX would take for commands is escaped."""
    from tabulate import tabulate

    rows = [[" ".join(plain(cell).split()) for cell in row] for row in table.rows]
    align = ["right" if column in table.right else "left" for column in table.columns]
    return tabulate(rows, list(table.columns), "latex_booktabs", colalign=align, disable_numparse=True) + "\n"


def _texts(table: Table) -> list[list[str]]:
    """The texts of each row, no cell a ditto."""
    return [[plain(cell) for cell in row] for row in whole_rows(table)]
