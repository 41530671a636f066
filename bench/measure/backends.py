"""Ways to run one model: each turns a module and an example batch into a call that gives logits.

A backend that cannot run here is an error that names what mends it; none ever stands in for another.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.ao.nn.quantized import dynamic
from torch.ao.quantization.qconfig import per_channel_dynamic_qconfig

from bench.core.errors import DeviceError
from bench.models.device import native_bf16, sums_int8

Batch = Mapping[str, Tensor]
Call = Callable[[], Tensor]
"""One forward pass on the example batch; returns the logits [B, C] when the device is done."""

KERNELS = "pip install -e '.[kernels]'"


def eager(model: nn.Module, batch: Batch) -> Call:
    """PyTorch as it comes, fp32."""

    def call() -> Tensor:
        with torch.inference_mode():
            logits = model(**batch).logits
        if logits.device.type != "cpu":
            torch.accelerator.synchronize(logits.device)
        return logits

    return call


def compiled(model: nn.Module, batch: Batch) -> Call:
    """torch.compile for exactly this shape; the first call compiles.  Raises DeviceError without a C++ compiler."""
    if _device(batch).type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise DeviceError("the backend compile cannot run", found="no C++ compiler", fix="install g++ or clang")
    torch.compiler.reset()
    return eager(torch.compile(model, dynamic=False), batch)  # pyright: ignore[reportArgumentType]


def bf16(model: nn.Module, batch: Batch) -> Call:
    """All weights and products in bf16.  Raises DeviceError where the hardware only emulates it."""
    if not native_bf16(_device(batch)):
        raise DeviceError("the backend bf16 cannot run", found=f"a {_device(batch).type} device that only emulates it",
                          fix="leave it out of --backend")  # fmt: skip
    return eager(copy.deepcopy(model).to(torch.bfloat16), batch)


def int8(model: nn.Module, batch: Batch) -> Call:
    """Linear layers with 8-bit weights and activations quantised as they come (processors only); the rest is fp32."""
    if _device(batch).type != "cpu":
        raise DeviceError("the backend int8 cannot run", found=f"a {_device(batch).type} device", expected="a CPU")
    return eager(with_int8_linears(model), batch)


def int8_engine() -> str:
    """The library behind torch's 8-bit kernels on this processor, or `none`."""
    return torch.backends.quantized.engine


class _Int8Linear(dynamic.Linear):
    """Activations take all 8 bits where the processor's sums allow it; torch's own layer uses 7 everywhere."""

    halved = not sums_int8()

    def forward(self, x: Tensor) -> Tensor:
        packed = self._packed_params._packed_params
        return torch.ops.quantized.linear_dynamic(x.float(), packed, reduce_range=self.halved)


def with_int8_linears(model: nn.Module) -> nn.Module:
    """A copy whose linear layers run in 8 bits: weights with a range per output, activations with one per call.

    Raises DeviceError where torch has no kernels for it.
    """
    if int8_engine() == "none":
        raise DeviceError("the backend int8 cannot run", found=f"a {platform.machine()} build of torch without 8-bit "
                          "kernels", fix="leave it out of --backend")  # fmt: skip
    quantisation = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch points to torchao, which has no faster kernel for this on a CPU
        return quantisation.quantize_dynamic(
            model, {nn.Linear: per_channel_dynamic_qconfig}, mapping={nn.Linear: _Int8Linear}
        )


class _Logits(nn.Module):
    """What is exported: the batch as positional tensors in, the logits alone out."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.model(**dict(zip(self.names, tensors, strict=True))).logits


def onnxruntime(model: nn.Module, batch: Batch) -> Call:
    """The model exported to ONNX for exactly this shape, run by ONNX Runtime on as many threads as torch has."""
    return _exported(model, batch, "onnxruntime")


def onnxruntime_int8(model: nn.Module, batch: Batch) -> Call:
    """The same with 8-bit weights, a range per output, and activations quantised as they come."""
    return _exported(model, batch, "onnxruntime-int8")


def _exported(model: nn.Module, batch: Batch, backend: str) -> Call:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise DeviceError(f"the backend {backend} cannot run", found=f"{' and '.join(missing)} not installed",
                          fix=KERNELS)  # fmt: skip
    if _device(batch).type != "cpu":
        raise DeviceError(f"the backend {backend} cannot run", found="a model on a GPU", expected="a CPU")
    import onnxruntime as runtime  # pyright: ignore[reportMissingImports]

    names = tuple(batch)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(_Logits(model, names).eval(), tuple(batch.values()), path, input_names=list(names),
                              verbose=False)  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            raise DeviceError(
                f"the backend {backend} cannot run this model",
                found=str(error).partition("\n")[0],
                expected="one that can be exported to ONNX",
                fix="leave one of the two out",
            ) from error
        if backend.endswith("int8"):
            path = _in_8_bits(path)
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model.eval()  # the exporter leaves the mode that it found the wrapper in
    arrays = {entry.name: batch[entry.name].numpy() for entry in session.get_inputs()}
    return lambda: torch.from_numpy(session.run(None, arrays)[0])


def _in_8_bits(path: Path) -> Path:
    """The exported model by ONNX Runtime's dynamic quantisation, in a file beside it."""
    import onnx  # pyright: ignore[reportMissingImports]
    from onnxruntime.quantization import QuantType, quantize_dynamic  # pyright: ignore[reportMissingImports]

    exported, small = onnx.load(path), path.with_name("int8.onnx")
    del exported.graph.value_info[:]  # the exporter's shapes of shared constants contradict what is inferred
    onnx.save(exported, path)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a preparation that dynamic quantisation does not need
    try:
        quantize_dynamic(path, small, per_channel=True, reduce_range=not sums_int8(), weight_type=QuantType.QInt8)
    finally:
        root.setLevel(level)
    return small


def _device(batch: Batch) -> torch.device:
    return next(iter(batch.values())).device


BACKENDS: Mapping[str, Callable[[nn.Module, Batch], Call]] = {
    "eager": eager, "compile": compiled, "onnxruntime": onnxruntime, "bf16": bf16, "int8": int8,
    "onnxruntime-int8": onnxruntime_int8,
}  # fmt: skip
