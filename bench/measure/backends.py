"""Ways to run one model: each turns a module and an example batch into a call that gives logits.

A backend that cannot run here is an error that names what mends it (`check` asks before anything starts); none ever
stands in for another.
"""

from __future__ import annotations

import copy
import logging
import platform
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.ao.nn.quantized import dynamic
from torch.ao.quantization.qconfig import per_channel_dynamic_qconfig

from bench.core.errors import DeviceError, ModelError
from bench.models import files
from bench.models.device import lacks_for_compile, native_bf16, native_fp16, sums_int8
from bench.models.flops import has_default

Batch = Mapping[str, Tensor]
Call = Callable[[], Tensor]
"""One forward pass on the example batch; returns the logits [B, C]. On a GPU it may return before they are made."""

WARM_CALLS = 3
"""Passes before a CUDA graph is captured: libraries choose their kernels and take their memory in the first ones."""

SAME = 1e-4
"""Logits of a replayed graph may be so far from eager's: both are fp32, and only the order of sums may differ."""

LEAVE_OUT = "leave it out of --backend"


def check(backend: str, device: torch.device) -> None:
    """Whether a backend can run on a device at all.  Raises DeviceError that names the backend, and what mends it."""
    refused = f"the backend {backend} cannot run"
    on = device.type
    if backend in ("int8", "onnxruntime", "onnxruntime-int8", "tflite") and on != "cpu":
        raise DeviceError(refused, found=f"a {on} device", expected="a CPU", fix=LEAVE_OUT)
    if backend == "cudagraph" and on != "cuda":
        raise DeviceError(refused, found=f"a {on} device", expected="a CUDA GPU", fix=LEAVE_OUT)
    native = {"bf16": native_bf16, "fp16": native_fp16}.get(backend)
    if native and not native(device):
        raise DeviceError(refused, found=f"a {on} device that only emulates it", fix=LEAVE_OUT)
    if backend == "int8" and int8_engine() == "none":
        raise DeviceError(refused, found=f"a {platform.machine()} build of torch without 8-bit kernels", fix=LEAVE_OUT)
    if backend == "compile":
        lacks = lacks_for_compile(device)
        if lacks:
            raise DeviceError(refused, found=lacks[0], fix=lacks[1])
    form = "onnx" if backend.startswith("onnxruntime") else backend
    if form in files.FORMATS:
        files.FORMATS[form].check(refused)


def eager(model: nn.Module, batch: Batch) -> Call:
    """PyTorch as it comes, fp32."""

    def call() -> Tensor:
        with torch.inference_mode():
            return model(**batch).logits

    return call


def compiled(model: nn.Module, batch: Batch) -> Call:
    """torch.compile for exactly this shape; the first call compiles.  Raises DeviceError as `check` does."""
    check("compile", _device(batch))
    torch.compiler.reset()
    return eager(torch.compile(model, dynamic=False), batch)  # pyright: ignore[reportArgumentType]


def cudagraph(model: nn.Module, batch: Batch) -> Call:
    """The whole pass as one CUDA graph, fp32: the GPU is told once what it had to be told kernel by kernel.

    Raises DeviceError as `check` does, for a model that cannot be captured, and where the graph does not answer as
    eager does.
    """
    check("cudagraph", _device(batch))
    fixed = {name: tensor.clone() for name, tensor in batch.items()}
    if has_default(model, "attention_mask"):  # all of it counts; models that look into a mask cannot be captured
        fixed.pop("attention_mask", None)
    try:
        replay = captured(eager(model, fixed), _device(batch))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise DeviceError("the backend cudagraph cannot run this model", found=str(error).partition("\n")[0],
                          expected="one that can be captured", fix="leave one of the two out") from error  # fmt: skip
    check_replay(replay, model, fixed)
    return replay


