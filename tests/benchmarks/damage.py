"""Whether every changed byte of what the bench keeps is noticed before a score is recorded, and kills lose nothing.

    python tests/benchmarks/damage.py [PLACES] [KILLS]      200 and 10 by default, about 15 minutes

A bit is flipped at so many seeded places in turn of cache entries, of a checkpoint, of what an export copies and of a
packed model. Noticed means: the entry is not taken for whole, the checkpoint before is used, nothing is exported, the
packed model is refused. For some of the places the run is made in full: it must end with the scores and the weights
that it had. Then a run of two processes is killed at random moments and must end with the numbers of one that was not,
under another hash than that of one process. The last line holds the figures; exit 1 where one falls short.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from bench.core.errors import BenchError
from bench.core.record import Record
from bench.models import load
from bench.run import execute, exports, plan
from bench.run.cache import Cache
from bench.run.request import Request
from bench.train.checkpoint import Checkpointer
from papers.qbert import packed

ROOT = Path(__file__).resolve().parents[2]
PROFILE = """
scale = "smoke"
variant = ["bert"]
task = ["sst2"]
seeds = 1
limit = 256
checkpoint_minutes = 0.005
[set]
"pretrain.corpus_tokens" = 12000
"pretrain.hidden" = 32
"pretrain.ffn" = 64
"pretrain.layers" = 2
"pretrain.training.epochs" = 2
"fine_tune.epochs" = 2
"""
"""Of a run that is killed: some seconds of training."""
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
TIMED = {"latency_s", "teacher_latency_s", "throughput", "speedup", "aa_ratio", "training_seconds",
         "training_peak_bytes"}  # fmt: skip
IN_FULL = 20
"""Of so many places one is tried with a whole run."""


class Made(NamedTuple):
    """A run, and where it keeps its things."""

    home: Path
    request: Request
    records: list[Record]
    keys: list[str]
    """Of the last stage of each job."""


def tiny(folder: Path) -> Request:
    """BERT and a Q-BERT of it, from a tiny teacher, on rows whose label is their first letter."""
    torch.manual_seed(0)
    raw = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
    config = BertConfig(vocab_size=len(WORDS), num_hidden_layers=2, hidden_size=16, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=128, initializer_range=0.2)  # fmt: skip
    load.save(BertModel(config), folder / "teacher", PreTrainedTokenizerFast(tokenizer_object=raw, **special))
    for split, rows in (("train_subset", 96), ("validation_subset", 64)):
        path = folder / "data" / "sst2" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = ["ab"[i % 2] + f" {chr(99 + i % 20)} {chr(99 + i % 13)}" for i in range(rows)]
        pq.write_table(pa.table({"sentence": texts, "label": [i % 2 for i in range(rows)]}), path)
    changes = {"fine_tune.epochs": "12", "fine_tune.lr": "0.003"}
    return Request(variant=("qbert-w4",), task=("sst2",), seeds=1, teacher=str(folder / "teacher"), set=changes,
                   data=str(folder / "data"), results=str(folder / "results"))  # fmt: skip


@contextlib.contextmanager
def at_home(home: Path) -> Iterator[None]:
    """With this cache folder."""
    before = os.environ.get("BENCH_HOME")
    os.environ["BENCH_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["BENCH_HOME"]
        else:
            os.environ["BENCH_HOME"] = before


def make(folder: Path, asked: Request) -> Made:
    """Run it, or go on with what is there."""
    with at_home(folder / "home"):
        made = plan.make(asked)
        records = execute.run(made)
    assert all(record.status == "ok" for record in records), [record.reason for record in records]
    return Made(folder / "home", asked, records, [job.key for job in made.jobs])


def numbers(record: Record) -> object:
    """What two runs of one thing have in common: scores, sizes, weights and losses; not the times."""
    values = {(m.metric, m.split): m.value for m in record.measurements if not m.metric.startswith(tuple(TIMED))}
    return values, [one.sha256 for one in record.artefacts], [(s.name, s.steps, s.last_loss) for s in record.stages]


def damaged(folder: Path, places: int, seed: int) -> Iterator[str]:
    """Flip a bit at so many places of the files below a folder, one file after the other; each is mended again."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    assert files, folder
    chance = random.Random(seed)
    for number in range(places):
        file = files[number % len(files)]
        raw = file.read_bytes()
        at = chance.randrange(len(raw))
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :])
        yield f"{file.relative_to(folder)} at {at}"
        file.write_bytes(raw)


def tally(tried: Iterator[str], noticed: Callable[[], bool]) -> int:
    """How many were noticed; the others are said."""
    found = 0
    for place in tried:
        if noticed():
            found += 1
        else:
            print(f"not noticed: {place}")
    return found


def refused(do: Callable[[], object]) -> bool:
    """Whether it ends with an error of ours."""
    try:
        do()
    except BenchError:
        return True
    return False


