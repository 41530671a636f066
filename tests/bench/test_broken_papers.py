"""One paper that is broken, in whatever way, is listed as broken and stops no other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.claims.ledger import load_all
from bench.cli import catalogue, memo
from bench.core import registry
from bench.core.record import Record
from bench.models.shape import all_shapes
from bench.report import build
from bench.run import exports, recipes
from bench.run.request import Request
from bench.run.stack import chosen_stacks
from tests.bench.rendered import pages

RECIPE = """
import os, sys
from bench.train.recipe import Recipe, Stage, Variant
from bench.train.settings import Settings
def train(state, settings, ctx): return state
def hyper(*_): return Settings()
RECIPE = Recipe({name!r}, {{{variant!r}: Variant("one", (Stage(train, ()),))}}, ("sst2",), hyper, ("sst2",){more})
"""
LEDGER = '[paper]\ntitle = "T"\nlabel = "L"\narxiv = ""\nvenue = "V"\ncode = ""\ncommit = ""\n'

WAYS = {
    "w_raises": "1 / 0",
    "w_exits": "import sys; sys.exit(0)",
    "w_prints": "print('[bold]hello[/bold]')",
    "w_misses": "from transformers import NoSuchModelForAnything",
    "w_type": "class R:\n    name = 'w_type'\nRECIPE = R()",
    "w_task": RECIPE.format(name="w_task", variant="w-task", more="").replace('("sst2",), hyper', '("nope",), hyper'),
    "w_twice": RECIPE.format(name="w_twice", variant="distilbert", more=""),
    "w_taught": RECIPE.format(name="w_taught", variant="w-taught", more="").replace(
        "()),))", '()),), taught_by="ghost")'
    ),
    "w_needs": RECIPE.format(name="w_needs", variant="w-needs", more=", teachers=('w_raises',)"),
}
"""Paper -> a recipe that is broken in its own way."""
BORROWED = {
    "b_ghost": '("ghost", "sst2")', "b_task": '("b_task-1", "rte")', "b_self": '("b_self-2", "sst2")',
    "b_chain": '("b_chain-3", "sst2")', "b_part": '("b_part-1",)', "b_more": '("b_more-1", "sst2", "rte")',
    "b_none": "()", "b_text": '"b_text-1"', "b_list": '(["b_list-1"], "sst2")',
}  # fmt: skip
"""Paper -> what its second variant borrows from; the third one borrows from the first."""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lays papers out as plug-ins: name, recipe, ledger, and further files."""
    points: list[tuple[str, str]] = []
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_installed", lambda: tuple(points))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def lay(name: str, recipe: str | None = None, ledger: str = LEDGER, **more: str) -> None:
        module = f"{name}_{abs(hash(tmp_path))}"
        folder = tmp_path / module
        folder.mkdir()
        files = {"__init__": "", **({"recipe": recipe} if recipe is not None else {}), **more}
        for file, text in files.items():
            (folder / f"{file}.py").write_text(text)
        (folder / "README.md").write_text("")
        (folder / "claims.toml").write_text(ledger)
        points.append((name, module))

    return lay


def test_each_way_is_listed_and_the_others_run(install, capfd: pytest.CaptureFixture[str]) -> None:
    for name, recipe in WAYS.items():
        install(name, recipe)
    install("fine", RECIPE.format(name="fine", variant="fine-one", more=""))
    known, broken = recipes.read()
    assert set(broken) == set(WAYS) and {"bert", "distilbert", "fine"} <= set(known)
    says = {"w_exits": "SystemExit", "w_prints": "prints on import", "w_misses": "NoSuchModel", "w_type": "expected a",
            "w_twice": "also one of distilbert", "w_needs": "broken, too", "w_task": "unknown task 'nope'",
            "w_taught": "taught by 'ghost'"}  # fmt: skip
    assert all(text in broken[name] and "\n" not in broken[name] for name, text in says.items())
    assert capfd.readouterr().out == ""
    stacks, chosen = chosen_stacks(Request())
    assert "fine" in chosen and not set(chosen) & set(WAYS) and len(stacks) >= 6
    with pytest.raises(registry.BrokenPaper, match="the paper is broken; in w_exits"):
        chosen_stacks(Request(paper=("w_exits",)))
    assert set(catalogue.listing()["broken"]) == set(WAYS)


