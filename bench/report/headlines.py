"""What papers are known for: each headline with what was found, the verdict, and the fine print behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter

from bench.claims.claim import Claim, Ledger
from bench.core.conditions import condition
from bench.judge.rules import AGREEING, STRICT, Judged
from bench.report.claims import MARKS, measured, printed
from bench.report.numbers import DASH, significant
from bench.report.page import Cell, Section, Strong, Table, Text, Weak


def section(ledger: Ledger, judged: Sequence[Judged]) -> list[Section]:
    """The headlines of one paper, or nothing."""
    rows: list[dict[str, Cell]] = [
        {"headline": entry.claim.says, "printed": printed(entry.claim), "found": found(entry),
         "verdict": Strong(entry.verdict), "fine print": fine_print(ledger, entry.claim)}
        for entry in judged if entry.claim.headline
    ]  # fmt: skip
    return [Section("Headlines", (Table.of(rows),))] if rows else []


def lines(ledgers: Sequence[Ledger], judged: Sequence[Judged]) -> list[Cell]:
    """One line per headline number of all papers, one for the orders of all ablations, and one for what of them is
    seen."""
    own = {ledger.paper.name: ledger for ledger in ledgers}
    entries = [entry for entry in judged if entry.claim.headline]
    numbers = [_number(own[entry.claim.paper], entry) for entry in entries if entry.claim.kind != "ordering"]
    orders = [_order(own[entry.claim.paper], entry) for entry in entries if entry.claim.kind == "ordering"]
    if not orders:
        return numbers
    first, *rest = orders
    every = ("Rankings of ablations: ", *first, *(part for order in rest for part in ("; ", *order)), ".")
    return [*numbers, every, *_pairs(own, judged)]


def _pairs(own: Mapping[str, Ledger], judged: Sequence[Judged]) -> list[Cell]:
    """`Of their pairs these are seen ...: TinyBERT, tinybert-4 above tinybert-4-no-td by 3.9 (mnli).`"""
    found: dict[str, list[str]] = {}
    for entry in judged:
        claim = entry.claim
        if claim.is_printed and len(claim.order) == 2 and entry.verdict in AGREEING and entry.measured is not None:
            worse, better = claim.order
            where = ", ".join(entry.tasks) + (", unequal rows" if entry.unequal else "")
            told = f"{better} above {worse} by {significant(entry.measured, 2)} ({where})"
            found.setdefault(own[claim.paper].paper.label, []).append(told)
    if not found:
        return []
    told = "; ".join(f"{label}, {', '.join(pairs)}" for label, pairs in found.items())
    unequal = any("unequal rows" in pair for pairs in found.values() for pair in pairs)
    why = " Unequal rows: one trained on over 1.5 times as many; it may have a phase more." if unequal else ""
    return [f"Of their pairs these are seen as printed, in points, over five seeds or more: {told}.{why}"]


def _number(ledger: Ledger, entry: Judged) -> Cell:
    """`DistilBERT 40% fewer parameters: 38.8% ✓. 66 M beside 110 M.`"""
    told = fine_print(ledger, entry.claim)
    small = f" {told[0].upper()}{told[1:]}." if told else ""
    head = Strong(f"{_whose(ledger, entry.claim)} {phrase(entry.claim)}:")
    if entry.measured is None:
        return (head, f" {entry.verdict}.", small)
    weak = entry.tier not in STRICT and entry.claim.kind in ("retention", "quality")
    unit = entry.claim.unit.partition(" ")[0]
    found = f"{significant(entry.measured)}{unit if unit in ('%', 'x') else f' {unit}'} {mark(entry)}"
    return (head, " ", Weak(found) if weak else found, ".", small)


def _whose(ledger: Ledger, claim: Claim) -> str:
    """`TinyBERT-4`, the system of the tables; or else the paper's label, with the variant where there are several."""
    system = next((system.name for system in ledger.systems if system.variant == claim.variant), None)
    several = len({one.variant for one in ledger.claims if one.headline and one.kind != "ordering"}) > 1
    return system or ledger.paper.label + (f" ({claim.variant})" if several else "")


_WORDS = {
    "parameters_ratio": "parameters", "size_ratio": "bytes", "speedup": "as fast", "latency_s": "a pass",
}  # fmt: skip
"""What a number of a metric is of, where its unit does not say it."""


def phrase(claim: Claim) -> str:
    """`40% fewer parameters`, `7.5x as fast`, `97% of the score`"""
    value, unit = f"{claim.value:g}", claim.unit
    if claim.kind == "retention":
        return f"{value}% of the score"
    if unit == "points":
        return f"{value} points"
    if unit == "x smaller":
        return f"{value}x smaller" + ("" if claim.split == "teacher" else f" ({claim.split.removeprefix('packed-')})")
    if unit.startswith("%"):
        return f"{value}{unit}" + (f" {_WORDS[claim.metric]}" if "fewer" in unit else "")
    word = _WORDS.get(claim.metric, "") + _at(claim)
    return f"{value}{'' if unit == 'x' else ' '}{unit} {word}".rstrip()


def _at(claim: Claim) -> str:
    """` (judged at batch 32)`, where a speed is not judged as the tables' are, at batch 1."""
    found = condition(claim.split)
    return f" (judged at batch {found.batch})" if found and found.batch != 1 else ""


def _order(ledger: Ledger, entry: Judged) -> tuple[Text, ...]:
    """`DistilBERT, Table 4 ?`"""
    where = re.match(r"Table \d+", entry.claim.source)
    return (f"{ledger.paper.label}, {where[0] if where else 'notes'} ", Strong(mark(entry)))


def found(entry: Judged) -> Cell:
    """What was measured; weak where the runs are not the paper's."""
    text = measured(entry)
    return text if text == DASH or entry.tier in (*STRICT, "") else Weak(text)


def mark(entry: Judged) -> str:
    """The sign of a verdict, or the verdict where it has none."""
    return MARKS.get(entry.verdict, entry.verdict)


def fine_print(ledger: Ledger, claim: Claim) -> str:
    """The line with what was printed in place of the ids in braces; two of them with " / " between give their ratio."""
    parts = []
    for text, name, _, _ in Formatter().parse(claim.fine_print):
        parts.append(text)
        if name is not None:
            parts.append(_filled([ledger.by_id[one] for one in name.split(" / ")]))
    return "".join(parts)


def _filled(claims: Sequence[Claim]) -> str:
    if len(claims) == 1:
        return f"{claims[0].number():g}{'' if claims[0].unit in ('x', '%') else ' '}{claims[0].unit}"
    return f"{significant(claims[0].number() / claims[1].number(), 2)}x"
