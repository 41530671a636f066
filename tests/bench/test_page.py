"""reports/index.html as text: one file, nothing loaded, everything escaped, the same bytes for the same records."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rendered import enlarged, ledgers, made, pages

from bench.claims.claim import Ledger
from bench.core import store
from bench.judge.runs import runs_of
from bench.judge.series import SeriesIndex
from bench.report import build, html
from bench.report.drawing import Drawing
from bench.report.page import Link, Printed, Sign, Weak

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp;\u2028"
"""What somebody might write into a record or a ledger."""
MOST_BYTES = 2_000_000


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in self.texts:
            self._open = tag
            self.texts[tag].append("")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def test_each_kind_of_claim_is_counted_in_one_row() -> None:
    page = pages(made.study())["index.html"]
    kinds = re.findall(r'<th scope="row"><a href="#claims\?kind=(\w+)">', page)
    assert len(kinds) == len(set(kinds)) >= 3


def hostile_ledgers() -> list[Ledger]:
    """The ledgers of the tests, of which one says hostile things wherever it may say anything."""
    first, second = ledgers()
    changed = {"says": HOSTILE, "source": HOSTILE, "conditions": HOSTILE, "device": HOSTILE, "headline": True,
               "fine_print": HOSTILE.replace("{", "")}  # fmt: skip
    claims = tuple(claim.model_copy(update=changed) for claim in second.claims)
    systems = tuple(system.model_copy(update={"name": HOSTILE, "needs": HOSTILE}) for system in second.systems)
    paper = second.paper.model_copy(update={"title": HOSTILE, "label": HOSTILE, "venue": HOSTILE})
    return [first, second.model_copy(update={"claims": claims, "systems": systems, "paper": paper})]


def written(records: list[Any], books: list[Ledger], folder: Path = Path("x")) -> str:
    """The page of some records and ledgers."""
    asked = build.Request((folder / "results",), folder / "reports", tuple(books))
    with Drawing() as drawing:
        files = build.render(asked, SeriesIndex(runs_of(records)), drawing).files
    return files[folder / "reports" / html.FILE]


def data(page: str) -> dict[str, Any]:
    """What the page's program reads."""
    return json.loads(Elements(page).texts["script"][1])


