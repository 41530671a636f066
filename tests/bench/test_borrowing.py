"""A variant that borrows from a run on another task: what it waits for, and what its keys hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.core import registry
from bench.run.plan import Job, Planner
from bench.run.request import Request
from bench.run.schedule import graph
from bench.run.stages import _asked, _owner

RECIPE = """
from pydantic import Field
from bench.train.recipe import Recipe, Stage, State, Variant
from bench.train.settings import Settings
class Hyper(Settings):
    found_by: int = 1
    trained_by: int = 1
def find(state, settings, ctx): return state
def begin(state, settings, ctx): return state
def train(state, settings, ctx): return state.having(ctx.lent())
def hyper(variant, *_): return Hyper()
FIND, BEGIN = Stage(find, ("found_by",)), Stage(begin, ())
TRAIN = Stage(train, ("trained_by",), asks=("fine_tuned", "lent"))
RECIPE = Recipe(
    "lending",
    {"lends": Variant("it finds something", (FIND,)), "lends-too": Variant("another one", (BEGIN, FIND)),
     "borrows": Variant("it takes that", (BEGIN, TRAIN), borrows=("lends", "sst2")),
     "borrows-too": Variant("it takes the other", (BEGIN, TRAIN), borrows=("lends-too", "sst2")),
     "borrows-rte": Variant("it takes that of its own task", (BEGIN, TRAIN), borrows=("lends", "rte"))},
    ("sst2", "rte"), hyper, ("sst2",), teachers=("bert",))
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Job]]:
    """The jobs of a request on RTE, made-up data and an installed paper, by variant, task and seed."""
    module = f"lending_{abs(hash(tmp_path))}"
    folder = tmp_path / module
    folder.mkdir()
    for name, text in {"__init__.py": "", "recipe.py": RECIPE, "README.md": "", "claims.toml": ""}.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_installed", lambda: (("lending", module),))
    for name in ("BENCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))

    def make(*variants: str, seeds: int = 1, **changes: str) -> dict[str, Job]:
        asked = Request(paper=("lending",), variant=variants, task=("rte",), seeds=seeds, limit=40, set=changes)
        return {f"{job.spec.variant} {job.spec.task} {job.spec.seed}": job for job in Planner(asked).build().jobs}

    return make


def keys(job: Job) -> dict[str, str]:
    return {plan.stage.name: plan.key for plan in job.stages}


def test_the_lender_and_its_teacher_come_first(jobs: Callable[..., dict[str, Job]]) -> None:
    made = jobs("borrows")
    assert made.keys() == {"bert sst2 0", "bert rte 0", "lends sst2 0", "borrows rte 0"}
    assert list(made)[2:] == ["lends sst2 0", "borrows rte 0"]
    borrower = made["borrows rte 0"]
    assert borrower.lender is made["lends sst2 0"] and made["lends sst2 0"].lender is None
    assert set(borrower.needed) == {job for name, job in made.items() if name != "borrows rte 0"}
    assert borrower.reference is made["bert rte 0"], "it is compared with its own task's teacher"
    assert borrower.base is None and borrower.teachers == (made["bert rte 0"],)


def test_a_borrower_is_handed_out_after_its_lender(jobs: Callable[..., dict[str, Job]]) -> None:
    made = jobs("borrows")
    found = graph(list(made.values()), (), lambda key: False, lambda job, stage: 1.0)
    needs = {node.key: node.needs for node in found.nodes}
    lender, teacher, borrower = (made[name].hash for name in ("lends sst2 0", "bert rte 0", "borrows rte 0"))
    assert {lender, teacher} <= needs[borrower]
    later = graph(list(made.values()), {lender}, lambda key: False, lambda job, stage: 1.0)
    assert lender not in {node.key for node in later.nodes}, "its record is there"


def test_each_seed_borrows_from_its_own(jobs: Callable[..., dict[str, Job]]) -> None:
    made = jobs("borrows", seeds=2)
    for seed in (0, 1):
        assert made[f"borrows rte {seed}"].lender is made[f"lends sst2 {seed}"]
    first, second = (keys(made[f"borrows rte {seed}"]) for seed in (0, 1))
    assert first["train"] != second["train"]


def test_what_is_borrowed_is_in_the_key_of_the_stage_that_asks(jobs: Callable[..., dict[str, Job]]) -> None:
    plain, again, other = jobs("borrows"), jobs("borrows"), jobs("borrows", found_by="2")
    name = "borrows rte 0"
    assert keys(plain[name]) == keys(again[name]) and plain[name].hash == again[name].hash
    assert plain["lends sst2 0"].key != other["lends sst2 0"].key, "the setting is the lender's"
    assert keys(plain[name])["begin"] == keys(other[name])["begin"], "this stage asks for nothing"
    assert keys(plain[name])["train"] != keys(other[name])["train"]
    assert plain["bert sst2 0"].key == other["bert sst2 0"].key
    own = jobs("borrows", trained_by="2")
    assert plain["lends sst2 0"].key == own["lends sst2 0"].key, "what only the borrower reads"
    assert keys(plain[name])["train"] != keys(own[name])["train"]


def test_another_lender_is_another_key(jobs: Callable[..., dict[str, Job]]) -> None:
    made = jobs("borrows", "borrows-too", "borrows-rte")
    found = [keys(made[f"{variant} rte 0"]) for variant in ("borrows", "borrows-too", "borrows-rte")]
    assert len({one["begin"] for one in found}) == 1 and len({one["train"] for one in found}) == 3
    assert made["borrows-rte rte 0"].lender is made["lends rte 0"], "of the same task it is a run like any other"


def test_a_stage_is_given_the_lenders_model(jobs: Callable[..., dict[str, Job]]) -> None:
    made = jobs("borrows")
    borrower, lender, teacher = (made[name] for name in ("borrows rte 0", "lends sst2 0", "bert rte 0"))
    begin, train = borrower.stages
    assert _asked(borrower, begin) == []
    assert _asked(borrower, train) == [(teacher, teacher.key), (lender, lender.key)]
    assert _owner(borrower, "lent") is lender and _owner(borrower, "fine_tuned") is teacher
    with pytest.raises(AssertionError, match="'lent'"):
        _owner(lender, "lent")
