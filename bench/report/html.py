"""Renders index.html: the report as one file that a browser shows without a network.

What the other pages hold as data is shown here in a form that can be sorted, filtered and zoomed; the claims stand in
it as JSON (see `bench.report.browser`). All text is escaped by jinja2, which knows no other trusted text than the
files in page_assets; scripts and styles run by their hash alone (Content-Security-Policy).

The figure is drawn by page_assets/figure.js: a dozen points do not need a library of a megabyte, which with 2,000
claims would not fit into two; the small ones (uPlot) draw time series on a canvas, without marks that a keyboard
reaches or colours that follow the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bench.claims.claim import Ledger
from bench.core.markup import target
from bench.judge.rules import Judged
from bench.judge.series import SeriesIndex
from bench.judge.standing import SCALE_ORDER
from bench.report import browser, headlines, screen, table
from bench.report.choices import Choice, choice
from bench.report.claims import KINDS, MARKS, heading
from bench.report.numbers import DASH
from bench.report.page import (
    DITTO,
    Cell,
    Figure,
    Lines,
    Note,
    Page,
    Printed,
    Section,
    Table,
    figures,
    plain,
    tables,
    whole_rows,
)  # fmt: skip
from bench.report.systems import ARITHMETIC, SystemView

FILE = "index.html"
ASSETS = Path(__file__).parent / "page_assets"
SCRIPTS = ("tables.js", "figure.js", "claims.js")

_AS_ROWS = ("Size and speed:", "Scores:")
"""The sections of table.md that are one table here."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the page is made of: the pages as data, and the verdicts behind them."""

    screen: Page
    table: Page
    papers: Page
    budgets: Page
    ledgers: Sequence[Ledger]
    judged: Sequence[Judged]
    views: Sequence[SystemView]
    index: SeriesIndex
    results: Path
    reports: Path
    tolerances: str


def render(source: Source) -> str:
    """The whole file; a pure function of what it is given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # imported here: what prints a line needs none

    shell = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    shell.filters |= {"pieces": pieces, "plain": plain, "safe_target": target, "kind": _kind_of}
    style, early, late = _asset("style.css"), _asset("theme.js"), "\n".join(map(_asset, SCRIPTS))
    first = tables(source.screen)[-1]
    drawings = figures(source.screen.blocks)
    content = {
        "style": Markup(style), "early": Markup(early), "late": Markup(late),
        "policy": _policy(style, (early, late)), "page": source.screen, "lede": _first(source.screen, Lines),
        "systems": _systems(source.views, first.rows, source.index),
        "alone": dict(zip(screen.COLUMNS, first.columns, strict=False)).get("alone", ""),
        "notes": _first(source.screen, Note), "figure": drawings[0] if drawings else None,
        "groups": browser.WORDS, "tally": _tally(source), "headlines": _headlines(source.ledgers, source.judged),
        "every": _every(source.table),
        "beside": [part for part in _sections(source.table) if not part.title.startswith(_AS_ROWS)],
        "rules": _sections(source.papers),
        "failed": [part for part in _sections(source.budgets) if part.title == "Failed runs"],
        "broken": _sections(source.screen),
        "ledgers": source.ledgers, "kinds": {kind: heading(kind) for kind in KINDS}, "tolerances": source.tolerances,
        "data": _data(source, drawings[0] if drawings else None),
    }  # fmt: skip
    return shell.get_template("template.html").render(content)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Iterable[str]) -> str:
    """Nothing is loaded, and nothing runs but what stands in this file as we wrote it."""

    def sources(texts: Iterable[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (f"default-src 'none'; script-src {sources(scripts)}; style-src {sources([style])}; "
            "base-uri 'none'; form-action 'none'")  # fmt: skip


def _first(page: Page, kind: type[Lines] | type[Note]) -> Any:
    """The first block of a kind: the lede of the first screen, or the signs under its table."""
    return next((block for block in page.blocks if isinstance(block, kind)), None)


def _sections(page: Page) -> list[Section]:
    return [block for block in page.blocks if isinstance(block, Section)]


def _kind_of(value: object) -> str:
    """What a block or a piece of text is, for the template: `note`, `weak`, `str`."""
    return type(value).__name__.lower()


_INTERVAL = re.compile(r"(\[-?[\d.,]+, -?[\d.,]+\])")


def pieces(cell: Cell) -> list[dict[str, str]]:
    """The pieces of a cell, each with its kind; intervals are pieces of their own, which are shown small."""
    if isinstance(cell, tuple):
        return [piece for part in cell for piece in pieces(part)]
    if isinstance(cell, str):
        parts = (part for part in _INTERVAL.split(cell) if part)
        return [{"kind": "interval" if _INTERVAL.fullmatch(part) else "str", "text": part} for part in parts]
    assert is_dataclass(cell)
    return [{"kind": _kind_of(cell)} | {field.name: getattr(cell, field.name) for field in fields(cell)}]


def _beside(cell: Cell) -> tuple[Cell, Cell]:
    """(what was printed, all else) of a cell in which an arrow leads from the one to the other."""
    if isinstance(cell, tuple) and len(cell) > 2 and isinstance(cell[0], Printed) and cell[1] == " → ":
        return cell[0], cell[2:]
    return "", cell


def _systems(
    views: Sequence[SystemView], rows: Sequence[tuple[Cell, ...]], index: SeriesIndex
) -> list[dict[str, Any]]:  # fmt: skip
    """All systems, each with its place among them, the best one's being 0."""
    choices = [choice(view, index) for view in views]
    ordered = sorted(choices, key=lambda one: one.goodness, reverse=True)
    return [_system(one, row) | {"rank": ordered.index(one)} for one, row in zip(choices, rows, strict=True)]


