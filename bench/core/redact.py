"""Keeps a record free of whose machine it was made on: no home path, no user's name, no token."""

from __future__ import annotations

import getpass
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

_PATH = re.compile(r"(?<![\w.~$:/-])/(?:[^\s/:;,'\"()<>\[\]]+/)*[^\s/:;,'\"()<>\[\]]+")
"""An absolute path within a text; a part of a web address is none."""

_SECRETS = (
    (re.compile(r"\b(hf|api_org|ghp|gho|github_pat|sk)[_-][A-Za-z0-9_-]{10,}"), "TOKEN"),
    (re.compile(r"(\w+://)[^\s/@]+@"), r"\1"),
    (re.compile(r"(?i)\b((?:bearer|token|password|secret)[=: ]+)[^\s'\",;]{8,}"), r"\1TOKEN"),
)
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.I)
_COMMON = frozenset({"root", "user", "admin", "nobody", "test", "runner", "data", "model", "bench"})
"""Names of users that are words of records, too, and tell nothing."""


def cleaned(text: str) -> str:
    """A text with paths of this machine cut short, and without the user's name and secrets."""
    return whole(_without_user(_PATH.sub(lambda found: _short(found[0]), _without_places(_without_secrets(text)))))


def whole(text: str) -> str:
    """A text that can be written as UTF-8: half a letter, as a file's name may hold, becomes an escape."""
    return text.encode(errors="backslashreplace").decode()


def cleaned_settings(value: Any) -> Any:
    """Settings, lists and mappings included: a path under a place that is somebody's own starts with a name for it."""
    if isinstance(value, dict):
        return {key: cleaned_settings(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned_settings(part) for part in value]
    if not isinstance(value, str) or not value:
        return value
    value = whole(_without_secrets(value))
    # Other paths stay: two files of one name are two settings.
    return _without_user(_without_places(value)) if "/" in value else value


def _without_places(text: str) -> str:
    for folder, name in _places():
        text = re.sub(rf"{re.escape(folder)}(?=$|[^\w.-])", name, text)
    return text


def _without_user(text: str) -> str:
    user = _user()
    return re.sub(rf"\b{re.escape(user)}\b", "USER", text) if user else text


def _without_secrets(text: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name) and "/" not in value:
            text = text.replace(value, "TOKEN")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _places() -> list[tuple[str, str]]:
    """Folders and what stands for them, the longest first."""
    found = {os.getcwd(): ".", os.environ.get("BENCH_HOME", ""): "$BENCH_HOME"}
    with suppress(RuntimeError):  # a user without a home
        found[str(Path.home())] = "~"
    real = {os.path.realpath(folder): name for folder, name in found.items() if folder}
    return sorted(((folder, name) for folder, name in {**found, **real}.items() if len(folder) > 1),
                  key=lambda one: -len(one[0]))  # fmt: skip


def _short(path: str) -> str:
    """An absolute path by its last part alone."""
    last = path.rstrip("/").rpartition("/")[2]
    return f".../{last}"


def _user() -> str:
    """The user's name where it tells something; empty for a common word, or a user without one."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
    return "" if len(name) < 3 or name.lower() in _COMMON else name