def cache(made: Made, places: int) -> int:
    """Damage of cache entries that is noticed."""
    entries = sorted(path for path in (made.home / "stages").glob("*/[!.]*") if path.is_dir())
    return sum(tally(damaged(entry, places // len(entries) + (number < places % len(entries)), number),
                     lambda entry=entry: not Cache(made.home).whole(entry.name))
               for number, entry in enumerate(entries))  # fmt: skip


def in_full(made: Made, places: int, folder: Path) -> int:
    """Runs over a damaged cache that end with the numbers of the good one."""
    found = 0
    for number in range(places):
        again = folder / f"again-{number}"
        shutil.copytree(made.home, again / "home")
        shutil.rmtree(again / "home" / "progress", ignore_errors=True)
        tried = damaged(again / "home" / "stages", places, seed=number)
        for _ in range(number):
            next(tried)
        place = next(tried)
        records = make(again, made.request.model_copy(update={"results": str(again / "results")})).records
        if [numbers(one) for one in records] == [numbers(one) for one in made.records]:
            found += 1
        else:
            print(f"another result: {place}")
        shutil.rmtree(again)
    return found


def export(made: Made, places: int, folder: Path) -> int:
    """Damage of what an export would copy that keeps it from being made, or lets it be made of another whole copy."""
    record, entry = made.records[0], Cache(made.home).entry(made.keys[0])

    def exported(name: str) -> dict[str, bytes]:
        exports.export_run(Path(made.request.results), record.id, folder / name)
        files = {path.name: path.read_bytes() for path in (folder / name).iterdir()}
        shutil.rmtree(folder / name)
        return files

    def noticed() -> bool:
        try:
            return exported("after") == good
        except BenchError:
            return not (folder / "after").exists()

    with at_home(made.home):
        good = exported("good")
        return tally(damaged(entry, places, seed=3), noticed)


def packed_file(made: Made, places: int, folder: Path) -> int:
    """Damage of a packed model that keeps it from being exported, and its export from being loaded."""
    record, key = made.records[-1], made.keys[-1]
    good = folder / "good"
    with at_home(made.home):
        exports.export_run(Path(made.request.results), record.id, good)
        packed.load(good)

    def stays() -> bool:
        with at_home(made.home):
            return refused(lambda: exports.export_run(Path(made.request.results), record.id, folder / "never"))

    half = places // 2
    alone = folder / "alone"
    alone.mkdir()
    shutil.copy(good / packed.FILE, alone)
    found = tally(damaged(Cache(made.home).further_folder(key), half, seed=4), stays)
    return found + tally(damaged(alone, places - half, seed=5), lambda: refused(lambda: packed.load(alone)))


def checkpoint(step: Path, places: int) -> int:
    """Damage of a checkpoint that keeps it from being used; `step` is its folder, alone in its own."""
    aside = step.with_name("aside")
    shutil.copytree(step, aside)

    def noticed() -> bool:
        away = Checkpointer(step.parent).newest() is None and not step.exists()
        if away:
            shutil.copytree(aside, step)
        return away

    return tally(damaged(step, places, seed=6), noticed)


def started(folder: Path, processes: int) -> subprocess.Popen[str]:
    """The command, by so many processes."""
    (folder / "profile.toml").write_text(PROFILE)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "bench", "run", "profile.toml", "--json"]
    environment = os.environ | {
        "BENCH_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


def finished(process: subprocess.Popen[str]) -> Record:
    """Its record."""
    out, err = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"exit {process.returncode}: {err[-3000:]}")
    return Record.model_validate(json.loads(out)[0])


def killed(process: subprocess.Popen[str], after_s: float) -> bool:
    """Kill it and all that it started after so many seconds; false where it had ended by itself."""
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        parent = psutil.Process(process.pid)
        for one in (*parent.children(recursive=True), parent):  # each has a session of its own
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def two_processes(folder: Path, kills: int) -> tuple[int, int, bool]:
    """Kills, the runs of two processes that ended equal after them, of so many, and whether their hash is their own."""

    def new(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    began = time.monotonic()
    whole = finished(started(new("whole"), 2))
    lasts = time.monotonic() - began
    chance, done, rounds, equal = random.Random(7), 0, 0, True
    while done < kills:
        rounds += 1
        place = new(f"killed-{rounds}")
        while done < kills and not list(place.glob("results/**/*.json")):
            done += killed(started(place, 2), lasts * chance.uniform(0.3, 0.95))
        record = finished(started(place, 2))
        equal = equal and numbers(record) == numbers(whole) and len(list(place.glob("results/**/*.json"))) == 1
        print(f"two processes: {done} kills, {rounds} runs, equal: {equal}", flush=True)
    return done, int(equal), whole.hash != finished(started(new("one"), 1)).hash


def interrupted(folder: Path) -> Path:
    """A checkpoint of a run that was killed, alone in its folder."""
    process = started(folder, 1)
    steps: list[Path] = []
    while not steps and process.poll() is None:
        steps = sorted((folder / "home" / "progress").glob("*/fit-*/step-*"))
        time.sleep(0.05)
    process.kill()
    process.communicate()
    (folder / "alone").mkdir()
    return Path(shutil.copytree(steps[0], folder / "alone" / steps[0].name))


def main() -> None:
    places, kills = (int(text) for text in (*sys.argv[1:], *("200", "10")[len(sys.argv) - 1 :]))
    logging.getLogger("bench").setLevel(logging.CRITICAL)  # it names each of the places
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make(folder, tiny(folder))
        (folder / "broken").mkdir()
        found = {
            "cache": cache(made, places), "checkpoint": checkpoint(interrupted(folder / "broken"), places),
            "export": export(made, places, folder), "packed": packed_file(made, places, folder),
        }  # fmt: skip
        runs = places // IN_FULL
        whole = in_full(made, runs, folder)
        done, equal, told = two_processes(folder, kills)
    good = all(number == places for number in found.values()) and whole == runs and equal and told
    counts = ", ".join(f"{kind} {number} of {places}" for kind, number in found.items())
    ends = f"{'bit-equal' if equal else 'NOT equal'}, {'another hash' if told else 'the SAME hash'} than one"
    print(f"noticed: {counts}; runs over damage equal: {whole} of {runs}; two processes after {done} kills: {ends}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
