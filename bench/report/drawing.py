"""A process that draws: matplotlib, the longest part of a report, is loaded there while records are read here.

python -m bench.report.drawing      figures as JSON on stdin, their SVG as JSON on stdout
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import IO, cast

from bench.report.page import Figure
from bench.report.plots import svg


class Drawing:
    """Use as a context: started on entry, `draw` gives it the figures, `drawn` waits for them."""

    def __enter__(self) -> Drawing:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.report.drawing"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
        return self

    def draw(self, figures: Sequence[Figure]) -> None:
        """Hand over all figures."""
        content = [{"file": figure.file, "draw": figure.draw, "data": figure.data} for figure in figures]
        with cast(IO[bytes], self._process.stdin) as stdin:
            stdin.write(json.dumps(content).encode())

    def drawn(self) -> dict[str, str]:
        """The SVG of each figure, by file.  Raises: RuntimeError when the process failed; its words are on stderr."""
        out = cast(IO[bytes], self._process.stdout).read()
        if self._process.wait() != 0:
            raise RuntimeError(f"drawing the figures failed with exit code {self._process.returncode}")
        return json.loads(out)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.__exit__(kind, error, at)


def main() -> None:
    """Load what takes long, then draw what comes."""
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401

    json.dump({one["file"]: _drawn(one["draw"], one["data"]) for one in json.load(sys.stdin)}, sys.stdout)


def _drawn(draw: str, data: object) -> str:
    module, _, name = draw.partition(":")
    return svg(getattr(importlib.import_module(module), name)(data))


if __name__ == "__main__":
    main()
