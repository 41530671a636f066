"""The compiler that torch.compile takes, looked for without torch."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Literal


def compiler(language: Literal["C++", "C"]) -> str | None:
    """Its path: of C++ for a processor, of C for a GPU; None where there is none.

    For a processor torch takes $CXX or else the one of the system; triton looks for several on a GPU.
    """
    if language == "C++":
        return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))
    found = (shutil.which(name) for name in (os.environ.get("CC"), "gcc", "clang", "cc") if name)
    return next(filter(None, found), None)
