"""Stopping by a signal: at once outside `fit`; inside after the step that runs, to go on there to the last bit."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bench.core.errors import Stopped
from bench.data.batches import Batch, Batches, Encoded
from bench.train import checkpoint, stopping
from bench.train.checkpoint import Checkpointer
from bench.train.fit import fit
from bench.train.settings import Group, Training

ROOT = Path(__file__).resolve().parents[2]
TRAINING = Training(epochs=3, batch_size=4, lr=1e-2)
STEPS = 3 * 10
GROUPS = [Group(match="0.*", rate=0.1), Group(match="3.bias", rate=0)]


def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    return {"task": nn.functional.cross_entropy(model(batch["input_ids"]), batch["labels"])}


def train(folder: Path, loss: Callable[..., dict[str, Tensor]] = loss, seed: int = 0) -> str:
    """A small training with dropout, checkpointed only when it is stopped; returns the sha256 of its weights."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Dropout(0.2), nn.Linear(40, 2))
    rows = np.random.default_rng(0).integers(1, 20, (40, 5)).tolist()
    batches = Batches(Encoded.from_lists(rows, [[0] * 5] * 40, np.array([row[0] % 2 for row in rows])), 4, 0)
    log = fit(model, loss, batches, TRAINING, Accelerator(), groups=GROUPS, checkpointer=Checkpointer(folder, 1e9))
    assert log.steps == STEPS
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())).hexdigest()


def at_call(number: int, act: Callable[[], None]) -> Callable[..., dict[str, Tensor]]:
    """The loss, with something that happens in its call of this number."""
    calls = 0

    def acting(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == number:
            act()
        return loss(model, batch)

    return acting


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Python with this module's names in a process of its own."""
    start = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\nfrom test_stopping import *\n"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen([sys.executable, "-c", start + code, *arguments], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


TRAIN = """
folder = Path(sys.argv[1])
def wait():
    print("READY", flush=True)
    while not stopping.pending():
        time.sleep(0.01)
try:
    with stopping.stoppable():
        try:
            train(folder, at_call(7, wait))
        except Exception:
            print("EATEN")
except Stopped as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(stopped.exit_code)
"""
RESUME = "print(train(Path(sys.argv[1]), seed=5), train(Path(sys.argv[1]) / 'whole'))"  # other weights, random state


def test_a_training_that_is_terminated_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    process = child(TRAIN, str(tmp_path))
    assert process.stdout is not None and process.stdout.readline() == "READY\n"
    process.send_signal(signal.SIGTERM)
    code, out, err = ended(process)
    assert (code, out) == (143, "") and "stopped by SIGTERM; the same command goes on where it was" in err
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000007"], "the step that ran"
    code, out, err = ended(child(RESUME, str(tmp_path)))
    assert code == 0, err
    resumed, whole = out.split()
    assert resumed == whole and len(whole) == 64


@pytest.mark.parametrize("step", [1, 10, 13, STEPS])
def test_it_may_stop_after_any_step(tmp_path: Path, step: int) -> None:
    with stopping.stoppable(), pytest.raises(Stopped):
        train(tmp_path / "fit", at_call(step, lambda: signal.raise_signal(signal.SIGINT)))
    assert [path.name for path in (tmp_path / "fit").iterdir()] == [f"step-{step:09d}"]
    assert train(tmp_path / "fit", seed=5) == train(tmp_path / "whole")


OUTSIDE = """
try:
    with stopping.stoppable():
        try:
            print("READY", flush=True)
            time.sleep(60)
        except Exception:
            print("EATEN")
except Stopped as stopped:
    print(stopped.signum)
    sys.exit(stopped.exit_code)
"""


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_outside_of_fit_a_signal_stops_at_once(signum: signal.Signals, exit_code: int) -> None:
    process = child(OUTSIDE)
    assert process.stdout is not None and process.stdout.readline() == "READY\n"
    process.send_signal(signum)
    assert ended(process)[:2] == (exit_code, f"{signum.value}\n")


def test_a_second_signal_does_not_wait_for_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ECHO_S", 0.0)
    reached: list[str] = []

    def twice() -> None:
        signal.raise_signal(signal.SIGTERM)
        reached.append("after the first")
        signal.raise_signal(signal.SIGINT)
        reached.append("after the second")

    with stopping.stoppable(), pytest.raises(Stopped) as stopped:
        train(tmp_path, at_call(3, twice))
    assert reached == ["after the first"] and stopped.value.signum == signal.SIGINT
    assert list(tmp_path.iterdir()) == [], "the step did not end"
    assert stopping.pending() == 0


def test_signals_that_come_together_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)

    def both() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    with stopping.stoppable():
        with pytest.raises(Stopped) as stopped:
            train(tmp_path, at_call(3, both))
        signal.raise_signal(signal.SIGTERM)  # nor does a late one disturb what is tidied up
    assert stopped.value.signum == signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003"]


