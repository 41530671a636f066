"""Who may import whom, how long files and functions may be, and what may never be called: read from the source.

Imports inside functions count as much as those at the top. Every check says how much it has looked at.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ROOMS = {
    "core": {"core"},
    "claims": {"core", "claims"},
    "judge": {"core", "claims", "judge"},
    "data": {"core", "data"},
    "models": {"core", "models"},
    "train": {"core", "data", "models", "train"},
    "measure": {"core", "data", "models", "measure"},
    "run": {"core", "data", "models", "train", "measure", "run"},
    "report": {"core", "claims", "judge", "report"},
    "cli": {"core", "claims", "judge", "data", "models", "train", "measure", "run", "report", "cli"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Room of bench/ -> the rooms it may import."""

PAPER_MAY = {"core.errors", "core.files", "data", "models", "train"}
"""What of bench/ a paper may import: it makes models, and cannot see its own targets."""

SECTIONS_MAY = {"report.page", "report.numbers", "report.plots"}
"""What beside that its sections.py may import: the types that a page is made of, and how numbers and figures look."""

HEAVY = {"torch", "transformers", "accelerate", "datasets", "evaluate"}
"""What core and report never import."""

UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"torch.load", "torch.save", "eval", "exec", "pd.read_pickle", "pandas.read_pickle"}
MEANINGLESS = {"utils", "util", "common", "helpers", "helper", "misc", "manager"}
MAX_FILE, MAX_FUNCTION = 400, 60

FAMILIES = {"bert", "distilbert", "mobilebert"}
"""Papers whose name is also what transformers calls an architecture: an attribute, a config's model_type."""
ARCHITECTURE_FILES = {"bench/models", "bench/measure"}
"""Where such a word may stand, as the name of an architecture."""


@dataclass(frozen=True)
class Import:
    """One import statement's target; `module` is the longest part of it that is a module of this project."""

    module: str
    line: int