def test_a_page_loads_nothing_and_runs_only_what_it_holds() -> None:
    page = pages(made.study(seeds=2))["index.html"]
    elements = Elements(page)
    assert len(elements.found) > 200
    for tag, attributes in elements.found:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "image", "use"), tag
        assert "src" not in attributes and "style" not in attributes, (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        if tag != "a":
            assert not re.match(r"(https?:)?//", attributes.get("href") or ""), (tag, attributes)
    assert not re.search(r"url\(|@import|@font-face", "".join(elements.texts["style"]))
    policy = next(dict(a)["content"] for tag, a in elements.found if "http-equiv" in a) or ""
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
    for text in (elements.texts["script"][0], elements.texts["script"][2], elements.texts["style"][0]):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert len(elements.texts["script"]) == 3 and len(elements.texts["style"]) == 1


def test_hostile_text_stays_text() -> None:
    records = made.study(seeds=2, tasks=("sst2", "rte"))
    records.append(made.record(task="rte", seed=2, status="failed", reason=HOSTILE, measurements=[], stamp=70))
    records.append(made.record(task="sst2", seed=7, stamp=71, machine=HOSTILE))
    page = written(records, hostile_ledgers())
    elements = Elements(page)
    assert len(elements.texts["script"]) == 3
    assert not [tag for tag, _ in elements.found if tag == "img"]
    assert page.count("&lt;img src=x onerror=") > 10 and "<img" not in page
    found = data(page)
    assert {claim["says"] for claim in found["claims"]} >= {HOSTILE}
    assert "\\u003c/script\\u003e" in page and "\u2028" not in elements.texts["script"][1]


def test_every_claim_is_there_with_its_way_to_the_records() -> None:
    records = made.study(seeds=2, tasks=("sst2", "rte"))
    books = ledgers()
    found = data(written(records, books))
    assert [one["id"] for one in found["claims"]] == [claim.id for book in books for claim in book.claims]
    assert found["papers"]["distilbert"]["arxiv"] == "1910.01108v4" and found["results"] == "../results"
    (claim,) = (one for one in found["claims"] if one["id"] == "distilbert.t1.sst2")
    assert found["texts"][claim["source"]] == "Table 1" and "source" in found["shared"] and claim["printed"] == "91.3 %"
    assert found["verdicts"][claim["verdict"]][0] == "not comparable: another teacher"
    ids = {record.id for record in records if (record.spec.variant, record.spec.task) == ("distilbert", "sst2")}
    assert {found["runs"][place][0] for place in claim["runs"]} == ids and len(ids) == 2


def test_links_to_records_lead_to_files(tmp_path: Path) -> None:
    for record in made.study(seeds=1, tasks=("sst2",)):
        store.write_record(tmp_path / "results", record)
    asked = build.Request((tmp_path / "results",), tmp_path / "reports", tuple(ledgers()))
    build.write(asked)
    assert build.stale(asked) == []
    page = (tmp_path / "reports" / html.FILE).read_text()
    found = data(page)
    assert len(found["runs"]) >= 2
    for name, *parts, _ in found["runs"]:
        assert (tmp_path / "reports" / found["results"]).joinpath(*parts, f"{name}.json").is_file()
    local = {a["href"] for tag, a in Elements(page).found if tag == "a" and a.get("href")}
    files = {href for href in local if href and not href.startswith(("#", "http"))}
    assert len(files) >= 8 and all((tmp_path / "reports" / href).is_file() for href in files), files
    (tmp_path / "reports" / html.FILE).write_text(page + " ")
    assert [path.name for path in build.stale(asked)] == [html.FILE]


def test_same_inputs_give_the_same_bytes_in_any_order() -> None:
    records = made.study(seeds=2, tasks=("sst2", "rte"))
    first = written(records, ledgers())
    assert first == written(records, ledgers()[::-1]) == written(records[::-1], ledgers())


def test_the_committed_page_is_small_and_so_is_one_of_2000_claims() -> None:
    assert (ROOT / "reports" / html.FILE).stat().st_size < MOST_BYTES
    asked = build.request([ROOT / "results"], ROOT / "reports")
    many = build.Request(asked.results, asked.reports, tuple(enlarged(asked.ledgers, 2000)))
    page = build.make(many).files[asked.reports / html.FILE]
    assert len(data(page)["claims"]) >= 2000 and len(page.encode()) < MOST_BYTES


def test_every_row_of_the_table_is_there_and_what_repeats_is_written_out() -> None:
    records = [made.record(seed=5 * seed, speedup=2.0) for seed in range(3)]
    records += [made.record(seed=5 * seed + 15, speedup=1.25, machine="epyc-64c") for seed in range(3)]
    found = pages(records)
    rows = re.findall(r'<tr class="(again)?[^"]*">(.*)</tr>', found["index.html"])
    assert len(rows) == len(found["table.csv"].splitlines()) - 1 == 2
    assert [again for again, _ in rows] == ["", "again"] and '>"<' not in found["index.html"]
    assert "epyc-64c" in rows[0][1] and "xeon-2c" in rows[1][1] and "65.0" in rows[1][1]


def test_a_page_without_systems_headlines_or_figure_is_made() -> None:
    sizes = [made.measurement("parameters", "all", 66e6, "count")]
    bare = [book.model_copy(update={"systems": ()}) for book in ledgers()]
    page = written([made.record(scale="shape", measurements=sizes, teacher=None)], bare)
    assert data(page)["figure"] is None and "Nothing was run" not in page
    assert not [a for _, a in Elements(page).found if a.get("class") == "canvas"]


@pytest.mark.parametrize(
    ("cell", "kinds"),
    [
        ("12.52x [11.71, 13.38]", ["str", "interval"]),
        ((Printed("9.4"), " → ", "15.9x", " ", Sign("(↑)", "better")), ["printed", "str", "str", "str", "sign"]),
        ((Weak("w"), Link("l", "table.md")), ["weak", "link"]),
        ("a [list, of words]", ["str"]),
    ],
)
def test_cells_come_apart_into_what_is_shown_differently(cell: Any, kinds: list[str]) -> None:
    assert [piece["kind"] for piece in html.pieces(cell)] == kinds
