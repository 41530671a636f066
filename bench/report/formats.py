"""Renders named tables for other programs: CSV for data frames, LaTeX for papers."""

from __future__ import annotations

from bench.report.page import Table, plain


def csv(table: Table) -> str:
    """Comma-separated values with a head line."""
    import pandas as pd  # imported here: half a second

    frame = pd.DataFrame(
        [[plain(cell) for cell in row] for row in table.rows], columns=list(table.columns), dtype=object
    )
    return str(frame.to_csv(index=False, lineterminator="\n"))


def latex(table: Table) -> str:
    """A tabular with rules of the package booktabs; what LaTeX would take for commands is escaped."""
    from tabulate import tabulate

    rows = [[" ".join(plain(cell).split()) for cell in row] for row in table.rows]
    align = ["right" if column in table.right else "left" for column in table.columns]
    return tabulate(rows, list(table.columns), "latex_booktabs", colalign=align, disable_numparse=True) + "\n"
