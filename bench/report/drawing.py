"""A process that draws: matplotlib, the longest part of a report, is loaded there while records are read here.

python -m bench.report.drawing      pictures as JSON on stdin, their SVG as JSON on stdout
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

from pydantic import TypeAdapter

from bench.report import curves, landscape, layers, plots
from bench.report.curves import Sweep
from bench.report.landscape import Landscape
from bench.report.layers import Layers
from bench.report.plots import Picture, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawable = Picture | Sweep | Layers | Landscape
PICTURES = TypeAdapter(dict[str, Drawable])


class Drawing:
    """Use as a context: started on entry, `draw` gives it the pictures, `drawn` waits for them."""

    def __enter__(self) -> Drawing:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.report.drawing"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
        return self

    def draw(self, pictures: Mapping[str, Drawable]) -> None:
        """Hand over all pictures, by file name."""
        with cast(IO[bytes], self._process.stdin) as stdin:
            stdin.write(PICTURES.dump_json(dict(pictures)))

    def drawn(self) -> dict[str, str]:
        """The SVG of each picture.  Raises: RuntimeError when the process failed; its own words are on stderr."""
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

    pictures = PICTURES.validate_json(sys.stdin.buffer.read())
    json.dump({name: svg(_figure(what)) for name, what in pictures.items()}, sys.stdout)


def _figure(what: Drawable) -> Figure:
    match what:
        case Sweep():
            return curves.draw(what)
        case Layers():
            return layers.draw(what)
        case Landscape():
            return landscape.draw(what)
        case _:
            return plots.draw(what)


if __name__ == "__main__":
    main()
