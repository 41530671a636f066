"""Printed retentions: the share of its teacher's score that a student kept, by two numbers of one printed table.

Hardly a paper prints them, but they carry over to smaller models and data, where the scores themselves do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.claims.claim import Claim

_SURENESS = ("seen", "second-hand", "recalled")
"""From best known to least."""


def retentions(claims: Sequence[Claim], teachers: Mapping[str, str]) -> list[Claim]:
    """One claim per printed score of a student whose teacher's score stands in the same table.

    `teachers` maps a claim's id to the teacher of its table: a variant, or the common part of its row's ids where a
    table has several rows of one variant. Units: percent, unrounded. A score that no run here can give has
    none, and nor has one of a teacher that scored 0 or less, or a share that is none (below 0, or over twice).
    """
    found = []
    for claim in claims:
        teacher = _teacher(claim, claims, teachers.get(claim.id, ""))
        if teacher is not None and claim.value is not None and 0 <= claim.value <= 2 * teacher.number() > 0:
            found.append(_retention(claim, teacher))
    return found


def _teacher(claim: Claim, claims: Sequence[Claim], teacher: str) -> Claim | None:
    """The teacher's printed score beside a student's."""
    if not teacher or claim.kind != "quality" or claim.derive != "none" or claim.out_of_reach:
        return None
    same = ("table", "task", "metric", "split", "average", "unit", "kind", "derive")
    return next((other for other in claims
                 if teacher in (other.variant, other.id.rpartition(".")[0]) and other.variant != claim.variant
                 and all(getattr(other, name) == getattr(claim, name) for name in same)), None)  # fmt: skip


def _retention(claim: Claim, teacher: Claim) -> Claim:
    share = 100 * claim.number() / teacher.number()
    what = f"{claim.metric} on {claim.task}" if claim.task else "average score"
    return claim.model_copy(update={
        "id": f"{claim.id}.retention",
        "says": f"{claim.variant} keeps {share:.1f}% of {teacher.variant}'s {what}.",
        "kind": "retention", "derive": "percent_of", "reference": teacher.id, "value": share, "unit": "% of",
        "source": f"{claim.id} over {teacher.id}", "derived_from": (claim.id, teacher.id),
        "transcription": max(claim.transcription, teacher.transcription, key=_SURENESS.index),
        "metric_stated": claim.metric_stated and teacher.metric_stated,
        "tolerance": None, "misprint": "", "headline": False, "fine_print": "",
    })  # fmt: skip
