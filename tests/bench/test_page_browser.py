"""reports/index.html in a browser: it sorts, filters, tells, zooms, follows links, and takes no text for markup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, resize
from rendered import ledgers, made
from test_page import HOSTILE, hostile_ledgers, written

from bench.core.record import Record

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page of made-up records: two systems, timed at paper size."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text(written([*made.study(seeds=2), *shapes()], ledgers()), encoding="utf-8")
    return (folder / "index.html").as_uri()


def shapes() -> list[Record]:
    """A session of each system at paper size."""
    found = []
    for place, (paper, ratio) in enumerate((("bert", 1.0), ("distilbert", 2.0))):
        spec = {"paper": paper, "variant": paper, "task": "shape", "scale": "shape", "seed": 0}
        found.append(made.record(paper, paper, scale="shape", spec=spec, stamp=90 + place, data=None, teacher=None,
                                 speedup=ratio, size=440e6 / ratio))  # fmt: skip
    return found


@pytest.fixture
def page(window: Any, study: str) -> Iterator[Any]:
    """A new page, 1280 pixels wide; whatever a test does, the console holds no error after it."""
    resize(window, 1280)
    window.get("about:blank")
    window.get(study)
    yield window
    assert [entry for entry in window.get_log("browser") if entry["level"] == "SEVERE"] == []


def texts(page: Any, selector: str) -> list[str]:
    """The visible text of every element that a selector finds."""
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length)"
        ".map(e => e.textContent.trim())", selector,
    )  # fmt: skip


def click(page: Any, selector: str) -> None:
    found = page.find_element("css selector", selector)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    found.click()


def put(page: Any, selector: str, text: str) -> None:
    """Type into a field as a person does."""
    field = page.find_element("css selector", selector)
    field.clear()
    field.send_keys(text)


def choose(page: Any, selector: str, value: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(page.find_element("css selector", selector)).select_by_value(value)


def move(page: Any, found: Any) -> Any:
    from selenium.webdriver import ActionChains

    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    return ActionChains(page).move_to_element(found)


def test_headers_sort_both_ways_and_say_so(page: Any) -> None:
    click(page, '[data-view="all"]')
    head = '#every th[data-name="GLUE score"]'
    before = texts(page, "#every tbody th")
    values = []
    for way in ("ascending", "descending", "none"):
        click(page, f"{head} button")
        assert page.find_element("css selector", head).get_attribute("aria-sort") == way
        place = page.execute_script(f"return document.querySelector('{head}').cellIndex + 1")
        values.append(texts(page, f"#every tbody tr > :nth-child({place})"))
    numbers = [[float(cell.split()[0]) for cell in found if cell != "–"] for found in values]
    assert numbers[0] == sorted(numbers[0]) and numbers[1] == sorted(numbers[1], reverse=True) and len(numbers[0]) == 4
    assert values[0][-1] == values[1][-1] == "–", "what has no number stands last"
    assert texts(page, "#every tbody th") == before


def test_rows_are_filtered_by_words_columns_and_view(page: Any) -> None:
    assert len(texts(page, "#every tbody tr")) == 6 and texts(page, "#rows-found") == ["6 rows"]
    put(page, "#row-q", "no-ce small")
    assert texts(page, "#every tbody th") == ["distilbert-no-ce"]
    put(page, "#row-q", " ")
    choose(page, "#row-scale", "shape")
    assert texts(page, "#rows-found") == ["2 rows"]
    click(page, '[data-view="scored"]')
    assert texts(page, "#rows-found") == ["0 rows"] and texts(page, "#every tbody tr") == []
    choose(page, "#row-scale", "")
    assert texts(page, "#rows-found") == ["4 rows"]
    assert "GFLOPs" not in texts(page, "#every thead th") and "GLUE score" in texts(page, "#every thead th")


def test_claims_are_filtered_searched_and_sorted(page: Any) -> None:
    books = ledgers()
    number = sum(len(book.claims) for book in books)
    assert texts(page, "#found") == [f"{number} of {number} claims"]
    choose(page, "#paper", "distilbert")
    choose(page, "#kind", "quality")
    own = [claim for claim in books[1].claims if claim.kind == "quality"]
    assert texts(page, "#found") == [f"{len(own)} of {number} claims"] and 0 < len(own) < number
    put(page, "#q", "rte reaches")
    assert texts(page, ".claims .ask") == ["DistilBERT reaches 59.9 on RTE"]
    assert "paper=distilbert" in page.current_url and "q=rte" in page.current_url
    click(page, "#clear")
    assert texts(page, "#found") == [f"{number} of {number} claims"]
    choose(page, "#verdict", "untested")
    some = texts(page, ".claims .verdict")
    assert some and not any("reproduced" in verdict for verdict in some)
    choose(page, "#verdict", "")
    click(page, '[data-by="says"]')
    says = texts(page, ".claims .ask")
    assert says == sorted(says, key=str.lower) and len(says) == number
    assert page.find_element("css selector", ".claims th:nth-child(2)").get_attribute("aria-sort") == "ascending"


def test_a_claim_opens_to_its_source_verdict_and_records(page: Any) -> None:
    page.get(page.current_url.partition("#")[0] + "#claim/distilbert.t1.sst2")
    assert texts(page, ".way h4") == ["Source", "Printed", "Band", "Measured", "Verdict", "Records"]
    steps = " ".join(texts(page, ".way li"))
    for words in ("arXiv 1910.01108v4", "Table 1", "91.3 %", "not comparable: another teacher", "seed 0", "bench show"):
        assert words in steps, words
    links = [link.get_attribute("href") for link in page.find_elements("css selector", ".way .files a")]
    assert len(links) == 2 and all("/results/small/distilbert/distilbert/sst2/" in link for link in links)
    click(page, ".claims .ask")
    assert texts(page, ".way") == []
    click(page, "#clear")
    page.find_element("css selector", ".claims .ask").send_keys("\ue007")  # the Enter key
    assert len(texts(page, ".way")) == 1


def test_counts_lead_to_their_claims(page: Any) -> None:
    click(page, '.legend a[href$="verdict=untested"]')
    (told,) = texts(page, "#found")
    (legend,) = texts(page, '.legend a[href$="verdict=untested"]')
    assert told.split()[0] == legend.split()[0]


def test_a_reader_can_say_what_a_system_must_meet(page: Any) -> None:
    put(page, "#most-megabytes", "300")
    assert texts(page, "#answer")[0].startswith("1 of 2 fit; DistilBERT")
    assert page.execute_script("return document.querySelectorAll('#systems .out').length") == 1
    put(page, "#least-speedup", "50")
    assert texts(page, "#answer")[0].startswith("None fits; DistilBERT is nearest")
    put(page, "#most-megabytes", "much")
    assert page.find_element("id", "most-megabytes").get_attribute("aria-invalid") == "true"


def test_the_figure_tells_on_hover_focus_and_tap(page: Any) -> None:
    mark = page.find_element("css selector", 'g[data-label="DistilBERT"] .mark')
    move(page, mark).perform()
    (tip,) = texts(page, ".tip")
    assert tip.startswith("DistilBERT") and "Speed-up" in tip
    page.execute_script("document.querySelector('g[data-label=\"BERT-base\"]').focus()")
    assert texts(page, ".tip")[0].startswith("BERT-base")
    page.find_element("css selector", 'g[data-label="BERT-base"]').send_keys("\ue00c")  # the Escape key
    assert page.find_element("css selector", ".tip").get_attribute("hidden") is not None
    resize(page, 390)
    touch(page, "touchStart", [centre(page, 'g[data-label="DistilBERT"] .mark')])
    touch(page, "touchEnd", [])
    assert texts(page, ".tip")[0].startswith("DistilBERT")


def centre(page: Any, selector: str) -> tuple[float, float]:
    """The middle of an element on the screen."""
    return tuple(page.execute_script(
        "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
        "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]", selector,
    ))  # fmt: skip


def touch(page: Any, kind: str, points: list[tuple[float, float]]) -> None:
    """Fingers on the screen."""
    fingers = [{"x": x, "y": y, "id": place} for place, (x, y) in enumerate(points)]
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})


def apart(page: Any) -> float:
    """How far the marks of the two systems are from each other, in pixels across."""
    return page.execute_script(
        "const [a, b] = ['BERT-base', 'DistilBERT'].map(n => "
        "document.querySelector(`g[data-label='${n}'] .mark`).transform.baseVal[0].matrix.e); return Math.abs(a - b)"
    )


def test_the_figure_zooms_by_mouse_wheel_keys_buttons_and_fingers(page: Any) -> None:
    from selenium.webdriver import ActionChains

    canvas = page.find_element("css selector", ".canvas")
    before = apart(page)
    move(page, canvas).move_by_offset(-250, -120).click_and_hold().move_by_offset(500, 240).release().perform()
    drawn = apart(page)
    assert drawn > 1.3 * before
    ActionChains(page).double_click(canvas).perform()
    assert apart(page) == pytest.approx(before)
    click(page, '[data-zoom="in"]')
    assert apart(page) == pytest.approx(before / 0.7, rel=0.01)
    click(page, '[data-zoom="reset"]')
    page.execute_script("document.querySelector('.canvas').focus()")
    canvas.send_keys("+")
    assert apart(page) == pytest.approx(before / 0.7, rel=0.01)
    canvas.send_keys("0")
    x, y = centre(page, ".canvas")
    wheel = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": -60, "modifiers": 2}
    page.execute_cdp_cmd("Input.dispatchMouseEvent", wheel)
    assert apart(page) > 1.2 * before
    resize(page, 390)
    canvas.send_keys("0")
    x, y = centre(page, ".canvas")
    narrow = apart(page)
    touch(page, "touchStart", [(x - 40, y), (x + 40, y)])
    for spread in (60, 80, 100):
        touch(page, "touchMove", [(x - spread, y), (x + spread, y)])
    touch(page, "touchEnd", [])
    assert apart(page) > 1.5 * narrow


def test_themes_follow_the_system_and_the_switch(page: Any) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert page.execute_script(ground) == "rgb(255, 255, 255)"
    resize(page, 1280, dark=True)
    dark = page.execute_script(ground)
    assert dark != "rgb(255, 255, 255)"
    click(page, "#theme")
    assert page.execute_script(ground) == "rgb(255, 255, 255)"
    click(page, "#theme")
    assert page.execute_script(ground) == dark
    page.execute_script("localStorage.removeItem('bench-theme')")


def test_hostile_text_shows_as_text(window: Any, tmp_path: Path) -> None:
    records = [*made.study(seeds=2, tasks=("sst2", "rte")), *shapes()]
    records.append(made.record(task="rte", seed=2, status="failed", reason=HOSTILE, measurements=[], stamp=70))
    (tmp_path / "index.html").write_text(written(records, hostile_ledgers()), encoding="utf-8")
    resize(window, 1280)
    window.get((tmp_path / "index.html").as_uri())
    choose(window, "#paper", "distilbert")
    click(window, ".claims .ask")
    shown = HOSTILE.rstrip("\u2028")
    assert shown in texts(window, ".claims .ask")[0] and shown in texts(window, ".way")[0]
    assert any(shown in text for text in texts(window, "#systems th")) and texts(window, ".tip") == []
    window.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert any(shown in text for text in texts(window, "#method td"))
    assert window.title == "No free lunch"
    assert window.execute_script("return [document.images.length, document.scripts.length]") == [0, 3]
    assert [entry for entry in window.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_scrolls_the_page_sideways(window: Any, width: int) -> None:
    """The committed page, with everything on it opened."""
    resize(window, width, dark=width == 390)
    window.get((ROOT / "reports" / "index.html").as_uri())
    window.execute_script("document.querySelectorAll('details').forEach(e => e.open = true);"
                          "document.querySelectorAll('.ask').forEach((e, i) => i < 20 && e.click())")  # fmt: skip
    assert window.execute_script("return document.documentElement.scrollWidth") <= width
    assert [entry for entry in window.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_without_scripts_the_table_and_the_way_to_claims_are_there(window: Any, study: str) -> None:
    window.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window.get(study)
        body = window.find_element("tag name", "body").text
    finally:
        window.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "DistilBERT" in body and "every claim stands on the page of its paper" in body and "distilbert-no-ce" in body
