"""Checks that a ledger means something: every mistake is a ClaimError naming file, claim and field."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from string import Formatter

from bench.claims.averages import cells, recompute
from bench.claims.claim import TEACHER, Claim, Ledger, System
from bench.claims.units import (
    AVERAGE,
    METRICS,
    RELATIVE_UNITS,
    SPEED_AND_SIZE,
    TASK_METRICS,
    TASK_SPLITS,
    UNITS,
    quality,
)
from bench.core.errors import ClaimError
from bench.core.meaning import SHARES

Mistake = tuple[str, str, object, str]
"""(what is wrong, field, found, expected)"""


def check(ledger: Ledger) -> None:
    """Refuse a ledger that cannot be judged. Raises: ClaimError for the first mistake."""
    seen: set[str] = set()
    for name, entries in ledger.averages.items():
        for mistake in _tasks(name, ledger):
            _fail(ledger, f"average {name}", mistake)
        if not entries:
            _fail(ledger, f"average {name}", ("an average without tasks", "tasks", "nothing", "one task or more"))
    for claim in ledger.claims:
        if claim.id in seen:
            _fail(ledger, f"claim {claim.id}", ("a double id", "id", claim.id, "an id of its own"))
        seen.add(claim.id)
        for mistake in chain(_mistakes(claim, ledger), _headline(claim, ledger)):
            _fail(ledger, f"claim {claim.id}", mistake)
    for name in sorted(ledger.unmade.keys() - {name for claim in ledger.claims for name in claim.runs}):
        _fail(ledger, "unmade", ("no claim is about that", name, name, "VARIANT or VARIANT/TASK of a claim"))
    for system in ledger.systems:
        for mistake in _system(system, ledger):
            _fail(ledger, f"system {system.name}", mistake)


def _fail(ledger: Ledger, name: str, mistake: Mistake) -> None:
    what, field, found, expected = mistake
    raise ClaimError(what, where=f"{ledger.file}: {name}: {field}", found=found, expected=expected)


def _mistakes(claim: Claim, ledger: Ledger) -> Iterator[Mistake]:
    if claim.id.partition(".")[0] != ledger.paper.name:
        yield "an id of another paper", "id", claim.id, f"an id that starts with {ledger.paper.name}."
    yield from _metric(claim)
    if claim.kind == "ordering":
        yield from _ordering(claim)
        return
    if claim.order:
        yield "an order of variants", "order", list(claim.order), "none, or kind = ordering"
    yield from _value(claim)
    yield from _task(claim)
    yield from _reference(claim, ledger)
    if ledger.tolerance(claim) is None:
        yield "no tolerance", "tolerance", "nothing", f"one of its own, or a section [tolerance.{claim.metric}]"
    yield from _average(claim, ledger)


def _metric(claim: Claim) -> Iterator[Mistake]:
    if claim.metric not in METRICS:
        yield "unknown metric", "metric", claim.metric, f"one of {', '.join(METRICS)}"
        return
    kinds = METRICS[claim.metric].kinds
    if claim.kind == "ordering":
        if claim.metric != AVERAGE:
            yield "a metric that does not fit the kind", "metric", claim.metric, f"{AVERAGE}, over the named tasks"
    elif claim.kind not in kinds:
        yield "a kind that does not fit the metric", "kind", claim.kind, f"{' or '.join(kinds)} for {claim.metric}"


def _ordering(claim: Claim) -> Iterator[Mistake]:
    if len(claim.order) < 2:
        yield "too few variants to order", "order", list(claim.order), "at least 2, from worst to best"
    elif len(set(claim.order)) < len(claim.order):
        yield "a variant that is named twice", "order", list(claim.order), "each variant once"
    elif claim.order[-1] != claim.variant:
        yield "another variant than the best one", "variant", claim.variant, claim.order[-1]
    if claim.value is not None:
        yield "a value", "value", claim.value, "none: an ordering has no number"
    if not claim.tasks:
        yield "no task list", "average", "nothing", "the name of a section of [average]"


def _value(claim: Claim) -> Iterator[Mistake]:
    if claim.value is None:
        yield "no value", "value", "nothing", "the printed number"
        return
    if claim.unit not in UNITS:
        yield "unknown unit", "unit", repr(claim.unit), f"one of {', '.join(UNITS)}"
        return
    fitting = RELATIVE_UNITS.get(claim.derive) or METRICS[claim.metric].units
    if claim.unit not in fitting:
        yield "a unit that does not fit the metric", "unit", claim.unit, f"{' or '.join(fitting)} for {claim.metric}"
        return
    unit = UNITS[claim.unit]
    low = 0.0 if claim.metric in SHARES and claim.derive != "difference_to" else unit.low
    if not low <= claim.value <= unit.high:
        yield "a value outside its unit", "value", claim.value, f"{low:g} to {unit.high:g} {claim.unit}"
    elif claim.kind in SPEED_AND_SIZE and unit.to_record(claim.value) <= 0:
        yield "a size or time that is not positive", "value", claim.value, "more than 0"


def _task(claim: Claim) -> Iterator[Mistake]:
    if claim.task and claim.task not in TASK_METRICS:
        yield "unknown task", "task", claim.task, f"one of {', '.join(TASK_METRICS)}"
    elif claim.metric == AVERAGE:
        if claim.task:
            yield "a task beside an average", "task", claim.task, "none: the task list says it"
        if not claim.tasks:
            yield "an average without a task list", "average", "nothing", "the name of a section of [average]"
    elif claim.average:
        yield "a task list", "average", claim.average, f"none, or metric = {AVERAGE}"
    elif quality(claim.metric):
        if not claim.task:
            yield "no task", "task", "nothing", f"the task that {claim.metric} is about"
        elif claim.metric not in TASK_METRICS[claim.task]:
            yield ("a metric that the task does not have", "metric", claim.metric,
                   f"{' or '.join(TASK_METRICS[claim.task])} for {claim.task}")  # fmt: skip
        elif claim.split not in TASK_SPLITS[claim.task]:
            yield ("a split that the task does not have", "split", repr(claim.split),
                   f"{' or '.join(TASK_SPLITS[claim.task])} for {claim.task}")  # fmt: skip
    elif not claim.split:
        yield "no split", "split", "nothing", "where records keep the number, for example all or batch1-length128"


def _reference(claim: Claim, ledger: Ledger) -> Iterator[Mistake]:
    if claim.derive == "none":
        if claim.reference:
            yield "a reference", "reference", claim.reference, "none, or derive = ratio_to, percent_of or difference_to"
        if claim.kind == "retention":
            yield "a retention of nothing", "derive", "none", "ratio_to or percent_of, and a reference"
        return
    other = ledger.by_id.get(claim.reference)
    if other is None:
        if claim.reference != TEACHER:
            yield ("a reference to no claim", "reference", repr(claim.reference),
                   f"the id of a claim of this ledger, or {TEACHER}")  # fmt: skip
    elif other.id == claim.id:
        yield "a reference to itself", "reference", claim.reference, "another claim"
    elif (other.metric, other.task, other.split, other.tasks) != (claim.metric, claim.task, claim.split, claim.tasks):
        yield ("a reference to another quantity", "reference", f"{other.id}: {other.metric} {other.task} {other.split}",
               f"the same metric, task, split and task list: {claim.metric} {claim.task} {claim.split}")  # fmt: skip
    if claim.kind in SPEED_AND_SIZE:
        yield ("a derived size or speed", "derive", claim.derive,
               "none: records hold these ratios, as speedup or parameters_ratio")  # fmt: skip
    if (claim.kind == "retention") != (claim.derive in ("ratio_to", "percent_of")):
        yield "a kind that does not fit derive", "kind", claim.kind, "retention for a ratio, quality for a difference"


def _average(claim: Claim, ledger: Ledger) -> Iterator[Mistake]:
    """A printed average recomputes from its cells, or says that it is a misprint."""
    if claim.metric != AVERAGE or claim.derive != "none" or not claim.recompute:
        if claim.misprint:
            yield "a misprint of nothing", "misprint", claim.misprint, "none: the average is not recomputed"
        return
    found = recompute(ledger, claim)
    if found is None:
        missing = sorted({cell for entry in claim.tasks for cell in entry.cells()} - cells(ledger, claim).keys())
        yield ("an average whose task list does not fit its cells", "average", f"no cell {' '.join(missing[0])}",
               "a claim beside it for each task, or recompute = false")  # fmt: skip
    elif not found.fits and not claim.misprint:
        yield ("an average that its own cells do not give", "value", found.printed,
               f"{found.recomputed:.2f}, another task list, or a misprint that says why")  # fmt: skip
    elif found.fits and claim.misprint:
        yield "a misprint that recomputes", "misprint", claim.misprint, f"none: the cells give {found.recomputed:.2f}"


def placeholders(text: str) -> list[str]:
    """What stands between braces in a line of fine print: a claim's id, or two of them with " / " between.

    Raises: ValueError for a brace without its other half.
    """
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


def _headline(claim: Claim, ledger: Ledger) -> Iterator[Mistake]:
    """Fine print belongs to a headline and names numbers of this ledger."""
    if claim.fine_print and not claim.headline:
        yield "fine print of no headline", "fine_print", claim.fine_print, "headline = true, or no fine print"
    try:
        names = placeholders(claim.fine_print)
    except ValueError as error:
        yield "fine print that cannot be read", "fine_print", claim.fine_print, f"{{claim.id}} in braces ({error})"
        return
    for name in (part for field in names for part in field.split(" / ")):
        if name not in ledger.by_id or ledger.by_id[name].value is None:
            yield "fine print about no number", "fine_print", name, "the id of a claim of this ledger with a value"


def _system(system: System, ledger: Ledger) -> Iterator[Mistake]:
    """The claims that speak for a system are of this ledger and of the kind that is asked for."""
    for kind in ("size", "speed", "retention", "cost"):
        name = getattr(system, kind)
        if name and (name not in ledger.by_id or ledger.by_id[name].kind != kind):
            yield "a system without that claim", kind, name, f"the id of a claim of this ledger of kind {kind}"
    if system.scored_as and system.scored_as not in {claim.variant for claim in ledger.claims}:
        yield "a system without that variant", "scored_as", system.scored_as, "a variant of a claim of this ledger"


def _tasks(name: str, ledger: Ledger) -> Iterator[Mistake]:
    entries = ledger.averages[name]
    names = [entry.task for entry in entries]
    for entry in entries:
        if entry.task not in TASK_METRICS:
            yield "unknown task", "task", entry.task, f"one of {', '.join(TASK_METRICS)}"
            return
        for field, given, known in (
            ("metrics", entry.metrics, TASK_METRICS[entry.task]),
            ("splits", entry.splits, TASK_SPLITS[entry.task]),
        ):
            wrong = [word for word in given if word not in known]
            if wrong:
                yield f"{field} that the task does not have", field, wrong[0], f"{' or '.join(known)} for {entry.task}"
    doubles = [cell for entry in entries for cell in entry.cells()]
    if len(set(doubles)) < len(doubles):
        yield "a task that is counted twice", "task", names, "each task, metric and split once"