def test_without_a_checkpointer_it_stops_after_the_step_too() -> None:
    calls: list[int] = []
    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(8, 2))
    batches = Batches(Encoded.from_lists([[1]] * 8, [[0]] * 8, np.zeros(8, dtype=int)), 4, 0)

    def signalling(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        calls.append(1)
        signal.raise_signal(signal.SIGINT)
        return loss(model, batch)

    with stopping.stoppable(), pytest.raises(Stopped):
        fit(model, signalling, batches, TRAINING, Accelerator(), groups=[Group(match="0.*", rate=0)])
    assert len(calls) == 1 and all(p.requires_grad for p in model.parameters())


def test_a_held_signal_is_never_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ECHO_S", 0.0)
    with stopping.stoppable():
        with pytest.raises(Stopped), stopping.held():
            signal.raise_signal(signal.SIGTERM)
            assert stopping.pending() == signal.SIGTERM
        with pytest.raises(Stopped) as stopped, stopping.held():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError
        assert isinstance(stopped.value.__context__, ValueError) and stopping.pending() == 0
        with stopping.held():
            pass
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with pytest.raises(ValueError, match="mine"), stopping.stoppable():
        assert all(signal.getsignal(number) not in before for number in stopping.SIGNALS)
        raise ValueError("mine")
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_it_is_no_exception_that_a_handler_of_failures_takes() -> None:
    assert not issubclass(Stopped, Exception)
    assert (Stopped(signal.SIGINT).exit_code, Stopped(signal.SIGTERM).exit_code) == (130, 143)


TWO = """
import sys; sys.path[:0] = [{root!r}, {root!r} + "/tests/bench"]
from test_stopping import *
folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
def one():
    if rank == 1:  # the other process hears of it from this one
        signal.raise_signal(signal.SIGTERM)
whole = train(folder / "whole")
with stopping.stoppable():
    try:
        train(folder / "fit", at_call(7, one))
    except Stopped as stopped:
        signum = stopped.signum
files = sorted(path.relative_to(folder).as_posix() for path in (folder / "fit").glob("*/*"))
resumed = train(folder / "fit", seed=5)
(folder / f"rank-{{rank}}").write_text(" ".join([str(signum), str(resumed == whole), *files]))
"""


def test_two_processes_stop_at_the_same_step_and_go_on(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO.format(root=str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), tmp_path],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    names = ("manifest.json", "progress.json", "random-0.safetensors", "random-1.safetensors", "state.safetensors")
    expected = " ".join(["15", "True", *(f"fit/step-000000007/{name}" for name in names)])
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in range(2)] == [expected] * 2


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """To the same bits, from the checkpoint before or, where that is damaged too, from the start."""
    for damaged in (1, 2):
        folder = tmp_path / f"fit-{damaged}"
        for step in (5, 9):
            with stopping.stoppable(), pytest.raises(Stopped):
                train(folder, at_call(step if step == 5 else 4, lambda: signal.raise_signal(signal.SIGINT)))
        steps = sorted(folder.iterdir())
        assert [path.name for path in steps] == ["step-000000005", "step-000000009"], "the newest two are kept"
        for path in steps[-damaged:]:
            flip(path / "state.safetensors")
        caplog.clear()
        assert train(folder, seed=0) == train(tmp_path / f"whole-{damaged}")
        assert len(caplog.messages) == damaged
        assert "step-000000009 is not used: it is damaged: the content of state" in caplog.messages[0]


def test_a_checkpoint_of_another_number_of_processes_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stopping.stoppable(), pytest.raises(Stopped):
        train(tmp_path, at_call(5, lambda: signal.raise_signal(signal.SIGINT)))
    assert Checkpointer(tmp_path).newest(1) is not None
    assert Checkpointer(tmp_path).newest(2) is None and "of 1 processes, not 2" in caplog.messages[0]


def test_a_disk_without_room_for_a_checkpoint_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(tmp_path / "whole")

    def full(tensors: object, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoint, "save_file", full)
    monkeypatch.setattr(Checkpointer, "due", lambda self, now: True)
    assert train(tmp_path / "full") == whole
    assert "no checkpoint could be written" in caplog.messages[0] and "free space there" in caplog.messages[0]
    assert list((tmp_path / "full").iterdir()) == []
