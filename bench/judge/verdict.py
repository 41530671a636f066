"""Computes the verdict of every claim from records: nothing else in the suite says whether a printed number holds.

What a run may answer depends on its tier. Runs under the paper's conditions answer the number itself; smaller ones, or
ones on other data or devices, only what carries over: retention, ratios of size and speed, orderings. A model that
guesses answers nothing. Failed runs never count.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from bench.claims.averages import recompute
from bench.claims.claim import TEACHER, Claim, Entry, Ledger
from bench.claims.units import PRINTED_ONLY, SPEED_AND_SIZE, dev_split
from bench.core.stats import mean_of, trimmed_mean_of
from bench.judge.caveats import first_caveat, without_caveats
from bench.judge.orderings import judge_ordering
from bench.judge.rules import AGREEING, DIFFERING, STRICT, Judged, correct, settle
from bench.judge.runs import Run
from bench.judge.scores import Missing, ScoreBook, Scores, Summary
from bench.judge.series import SeriesIndex
from bench.judge.sizes import judge_physical


def judge(ledgers: Sequence[Ledger], runs: Iterable[Run] | ScoreBook) -> list[Judged]:
    """One verdict per claim, in ledger order."""
    book = runs if isinstance(runs, ScoreBook) else ScoreBook(SeriesIndex(runs))
    found = []
    for ledger in ledgers:
        without = without_caveats(ledger, book)
        for claim in ledger.claims:
            judged = _judge(ledger, claim, without)
            if not judged.records and without is not book:
                judged = _with_caveat(ledger, _judge(ledger, claim, book), book.index)
            found.append(_with_misprint(ledger, judged))
    return correct(found)


def _with_caveat(ledger: Ledger, judged: Judged, index: SeriesIndex) -> Judged:
    """Of runs that something is known to be wrong with: they settle no score."""
    told = first_caveat(ledger, judged.records, index)
    if not told or judged.claim.kind in SPEED_AND_SIZE:
        return judged
    why = f"{judged.why} {told}"
    if judged.verdict in (*AGREEING, *DIFFERING):
        return replace(judged, verdict="inconclusive", p=None, open=None, why=why)
    return replace(judged, why=why)


def _with_misprint(ledger: Ledger, judged: Judged) -> Judged:
    """A printed average that does not recompute from its own cells says so."""
    again = recompute(ledger, judged.claim) if judged.claim.misprint else None
    if again is None:
        return judged
    told = f" The printed {again.printed:g} is {again.recomputed:.2f} by its own cells: {judged.claim.misprint}"
    return replace(judged, why=judged.why + told)


def _judge(ledger: Ledger, claim: Claim, book: ScoreBook) -> Judged:
    if claim.on_test_server and claim.kind != "retention":
        return Judged(claim, "not comparable: split",
                      why="The number is from the GLUE test server, whose labels are not public; "
                          "it is not compared with dev scores.")  # fmt: skip
    if claim.kind == "ordering":
        found = judge_ordering(ledger, claim, book)
    elif claim.kind in SPEED_AND_SIZE:
        found = judge_physical(ledger, claim, book.index)
    elif claim.kind == "retention":
        found = _retention(ledger, claim, book)
    elif claim.derive == "difference_to":
        found = _difference(ledger, claim, book)
    else:
        found = _quality(ledger, claim, book)
    lacking = claim.out_of_reach or ("" if claim.kind in SPEED_AND_SIZE else _unmade(ledger, claim))
    if lacking and (found.verdict == "not run" or (claim.out_of_reach and found.tier not in STRICT)):
        return Judged(claim, "out of reach", why=f"It would take {lacking}.")
    return found


def _unmade(ledger: Ledger, claim: Claim) -> str:
    """What a score would take whose variant no recipe makes, or whose data no task reads; nothing for others."""
    for name in claim.runs:
        if name in ledger.unmade:
            return ledger.unmade[name]
    unknown = sorted(PRINTED_ONLY & {entry.task for entry in _entries(claim)})
    return f"the data of {', '.join(unknown)}, which no task here reads" if unknown else ""


def _entries(claim: Claim) -> tuple[Entry, ...]:
    """The cells that a quality claim is about, as our runs score them: its task list, or its one task."""
    entries = claim.tasks or (Entry(task=claim.task, metrics=(claim.metric,), splits=(claim.split,)),)
    return tuple(entry.model_copy(update={"splits": tuple(map(dev_split, entry.splits))}) for entry in entries)


def _found(ledger: Ledger, claim: Claim, book: ScoreBook) -> list[Scores] | Missing:
    """Suites of the variant, and of the one made from its authors' checkpoint, the best evidence first."""
    entries = _entries(claim)
    own = book.of((claim.maker, claim.variant), entries)
    released = ledger.paper.released.get(claim.variant)
    other = book.of((claim.maker, released), entries) if released else own
    if isinstance(own, Missing):
        return own if isinstance(other, Missing) and len(own.tasks) < len(other.tasks) else other
    if isinstance(other, Missing) or other is own:
        return own
    return sorted([*own, *other], key=lambda scores: scores.rank, reverse=True)


def _not_run(claim: Claim, missing: Missing) -> Judged:
    if len(claim.tasks) > 1:
        lacking = ", ".join(missing.tasks)
        why = (f"Not run: missing {lacking} of the {len(claim.tasks)} tasks of the average; "
               "no suite of runs has finished them all.")  # fmt: skip
    else:
        why = f"Not run: no finished run of {claim.variant} on {_entries(claim)[0].task} has this score."
    return Judged(claim, "not run", why=why)