def captured(call: Call, device: torch.device) -> Call:
    """A call recorded as a CUDA graph: a replay reads the same tensors, and writes the same ones."""
    beside = torch.cuda.Stream(device)
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):  # capturing forbids what first calls do on the stream that is captured
        for _ in range(WARM_CALLS):
            call()
    torch.cuda.current_stream(device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = call()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


def check_replay(replay: Call, model: nn.Module, fixed: Batch) -> None:
    """Whether a replay answers as eager does: on the inputs [B, L] of its capture, and on others in the same tensors.

    The second tells a graph that computes from one that only remembers. Raises DeviceError where it does not.
    """
    ids = fixed["input_ids"]
    first = ids.clone()
    for given in (first, first.flip(1)):
        with torch.inference_mode():
            ids.copy_(given)
        expected = eager(model, fixed)().clone()
        difference = float((replay() - expected).abs().max())
        if not difference <= SAME:
            raise DeviceError("the graph does not answer as eager does", found=f"logits {difference:.2g} apart",
                              expected=f"at most {SAME:g}", fix="leave cudagraph out of --backend")  # fmt: skip
    ids.copy_(first)


def bf16(model: nn.Module, batch: Batch) -> Call:
    """All weights and products in bf16.  Raises DeviceError where the hardware only emulates it."""
    check("bf16", _device(batch))
    return eager(copy.deepcopy(model).to(torch.bfloat16), batch)


def fp16(model: nn.Module, batch: Batch) -> Call:
    """All weights and products in fp16.  Raises DeviceError where the hardware only emulates it."""
    check("fp16", _device(batch))
    return eager(copy.deepcopy(model).to(torch.float16), batch)


def int8(model: nn.Module, batch: Batch) -> Call:
    """Linear layers with 8-bit weights and activations quantised as they come (processors only); the rest is fp32."""
    check("int8", _device(batch))
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
    check("int8", torch.device("cpu"))
    quantisation = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch points to torchao, which has no faster kernel for this on a CPU
        return quantisation.quantize_dynamic(
            model, {nn.Linear: per_channel_dynamic_qconfig}, mapping={nn.Linear: _Int8Linear}
        )


def onnxruntime(model: nn.Module, batch: Batch) -> Call:
    """The model exported to ONNX for exactly this shape, run by ONNX Runtime on as many threads as torch has."""
    return _exported(model, batch, "onnxruntime")


def onnxruntime_int8(model: nn.Module, batch: Batch) -> Call:
    """The same with 8-bit weights, a range per output, and activations quantised as they come."""
    return _exported(model, batch, "onnxruntime-int8")


def _exported(model: nn.Module, batch: Batch, backend: str) -> Call:
    check(backend, _device(batch))
    import onnxruntime as runtime  # pyright: ignore[reportMissingImports]

    names = tuple(batch)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(files.Logits(model, names).eval(), tuple(batch.values()), path, input_names=list(names),
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


def tflite(model: nn.Module, batch: Batch) -> Call:
    """The model converted to LiteRT (TFLite) for exactly this shape, on as many threads as torch has."""
    check("tflite", _device(batch))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        try:
            files.to_tflite(model, path, batch)
        except ModelError as error:
            found = str(error.__cause__).strip().partition("\n")[0]
            raise DeviceError("the backend tflite cannot run this model", found=found, fix=LEAVE_OUT) from error
        run, _ = files.tflite_runner(path, torch.get_num_threads())
    model.eval()
    arrays = {name: tensor.numpy() for name, tensor in batch.items()}
    return lambda: torch.from_numpy(run(arrays))


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
    "eager": eager, "compile": compiled, "cudagraph": cudagraph, "bf16": bf16, "fp16": fp16, "int8": int8,
    "onnxruntime": onnxruntime, "onnxruntime-int8": onnxruntime_int8, "tflite": tflite,
}  # fmt: skip


def usual(device: torch.device) -> tuple[str, ...]:
    """The backends that are measured where none is asked for: on a GPU, a pass with and without its launches."""
    return ("eager", "cudagraph") if device.type == "cuda" else ("eager",)
