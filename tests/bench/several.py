"""What 1, 2 or 3 processes do together, beside the losses of recipes: predictions, augmented rows, gradients.

    python several.py FOLDER PROCESSES

Each process writes FOLDER/PROCESSES-RANK.json. They are forked, so that torch is imported once.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedTokenizerFast

from bench.data.batches import Batch, Batches, Encoded
from bench.data.rows import Texts
from bench.train import processes as together
from bench.train.augmentation.augment import Augmentation
from bench.train.augmentation.shards import augmented
from bench.train.feed import share
from bench.train.fit import fit
from bench.train.predict import predict
from bench.train.settings import Training

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "movie", "great", "awful", "plot", "actor", "dog", "cat",
         "runs", "fast", *LETTERS, *(f"##{c}" for c in LETTERS))  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                   sep_token="[SEP]", mask_token="[MASK]")  # fmt: skip


def config(**changes: Any) -> BertConfig:
    return BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                      intermediate_size=32, max_position_embeddings=64, initializer_range=0.3, **changes)  # fmt: skip


def rows(count: int) -> Encoded:
    lists = [[2, *range(5, 8 + i % 9), 3] for i in range(count)]
    return Encoded.from_lists(lists, [[0] * len(row) for row in lists], np.arange(count) % 2)


def predictions(accelerator: Accelerator) -> dict[str, str]:
    """A hash of the logits of so many rows; there are 64 rows a batch, the last one has the rest."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(config())
    return {str(count): digest(predict(model, rows(count), accelerator)) for count in (1, 2, 64, 65, 130, 200)}


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()


def augmentation(accelerator: Accelerator, folder: Path) -> dict[str, str]:
    """The files of augmented rows, by their hashes; only the main process writes."""
    torch.manual_seed(0)
    words = list(WORDS[5:15])
    texts = [" ".join([words[i % 10], "zebra", words[(3 * i) % 10], words[(7 * i + 1) % 10]]) for i in range(12)]
    given = Augmentation(augmentation=3, precision="fp32", probability=0.8)
    made = augmented(Texts((texts,), np.arange(12)), given, tokenizer(), BertForMaskedLM(config()), 0, folder,
                     batch_tokens=64, shard_rows=5)  # fmt: skip
    assert made.rows > made.originals
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(made.folder.iterdir())}


class Sometimes(nn.Module):
    """Every other step leaves a half of it without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.halves = nn.ModuleList([nn.Linear(1, 2, bias=False), nn.Linear(1, 2, bias=False)])
        self.passed = 0


def unused(accelerator: Accelerator) -> dict[str, Any]:
    """The weights after steps that use a half of the model each: what has no gradient stays, whatever its momentum."""
    model, seen = Sometimes(), []

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, Sometimes)
        half = model.halves[min(model.passed, 1)]
        model.passed += 1
        seen.append([p.detach().flatten().tolist() for p in model.parameters()])
        logits = half(batch["input_ids"].float().mean(1, keepdim=True))
        return {"task": torch.nn.functional.cross_entropy(logits, batch["labels"])}

    training = Training(epochs=1, batch_size=4, lr=1e-2, weight_decay=0.1, warmup=0.0, precision="fp32")
    fit(model, loss, Batches(rows(18), 4, 0), training, accelerator)
    first_half = [step[0] for step in seen[1:]]
    return {"stays": all(one == first_half[0] for one in first_half), "steps": len(seen),
            "weights": [p.detach().flatten().tolist() for p in model.parameters()]}  # fmt: skip


def shares(accelerator: Accelerator) -> dict[str, list[int]]:
    """The rows of batches that this process has."""
    return {str(count): share(Batches(rows(count), count, 0, bucket=False).batch(0, 0, np.arange(count)),
                              accelerator).batch["example_id"].tolist() for count in (1, 2, 3, 5, 7)}  # fmt: skip


def sums(accelerator: Accelerator) -> dict[str, Any]:
    """A mean over things that the processes have different numbers of, and its gradient; outside it is as given."""
    own = torch.arange(1.0, accelerator.process_index + 2.0, requires_grad=True)  # [1], [1, 2], [1, 2, 3]
    outside = float(together.mean_over(own.mean(), len(own)).detach())
    with together.batch_of(accelerator, 1 / accelerator.num_processes, spread=True):
        term = together.mean_over(own.mean(), len(own)) / accelerator.num_processes
        whole = together.total(own.sum())
    (term + 0.5 * whole).backward()
    assert own.grad is not None
    return {"outside": outside, "term": float(term.detach()), "whole": float(whole.detach()), "grad": own.grad.tolist()}


def raised(accelerator: Accelerator) -> str:
    """What the main process's decision raises, in all of them."""
    try:
        together.decided(accelerator, lambda: [][0])
    except IndexError as error:
        return str(error)
    return ""


def work(folder: Path, count: int, rank: int, port: int) -> None:
    torch.set_num_threads(1)
    if count > 1:
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {name: str(value) for name, value in numbers.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    accelerator = Accelerator()
    assert accelerator.num_processes == count
    found = {
        "predictions": predictions(accelerator), "augmentation": augmentation(accelerator, folder / f"rows-{count}"),
        "unused": unused(accelerator), "shares": shares(accelerator), "sums": sums(accelerator),
        "raised": raised(accelerator), "divided": together.divided(list("abcdefg"), lambda letter: letter * 2),
    }  # fmt: skip
    (folder / f"{count}-{rank}.json").write_text(json.dumps(found))


def forked(task: Callable[[int], None]) -> Callable[[int], int]:
    """Starts a task in a child; its pid."""

    def start(rank: int) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            task(rank)
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)

    return start


def main(folder: Path, counts: list[int]) -> int:
    os.environ |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    failed = 0
    for count in counts:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        start = forked(lambda rank, count=count, port=port: work(folder, count, rank, port))
        children = [start(rank) for rank in range(count)]
        failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [int(count) for count in sys.argv[2:]]))
