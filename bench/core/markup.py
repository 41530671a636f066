"""Plain text inside markdown: whatever it holds is shown as it is, and none of it becomes markup."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

_MARKUP = re.compile(r"([\\`*_\[\]|~$])")
"""What could start a link, an image, a column, emphasis, code, struck text or a formula."""

_WORD = re.compile(r"(?<=\w)\\_(?=\w)")
"""An underscore within a word is no emphasis."""

_IMAGE = re.compile(r"!$")
"""What would make an image of a link that follows."""

_ADDRESS = re.compile(r"(?<=\w):(?=//)|(?<=\bwww)\.", re.I)
"""What makes a bare address a link."""

_START = re.compile(r"^(#{1,6}(?=\s|$)|>|[+-](?=\s|$)|[=-]+\s*$)|^(\d+)([.)](?=\s|$))")
"""What at the start of a block would make it a heading, a quotation, a list or a rule."""

_SAFE = "/:?#@!&*+,;=%.-_"
"""What an address keeps beside letters and digits; brackets and quotation marks would end it."""


def escape(plain: str) -> str:
    """Plain text as markdown that shows it: on one line, no markup of its own. Spaces at the ends stay, as one."""
    line = "".join(letter for letter in re.sub(r"\s+", " ", plain) if letter.isprintable())
    line = re.sub(r"&(?=#?\w+;)", "&amp;", line).replace("<", "&lt;")
    line = _WORD.sub("_", _MARKUP.sub(r"\\\1", line))
    return _ADDRESS.sub(r"\\\g<0>", _IMAGE.sub(r"\\!", line))


def block(line: str) -> str:
    """A line of markdown that starts a block, so that its start stays text."""
    return _START.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}", line)


def target(address: str) -> str:
    """An address as the target of a link: a relative path, a place on a page or a web page; empty for any other."""
    try:
        scheme = urlsplit(address).scheme
    except ValueError:
        return ""
    return quote(address, safe=_SAFE) if scheme in ("", "http", "https") else ""


def code(text: str) -> str:
    """Text between backticks, on one line, whatever backticks it holds."""
    line = " ".join(text.split())
    longest = max((len(found) for found in re.findall(r"`+", line)), default=0)
    ticks, room = "`" * (longest + 1), " " if longest else ""
    return f"{ticks}{room}{line}{room}{ticks}"


def fenced(lines: list[str], language: str = "") -> list[str]:
    """Lines as a block of code, whatever they hold."""
    longest = max((len(found) for line in lines for found in re.findall(r"`+", line)), default=0)
    ticks = "`" * max(3, longest + 1)
    return [f"{ticks}{language}", *lines, ticks]
