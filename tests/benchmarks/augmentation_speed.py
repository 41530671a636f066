"""TinyBERT's augmentation in batches against one word at a time: original rows per second, and their ratio.

    python tests/benchmarks/augmentation_speed.py      (made-up sentences, about 3 minutes)
    python tests/benchmarks/augmentation_speed.py --tokenizer FOLDER --data FILE.parquet [--column sentence]

The model is a BERT of 6 layers of 384 with random weights and 30,522 pieces. The reference does what the released
data_augmentation.py does: per word that may be replaced one forward pass of one sentence, gradients recorded, all
positions projected on the vocabulary and that of the mask sorted whole; per word of several pieces one product with
all vectors, sorted whole. Like ours it does this once per word, not once per variant, and then draws 20 variants.
Both sides take the same rows, turn by turn in random order. What bounds the ratio is measured, too. The ratio is the
last line.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers
from training_throughput import matmul_rate
from transformers import BertConfig, BertForMaskedLM

from bench.data import synthetic
from bench.data.rows import Texts
from bench.models import load
from bench.train.augmentation.augment import Augmentation, Augmenter, augmenter
from bench.train.augmentation.candidates import Splitter, replaceable
from bench.train.augmentation.wordvectors import PieceVectors
from bench.train.precision import choose

N, K, P = 20, 15, 0.4
HIDDEN, LAYERS, PIECES = 384, 6, 30522


class OneWordAtATime:
    """The released procedure on the same model and vectors."""

    def __init__(self, model: BertForMaskedLM, machine: Augmenter, tokenizer, device: torch.device, grad: bool):
        self.model, self.tokenizer, self.device, self.grad = model, tokenizer, device, grad
        self.splitter = Splitter(tokenizer)
        vectors = machine.candidates._neighbours
        assert isinstance(vectors, PieceVectors)
        self.vectors, self.chance = vectors, random.Random(0)

    def masked(self, pieces: list[int], place: int) -> list[str]:
        ids = [self.tokenizer.cls_token_id, *pieces, self.tokenizer.sep_token_id, *pieces, self.tokenizer.sep_token_id]
        segments = [0] * (len(pieces) + 2) + [1] * (len(pieces) + 1)
        ids[place] = self.tokenizer.mask_token_id
        with torch.set_grad_enabled(self.grad):
            logits = self.model(
                input_ids=torch.tensor([ids[:512]], device=self.device),
                token_type_ids=torch.tensor([segments[:512]], device=self.device),
            ).logits
        best = torch.argsort(logits[0, place], descending=True)[:K].tolist()
        return [word for word in self.tokenizer.convert_ids_to_tokens(best) if word and not word.startswith("##")]

    def near(self, word: str) -> list[str]:
        mine = self.vectors.embeddings[list(self.splitter.pieces(word))].mean(0)
        scores = self.vectors.matrix @ (mine / np.linalg.norm(mine))
        return [self.vectors.words[i] for i in np.argsort(-scores)[:K]]

    def augment(self, text: str) -> list[str]:
        sentence = self.splitter(text)
        pieces = [piece for word in sentence.pieces for piece in word]
        starts = np.cumsum([1, *(len(word) for word in sentence.pieces)]).tolist()
        candidates: dict[int, list[str]] = {}
        for i, word in enumerate(sentence.words):
            if replaceable(word, True, True) and starts[i] < 512:
                single = len(sentence.pieces[i]) == 1
                candidates[i] = (self.masked(pieces, starts[i]) if single else self.near(word)) or [word]
        made = [text]
        for _ in range(N):
            words = list(sentence.words)
            for i, choice in candidates.items():
                candidate = self.chance.choice(choice)
                if self.chance.random() < P:
                    words[i] = candidate
            if " ".join(words) not in made:
                made.append(" ".join(words))
        return made


def sentences(arguments: argparse.Namespace) -> list[str]:
    if arguments.data:
        found = pq.read_table(arguments.data, columns=[arguments.column])[arguments.column].to_pylist()
    else:
        found = synthetic.rows("sst2", "train")[0][0]
    return random.Random(0).sample(found, min(len(found), arguments.rows * arguments.rounds + arguments.rows))


def timed(run: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def read_lengths(texts: list[str], splitter: Splitter) -> list[int]:
    """The length of the row that the model reads, for each masked word."""
    found = []
    for sentence in map(splitter, texts):
        length = min(512, 2 * sum(len(pieces) for pieces in sentence.pieces) + 3)
        found += [length for word, pieces in zip(sentence.words, sentence.pieces, strict=True)
                  if len(pieces) == 1 and replaceable(word, True, True)]  # fmt: skip
    return found


def bounds(model: BertForMaskedLM, lengths: list[int], seconds: dict[str, list[float]], rate: float) -> None:
    """What the ratio cannot exceed: the encoder's multiplications at the machine's rate, nothing else counted."""
    weights = sum(p.numel() for n, p in model.bert.encoder.named_parameters() if p.dim() == 2)
    encoder = sum(2 * weights * length + 4 * LAYERS * HIDDEN * length**2 for length in lengths)
    head = sum(2 * HIDDEN * (PIECES + HIDDEN) * length for length in lengths)
    reference_s, ours_s = sum(seconds["one word at a time"]), sum(seconds["in batches"])
    giga = 1e9 * len(lengths)
    print(f"a masked word is {statistics.mean(lengths):.1f} positions: {encoder / giga:.2f} GFLOP of encoder on both "
          f"sides, {head / giga:.2f} of vocabulary in the reference alone")  # fmt: skip
    print(f"GFLOP/s: reference {(encoder + head) / reference_s / 1e9:.0f}, ours {encoder / ours_s / 1e9:.0f}, "
          f"a plain matmul in our precision {rate / 1e9:.0f}")  # fmt: skip
    print(f"with the encoder at the rate of a plain matmul and all else free, the ratio would be "
          f"{reference_s * rate / encoder:.1f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="", help="a parquet file of sentences; made-up ones without")
    parser.add_argument("--column", default="sentence")
    parser.add_argument("--tokenizer", default="", help="folder; one of the made-up language without")
    parser.add_argument("--rows", type=int, default=128, help="original rows per round; a shard has 2,048")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of our encoder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    device = torch.device(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.tokenizer:
            synthetic.write_tokenizer(Path(folder))
        tokenizer = load.tokenizer(Path(arguments.tokenizer or folder))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=PIECES, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=6,
                        intermediate_size=4 * HIDDEN)  # fmt: skip
    model = BertForMaskedLM(config).eval()
    ours = choose(arguments.precision, device)
    settings = Augmentation(augmentation=N, candidates=K, probability=P, precision=arguments.precision)
    machine = augmenter(settings, tokenizer, model, 0, device)
    model.requires_grad_(True)  # as the released code leaves it; ours runs in inference mode whatever it is
    reference = {grad: OneWordAtATime(model, machine, tokenizer, device, grad) for grad in (True, False)}
    texts = sentences(arguments)
    rounds = [texts[i : i + arguments.rows] for i in range(0, len(texts) - arguments.rows + 1, arguments.rows)]

    def sides(rows: list[str]) -> dict[str, Callable[[], object]]:
        return {
            "in batches": lambda: list(machine.shards(Texts((rows,), np.zeros(len(rows))))),
            "one word at a time": lambda: [reference[True].augment(row) for row in rows],
            "one word at a time, no gradients": lambda: [reference[False].augment(row) for row in rows],
        }

    for run in sides(rounds[0][:4]).values():
        run()  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in sides([])}
    chance, rates = random.Random(1), []
    for rows in rounds[1:]:
        rates.append(matmul_rate(device, dtype=torch.bfloat16 if ours.name == "bf16" else torch.float32))
        runs = sides(rows)
        for name in chance.sample(list(runs), len(runs)):
            seconds[name].append(timed(runs[name], device))
    lengths = [length for rows in rounds[1:] for length in read_lengths(rows, Splitter(tokenizer))]
    print(f"rows {arguments.rows} x {len(rounds) - 1} rounds, {len(lengths)} masked words, {device.type}, "
          f"threads {torch.get_num_threads()}, ours in {ours.name} ({ours.why}), the reference in fp32")  # fmt: skip
    for name, values in seconds.items():
        print(f"{name:34} {arguments.rows * len(values) / sum(values):8.2f} rows/s")
    bounds(model, lengths, seconds, statistics.median(rates))
    for name in ("one word at a time, no gradients", "one word at a time"):
        ratios = [a / b for a, b in zip(seconds[name], seconds["in batches"], strict=True)]
        print(f"speed-up over {name}: {statistics.geometric_mean(ratios):.2f} "
              f"(rounds {min(ratios):.2f} to {max(ratios):.2f}; wanted 15)")  # fmt: skip


if __name__ == "__main__":
    main()
