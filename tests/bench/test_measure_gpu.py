"""What a GPU adds to a timing session, as far as a processor can test it; and one model's failure among others."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rendered import made, pages
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import DeviceError
from bench.core.record import Record
from bench.core.store import read_records
from bench.judge.runs import runs_of
from bench.judge.series import SeriesIndex
from bench.measure import backends, session
from bench.measure.backends import BACKENDS, check_replay, eager, usual
from bench.measure.latency import event_timer
from bench.measure.process import Subject, Worker
from bench.measure.session import Effort, Measured, measure
from bench.report import launches
from bench.run import shapes
from bench.run.shapes import Request, run

BRIEF = Effort(copies=2, rounds=2, turn_s=0.001, warm_calls=1)
CUDA = torch.device("cuda")


class Tick:
    """An event of a made-up GPU, whose clock says how many milliseconds its calls took."""

    now = 0.0

    def record(self) -> None:
        self.at = Tick.now

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, end: Tick) -> float:
        assert end.waited, "the end was waited for"
        return end.at - self.at


def test_a_call_is_timed_between_two_events() -> None:
    def call() -> None:
        Tick.now += 2.5

    assert event_timer(call, Tick)(2) == [0.0025, 0.0025]


@pytest.mark.parametrize(
    ("backend", "device", "says"),
    [
        ("cudagraph", "cpu", "the backend cudagraph cannot run; found a cpu device; expected a CUDA GPU; next: leave"),
        ("int8", "cuda", "the backend int8 cannot run; found a cuda device; expected a CPU; next: leave"),
        ("onnxruntime", "cuda", "the backend onnxruntime cannot run; found a cuda device"),
    ],
)
def test_a_backend_that_the_device_lacks_is_refused_by_name(backend: str, device: str, says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        backends.check(backend, torch.device(device))


def test_fp16_is_for_devices_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny()
    monkeypatch.setattr(backends, "native_fp16", lambda device: False)
    with pytest.raises(DeviceError, match=r"fp16 cannot run.*only emulates it"):
        BACKENDS["fp16"](model, batch)
    monkeypatch.setattr(backends, "native_fp16", lambda device: True)
    logits = BACKENDS["fp16"](model, batch)()
    assert logits.dtype == torch.float16 and (logits.float() - eager(model, batch)()).abs().max() < 0.01
    assert usual(CUDA) == ("eager", "cudagraph") and usual(torch.device("cpu")) == ("eager",)


def test_the_command_refuses_before_anything_starts(bench, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this device has it")
    done = bench("measure", "--variant", "cbow-ffn", "--backend", "eager,cudagraph")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "cudagraph cannot run" in done.stderr and not list(tmp_path.rglob("results"))


def tiny() -> tuple[BertForSequenceClassification, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    return BertForSequenceClassification(config).eval(), {"input_ids": torch.randint(1, 50, (2, 8))}


def test_a_replay_has_to_compute_and_not_to_remember() -> None:
    model, fixed = tiny()
    first = fixed["input_ids"].clone()
    check_replay(eager(model, fixed), model, fixed)
    assert torch.equal(fixed["input_ids"], first), "the inputs are as they were"
    remembered = eager(model, fixed)().clone()
    with pytest.raises(DeviceError, match=r"does not answer as eager does; found logits .* apart"):
        check_replay(lambda: remembered, model, fixed)
    with pytest.raises(DeviceError, match="found logits nan apart"):
        check_replay(lambda: remembered * math.nan, model, fixed)


def as_if_captured(monkeypatch: pytest.MonkeyPatch, captured: Callable[..., Any]) -> None:
    monkeypatch.setattr(backends, "check", lambda backend, device: None)
    monkeypatch.setattr(backends, "captured", captured)


def test_a_graph_is_captured_without_a_mask_on_tensors_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny()
    as_if_captured(monkeypatch, lambda call, device: call)
    hidden = torch.ones_like(batch["input_ids"])
    hidden[:, 4:] = 0
    call = BACKENDS["cudagraph"](model, batch | {"attention_mask": hidden})
    expected = eager(model, batch)()
    batch["input_ids"].fill_(1)
    assert torch.allclose(call(), expected, atol=1e-6), "the caller's tensors are not the graph's"


def test_a_model_that_cannot_be_captured_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand more lines")

    as_if_captured(monkeypatch, fails)
    with pytest.raises(DeviceError, match=r"cudagraph cannot run this model; found operation not.*leave one") as told:
        BACKENDS["cudagraph"](*tiny())
    assert "\n" not in str(told.value)


@pytest.mark.gpu
def test_a_captured_graph_answers_as_eager_does() -> None:
    model, batch = tiny()
    model, batch = model.to(CUDA), {name: tensor.to(CUDA) for name, tensor in batch.items()}
    assert torch.allclose(BACKENDS["cudagraph"](model, batch)(), eager(model, batch)(), atol=1e-5)


REFERENCE, ONE, OTHER = (Subject("lowresource", name) for name in ("bilstm", "cnn", "cbow-ffn"))


def failing(monkeypatch: pytest.MonkeyPatch, variant: str, do: str, batch: int = 0, after: int = 0) -> list[str]:
    """Make the process of a variant fail at an order (of a batch size), after so many that went well."""
    answer, seen = Worker.answer, []
    order = Worker.order

    def remember(self: Worker, **given: Any) -> None:
        self.last = given  # pyright: ignore[reportAttributeAccessIssue]
        order(self, **given)

    def fails(self: Worker) -> dict[str, Any]:
        last = self.last  # pyright: ignore[reportAttributeAccessIssue]
        if self.subject.variant == variant and last["do"] == do and last.get("batch", 0) == batch:
            seen.append(do)
            if len(seen) > after:
                raise DeviceError(f"made to fail in {do}")
        return answer(self)

    monkeypatch.setattr(Worker, "order", remember)
    monkeypatch.setattr(Worker, "answer", fails)
    return seen


def found(measured: Measured) -> list[tuple[str, int]]:
    return [(timing.subject.variant, timing.batch) for timing in measured.timings]


@pytest.mark.parametrize(
    ("do", "batch", "after", "left"),
    [
        ("load", 0, 0, []),
        ("warm", 1, 0, []),
        ("warm", 2, 0, [("cnn", 1)]),
        ("warm", 2, 1, [("cnn", 1)]),
        ("time", 0, 3, []),
        ("time", 0, 5, []),
    ],
)
def test_a_model_that_fails_drops_out_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, do: str, batch: int, after: int, left: list[tuple[str, int]]
) -> None:
    failing(monkeypatch, "cnn", do, batch, after)
    measured = measure(REFERENCE, [ONE, OTHER], (1, 2), 8, 1, BRIEF)
    whole = [(name, size) for size in (1, 2) for name in ("bilstm", "cbow-ffn")]
    assert sorted(found(measured)) == sorted([*whole, *left])
    assert all(timing.ratio is None or math.isfinite(timing.ratio.value) for timing in measured.timings)
    (failure,) = measured.failures
    assert failure.subject == ONE and failure.reason == f"made to fail in {do}"


def test_without_the_reference_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "bilstm", "warm", 1)
    with pytest.raises(DeviceError, match="made to fail"):
        measure(REFERENCE, [OTHER], (1,), 8, 1, BRIEF)


def test_an_error_that_nobody_expected_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(OTHER, 1) as worker:
        worker.order(do="load", variant="cbow-ffn", backend="eager")  # without threads, which it asks for
        with pytest.raises(DeviceError, match=r"cannot be measured; found KeyError: 'threads'.*in cbow-ffn"):
            worker.answer()


def test_a_model_is_compared_with_the_reference_under_the_same_backend() -> None:
    slower = Subject("lowresource", "cbow-ffn", "fp32-again")
    names = {"0": REFERENCE, "1": Subject("lowresource", "bilstm", "fp32-again"), "2": slower}
    rounds = {"0": [[8.0], [8.0]], "1": [[4.0], [4.0]], "2": [[1.0], [1.0]], session.TWIN: [[8.0], [8.0]]}
    warm = {name: {"first_s": 1.0, "difference": 0.0, "flops": 1} for name in names}
    eager_, again, other = session._timings(names, 1, 8, [rounds], warm, {})
    assert eager_.ratio is None and eager_.alike is None and again.alike is None
    assert again.ratio and again.ratio.value == 2.0
    assert other.ratio and other.ratio.value == pytest.approx(8.0) and other.alike and other.alike.value == 4.0


def test_a_failure_is_a_record_beside_that_of_what_went_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing(monkeypatch, "cnn", "warm", 2)
    monkeypatch.setattr(shapes, "_reference", lambda shapes: ("lowresource", "bilstm"))
    given = Request(("cnn", "cbow-ffn"), (1, 2), 8, (1,), ("eager",), BRIEF, str(tmp_path))
    assert len(run(given)) == 4
    records = read_records(tmp_path, ("shape",))
    assert sorted((r.spec.variant, r.status) for r in records) == [
        ("bilstm", "ok"), ("cbow-ffn", "ok"), ("cnn", "failed"), ("cnn", "ok")]  # fmt: skip
    (failed,) = (record for record in records if record.status == "failed")
    assert failed.reason == "eager, batch 2: made to fail in warm" and failed.value("parameters", "all")
    (cnn,) = (record for record in records if record.spec.variant == "cnn" and record.status == "ok")
    assert cnn.value("latency_s", "batch1-length8") and cnn.value("latency_s", "batch2-length8") is None


def test_a_session_is_kept_whatever_becomes_of_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measure, sessions = shapes.measure, []

    def breaks(*given: Any, **more: Any) -> Any:
        sessions.append(given)
        if len(sessions) == 2:
            raise DeviceError("the second session breaks")
        return measure(*given, **more)

    monkeypatch.setattr(shapes, "measure", breaks)
    monkeypatch.setattr(shapes, "_reference", lambda shapes: ("lowresource", "bilstm"))
    with pytest.raises(DeviceError, match="the second session breaks"):
        run(Request(("cbow-ffn",), (1,), 8, (1, 1), ("eager",), BRIEF, str(tmp_path)))
    records = read_records(tmp_path, ("shape",))
    assert sorted((r.spec.variant, r.status) for r in records) == [
        ("bilstm", "failed"), ("bilstm", "ok"), ("cbow-ffn", "ok")]  # fmt: skip


def test_a_reference_that_fails_leaves_its_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing(monkeypatch, "bilstm", "load")
    monkeypatch.setattr(shapes, "_reference", lambda shapes: ("lowresource", "bilstm"))
    with pytest.raises(DeviceError, match="made to fail in load"):
        run(Request(("cbow-ffn",), (1,), 8, (1,), ("eager",), BRIEF, str(tmp_path)))
    (record,) = read_records(tmp_path, ("shape",))
    assert (record.spec.variant, record.status, record.reason) == ("bilstm", "failed", "eager: made to fail in load")


def on_gpu(paper: str, variant: str, eager_ms: float, graph_ms: float, alike: float | None, stamp: int) -> Record:
    """A session on a GPU whose reference takes 4 ms kernel by kernel."""
    near = (0.99, 1.0, 1.01)
    split = "batch1-length128"
    entries = [made.measurement("latency_s", split, eager_ms / 1e3, "s"),
               made.measurement("latency_s", f"{split}-cudagraph", graph_ms / 1e3, "s")]  # fmt: skip
    if alike is not None:
        entries += [made.measurement("speedup", split, 4 / eager_ms, "ratio", tuple(4 / eager_ms * x for x in near)),
                    made.measurement("speedup_same_backend", f"{split}-cudagraph", alike, "ratio",
                                     tuple(alike * x for x in near))]  # fmt: skip
    spec = {"paper": paper, "variant": variant, "task": "shape", "scale": "shape", "seed": 0}
    return made.record(paper, variant, scale="shape", stamp=stamp, machine="gpu", data=None, teacher=None, spec=spec,
                       measurements=entries, tier="exact")  # fmt: skip


@pytest.mark.parametrize(("alike", "says"), [(1.8, "launches hide what compression gains of 1 of 1 models."),
                                             (1.005, "launches hide nothing of what compression gains.")])  # fmt: skip
def test_the_pages_say_from_the_numbers_what_launches_hide(alike: float, says: str) -> None:
    records = [on_gpu("bert", "bert", 4.0, 1.0, None, 0), on_gpu("distilbert", "distilbert", 4.0, 0.5, alike, 1)]
    told = f"On gpu at batch 1 distilbert is 1.0 times as fast as the reference kernel by kernel, {alike:.1f} times as"
    page = pages(records)
    assert f"{told} one CUDA graph: {says}" in page["table.md"]
    assert "| 4.000 | 1.000 | 75% | – | – |" in page["table.md"]
    without = SeriesIndex(runs_of([made.record()]))
    assert launches.section(without) is None and launches.launched(without) == {}
