"""What ledgers hold beside printed numbers: shares of the teacher's score, headlines with fine print, systems."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_claims import LEDGER, PAPERS, write
from worked_records import claim as toy_claim

from bench.claims.claim import Claim
from bench.claims.ledger import load
from bench.core.errors import ClaimError

TEACHER_LEDGER = LEDGER.replace('id = "T1"\n', 'id = "T1"\nteacher = "other"\n')


def test_a_score_beside_its_teachers_makes_a_printed_retention(tmp_path: Path) -> None:
    ledger = load(write(tmp_path, TEACHER_LEDGER))
    found = [claim for claim in ledger.claims if claim.derived_from]
    assert [claim.id for claim in found] == ["toy.t1.toy.sst2.retention"], "the teacher has no score on RTE"
    claim = found[0]
    assert claim.value == pytest.approx(100 * 90 / 95) and (claim.unit, claim.kind) == ("% of", "retention")
    assert claim.derived_from == ("toy.t1.toy.sst2", "toy.t1.other.sst2")
    assert claim.source == "toy.t1.toy.sst2 over toy.t1.other.sst2" and claim.reference == "toy.t1.other.sst2"
    assert ledger.printed_band(claim) == pytest.approx((100 * 90 / 95 - 2, 100 * 90 / 95 + 2))


def test_a_retention_is_as_sure_as_the_less_sure_of_its_two_numbers(tmp_path: Path) -> None:
    text = TEACHER_LEDGER.replace("value = 95.0", 'value = 95.0\ntranscription = "recalled"')
    assert load(write(tmp_path, text)).by_id["toy.t1.toy.sst2.retention"].transcription == "recalled"


@pytest.mark.parametrize("change", [
    ("value = 95.0", "value = 0.0"),                                     # a teacher that scored nothing
    ('id = "toy.t1.toy.sst2"\n', 'id = "toy.t1.toy.sst2"\nteacher = ""\n'),     # told apart by hand
    ('id = "toy.t1.toy.sst2"\n', 'id = "toy.t1.toy.sst2"\nout_of_reach = "x"\n'),  # nobody here can run it
])  # fmt: skip
def test_no_retention_where_there_is_nothing_to_divide(change: tuple[str, str], tmp_path: Path) -> None:
    ledger = load(write(tmp_path, TEACHER_LEDGER.replace(*change)))
    assert not [claim for claim in ledger.claims if claim.derived_from]


def test_the_ledgers_hold_hundreds_of_retentions_all_of_printed_numbers() -> None:
    ledgers = [load(file) for file in sorted(PAPERS.glob("*/claims.toml"))]
    found = [(ledger, claim) for ledger in ledgers for claim in ledger.claims if claim.derived_from]
    for ledger, claim in found:
        student, teacher = (ledger.by_id[name] for name in claim.derived_from)
        assert claim.value == pytest.approx(100 * student.number() / teacher.number())
        assert (student.table, student.task, student.split) == (teacher.table, teacher.task, teacher.split)
        assert student.variant != teacher.variant and claim.maker == student.maker
    assert len(found) == 279 and len(ledgers) == 7


def test_every_known_headline_is_marked() -> None:
    """The numbers that abstracts and lecture notes are known for."""
    found = {(claim.paper, claim.value) for file in sorted(PAPERS.glob("*/claims.toml")) for claim in load(file).claims
             if claim.headline and claim.value is not None}  # fmt: skip
    assert found == {
        ("distilbert", 40), ("distilbert", 60), ("distilbert", 97), ("tinybert", 96.8), ("tinybert", 7.5),
        ("tinybert", 9.4), ("mobilebert", 4.3), ("mobilebert", 5.5), ("mobilebert", 62), ("qbert", 13), ("qbert", 4),
        ("qbert", -2.3), ("adabert", 20), ("adabert", 11.5), ("adabert", 17), ("adabert", -2), ("lowresource", 570),
        ("lowresource", 40),
    }  # fmt: skip


HEADLINE = 'id = "toy.params"\n'
SYSTEM = '\n[[system]]\nname = "Toy"\nvariant = "toy"\nneeds = "nothing"\n'


@pytest.mark.parametrize(("change", "told"), [
    (HEADLINE + 'fine_print = "x"\n', "claim toy.params: fine_print; found x"),
    (HEADLINE + 'headline = true\nfine_print = "{toy.nothing}"\n', "toy.params: fine_print; found toy.nothing"),
    (HEADLINE + 'headline = true\nfine_print = "{toy.order}"\n', "toy.params: fine_print; found toy.order"),
    (HEADLINE + 'headline = true\nfine_print = "{toy.keeps / toy.no}"\n', "toy.params: fine_print; found toy.no"),
    (HEADLINE + 'headline = true\nfine_print = "{toy"\n', "toy.params: fine_print; found {toy"),
])  # fmt: skip
def test_fine_print_names_numbers_of_the_ledger(change: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match=re.escape(told)):
        load(write(tmp_path, LEDGER.replace(HEADLINE, change)))


@pytest.mark.parametrize(("line", "told"), [
    ('size = "toy.nothing"', "system Toy: size; found toy.nothing"),
    ('speed = "toy.params"', "system Toy: speed; found toy.params"),
    ('colour = "red"', "system Toy: colour"),
    ("devices = 0", "system Toy: devices"),
    ('scored_as = "ghost"', "system Toy: scored_as; found ghost"),
])  # fmt: skip
def test_a_system_names_claims_of_its_kind(line: str, told: str, tmp_path: Path) -> None:
    assert load(write(tmp_path, LEDGER + SYSTEM + 'size = "toy.params"\n')).systems[0].size == "toy.params"
    (tmp_path / "toy" / "claims.toml").write_text(LEDGER + SYSTEM + line + "\n")
    with pytest.raises(ClaimError, match=re.escape(told)):
        load(tmp_path / "toy")


def test_a_claim_says_its_paper_and_its_maker() -> None:
    found = toy_claim(id="toy.c", made_by="bert")
    assert isinstance(found, Claim) and (found.paper, found.maker) == ("toy", "bert")