def test_a_model_is_exported_beside_a_broken_paper(install, make_record: Callable[..., Record], tmp_path: Path) -> None:
    install("w_exits", WAYS["w_exits"])
    (tmp_path / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    for variant in ("bert", "tinybert-4+qbert-w4"):
        paper = "qbert" if "+" in variant else "bert"
        lines = exports._loading(make_record(spec={"paper": paper, "variant": variant}), tmp_path, [])
        assert any("from_pretrained" in line for line in lines)


def test_broken_ledgers_sections_and_shapes_cost_their_own_page_alone(install) -> None:
    odd = ["x = = 1", "[[claim]]\nid = 3", "claim = 3", '[paper]\nname = "bert"', "table = [[1]]", "average = {a = 3}",
           LEDGER + "[[claim]]\ntable = [1]", "\x00", LEDGER.replace('"V"', "nan")]  # fmt: skip
    for number, ledger in enumerate(odd):
        install(f"ledger{number}", ledger=ledger)
    install("shapes", shapes="import sys; sys.exit(1)", sections="raise ValueError('of mine')")
    install("names", shapes="SHAPES = {'x': 3}", sections="def sections(outcomes): return 1 / 0")
    ledgers, broken = load_all()
    assert {f"ledger{n}" for n in range(len(odd))} == set(broken)
    assert {"bert", "shapes", "names"} <= {ledger.paper.name for ledger in ledgers}
    assert ("bert", "bert") in all_shapes() and not {"shapes", "names"} & {paper for paper, _ in all_shapes()}
    found, unread = build._more({"shapes": [], "names": []})
    assert found == {"shapes": (), "names": ()} and list(unread) == ["shapes"] and "of mine" in unread["shapes"]
    assert set(broken) <= set(catalogue.listing()["broken"])
    assert "No free lunch" in pages([])["README.md"]


def test_what_is_remembered_counts_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read = tmp_path / "claims.toml"
    read.write_text("a")
    assert memo.recall("list", "key") is None
    memo.remember("list", "key", {"answer": 1}, [read])
    assert memo.recall("list", "key") == {"answer": 1} and memo.recall("list", "other") is None
    os.utime(read, ns=(1, 1))
    assert memo.recall("list", "key") is None
    memo.remember("list", "key", {"answer": 1}, [read])
    read.unlink()
    assert memo.recall("list", "key") is None
    next((tmp_path / "cache").rglob("list-*.json")).write_text("{")
    assert memo.recall("list", "key") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(read / "nowhere"))
    read.write_text("a file, no folder")
    memo.remember("list", "key", 1)
    assert memo.recall("list", "key") is None


def test_a_variant_borrows_from_a_run_of_its_paper(install) -> None:
    """From a variant that it has and that does not borrow itself, on a task that it has."""
    for name, lender in {**BORROWED, "b_fine": '("b_fine-1", "sst2")'}.items():
        more = [f"'{name}-{number}': Variant('more', (Stage(train, ()),), borrows={given})"
                for number, given in ((2, lender), (3, f"('{name}-1', 'sst2')"))]  # fmt: skip
        recipe = RECIPE.format(name=name, variant=f"{name}-1", more="")
        install(name, recipe.replace("()),))}", f"()),)), {', '.join(more)}}}"))
    known, broken = recipes.read()
    assert broken.keys() == BORROWED.keys() and len(known["b_fine"].variants) == 3
    for name, why in broken.items():
        assert f"has a variant '{name}-2' that borrows from" in why and "\n" not in why
