"""reports/README.md, the first screen: what holds, what it costs, and what nobody has tested yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bench.claims.claim import Claim, Ledger
from bench.claims.units import UNITS
from bench.judge.rules import STRICT, VERDICTS, Judged, counts
from bench.judge.series import SeriesIndex
from bench.judge.sizes import estimate
from bench.report import headlines, launches, tradeoff
from bench.report.claims import KINDS, LEGEND, MARKS, heading, printed
from bench.report.numbers import DASH, show, significant
from bench.report.page import (
    Block,
    Cell,
    Lines,
    Link,
    Note,
    Page,
    Printed,
    Section,
    Sign,
    Strong,
    Table,
    Text,
    Weak,
    plain,
)  # fmt: skip
from bench.report.rows import ONE
from bench.report.systems import Measured, SystemView, common, timings

SURE = {"seen": "read at their source", "recalled": "recalled from memory"}
"""How surely a number is known -> what one says of it."""

COLUMNS = {
    "name": "system", "price": "price", "size": "size", "weighs": "weighs", "speed": "speed-up",
    "kept": "score kept, %", "alone": "on {task}, %", "learnt": "rows of {task}", "worst": "lost most",
}  # fmt: skip
"""What is shown of a system -> the head of its column in no-free-lunch.csv."""

ONE_TASK = "one task"
"""Stands for the task on which systems are compared where there is none."""


def page(
    ledgers: Sequence[Ledger], judged: Sequence[Judged], views: Sequence[SystemView], index: SeriesIndex,
    broken: Mapping[str, str], beside: Sequence[str] = (), tolerances: str = "",
) -> Page:  # fmt: skip
    """The page; `beside` are machines whose speed-ups stand beside those of the machine that speaks."""
    says = (sentence(judged, index), *details(judged, views), _conditions(views, beside))
    blocks: list[Block] = [Lines((*says, *_launches(views, index, beside)))]
    task = common(views)
    found = tradeoff.figure(views, task)
    systems = [_cells(view, index, beside, task) for view in views]
    blocks += [
        Table.of([_shown(cells, task) for cells in systems]),
        *_footnote(views, task),
        *([found] if found else []),
    ]
    told = headlines.lines(ledgers, judged)
    blocks += [*([Lines(tuple(told))] if told else []), Note(_tally(judged)), Note(_links(tolerances))]
    if broken:
        reasons = [{"paper": name, "reason": reason} for name, reason in sorted(broken.items())]
        blocks.append(Section("Papers that could not be read", (Table.of(reasons),)))
    heads = [head.format(task=task or ONE_TASK) for head in COLUMNS.values()]
    rows = [dict(zip(heads, cells.values(), strict=True)) for cells in systems]
    return Page("README.md", "No free lunch", tuple(blocks), (Table.of(rows, name="no-free-lunch"),))


def sentence(judged: Sequence[Judged], index: SeriesIndex) -> str:
    """How many claims are settled, and whether any score was tested at the paper's scale."""
    stated = [entry for entry in judged if entry.claim.is_printed]
    if not any(run.ok for run in index.runs):
        return f"Nothing was run yet: none of {len(stated):,} claims is judged from a measurement."
    held, failed = _settled(judged)
    scored = any(entry.tier in STRICT for entry in stated if entry.claim.kind in ("quality", "retention", "ordering"))
    return (f"Of {len(stated):,} printed numbers, ratios and rankings {len(held) + len(failed)} are settled: "
            f"{len(held)} hold, {len(failed)} do not; "
            f"{'some scores were' if scored else 'no score was'} tested at the paper's scale.")  # fmt: skip


def details(judged: Sequence[Judged], views: Sequence[SystemView]) -> list[str]:
    """What kind of numbers hold, how surely each is known, and which do not hold."""
    held, failed = _settled(judged)
    told = [f"Those that hold: {_known([entry.claim for entry in held])}."] if held else []
    return told + ([f"Those that do not: {_which(failed, views)}."] if failed else [])