def sources(*folders: str) -> list[Path]:
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts
    )


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def shown(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def imports(path: Path) -> Iterator[Import]:
    """Everything that a file imports: at the top, inside functions, relative, and by importlib with a plain name."""
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) if node.level else ""
            base = ".".join(part for part in (base, node.module or "") if part)
            yield from (Import(longest(base, alias.name), node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and called(node).split(".")[-1] in ("import_module", "__import__"):
            argument = node.args[0] if node.args else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield Import(argument.value, node.lineno)


def longest(base: str, name: str) -> str:
    """`from bench.core import errors` imports bench.core.errors, `from bench.core.errors import X` does, too."""
    folder = ROOT.joinpath(*base.split("."), name)
    is_module = folder.is_dir() or folder.with_suffix(".py").is_file()
    return f"{base}.{name}" if is_module and base.split(".")[0] in ("bench", "papers") else base


def called(node: ast.Call) -> str:
    """The dotted name of what is called, as far as it is one."""
    parts: list[str] = []
    target: ast.expr = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    return ".".join(reversed([*parts, target.id if isinstance(target, ast.Name) else "?"]))


def trusts(node: ast.Call) -> bool:
    """Whether a call gives trust_remote_code or allow_pickle anything but a plain False."""
    risky = [k.value for k in node.keywords if k.arg in ("trust_remote_code", "allow_pickle")]
    return any(not (isinstance(value, ast.Constant) and value.value is False) for value in risky)


def room(path: Path) -> str:
    part = path.relative_to(ROOT / "bench").parts[0]
    return part.removesuffix(".py")


def paper_names() -> set[str]:
    return {f.name for f in (ROOT / "papers").iterdir() if f.is_dir() and f.name[0] != "_" and any(f.glob("*.py"))}


def test_rooms_import_only_what_they_may() -> None:
    wrong, files, seen = [], 0, 0
    for path in sources("bench"):
        files += 1
        assert room(path) in ROOMS, f"{path} is in no known room"
        for found in imports(path):
            top, *rest = found.module.split(".")
            if top == "papers" or (top == "bench" and (rest[0] if rest else "") not in ROOMS[room(path)]):
                wrong.append(f"{shown(path, found.line)} imports {found.module}")
            seen += top == "bench"
    assert not wrong, "\n".join(wrong)
    assert files >= 80 and seen >= 400, (files, seen)


def test_papers_import_only_what_they_may() -> None:
    wrong, files, seen = [], 0, 0
    for path in sources("papers"):
        files += 1
        own = ".".join(path.relative_to(ROOT).parts[:2])
        for found in imports(path):
            top, _, rest = found.module.partition(".")
            may = PAPER_MAY | (SECTIONS_MAY if path.name == "sections.py" else set())
            allowed = top != "bench" or any(f"{rest}.".startswith(f"{one}.") for one in may)
            allowed &= top != "papers" or f"{found.module}.".startswith(f"{own}.")
            if not allowed:
                wrong.append(f"{shown(path, found.line)} imports {found.module}")
            seen += top in ("bench", "papers")
    assert not wrong, "\n".join(wrong)
    assert files >= 7 and seen >= 35, (files, seen)


LIGHT = ("bench/core", "bench/claims", "bench/judge", "bench/report")
"""The rooms that read files only."""


def test_rooms_that_read_files_never_import_torch() -> None:
    files = sources(*LIGHT)
    wrong = [shown(path, i.line) for path in files for i in imports(path) if i.module.split(".")[0] in HEAVY]
    assert not wrong, wrong
    assert len(files) >= 28


def test_importing_them_and_the_command_line_brings_no_torch() -> None:
    files = sources(*LIGHT, "bench/cli")
    modules = [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files]
    code = "import importlib, json, sys\nfor name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
    code += f"print(json.dumps(sorted(set(sys.modules) & {HEAVY!r})))"
    command = [sys.executable, "-c", code, json.dumps(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [] and len(modules) >= 29


def test_nothing_is_unpickled_and_no_foreign_code_is_run() -> None:
    wrong, files, calls = [], 0, 0
    for path in sources("bench", "papers"):
        files += 1
        wrong += [shown(path, i.line) for i in imports(path) if i.module.split(".")[0] in UNPICKLERS]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "torch":
                wrong += [shown(path, node.lineno) for alias in node.names if alias.name in ("load", "save")]
            if isinstance(node, ast.Call):
                calls += 1
                if called(node) in FORBIDDEN_CALLS or trusts(node):
                    wrong.append(shown(path, node.lineno))
    assert not wrong, wrong
    assert files >= 87 and calls >= 3500, (files, calls)


def test_bench_names_no_paper() -> None:
    names = paper_names()
    word = re.compile(rf"(?<![A-Za-z0-9_-])({'|'.join(sorted(names))})(?![A-Za-z0-9_])")
    wrong, files, strings = [], 0, 0
    for path in sources("bench"):
        files += 1
        docs = {id(node.value) for node in ast.walk(tree(path)) if isinstance(node, ast.Expr)}
        architecture = any(path.is_relative_to(ROOT / folder) for folder in ARCHITECTURE_FILES)
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                strings += 1
                found = set(word.findall(node.value)) - (FAMILIES if architecture else set())
                if found:
                    wrong.append(f"{shown(path, node.lineno)} names {', '.join(sorted(found))}: {node.value[:60]!r}")
    assert not wrong, "\n".join(wrong)
    assert names >= {"bert", "distilbert"} and files >= 80 and strings >= 2500, (files, strings)


def test_files_and_functions_are_short() -> None:
    wrong, files, functions = [], 0, 0
    for path in sources("bench", "papers", "tests"):
        files += 1
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE:
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions += 1
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION:
                    wrong.append(f"{shown(path, node.lineno)} {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)
    assert files >= 105 and functions >= 850, (files, functions)


def test_names_say_something() -> None:
    wrong, names = [], 0
    for path in sources("bench", "papers", "tests"):
        parts = [(part, 1) for part in path.relative_to(ROOT).with_suffix("").parts]
        parts += [(node.name, node.lineno) for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
        names += len(parts)
        for part, line in parts:
            words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", part)}
            wrong += [f"{shown(path, line)} {part}"] if words & MEANINGLESS else []
    assert not wrong, wrong
    assert names >= 300, names


def test_modules_and_public_functions_say_what_for() -> None:
    wrong, modules, functions = [], 0, 0
    for path in sources("bench", "papers"):
        if not tree(path).body:
            continue
        modules += 1
        if not ast.get_docstring(tree(path)):
            wrong.append(f"{path.relative_to(ROOT)} has no docstring")
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                functions += 1
                if not ast.get_docstring(node):
                    wrong.append(f"{shown(path, node.lineno)} {node.name} has no docstring")
    assert not wrong, "\n".join(wrong)
    assert modules >= 78 and functions >= 220, (modules, functions)


def test_the_reader_of_imports_sees_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import torch.nn as nn\nfrom bench.core import errors\nfrom bench.core.spec import Spec\n"
        "from . import store\nfrom ..data.tasks import TASKS\nfrom bench import run\n"
        "def f():\n    from papers.bert import recipe\n    importlib.import_module('bench.report.build')\n"
    )
    monkeypatch.setitem(globals(), "tree", lambda path: ast.parse(code))
    found = {i.module for i in imports(ROOT / "bench" / "core" / "made_up.py")}
    assert found == {"torch.nn", "bench.core.errors", "bench.core.spec", "bench.core.store", "bench.data.tasks",
                     "bench.run", "papers.bert.recipe", "bench.report.build"}  # fmt: skip
