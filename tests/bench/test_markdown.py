"""How pages become text: numbers, links, and that no text is taken for markup."""

from __future__ import annotations

from pathlib import Path

from bench.report import formats, markdown, numbers, paper
from bench.report.page import Link, Note, Page, Strong, Table, Weak


def test_numbers_are_printed_plainly() -> None:
    assert numbers.show(None) == numbers.show(float("nan")) == "–"
    assert numbers.show(-0.04) == "0.0" and numbers.show(1234.5) == "1,234.5"
    assert numbers.significant(0.0012345) == "0.00123" and numbers.significant(1234.5) == "1,234"
    assert numbers.significant(-96.44) == "-96.4" and numbers.significant(0.0) == "0"


def test_links_never_leave_the_project() -> None:
    assert paper.link("r", Path("p/results/small"), Path("p/reports")) == Link("r", "../results/small")
    assert paper.link("r", Path("/elsewhere/results"), Path("/home/someone/p/reports")) == "r"


def test_text_stays_text_in_markdown_csv_and_latex() -> None:
    odd = "a|b <img src=x> [l](u) `c` *d* snake_case &lt; \\ ![p](q)"
    table = Table(("x", "y"), (((odd, Strong("s"), Weak("w")), "1"),), frozenset({"y"}), "odd")
    text = markdown.render(Page("p.md", "# not a heading", (Note("1. no list"), table)))
    assert "a\\|b &lt;img src=x> \\[l\\](u) \\`c\\` \\*d\\* snake_case &amp;lt; \\\\ !\\[p\\](q)**s**" in text
    assert '<i style="color:#767676">w</i>' in text and "\n1\\. no list\n" in text
    assert formats.csv(table).splitlines() == ["x,y", f"{odd}sw,1"]
    assert "\\_case" in formats.latex(table) and "\\textbackslash" in formats.latex(table)
    assert markdown.render(Page("p.md", "t", (Table(("x",), ()),))).endswith("\nNone.\n")