def _settled(judged: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """The printed claims that hold, and those that do not."""
    stated = [entry for entry in judged if entry.claim.is_printed]
    return ([entry for entry in stated if entry.verdict in ("reproduced", "exceeded")],
            [entry for entry in stated if entry.verdict == "not reproduced"])  # fmt: skip


def _known(claims: Sequence[Claim]) -> str:
    """`111 on size and 17 on FLOPs, 65 different numbers; 79 are computed from ...; 25 read at their source, ...`"""
    told = " and ".join(f"{number} on {kind}" for kind, number in Counter(KINDS[c.kind] for c in claims).most_common())
    different = {(claim.maker, claim.variant, claim.metric, claim.split, claim.unit, claim.value) for claim in claims}
    told += f", {len(different)} different numbers" if len(different) < len(claims) else ""
    computed = sum(claim.by_arithmetic for claim in claims)
    bits = f"{computed} are bytes computed from bits, theirs and ours: no file of that size was written"
    return "; ".join((told, *([bits] if computed else []), _how_sure(claims)))


def _how_sure(claims: Sequence[Claim]) -> str:
    """`25 read at their source, 83 recalled from memory`"""
    sure = Counter(claim.transcription for claim in claims)
    return ", ".join(f"{number} {SURE.get(how, how)}" for how, number in sure.most_common())


def _which(failed: Sequence[Judged], views: Sequence[SystemView]) -> str:
    """`MobileBERT-tiny 15.1 M, here 15.5: printed by MobileBERT (3 times) and TinyBERT; 5 second-hand`"""
    names = {view.key: view.system.name for view in views}
    papers = {view.ledger.paper.name: view.ledger.paper.label for view in views}
    by: dict[str, Counter[str]] = {}
    for entry in failed:
        claim = entry.claim
        here = f", here {significant(entry.measured)}" if entry.measured is not None else ""
        number = f"{names.get((claim.maker, claim.variant), claim.variant)} {printed(claim)}{here}"
        by.setdefault(number, Counter())[claim.printed_by or papers.get(claim.paper, claim.paper)] += 1
    told = [f"{number}: printed by "
            + " and ".join(paper if times == 1 else f"{paper} ({times} times)" for paper, times in sorted(of.items()))
            for number, of in sorted(by.items())]  # fmt: skip
    return "; ".join((*told, _how_sure([entry.claim for entry in failed])))


def _conditions(views: Sequence[SystemView], beside: Sequence[str]) -> str:
    machines = Counter(view.timing.machine for view in views if view.timing)
    if not machines:
        return f"Printed → measured; speed was not measured. {LEGEND}."
    main = machines.most_common(1)[0][0]
    others = f", in brackets on {', '.join(beside)}" if beside else ""
    return (
        f"Printed → measured; speed at batch 1, without tokenisation, on {main}"
        f"{_session(views, main)}{others}. {LEGEND}."
    )


def _launches(views: Sequence[SystemView], index: SeriesIndex, beside: Sequence[str]) -> list[str]:
    """What the launches of a GPU hide, on the machines that are shown."""
    shown = {view.timing.machine for view in views if view.timing} | set(beside)
    return [told for machine, models in launches.launched(index).items()
            if machine in shown and (told := launches.sentence(models, machine))]  # fmt: skip


def _session(views: Sequence[SystemView], machine: str) -> str:
    protocols = {view.timing.protocol for view in views if view.timing and view.timing.machine == machine}
    return " (quick sessions)" if protocols == {"quick"} else ""


def _cells(view: SystemView, index: SeriesIndex, beside: Sequence[str], task: str) -> dict[str, Cell]:
    """What is shown of a system, by the names of COLUMNS and in their order."""
    return {
        "name": view.system.name + " ‡" * view.guessed, "price": _price(view), "size": _size(view),
        "weighs": _weight(view.bytes_), "speed": _speed(view, index, beside), "kept": _kept(view),
        "alone": _alone(view, task), "learnt": _learnt(view, task), "worst": _lost(view),
    }  # fmt: skip


def _shown(cells: Mapping[str, Cell], task: str) -> dict[str, Cell]:
    """Four columns, which fit a phone: the price stands beside the name, what it weighs beside the size, one task alone
    and what is lost most beside what is kept."""
    task = task or ONE_TASK
    alone, kept, rows = cells["alone"], cells["kept"], plain(cells["learnt"])
    if alone not in (DASH, kept):
        kept = DASH if plain(kept) == f"{plain(alone)} ({task})" else kept
        alone = (*_parts(alone), f" on {task}", f" after {rows} rows" if rows != DASH else "")
    else:
        alone = DASH
    return {
        "system and what it needs": (Strong(plain(cells["name"])), f" {plain(cells['price'])}"),
        "size": _joined(", ", cells["size"], cells["weighs"]), "speed-up": cells["speed"],
        f"score kept, %; on {task}; worst task": _joined("; ", kept, alone, cells["worst"]),
    }  # fmt: skip


def _joined(between: str, *cells: Cell) -> Cell:
    """What of the cells says anything, in one."""
    told = [(between, *_parts(cell)) for cell in cells if cell not in ("", DASH)]
    return tuple(part for parts in told for part in parts)[1:] or DASH


def _parts(cell: Cell) -> tuple[Text, ...]:
    return cell if isinstance(cell, tuple) else (cell,)


def _size(view: SystemView) -> Cell:
    """`40 → 38.8 % fewer ✓`"""
    if view.size is None:
        return DASH
    claim, found = view.size.claim, view.size.measured
    if found is None and view.own_size is not None:
        found = UNITS[claim.unit].to_print(view.own_size.value)
    unit = {"x smaller": "x", "% fewer": "% fewer"}.get(claim.unit, f" {claim.unit}")
    part = f" {claim.split.removeprefix('packed-')}" if claim.split.startswith("packed-") else ""
    return (Printed(f"{claim.value:g}"), " → ", f"{significant(found)}{unit}{part}", *_mark(view.size))


def _weight(bytes_: Measured | None) -> str:
    """`268 MB`, or `66.4 MB by arithmetic`"""
    if bytes_ is None:
        return DASH
    megabytes = bytes_.value / 1e6
    return f"{show(megabytes, 0 if megabytes >= 100 else 1)} MB" + ("" if bytes_.by == "measured" else f" {bytes_.by}")


def _speed(view: SystemView, index: SeriesIndex, beside: Sequence[str]) -> Cell:
    """`1.6 → 2.1x ↑`; a printed number that is judged at another batch than 1 is judged on its paper's page."""
    if view.reference:
        return "1x"
    number, found = view.printed("speed"), view.speedup and view.speedup.value
    judged = view.speed_judged if view.speed_judged and view.speed_judged.claim.split == ONE else None
    told: tuple[Text, ...] = (Printed(show(number, 1)), " → ") if number else ()
    told += (f"{show(found, 1 if found < 1000 else 0)}x", *_mark(judged)) if found else (DASH,)
    kernels = f" ({view.system.backend})" if view.system.backend and found else ""
    read = estimate(view.read) if view.read else None
    kernels += f" ({show(read.value, 1)}x with its tokeniser)" if read else ""
    return tuple(part for part in (*told, kernels, *(_elsewhere(view, index, machine) for machine in beside)) if part)


def _elsewhere(view: SystemView, index: SeriesIndex, machine: str) -> str:
    found = _on(view, index, machine)
    return f" ({show(found, 1)}x)" if found and view.timing and view.timing.machine != machine else ""


def _on(view: SystemView, index: SeriesIndex, machine: str) -> float | None:
    """The speed-up on one machine."""
    found = next((estimate(one) for one in timings(view, index) if one.machine == machine), None)
    return found.value if found else None


def _kept(view: SystemView) -> Cell:
    """`97 → 69.1 (cola, stsb)`: weak, with the tasks, where it is no number of the paper's scale."""
    if view.reference:
        return "100"
    number, kept = view.printed("retention"), view.kept
    if number is None and kept is None:
        return DASH
    told: tuple[Text, ...] = () if number is None else (Printed(show(100 * number, 1)), " → ")
    if kept is None or view.scores is None:
        return (*told, DASH)
    signs = " §" * bool(view.of_own_teacher) + " ¶" * bool(view.system.scored_as) + " ‖" * view.faulty
    # A verdict on one task says nothing of a mean over several, nor one beside another teacher.
    alike = view.retention is not None and view.retention.records == view.scores.records and not view.of_own_teacher
    found, mark = show(100 * kept.value, 1), _mark(view.retention) if alike else ()
    if view.scores.tier in STRICT:
        return tuple(part for part in (*told, found, *mark, signs) if part)
    tasks = ", ".join(entry.task for entry in view.scores.entries)
    tasks += f"; guesses on {', '.join(view.guesses)}" if view.guesses else ""
    return (*told, Weak(f"{found}{plain(mark)}{signs} ({tasks})"))


def _alone(view: SystemView, task: str) -> Cell:
    """`94.7`: the share of the reference's score on one task, the same for all systems."""
    scores = view.tasks.get(task)
    kept = scores.kept() if scores else None
    if view.reference:
        return "100"
    if scores is None or kept is None:
        return DASH
    share = show(100 * kept.value, 1)
    return share if scores.tier in STRICT else Weak(share)


def _learnt(view: SystemView, task: str) -> str:
    """`4,000`: the rows of the task that it learnt from."""
    rows = view.rows(task)
    return f"{rows:,}" if rows and not view.reference else DASH


def _lost(view: SystemView) -> Cell:
    """`cola → stsb`, or the one task where both agree."""
    if view.reference:
        return ""
    weak = view.scores is not None and view.scores.tier not in STRICT
    found: Text = Weak(view.worst_measured) if weak else view.worst_measured
    if not view.worst_measured or view.worst_measured == view.worst_printed:
        return view.worst_printed
    return (f"{view.worst_printed} → ", found) if view.worst_printed else found


def _price(view: SystemView) -> str:
    hours = view.device_hours
    device = view.cost.claim.device if view.cost else ""
    return (f"{hours:,.0f} {device} h, " if hours else "") + view.system.needs


def _mark(entry: Judged | None) -> tuple[Text, ...]:
    """The sign of a verdict with a space before it; nothing where it has none."""
    sign = MARKS.get(entry.verdict, "") if entry else ""
    return (" ", Sign(sign, entry.verdict)) if entry and sign else ()


def _footnote(views: Sequence[SystemView], task: str) -> list[Block]:
    """What italics and the signs of the table stand for."""
    shown = [scores for view in views if not view.reference
             for scores in (view.kept and view.scores, view.tasks.get(task)) if scores]  # fmt: skip
    small = [scores for scores in shown if scores.tier not in STRICT]
    parts: list[Text] = []
    if small:
        sizes = sorted({size / 1e6 for scores in small if (size := scores.series[0].teacher_size)})
        rows = sorted({data.rows.get("train") or 0 for scores in small for one in scores.series
                       if (data := one.newest.data)})  # fmt: skip
        size = f"{_span(sizes, 1)} M" if sizes else "unknown size"
        told = f"smaller runs, on the tasks in brackets: a teacher of {size}, {_span(rows, 0)} rows a task"
        told += ". Compare scores on the same task after about as many rows: after few, a teacher has little to lose"
        parts += [Weak(f"Italics: {told}"), ". "]
    alone: dict[str, dict[str, None]] = {}
    for view in views:
        if view.retention and view.retention.claim.task:
            alone.setdefault(view.retention.claim.task, {})[view.ledger.paper.label] = None
    parts += [f"{', '.join(names)}: printed on {task}. " for task, names in alone.items()]
    parts += _lent(views)
    own = [f"{view.system.name} {show(100 * view.of_own_teacher.value, 1)}%" for view in views if view.of_own_teacher]
    signs = {"‡ our guess at an unpublished network.": any(view.guessed for view in views),
             f"§ of {_reference(views)}; of the teacher that its own recipe trained: {', '.join(own)}.": bool(own),
             "¶ score of other networks than size and speed.": any(v.system.scored_as and v.kept for v in views),
             "‖ a fault of some of these runs is on its paper's page.": any(v.faulty and v.kept for v in views),
             }  # fmt: skip
    told = " ".join(sign for sign, there in signs.items() if there)
    parts += [told] if told else []
    return [Note(tuple(parts))] if parts else []


def _lent(views: Sequence[SystemView]) -> list[str]:
    """Whose speed it is, where a system has that of another model on the kernels that it takes."""
    names: dict[str, list[str]] = {}
    for view in views:
        if view.system.timed_as and view.timing:
            names.setdefault(view.system.backend, []).append(view.system.name)
    return [f"{kernels}: on such kernels; that of {' and '.join(of)} is the speed of {_reference(views)} on them. "
            for kernels, of in sorted(names.items())]  # fmt: skip


def _reference(views: Sequence[SystemView]) -> str:
    return next((view.system.name for view in views if view.reference), "the reference")


def _span(values: Sequence[float], digits: int) -> str:
    if not values:
        return "unknown"
    low, high = show(values[0], digits), show(values[-1], digits)
    return low if low == high else f"{low} to {high}"


def _tally(judged: Sequence[Judged]) -> Cell:
    """`Size: 83 reproduced, 6 not reproduced.`, kind after kind."""
    parts: list[Text] = []
    for kind in KINDS:
        numbers = counts(entry for entry in judged if entry.claim.kind == kind)
        if numbers:
            told = ", ".join(f"{numbers[verdict]} {verdict}" for verdict in VERDICTS if verdict in numbers)
            parts += [Strong(f"{heading(kind)}:"), f" {told}. "]
    return tuple(parts)


def _links(tolerances: str) -> Cell:
    return (
        Strong("Choose:"), " ", Link("every row", "table.md"), ", bench choose. ",
        Strong("Doubt:"), " ", Link("papers", "papers.md"), ", bench show. ",
        Strong("Upgrade:"), " bench regress, ", Link("environments", "environments.md"), ", ",
        Link("budgets", "budgets.md"),
        f". Hash of all tolerance bands: {tolerances}.",
    )  # fmt: skip


def summary(
    judged: Sequence[Judged], views: Sequence[SystemView], index: SeriesIndex, where: str, beside: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Four lines for the terminal: what was found, how fast this is (on the machine beside), what to type next."""
    timed = [(found, view.system.name, machine) for view in views if view.timing and not view.guessed
             for machine in beside or (view.timing.machine,) if (found := _on(view, index, machine))]  # fmt: skip
    speed = "Speed was not measured: bench measure --quick takes a minute or two."
    if timed:
        found, name, machine = max(timed)
        speed = f"On {machine} the fastest is {name}: {show(found, 1)} times as fast as {_reference(views)}."
    return [
        sentence(judged, index),
        speed,
        f"Open index.html beside {where}, which says the same as text; every paper has a page of its own.",
        f"Next: bench choose --max-mb 100, bench show {views[-1].system.variant}, or bench run --help for real data."
        if views else "Next: bench list shows what there is to run.",
    ]  # fmt: skip
