"""Names that become parts of paths: of papers, variants, tasks, runs, baselines and files beside a record."""

from __future__ import annotations

import re

PATTERN = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}"
"""ASCII letters, so that no two names look alike; no separator of any system, and no dot in front."""
EXPECTED = "letters, digits, . _ + -"

JOINT = "+"
"""Between the variants of a stack: `tinybert-4+qbert-w4`."""

_SAFE = re.compile(PATTERN)
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.I)
"""What Windows takes for a device, with any ending: a checkout there would fail."""


def stays_in_folder(name: str) -> bool:
    """Whether a name is a file's name alone on any system: a path made of it cannot leave its folder."""
    return _SAFE.fullmatch(name) is not None and _DEVICE.fullmatch(name) is None
