"""How an input is made of a good one: bytes that are flipped, cut and moved, and values that cannot be."""

from __future__ import annotations

import copy
import datetime
import json
import random
from collections.abc import Sequence
from typing import Any

NAMES = (
    "", ".", "..", "../x", "../../x", "/etc/passwd", "a/../../x", "..\\x", "C:\\x", "\\\\host\\x", "CON", "nul.json",
    "\0", "x\0", "a\n", "a b", "~", "~root/x", "$HOME", "%2e%2e%2fx", "\uff0e\uff0e/x", "\u2024\u2024/x", "a\u2215b",
    "a\uff0fb", "\uff42ert", "b\u0435rt", "\u202egpj",
    "-rf", "--help", "x" * 300, "x" * 5000, ".hidden", "a:b", "*", "[a-z]*", "?", "\ud800", "é", "e\u0301", "\x1b[31m",
    "${x}", "{x}", "$(id)", "`id`", "bert", "x.json", "nan",
)  # fmt: skip
"""What a name may try to be."""
NUMBERS: tuple[Any, ...] = (
    -1, 0, 1, 2, -0.0, 0.5, -0.5, 1.0, 1.7, -1e-300, 5e-324, 1e300, float("nan"), float("inf"), -float("inf"), 2**31,
    2**63, -(2**63), 10**30, 10**400, True, False, 42, 100, 101.5,
)  # fmt: skip
DATES = (
    "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "2026-01-01T00:00:60Z", "2026-1-1T0:0:0Z",
    "0000-00-00T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+99:00", "20260101T000000Z",
    "٢٠٢٦-01-01T00:00:00Z", "2025-02-29T00:00:00Z",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, "", [], {}, [[]], [None], {"": {}}, {"x": 1}, "true", "1", "-1", "1e999", "0x10",
                           "exact", "failed", "ok", "median of 0", "%", "fraction", "s", "ratio")  # fmt: skip
TOKENS = (b"NaN", b"-Infinity", b"1e999", b"-1", b"null", b"true", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\u0000",
          b"\\ud800", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"9" * 4500, b"[" * 3000, b"=", b"\n", b"'''", b"#",
          b"1979-05-27T07:32:00Z", b"1979-13-27", b"../")  # fmt: skip


def value(chance: random.Random) -> Any:
    """A value that does not fit most places; of its own, since what is made of it is changed in place."""
    return copy.deepcopy(chance.choice(chance.choice((NAMES, NUMBERS, DATES, OTHERS))))


def changed_bytes(raw: bytes, chance: random.Random) -> bytes:
    """The bytes with one to three flips, cuts, doublings and insertions."""
    spoilt = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at, how = chance.randrange(len(spoilt) + 1), chance.randrange(6)
        until = min(len(spoilt), at + chance.choice((1, 2, 8, 64, 1000)))
        if how == 0 and at < len(spoilt):
            spoilt[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            del spoilt[at:until]
        elif how == 2:
            spoilt[at:at] = spoilt[at:until]
        elif how == 3:
            spoilt[at:at] = chance.choice(TOKENS)
        elif how == 4:
            spoilt[at:until] = chance.choice(TOKENS)
        elif chance.random() < 0.3:
            del spoilt[at:]
        else:
            spoilt[at:until] = chance.randbytes(until - at)
    return bytes(spoilt)


def changed_text(text: str, chance: random.Random) -> str:
    """A name as it is, put together with a bad one, or with some letters changed."""
    at = chance.randrange(len(text) + 1)
    return chance.choice((
        lambda: chance.choice(NAMES), lambda: text[:at] + chance.choice(NAMES) + text[at:], lambda: text[:at],
        lambda: text.upper(), lambda: text + " ", lambda: text[at:] + text[:at], lambda: text * 2,
        lambda: text[:at] + chr(chance.randrange(0x3000)) + text[at:],
        lambda: "".join(map(chr, (chance.randrange(256) for _ in range(chance.randrange(12))))),
    ))()  # fmt: skip


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree of dicts and lists."""
    found, waiting = [], [tree]
    while waiting:
        one = waiting.pop()
        keys: Any = one if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def changed_tree(tree: Any, chance: random.Random) -> Any:
    """The tree, changed in place in one to three places (or another value altogether, seldom)."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        found = places(tree)
        if not found or chance.random() < 0.005:
            return value(chance)
        at, key = chance.choice(found)
        old, how = at[key], chance.randrange(12)
        if how == 0:
            del at[key]
        elif how == 1 and isinstance(at, dict):
            at[chance.choice((*NAMES, *(str(other) for _, other in found)))] = at.pop(key)
        elif how == 2 and isinstance(at, list):
            at.insert(key, old)
        elif how == 3:
            other, place = chance.choice(found)
            at[key] = json.loads(json.dumps(other.get(place) if isinstance(other, dict) else None, default=str))
        elif how in (4, 5) and type(old) in (int, float):
            at[key] = chance.choice((-old, old + 1, old - 1, float(old), str(old), old * 1000))
        elif how in (4, 5) and isinstance(old, str):
            at[key] = changed_text(old, chance)
        elif how == 6:
            at[key] = chance.choice(([old], {"x": old}, str(old), [old, old]))
        else:
            at[key] = value(chance)
    return tree


def as_json(tree: Any) -> bytes:
    """A tree as JSON, whatever it holds."""
    return json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_toml(tree: Any) -> bytes:
    """A tree as TOML, a key a line and tables inline; what TOML does not have is left out."""
    if not isinstance(tree, dict):
        return _toml(tree).encode("utf-8", "surrogatepass")
    lines = (f"{_quoted(str(key))} = {_toml(one)}" for key, one in tree.items() if one is not None)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _toml(one: Any) -> str:
    if isinstance(one, bool):
        return str(one).lower()
    if isinstance(one, dict):
        inner = (f"{_quoted(str(key))} = {_toml(part)}" for key, part in one.items() if part is not None)
        return f"{{{', '.join(inner)}}}"
    if isinstance(one, Sequence) and not isinstance(one, str):
        return f"[{', '.join(_toml(part) for part in one if part is not None)}]"
    if isinstance(one, int | float):
        return repr(one)
    if isinstance(one, datetime.date | datetime.time):
        return one.isoformat()
    return _quoted(str(one))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
