"""`bench export`: the model of a run as a folder that other tools load, or as a file of another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import DataOption, Results
from bench.cli.output import quiet_libraries, say
from bench.core.errors import SpecError

Format = Annotated[
    str, typer.Option("--format", help="safetensors, onnx or tflite; the last two are scored from the file.")
]


def command(
    run_id: str, folder: str, results: Results = None, form: Format = "safetensors", data: DataOption = None
) -> None:
    """Write a run's model to a folder, with a card."""
    quiet_libraries()
    where = Path(results or "results")
    if form == "safetensors" and data is not None:
        raise SpecError("safetensors are the very weights that were scored: no rows are read", where="--data",
                        found=data, fix="leave it out, or add --format onnx")  # fmt: skip
    if form == "safetensors":
        from bench.run.exports import export_run

        say(str(export_run(where, run_id, Path(folder))))
        return
    from bench.run.export_file import export_file

    target, found = export_file(where, run_id, Path(folder), form, data or "hub")
    say(str(target))
    say(f"score {found.score:.4f} on {found.rows} dev rows (its run: {found.recorded:.4f})")
    say(f"{1000 * found.latency_s:.2f} ms a row{found.padded} (PyTorch: {1000 * found.eager_s:.2f})  "
        f"{found.bytes / 1e6:.1f} MB")  # fmt: skip
