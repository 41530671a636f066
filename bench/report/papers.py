"""reports/papers.md: where to doubt a number: every paper with its verdicts, and how a verdict is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.claims.claim import Ledger
from bench.judge.rules import VERDICTS, Judged, counts
from bench.report.page import Bullets, Cell, Link, Note, Page, Section, Table

RULES = (
    "A claim is one printed number. Its band is the number with a tolerance that its ledger fixed, with a reason, "
    "before any run; the hash at the foot of every page is over all bands.",
    "The 95% interval inside the band: reproduced. On the better side: exceeded. On the worse: not reproduced. Across "
    "an edge: inconclusive, with the number of seeds that would settle it with 80% power.",
    "Runs of other models, data or devices than the paper's say consistent, better or not seen, and only of what "
    "carries over: the share of the own teacher's score, ratios of size and speed, orderings.",
    "Seeds that look degenerate are left out of the interval, counted by a trimmed mean beside it, and a verdict takes "
    "both. A model or teacher that guesses is no evidence: inconclusive, at chance.",
    "Verdicts that set a number apart from what was printed, and orderings, stand after Holm's correction over the "
    "claims of one paper and kind; the p value without it stands before it.",
    "A number that is only recalled, or whose metric its source does not name, is never called not reproduced.",
)  # fmt: skip


def page(ledgers: Sequence[Ledger], judged: Sequence[Judged], tolerances: str) -> Page:
    """The page."""
    tallies = {ledger.paper.name: counts(entry for entry in judged if entry.claim.paper == ledger.paper.name)
               for ledger in ledgers}  # fmt: skip
    names = [name for name in VERDICTS if any(name in numbers for numbers in tallies.values())]
    labels = [ledger.paper.label for ledger in ledgers]
    rows: list[Mapping[str, Cell]] = [
        {"verdict": name} | {ledger.paper.label: _count(tallies[ledger.paper.name], name) for ledger in ledgers}
        for name in ("claims", *names)
    ]
    links = [part for ledger in ledgers for part in (Link(ledger.paper.label, f"{ledger.paper.name}.md"), ", ")][:-1]
    back = Note(("Doubt a number? Open its paper (", *links, "), or type bench show ID. Back to ",
                 Link("the first screen", "README.md"), "."))  # fmt: skip
    table = Table.of(rows, ("verdict", *labels), labels)
    rules = (Bullets(RULES), Note(f"Tolerance bands {tolerances}."))
    return Page("papers.md", "Papers and their verdicts", (
        back, table, Section("How a number becomes a verdict", rules),
    ))  # fmt: skip


def _count(numbers: Mapping[str, int], name: str) -> str:
    return str(sum(numbers.values()) if name == "claims" else numbers.get(name, ""))