def _system(one: Choice, row: tuple[Cell, ...]) -> dict[str, Any]:
    """One system: its cells as on the first screen, its weight, and the numbers that a reader can ask for."""
    cells: dict[str, Any] = dict(zip(screen.COLUMNS, row, strict=True))
    return {
        **cells, **{name: _beside(cells[name]) for name in ("size", "speed", "kept")},
        "megabytes": "" if one.megabytes is None else f"{one.megabytes:,.1f}",
        "by_arithmetic": one.megabytes_by == ARITHMETIC,
        "alone_key": plain(cells["alone"]).replace(DASH, ""),
        "two_forms": one.two_forms,
        "share": "" if one.retention is None else f"{one.retention:.1f}% {one.retention_by}",
        "numbers": {"megabytes": one.megabytes, "speedup": one.speedup,
                    "retention": one.retention and round(one.retention, 1)},  # as it is shown
    }  # fmt: skip


def _every(page: Page) -> dict[str, Any]:
    """Every row: what a ditto repeats is written out, and each column says in which view of the table it stands."""
    (whole,) = tables(page)[-1:] or (Table((), ()),)
    rows: list[dict[str, Any]] = []
    for row, cells in zip(whole.rows, whole_rows(whole), strict=True):
        of = dict(zip(whole.columns, map(plain, cells), strict=True))
        rows.append({"cells": cells, "again": DITTO in row, "of": of})
    rows.sort(key=lambda row: SCALE_ORDER.index(row["of"]["scale"]))
    sides = {**dict.fromkeys(table.PHYSICAL, "physical"), **dict.fromkeys(table.SCORED, "scored")}
    return {"columns": [(name, sides.get(name, "")) for name in whole.columns], "rows": rows}


def _tally(source: Source) -> dict[str, list[dict[str, Any]]]:
    """How many printed claims of each kind, and of each paper, come to what; each count leads to its claims."""
    entries = [entry for entry in source.judged if entry.claim.is_printed]
    kinds = [(heading(kind), "kind", kind) for kind in KINDS]
    papers = [(ledger.paper.label, "paper", ledger.paper.name) for ledger in source.ledgers]
    lines = {"all": [("All", "", "")], "kind": kinds, "paper": papers}
    return {name: [line for label, key, value in found if (line := _line(entries, label, key, value))]
            for name, found in lines.items()}  # fmt: skip


def _line(entries: Sequence[Judged], label: str, key: str, value: str) -> dict[str, Any] | None:
    own = [entry for entry in entries if not key or getattr(entry.claim, key) == value]
    numbers = Counter(browser.group(entry.verdict) for entry in own)
    untested = Counter(browser.UNTESTED[entry.verdict] for entry in own if entry.verdict in browser.UNTESTED)
    if not own:
        return None
    parts, start = [], 0.0
    for name, (sign, word) in browser.WORDS.items():
        width = 100 * numbers[name] / len(own)
        query = "&".join([*([f"{key}={value}"] if key else []), f"verdict={name}"])
        of = [f"{number:,} {why}" for why, number in untested.items()] if name == "untested" else []
        parts.append({"name": name, "sign": sign, "word": word, "of": of, "number": numbers[name], "x": f"{start:.2f}",
                      "width": f"{width:.2f}", "query": query})  # fmt: skip
        start += width
    return {"label": label, "query": f"{key}={value}" if key else "", "total": len(own), "parts": parts}


def _headlines(ledgers: Sequence[Ledger], judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """What papers are known for; each leads to its claim."""
    own = {ledger.paper.name: ledger for ledger in ledgers}
    return [
        {"id": entry.claim.id, "label": own[entry.claim.paper].paper.label, "phrase": _said(entry),
         "found": headlines.found(entry) if entry.measured is not None else "",
         "order": entry.claim.kind == "ordering", "verdict": entry.verdict, "sign": MARKS.get(entry.verdict, ""),
         "group": browser.group(entry.verdict), "fine": headlines.fine_print(own[entry.claim.paper], entry.claim)}
        for entry in judged if entry.claim.headline
    ]  # fmt: skip


def _said(entry: Judged) -> str:
    return entry.claim.says if entry.claim.kind == "ordering" else headlines.phrase(entry.claim)


def _data(source: Source, figure: Figure | None) -> Markup:
    """The claims and the figure as JSON that cannot end its element, a claim a line."""
    found = browser.claims(source.ledgers, source.judged, source.index, source.results, source.reports)
    parts = [f'"{name}":{_lines(value)}' for name, value in found.items()]
    parts.append(f'"figure":{_json(figure.data if figure else None)}')
    return Markup("{" + ",\n".join(parts) + "}")


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value or not isinstance(value[0], Mapping):
        return _json(value)
    return "[\n" + ",\n".join(map(_json, value)) + "\n]"


def _json(value: Any) -> str:
    """JSON in which no `<`, `>` or `&` stands, so that no text in it can be taken for markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
