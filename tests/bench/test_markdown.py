"""How pages become text: numbers, links, and that no text is taken for markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core import markup
from bench.report import formats, markdown, numbers, paper
from bench.report.page import Bullets, Lines, Link, Note, Page, Section, Strong, Table, Weak


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


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://x.org/a) ![i](https://evil.org/p.png", "[c](https://x.org/a%29%20!%5Bi%5D%28https://evil.org/p.png)"),
        ("https://x.org/<img/src=x>", "[c](https://x.org/%3Cimg/src=x%3E)"),
        ("https://x.org/a|b", "[c](https://x.org/a%7Cb)"),
        ("../results/small", "[c](../results/small)"),
        ("#place", "[c](#place)"),
        ("javascript:alert(1)", "c"),
        ("data:text/html,x", "c"),
        ("https://[", "c"),
    ],
)
def test_the_target_of_a_link_cannot_end_it(target: str, shown: str) -> None:
    assert markdown.text(Link("c", target)) == shown


def test_no_text_starts_a_block_or_becomes_a_link() -> None:
    starts = ("## a", "> a", ">a", "- a", "+ a", "1. a", "2) a", "---", "===", "#")
    for start in starts:
        for block in (Note(start), Bullets((start,)), Lines((start, start))):
            first = markdown.render(Page("p.md", "t", (block,))).split("\n\n")[2].removeprefix("- ")
            assert first.startswith("\\") or first[1] == "\\", (start, first)
    assert (
        markdown.text("-3.2 to 1.5") == "-3.2 to 1.5"
        and markdown.render(Page("p", "t", (Note("-3.2"),)))[-6:] == "\n-3.2\n"
    )
    shown = markdown.text("https://evil.org www.evil.org ~~x~~ $y$ look!")
    assert shown == "https\\://evil.org www\\.evil.org \\~\\~x\\~\\~ \\$y\\$ look\\!"
    assert markdown.text(("see!", Link("a", "b.md"))) == "see\\![a](b.md)", "an exclamation mark makes no image"
    assert "\x1b" not in markdown.text("a\x1b[31m") and "\n" not in markdown.text("a\n\n# b")
    page = Page("p.md", "<img src=x> [t](u)", (Section("a\n\n<script>", (Note("x"),)),))
    assert "<img" not in markdown.render(page) and "<script" not in markdown.render(page)


def test_code_holds_whatever_backticks_it_has() -> None:
    assert markup.code("a") == "`a`" and markup.code("a`b\nc") == "`` a`b c ``"
    assert markup.fenced(["x", "````"], "python") == ["`````python", "x", "````", "`````"]
