"""Finding papers: folders, installed plug-ins, broken ones with their reason, and double names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core import registry
from bench.core.errors import SpecError

RECIPE = "class R:\n    name = {name!r}\n    variants = {{'v': 'one'}}\n    tasks = ('sst2',)\n\nRECIPE = R()\n"


def lay_out(folder: Path, recipe: str | None = None, without: str = "") -> Path:
    """A paper package in a folder."""
    folder.mkdir(parents=True)
    for name in {"__init__.py", *registry.REQUIRED} - {without}:
        (folder / name).write_text("")
    if recipe is not None:
        (folder / "recipe.py").write_text(recipe)
    return folder


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Entry points as if installed; packages are looked for in tmp_path."""
    points: list[tuple[str, str]] = []
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_installed", lambda: tuple(points))
    return points


def test_the_papers_of_the_project_are_found(root: Path) -> None:
    papers, broken = registry.find()
    folders = {entry.parent.name for entry in (root / "papers").glob("*/claims.toml")}
    assert set(papers) | set(broken) >= folders | {"bert", "distilbert"}
    assert list(papers) == sorted(papers)
    for name, paper in papers.items():
        assert paper.name == name and paper.module == f"papers.{name}" and (paper.folder / "README.md").is_file()


def test_finding_imports_no_recipe_and_no_torch() -> None:
    code = (
        "import json, sys; from bench.core import registry; registry.find(); registry.has_recipe('bert');"
        "print(json.dumps([m for m in sys.modules if m == 'torch' or m.startswith('papers.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_plugin_is_found_and_its_recipe_loads(tmp_path: Path, plugins: list[tuple[str, str]]) -> None:
    folder = lay_out(tmp_path / "plug_one", RECIPE.format(name="mypaper"))
    plugins.append(("mypaper", "plug_one"))
    papers, broken = registry.find()
    assert papers["mypaper"] == registry.Paper("mypaper", folder, "plug_one") and "mypaper" not in broken
    assert registry.has_recipe("mypaper")
    assert registry.load_recipe("mypaper").tasks == ("sst2",)


def test_a_paper_with_claims_only_is_whole_but_cannot_be_run(tmp_path: Path, plugins: list[tuple[str, str]]) -> None:
    lay_out(tmp_path / "plug_ledger")
    plugins.append(("ledger", "plug_ledger"))
    assert "ledger" in registry.find()[0] and not registry.has_recipe("ledger")
    with pytest.raises(SpecError, match="claims only"):
        registry.load_recipe("ledger")


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("import not_there_at_all", "ModuleNotFoundError.*not_there_at_all"),
        ("RECIPE = = 1", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "AttributeError.*RECIPE"),
        (RECIPE.format(name="other"), "field name.*found 'other'.*expected 'broken_"),
    ],
)
def test_a_broken_recipe_is_one_line(
    tmp_path: Path, plugins: list[tuple[str, str]], recipe: str, says: str, request: pytest.FixtureRequest
) -> None:
    name = f"broken_{abs(hash(request.node.name))}"
    lay_out(tmp_path / name, recipe)
    plugins.append((name, name))
    with pytest.raises(SpecError, match=says) as caught:
        registry.load_recipe(name)
    assert "\n" not in str(caught.value) and "broken" in str(caught.value)


def test_broken_plugins_are_listed_with_their_reason(tmp_path: Path, plugins: list[tuple[str, str]]) -> None:
    lay_out(tmp_path / "plug_half", without="claims.toml")
    lay_out(tmp_path / "plug_fine")
    (tmp_path / "plug_file.py").write_text("")
    (tmp_path / "plug_raises").mkdir()
    (tmp_path / "plug_raises" / "__init__.py").write_text("raise RuntimeError('no licence')")
    plugins += [("half", "plug_half"), ("gone", "plug_gone"), ("file", "plug_file"),
                ("raises", "plug_raises.paper"), ("Bad Name", "plug_fine")]  # fmt: skip
    papers, broken = registry.find()
    expected = {"half": "claims.toml missing", "gone": "plug_gone is not installed", "raises": "no licence",
                "file": "plug_file is not a package", "Bad Name": "not made of"}  # fmt: skip
    for name, reason in expected.items():
        assert name not in papers and reason in broken[name], name
    with pytest.raises(SpecError, match=r"broken.*claims\.toml missing"):
        registry.load_recipe("half")


def test_a_double_name_is_an_error(tmp_path: Path, plugins: list[tuple[str, str]]) -> None:
    lay_out(tmp_path / "plug_bert")
    plugins.append(("bert", "plug_bert"))
    with pytest.raises(SpecError, match=r"two papers have one name.*papers\.bert and plug_bert.*found bert"):
        registry.find()


def test_an_unknown_name_gets_the_known_ones(tmp_path: Path, plugins: list[tuple[str, str]]) -> None:
    lay_out(tmp_path / "plug_known")
    plugins.append(("known", "plug_known"))
    for name in ("knwon", "../bert", "papers.bert", ""):
        with pytest.raises(SpecError, match=r"unknown paper.*expected one of .*\bknown\b"):
            registry.load_recipe(name)
        assert not registry.has_recipe(name)


def test_what_another_branch_left_is_no_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "papers"
    lay_out(package / "whole")
    (package / "__init__.py").write_text("")
    (package / "left" / "__pycache__").mkdir(parents=True)
    lay_out(package / "_draft")
    spec = type("Spec", (), {"submodule_search_locations": [str(package)]})
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(registry, "_installed", lambda: ())
    assert registry.find() == ({"whole": registry.Paper("whole", package / "whole", "papers.whole")}, {})
