"""The hash of the code that a stage runs: its own module and every module of the project that it imports.

Comments, docstrings and line breaks are no part of it: a clearer sentence makes no stage anew.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import pkgutil
from collections.abc import Callable
from pathlib import Path

from bench import measure as measuring


@functools.cache
def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


class _WithoutTexts(ast.NodeTransformer):
    """Leaves out strings that stand alone: docstrings, and what says what a field is."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


@functools.cache
def _code(path: Path) -> ast.Module:
    """What Python runs of a file."""
    return _WithoutTexts().visit(ast.parse(path.read_text(encoding="utf-8")))


def _written(node: object) -> object:
    """A tree as lists and texts, without what is empty: the same in every version of Python that can run it."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return [type(node).__name__, *([name, _written(value)] for name, value in fields)]
    return list(map(_written, node)) if isinstance(node, list) else repr(node)


@functools.cache
def _imports(module: str, roots: tuple[str, ...]) -> frozenset[str]:
    """The project modules that a module names in its imports, wherever in the file they stand."""
    path = _source(module)
    if path is None:
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(_code(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name.split(".")[0] in roots and _source(name) is not None)


@functools.cache
def closure(module: str) -> tuple[str, ...]:
    """The module and every project module reachable from it by imports, sorted."""
    roots = ("bench", "papers", module.split(".")[0])  # a package of its own may use what a paper here has
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in seen and _source(name) is not None:
            seen.add(name)
            todo += _imports(name, roots)
    return tuple(sorted(seen))


def code_hash(function: Callable) -> str:
    """sha256 over the code of everything that a stage function can reach in the project."""
    return module_hash(function.__module__)


@functools.cache
def module_hash(module: str) -> str:
    """The same of a module."""
    total = hashlib.sha256()
    for name in closure(module):
        path = _source(name)
        assert path is not None
        total.update(f"{name}\0{_written(_code(path))}\0".encode())
    return total.hexdigest()


@functools.cache
def measuring_hash() -> str:
    """The same of all that measures: every module of `bench.measure`, and what they reach."""
    names = (f"{measuring.__name__}.{module.name}" for module in pkgutil.iter_modules(measuring.__path__))
    return hashlib.sha256("".join(map(module_hash, sorted(names))).encode()).hexdigest()
