"""How fast a browser opens reports/index.html with 2,000 claims, and sorts and searches them: at most 1 s each.

    python tests/benchmarks/page_speed.py [CLAIMS]        about half a minute; needs chromium, chromium-driver, selenium

The page is of the committed records and ledgers, with claims of one ledger repeated up to that number. Each figure is
the worst of five, from the click to the frame that shows its result; after a sort or a search the first 50 claims are
shown. Above the last line, `worst_s: N`, stand the figures one by one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bench")]

TIMES = 5

_SHOWN = "requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000)));"
_OPENED = f"const done = arguments[0], start = 0; {_SHOWN}"
"""Seconds from the start of the navigation to a frame in which everything is drawn."""

STEPS = {
    "sort_claims": "document.querySelector('[data-by=says]').click()",
    "search_claims": "const q = document.querySelector('#q'); q.value = 'accuracy rte'; "
                     "q.dispatchEvent(new Event('input', {bubbles: true})); q.value = ''",
    "sort_rows": "document.querySelector('#every thead button').click()",
    "search_rows": "const q = document.querySelector('#row-q'); q.value = 'bert shape'; "
                   "q.dispatchEvent(new Event('input', {bubbles: true})); q.value = ''",
}  # fmt: skip


def made(folder: Path, claims: int) -> Path:
    """The page with so many claims."""
    from rendered import enlarged

    from bench.report import build, html

    asked = build.request([ROOT / "results"], ROOT / "reports")
    many = build.Request(asked.results, asked.reports, tuple(enlarged(asked.ledgers, claims)))
    page = folder / html.FILE
    page.write_text(build.make(many).files[asked.reports / html.FILE], encoding="utf-8")
    return page


def took(driver: Any, step: str) -> float:
    """Seconds until the frame after a step is drawn."""
    return driver.execute_async_script(f"const done = arguments[0], start = performance.now(); {step}; {_SHOWN}")


def main() -> None:
    from browser import chromium, resize

    claims = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    worst: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, chromium() as driver:
        page = made(Path(name), claims)
        print(f"page_kb: {page.stat().st_size / 1e3:.0f}")
        resize(driver, 1280)
        for _ in range(TIMES):
            driver.get("about:blank")
            driver.get(page.as_uri())
            found = {"open": driver.execute_async_script(_OPENED)}
            found |= {step: took(driver, script) for step, script in STEPS.items()}
            worst = {step: max(seconds, worst.get(step, 0.0)) for step, seconds in found.items()}
    for step, seconds in worst.items():
        print(f"{step}_s: {seconds:.3f}")
    print(f"worst_s: {max(worst.values()):.3f}")


if __name__ == "__main__":
    main()
