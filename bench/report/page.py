"""What a page is made of, as data: sections return these types, renderers turn them into markdown, CSV or LaTeX.

Text is plain: whatever it holds is shown as it is, and no renderer takes it for markup. What a reader should see
differently (a link, a number that is only a proxy, a verdict) is said by the type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Link:
    """Text that leads to a file of the project, to a place on a page, or to a public address."""

    text: str
    target: str
    """A path relative to the page's folder (`table.md`, `../results/small`), a `#place`, or an address."""


@dataclass(frozen=True, slots=True)
class Weak:
    """A number that must not be taken for one at the paper's scale: shown grey and slanted."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """Text that the eye should find first."""

    text: str


@dataclass(frozen=True, slots=True)
class Printed:
    """A number as a paper printed it, beside one that was measured here."""

    text: str


@dataclass(frozen=True, slots=True)
class Sign:
    """A verdict in one sign."""

    text: str
    verdict: str


Text = str | Link | Weak | Strong | Printed | Sign
Cell = Text | tuple[Text, ...]
"""One piece of text, or several in a row."""


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph."""

    text: Cell


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of short lines."""

    lines: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Short lines close under each other."""

    lines: tuple[Cell, ...]


DITTO = '"'
"""A cell that repeats the one above it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; one that is named is also written as CSV and LaTeX."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[str] = frozenset()
    """Columns set to the right."""
    name: str = ""

    @classmethod
    def of(
        cls, rows: Sequence[Mapping[str, Cell]], columns: Sequence[str] = (), right: Sequence[str] = (), name: str = ""
    ) -> Table:  # fmt: skip
        """A table of mappings.  Raises: KeyError when a row lacks a column."""
        names = tuple(columns or (rows[0] if rows else ()))
        return cls(names, tuple(tuple(row[column] for column in names) for row in rows), frozenset(right), name)


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing, made by another process: `draw` names the function (`module:function`) that takes `data`.

    The function gives a matplotlib figure; `data` is made of numbers, texts, lists and mappings only.
    """

    file: str
    says: str
    """What it shows, for those who do not see it."""
    draw: str
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under a heading; without a title they stand by themselves."""

    title: str
    blocks: tuple[Block, ...]
    depth: int = 2


Block = Note | Bullets | Lines | Table | Figure | Section


@dataclass(frozen=True, slots=True)
class Page:
    """A file of the report."""

    file: str
    title: str
    blocks: tuple[Block, ...]
    data: tuple[Table, ...] = ()
    """Named tables that are written as CSV and LaTeX, and shown in another form or not at all."""


def _leaves(blocks: Sequence[Block]) -> Iterator[Block]:
    """All blocks but sections, those within sections included, in order."""
    for block in blocks:
        if isinstance(block, Section):
            yield from _leaves(block.blocks)
        else:
            yield block


def figures(blocks: Sequence[Block]) -> list[Figure]:
    """All figures among blocks, in order."""
    return [block for block in _leaves(blocks) if isinstance(block, Figure)]


def tables(page: Page) -> list[Table]:
    """The tables of a page that have a name, shown or not."""
    return [*(block for block in _leaves(page.blocks) if isinstance(block, Table) and block.name), *page.data]


def whole_rows(table: Table) -> Iterator[tuple[Cell, ...]]:
    """The rows of a table, each ditto replaced by what it repeats."""
    above: tuple[Cell, ...] = ()
    for row in table.rows:
        above = tuple(old if cell == DITTO else cell for cell, old in zip(row, above or row, strict=True))
        yield above


def plain(cell: Cell) -> str:
    """The text of a cell without its looks."""
    if isinstance(cell, tuple):
        return "".join(map(plain, cell))
    return cell if isinstance(cell, str) else cell.text


@dataclass(frozen=True, slots=True)
class Number:
    """One measurement of an outcome: its value, None where undefined, and its raw values."""

    value: float | None
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the sections of a paper may know of one run: where it stands, and what it measured by (metric, split)."""

    scale: str
    label: str
    """The variant, as the other tables of the page call it."""
    task: str
    metric: str
    """The task's primary metric, and the first split that was scored; empty where nothing was."""
    split: str
    seed: int
    machine: str
    numbers: Mapping[tuple[str, str], Number] = field(repr=False)
    variant: str = ""
    """Its name alone."""
    budget: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the run was allowed, None being without limit."""
    apart: str = ""
    """What else tells its series from others of that variant and budget: changed settings, teacher, data."""
    speaks: bool = True
    """Whether its series is the one that other tables show of the variant on this task."""

    def value(self, metric: str, split: str) -> float | None:
        """The value of a measurement, None where it was not made or is undefined."""
        found = self.numbers.get((metric, split))
        return None if found is None else found.value