def _open(claim: Claim, verdict: str, why: str, scores: Scores) -> Judged:
    """A verdict without a number."""
    return Judged(claim, verdict, tier=scores.tier, scale=scores.scale, seeds=scores.seeds, records=scores.records,
                  why=why)  # fmt: skip


def _not_comparable(claim: Claim, scores: Scores) -> Judged:
    """An absolute score from runs that are not the paper's."""
    if scores.made_up:
        why = "The variant ran on made-up data only, whose scores are not the paper's."
        return _open(claim, "not comparable: made-up data", why, scores)
    if scores.scale == "full":
        why = "The runs had a smaller budget or other settings than the paper's, so their scores are not its."
        return _open(claim, "not comparable: budget", why, scores)
    size = scores.series[0].teacher_size or scores.series[0].newest.value("parameters", "all")
    told = f" of {size / 1e6:.1f} million parameters" if size else ""
    why = (f"Runs of scale {scores.scale} start from another encoder{told}; only the share of its own teacher's score "
           "can be compared (retention).")  # fmt: skip
    return _open(claim, "not comparable: another teacher", why, scores)


def _guessing(claim: Claim, scores: Scores) -> Judged:
    why = (
        f"No better than guessing on this split: {scores.at_chance}. Such runs speak neither for the claim nor against."
    )
    return _open(claim, "inconclusive: at chance", why, scores)


def _quality(ledger: Ledger, claim: Claim, book: ScoreBook) -> Judged:
    found = _found(ledger, claim, book)
    if isinstance(found, Missing):
        return _not_run(claim, found)
    best = found[0]
    if best.tier not in STRICT:
        return _not_comparable(claim, best)
    if best.at_chance:
        return _guessing(claim, best)
    summary = best.average()
    own = median(summary.values) if claim.aggregation.startswith("median") and summary.values else None
    return settle(ledger, claim, summary, best, shown=own)


def _retention(ledger: Ledger, claim: Claim, book: ScoreBook) -> Judged:
    """The share of the own teacher's score, paired by seed; the interval is on the logs of the ratios."""
    found = _found(ledger, claim, book)
    if isinstance(found, Missing):
        return _not_run(claim, found)
    beside = ledger.by_id.get(claim.reference)  # none where the claim is of whatever teacher a run has
    alike = [scores for scores in found if beside is None or _taught_by(scores, book) <= {beside.variant}]
    if not alike:
        others = ", ".join(sorted(_taught_by(found[0], book)))
        why = f"Printed beside {claim.reference}; the runs learn from {others}, beside which they are measured."
        return _open(claim, "not comparable: another teacher", why, found[0])
    best, kept = next(((scores, kept) for scores in alike if (kept := scores.retention())), (alike[0], None))
    if kept is None or kept.estimate is None:
        why = "No run knows a score above 0 of its own teacher on the same split; one run beside its teacher would."
        return _open(claim, "inconclusive", why, best)
    if best.at_chance:
        return _guessing(claim, best)
    if not claim.on_test_server:
        return settle(ledger, claim, kept, best)
    judged = settle(ledger, claim, kept, replace(best, tier="proxy"))
    return replace(judged, why=f"{judged.why} Printed on the test server, measured on dev.")


def _taught_by(scores: Scores, book: ScoreBook) -> set[str]:
    """The variants that a suite's runs learn from; of a record that is not at hand nothing is known, and it counts as
    the teacher that was printed."""
    runs = (score.run for one in scores.scores for score in one)
    return {teacher.variant for run in runs if (teacher := book.index.teacher(run)) is not None}


def _difference(ledger: Ledger, claim: Claim, book: ScoreBook) -> Judged:
    """The difference to the reference's variant in points, paired by seed under one budget."""
    reference = claim if claim.reference == TEACHER else ledger.by_id[claim.reference]
    own = book.of((claim.maker, claim.variant), _entries(claim))
    if isinstance(own, Missing):
        return _not_run(claim, own)
    other = book.of((reference.maker, reference.variant), _entries(reference))
    if isinstance(other, Missing):
        return replace(_not_run(reference, other), claim=claim)
    best = own[0]
    if best.tier not in STRICT:
        return _not_comparable(claim, best)
    real = [scores for scores in own if scores.tier in STRICT and not scores.made_up]
    # Where the reference is the teacher, each run knows its own teacher's score. Else two suites are compared whose
    # series pair task by task; of all such pairs the first one with a common seed speaks.
    if reference is claim or reference.maker != claim.maker:
        pairs = [(scores, _paired(scores, scores.teachers_by_seed(), scores.by_seed())) for scores in real]
    else:
        pairs = [(scores, _paired(scores, ref.every_seed(), ref.by_seed())) for scores in real for ref in other
                 if [one.rivals for one in scores.series] == [one.rivals for one in ref.series]]  # fmt: skip
    best, differences = next(((scores, found) for scores, found in pairs if found), (best, None))
    if differences is None:
        name = "its teacher" if reference is claim else reference.variant
        why = f"{claim.variant} and {name} did not run with the same seeds, data and budget."
        return _open(claim, "not comparable: budget", why, best)
    if best.at_chance:
        return _guessing(claim, best)
    return settle(ledger, claim, differences, best)


def _paired(scores: Scores, theirs: Mapping[int, float], trained: Container[int]) -> Summary | None:
    """The differences to the other's scores, seed by seed; None without a seed in common that trained on both sides."""
    every = {seed: value - theirs[seed] for seed, value in scores.every_seed().items() if seed in theirs}
    values = tuple(every[seed] for seed in scores.by_seed() if seed in every and seed in trained)
    if not values:
        return None
    first, lost = mean_of(values, scores.example), len(every) - len(values)
    return Summary(first, trimmed_mean_of([*every.values()], lost, scores.example) if lost else None, values, lost)
