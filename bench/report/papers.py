"""reports/papers.md: where to doubt a number: every paper with its verdicts, and how a verdict is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.claims.claim import Ledger
from bench.judge.rules import VERDICTS, Judged, counts
from bench.report.page import Bullets, Cell, Link, Note, Page, Section, Table

RULES = (
    "A claim is one printed number. Its band is the number with a tolerance that its ledger (papers/*/claims.toml) "
    "fixed, with a reason, before any run; the hash at the foot of every page is over all bands.",
    "Of several series the one closest to the paper answers: by its tier, its scale, two seeds or more, the recipe's "
    "own method, and then the larger budget of text, rows and passes, whatever its score. A share on one task is of "
    "that series, too. An average takes tasks that ran under one budget (rows and passes may differ): of such sets the "
    "first with two tasks or more on which neither student nor teacher guesses.",
    "Seeds that look degenerate (they answer with a constant) are left out of the interval. A trimmed mean over all "
    "seeds stands beside it; where its centre lies elsewhere, the verdict is inconclusive.",
    "Verdicts that set a number apart from what was printed, and rankings, use p values after Holm's correction over "
    "the claims of one paper and kind; they stand in brackets behind the uncorrected ones.",
    "A number that is only recalled, or whose metric its source does not name, is never called not reproduced.",
    "Retention is a student's score over that of its own teacher, paired by seed. The printed one is made of two "
    "printed scores of one table; on the test server it is a proxy for ours on dev.",
)  # fmt: skip

NOTHING = "-"
MEANINGS = {
    "reproduced": ("the 95% interval of runs as the paper's lies inside the band", NOTHING),
    "exceeded": ("it lies on the better side", NOTHING),
    "not reproduced": ("it lies outside the band, and not on its better side", NOTHING),
    "consistent": ("inside the band, but in smaller runs or on another device", "runs at the paper's scale"),
    "better": ("on the better side, in such runs", "runs at the paper's scale"),
    "not seen": ("outside the band, not on its better side, in such runs, which cannot refute the number",
                 "runs at the paper's scale"),
    "inconclusive": ("the interval lies across an edge of the band; or seeds are too few (an ordering needs five); or "
                     "it lies outside, but not after Holm's correction, or the number is only recalled",
                     "more seeds, where it can be computed the claim says how many settle it with 80% power; of a "
                     "recalled number, the paper at hand"),
    "inconclusive: at chance": ("the model or its teacher does no better than guessing", "more rows or training"),
    "not comparable: another teacher": ("an absolute score from runs that start from another encoder",
                                        "the paper's own teacher"),
    "not comparable: split": ("a score of the GLUE test server, whose labels are not public", "nothing"),
    "not comparable: made-up data": ("a run on made-up data", "real data"),
    "not comparable: budget": ("runs with fewer rows or steps than the paper's", "the recipe's full budget"),
    "not run": ("no finished run has this number", "bench run, or of a size or speed bench measure"),
    "out of reach": ("no run here can have it: another's model, a device, the authors' data", "what the claim names"),
}  # fmt: skip
"""Verdict -> what it means, and what would change it, or NOTHING."""

WORDS = (
    "series: all runs of one thing that differ in the seed only; a suite is the series of one variant on several tasks",
    "scale: full is the paper's own teacher and settings; small is real data with a smaller teacher; shape is the "
    "paper's architecture with random weights, enough for size and speed",
    "tier: how close runs are to the paper's: exact, checkpoint (the authors' weights), reduced (smaller), proxy "
    "(another split or device)",
    "machine: processor, cores, memory and a hash of its kind; -1t is the same machine on one thread",
    "stand-in: our guess at an architecture that its paper does not give; it judges no size, and a speed only by proxy",
    "budget: the rows, texts, passes and settings that a run was allowed; runs of another budget are another series",
    "at chance: no better than always answering with the most frequent class, or than answering at random",
    "ranking (ordering): what a paper says of which variant is better; its number is the smallest gap between two "
    "neighbours, in points, negative where they stand the other way round; one that averages over tasks is judged on "
    "those of them that both sides ran, which its row names, unless the paper's own numbers have another order there",
    "headline: an abstract's number, the ranking of an ablation, or what a summary of the paper quotes; the fine print "
    "beside it says what goes unsaid there",
    "seen, second-hand, recalled: whether a number was read at the source that is named beside it, in another "
    "publication that quotes it, or written down from memory without the source at hand",
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
    meanings = [{"verdict": name, "means": means, "what would change it": change}
                for name, (means, change) in MEANINGS.items()]  # fmt: skip
    rules = (Table.of(meanings), Bullets(RULES), Note(f"Hash of all tolerance bands: {tolerances}."))
    return Page("papers.md", "Papers and their verdicts", (
        back, table, Section("How a number becomes a verdict", rules), Section("Words", (Bullets(WORDS),)),
    ))  # fmt: skip


def _count(numbers: Mapping[str, int], name: str) -> str:
    return str(sum(numbers.values()) if name == "claims" else numbers.get(name, ""))
