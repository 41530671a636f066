"""Finds papers: folders of the importable package `papers`, and installed packages that offer an entry point.

A paper is a package with README.md and claims.toml; with recipe.py it can be run, without it is only a ledger.
A plug-in names its package in the entry point group `bench.papers` and is laid out the same way. Finding imports no
recipe. What is broken is listed with its reason; two papers of one name are an error. Modules of papers are imported
here alone: whatever one raises, prints or exits with is the reason why that paper is broken, and stops no other.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError, SpecError

GROUP = "bench.papers"
REQUIRED = ("README.md", "claims.toml")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class BrokenPaper(SpecError):
    """A paper that does not hold what it should; `reason` is why, in short."""

    def __init__(self, where: str, reason: str, fix: str = "mend it; bench list shows it"):
        self.reason = f"{where}: {reason}"
        super().__init__("the paper is broken", where=where, found=reason, fix=fix)


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper that was found; `module` is its importable package."""

    name: str
    folder: Path
    module: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A name that claims to be a paper, before its layout is checked; `reason` says why it is none, or is empty."""

    name: str
    module: str
    folder: Path | None
    reason: str = ""


def find() -> tuple[dict[str, Paper], dict[str, str]]:
    """The papers by name, and the broken ones as name -> reason; both in the order of their names.

    Raises SpecError when two papers have one name.
    """
    papers: dict[str, Paper] = {}
    broken: dict[str, str] = {}
    seen: dict[str, str] = {}
    for candidate in sorted((*_folders(), *_plugins()), key=lambda c: (c.name, c.module)):
        if candidate.name in seen:
            raise SpecError("two papers have one name", found=candidate.name,
                            where=f"{seen[candidate.name]} and {candidate.module}",
                            fix="rename the folder or the entry point of one of them")  # fmt: skip
        seen[candidate.name] = candidate.module
        reason = candidate.reason or _layout(candidate)
        if reason or candidate.folder is None:
            broken[candidate.name] = reason
        else:
            papers[candidate.name] = Paper(candidate.name, candidate.folder, candidate.module)
    return papers, broken


def has_recipe(name: str) -> bool:
    """Whether a paper is known, whole, and has a recipe.py: whether it can be run."""
    papers, _ = find()
    return name in papers and (papers[name].folder / "recipe.py").is_file()


def load_recipe(name: str) -> Any:
    """The RECIPE of a paper's recipe.py (a bench.train.recipe.Recipe; core knows no such type).

    Raises SpecError: an unknown name with the names it could have been, a broken paper with its reason.
    """
    paper = _known(name)
    if not (paper.folder / "recipe.py").is_file():
        raise SpecError("the paper has claims only and cannot be run", where=name, found="no recipe.py")
    module = f"{paper.module}.recipe"
    recipe = _attribute(module, "RECIPE")
    if getattr(recipe, "name", None) != name:
        found = f"{getattr(recipe, 'name', None)!r}, expected {name!r}"
        raise BrokenPaper(f"{module}, field name", found, fix="give RECIPE the name of its folder or entry point")
    return recipe


def load_shapes(name: str) -> Any:
    """The SHAPES of a paper's shapes.py: variant -> bench.models.shape.Shape; empty for a paper without that file.

    Raises SpecError: an unknown name with the names it could have been, a broken paper with its reason.
    """
    paper = _known(name)
    if not (paper.folder / "shapes.py").is_file():
        return {}
    return _attribute(f"{paper.module}.shapes", "SHAPES")


def load_stacking(name: str) -> Any:
    """The function `stacked` of a paper's shapes.py: (variant, shape below) -> the shape of that stack; None without.

    Raises SpecError: an unknown name with the names it could have been, a broken paper with its reason.
    """
    paper = _known(name)
    if not (paper.folder / "shapes.py").is_file():
        return None
    return _attribute(f"{paper.module}.shapes", "stacked", None)


def load_sections(name: str) -> Any:
    """The function `sections` of a paper's sections.py, what only its page shows; None for a paper without that file.

    Raises SpecError: a broken paper with its reason.
    """
    papers, _ = find()
    if name not in papers or not (papers[name].folder / "sections.py").is_file():
        return None
    return _attribute(f"{papers[name].module}.sections", "sections")


def _known(name: str) -> Paper:
    papers, broken = find()
    if name in broken:
        raise BrokenPaper(name, broken[name])
    if name not in papers:
        raise SpecError(
            "unknown paper", found=name, expected=f"one of {', '.join(papers) or 'no paper at all'}", fix="bench list"
        )
    return papers[name]


_NOTHING = object()

_failed: dict[tuple[str, str], str] = {}
"""(module, what it should offer) -> why it does not: it is not imported again."""


def _attribute(module: str, name: str, default: Any = _NOTHING) -> Any:
    """What a paper's module offers; whatever a plug-in does on import is the reason why it is broken."""
    wanted = (module, name)
    if wanted not in _failed:
        try:
            return _import(module, name, default)
        except (Exception, SystemExit) as error:
            _failed[wanted] = str(error) if isinstance(error, BenchError) else _one_line(error)
    raise BrokenPaper(module, _failed[wanted])


def _import(module: str, name: str, default: Any) -> Any:
    if module in sys.modules:
        found = sys.modules[module]
    else:
        with _caught_output() as said:
            found = importlib.import_module(module)
        if said.getvalue().strip():
            sys.modules.pop(module, None)
            shown = " ".join(said.getvalue().split())[:80]
            raise ImportError(f"it prints on import, where only results may stand: {shown!r}")
    return getattr(found, name) if default is _NOTHING else getattr(found, name, default)


@contextmanager
def _caught_output() -> Iterator[io.StringIO]:
    """What is printed inside; stdout is the command's, and what bypasses Python goes to stderr."""
    said = io.StringIO()
    kept = None
    with suppress(OSError, ValueError):  # a closed stdout, or one that is no file
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(said):
            yield said
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def _folders() -> Iterator[_Candidate]:
    """One candidate per folder of the package `papers` that holds any file."""
    spec = importlib.util.find_spec("papers")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder in sorted(Path(root).iterdir()):
            # A folder with nothing but __pycache__ is what git leaves of a paper that another branch has.
            hidden = folder.name[0] in "._" or not folder.is_dir()
            if not hidden and any(file.suffix and file.name[0] != "." for file in folder.iterdir()):
                yield _Candidate(folder.name, f"papers.{folder.name}", folder)


def _plugins() -> Iterator[_Candidate]:
    for name, module in _installed():
        folder, reason = None, ""
        try:
            with _caught_output():
                spec = importlib.util.find_spec(module)
        except (Exception, SystemExit) as error:  # importing the parent packages of somebody else's plug-in
            spec, reason = None, f"{module} cannot be imported: {_one_line(error)}"
        if spec is not None and spec.submodule_search_locations:
            folder = Path(next(iter(spec.submodule_search_locations)))
        elif not reason:
            reason = f"{module} is {'not installed' if spec is None else 'not a package'}"
        yield _Candidate(name, module, folder, reason)


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    """(name, module) of every entry point; cached because it reads the metadata of all installed packages."""
    return tuple((point.name, point.value) for point in importlib.metadata.entry_points(group=GROUP))


def _layout(candidate: _Candidate) -> str:
    if not _NAME.fullmatch(candidate.name):
        return f"the name {candidate.name!r} is not made of a-z, 0-9 and _, beginning with a letter"
    assert candidate.folder is not None, "a candidate without a folder has a reason"
    missing = [name for name in REQUIRED if not (candidate.folder / name).is_file()]
    return f"{', '.join(missing)} missing" if missing else ""


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
