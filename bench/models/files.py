"""A trained classifier as one file that another runtime runs: ONNX, or LiteRT (TFLite). Written, and read back.

What is read back is a module like any other, so that the same code scores it that scored the model.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from bench.core.errors import DeviceError, ModelError
from bench.models.flops import has_default
from bench.models.outputs import INPUTS, reads

FLOAT_NOISE = 1e-3
"""Logits of another runtime may be so far from torch's, as a share of the largest where that is over 1: both are fp32,
and sums are in another order."""


Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Inputs by name -> logits."""


class Logits(nn.Module):
    """What is exported: the batch as positional tensors in, the logits alone out."""

    def __init__(self, model: nn.Module, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.model(**dict(zip(self.names, tensors, strict=True))).logits


class _Named(nn.Module):
    """The same with inputs by name, for a format that keeps them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, **batch: Tensor) -> Tensor:
        return self.model(**batch).logits


class InFile(nn.Module):
    """A model that lies in a file, run by a runtime of its own.

    Shapes: inputs [B, L] -> logits [B, C]. Where the file takes one row at a time, rows are given one by one: without
    their padding, or, for a file of one length, padded to it.
    """

    def __init__(self, names: frozenset[str], run: Run, single: bool = False, length: int | None = None):
        super().__init__()
        self.reads = names | {"attention_mask"}
        self.length = length
        """Tokens to which it pads every row; None where it does not."""
        self._names, self._run, self._single = names, run, single

    def forward(self, **batch: Tensor) -> SequenceClassifierOutput:
        given = {name: tensor.numpy() for name, tensor in batch.items()}
        if not self._single:
            return _answered(self._run({name: given[name] for name in self._names}))
        lengths = given["attention_mask"].sum(1)
        return _answered(np.concatenate([self._run(self._row(given, i, int(n))) for i, n in enumerate(lengths)]))

    def _row(self, given: Mapping[str, np.ndarray], row: int, length: int) -> dict[str, np.ndarray]:
        cut = {name: given[name][row : row + 1, :length] for name in self._names}
        if self.length is None:
            return cut
        return {name: np.pad(part, ((0, 0), (0, self.length - length))) for name, part in cut.items()}


def _answered(logits: np.ndarray) -> SequenceClassifierOutput:
    return SequenceClassifierOutput(logits=torch.from_numpy(np.ascontiguousarray(logits, np.float32)))  # pyright: ignore


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file, and what writes and runs it."""

    file: str
    needs: tuple[str, ...]
    install: str
    write: Callable[[nn.Module, Path, int], None]
    """(model in eval mode, file, longest row in tokens)"""
    read: Callable[[Path, int], InFile]
    """(file, threads)"""

    def check(self, what: str = "the format cannot be made") -> None:
        """Raises DeviceError where a package is missing, with the command that installs it."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise DeviceError(what, where=self.file, found=f"{' and '.join(missing)} not installed",
                              fix=self.install)  # fmt: skip


@contextmanager
def _quietly() -> Iterator[None]:
    """Exporters tell of every step, and of what they could do with other packages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _example(model: nn.Module, rows: int, length: int, masked: bool = True) -> dict[str, Tensor]:
    """Inputs [B, L] that the model takes; the last row is half as long, so that no mask is all ones."""
    config: Any = model.config
    mask = torch.ones(rows, length, dtype=torch.long)
    if masked:
        mask[-1, max(1, length // 2) :] = 0
    words = 1 + torch.arange(length) % (config.vocab_size - 1)
    ids = torch.where(mask.bool(), words, getattr(config, "pad_token_id", None) or 0)
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: every[name] for name in INPUTS if name in reads(model) and (masked or name != "attention_mask")}


def _write_onnx(model: nn.Module, file: Path, length: int) -> None:
    """Many rows of any length; what the exporter cannot follow there, as one row without padding, or one that is padded
    to the longest length."""
    free: Any = torch.export.Dim.DYNAMIC
    ways = [(_example(model, 2, 16), {0: free, 1: free}), (_example(model, 1, length), {})]
    if has_default(model, "attention_mask"):
        ways.insert(1, (_example(model, 1, 16, masked=False), {1: free}))
    for way, (batch, sizes) in enumerate(ways):
        try:
            return _onnx(model, file, batch, sizes)
        except torch.onnx.errors.OnnxExporterError as error:
            if way == len(ways) - 1:
                raise _not_exported(error) from error


def _onnx(model: nn.Module, file: Path, batch: Mapping[str, Tensor], sizes: Mapping[int, Any]) -> None:
    with _quietly():
        torch.onnx.export(
            Logits(model, tuple(batch)).eval(), tuple(batch.values()), file, input_names=list(batch),
            output_names=["logits"], dynamic_shapes=((dict(sizes),) * len(batch),), external_data=False, verbose=False,
        )  # fmt: skip


def _read_onnx(file: Path, threads: int) -> InFile:
    import onnxruntime as runtime  # pyright: ignore[reportMissingImports]

    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    rows, length = inputs[0].shape  # a number where it is fixed, else a name

    def run(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(session.run(None, dict(batch))[0])

    return InFile(frozenset(one.name for one in inputs), run, rows == 1, length if isinstance(length, int) else None)


def to_tflite(model: nn.Module, file: Path, batch: Mapping[str, Tensor]) -> None:
    """Write a model for batches of exactly this shape; the format has no free sizes. Raises ModelError."""
    try:
        with _quietly():
            import litert_torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DeviceError("the converter to LiteRT cannot be imported", found=error, expected="all of tflite.txt",
                          fix=FORMATS["tflite"].install) from error  # fmt: skip
    try:
        with _quietly():
            litert_torch.convert(_Named(model).eval(), sample_kwargs=dict(batch)).export(str(file))
    except (MemoryError, OSError):  # of the machine, not of the model
        raise
    except Exception as error:  # whatever the converter raises of a model
        raise _not_exported(error) from error


def tflite_runner(file: Path, threads: int) -> tuple[Run, Mapping[str, Any]]:
    """What runs a file, and what is known of its inputs."""
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    runner = Interpreter(model_path=str(file), num_threads=threads).get_signature_runner()
    inputs = runner.get_input_details()

    def run(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        (logits,) = runner(**{name: batch[name].astype(one["dtype"]) for name, one in inputs.items()}).values()
        return logits

    return run, inputs


def _read_tflite(file: Path, threads: int) -> InFile:
    run, inputs = tflite_runner(file, threads)
    return InFile(frozenset(inputs), run, single=True, length=int(inputs["input_ids"]["shape"][1]))


def _write_tflite(model: nn.Module, file: Path, length: int) -> None:
    to_tflite(model, file, _example(model, 1, length))


def _not_exported(error: Exception) -> ModelError:
    first = str(error).strip().partition("\n")[0]
    return ModelError("the model cannot be exported in this format", found=f"{type(error).__name__}: {first:.160}",
                      expected="a model whose operations the format has", fix="choose another --format")  # fmt: skip


FORMATS: Mapping[str, Format] = {
    "onnx": Format("model.onnx", ("onnx", "onnxruntime", "onnxscript"), "pip install -e '.[kernels]'", _write_onnx,
                   _read_onnx),
    "tflite": Format("model.tflite", ("litert_torch", "ai_edge_litert"), "pip install --no-deps -r tflite.txt",
                     _write_tflite, _read_tflite),
}  # fmt: skip


def check_same(model: nn.Module, read: nn.Module, length: int) -> None:
    """Whether a file answers as its model does on an example. Raises ModelError where it does not."""
    batch = _example(model, 1, length)
    everywhere = {"attention_mask": torch.ones_like(batch["input_ids"])}
    with torch.inference_mode():
        expected = model(**batch).logits
        apart = float((expected - read(**everywhere | batch).logits).abs().max())
    most = FLOAT_NOISE * max(1.0, float(expected.abs().max()))
    if not apart <= most:
        raise ModelError("the exported file does not answer as the model does", found=f"logits {apart:.2g} apart",
                         expected=f"at most {most:.2g}", fix="choose another --format")  # fmt: skip
