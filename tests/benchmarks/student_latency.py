"""Where the low-resource students' time goes at batch 1: kernels, Python around them, padding, tokenisation.

    python tests/benchmarks/student_latency.py      about 1 minute on one core

A pass over 24 words is timed plainly, in torch.profiler (time inside operators), and padded to 128 words; the share
that is neither operators nor padding is Python and dispatch. Tokenising one sentence is timed apart, beside a BERT's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from bench.data.rows import Texts
from bench.models.shape import find_shape
from papers.lowresource.vocabulary import vocabulary

WORDS, PADDED = 24, 128
SENTENCE = "a film of quiet, patient warmth that earns every tear and never once asks for one outright , or so it seems"


def median_us(call: Callable[[], object], calls: int) -> float:
    for _ in range(20):
        call()
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e6 * statistics.median(times)


def operators_us(call: Callable[[], object], calls: int) -> float:
    """Time of one call inside operators that call no others; the profiler's own cost is not in it."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(calls):
            call()
    return sum(event.self_cpu_time_total for event in found.key_averages()) / calls


def batch(length: int, mask: int | None = None) -> dict[str, torch.Tensor]:
    ids, ones = torch.randint(5, 5000, (1, length)), torch.ones(1, length, dtype=torch.long)
    given = {"input_ids": ids, "attention_mask": ones}
    if mask is not None:
        given["attention_mask"][:, mask:] = 0
    return given


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    calls = parser.parse_args().calls
    torch.set_num_threads(1)
    torch.manual_seed(0)
    words = vocabulary(Texts(([SENTENCE] * 3,), torch.zeros(3).numpy()), 5000)
    reading = median_us(lambda: words(SENTENCE), calls)
    print(f"tokenising one sentence: {reading:.0f} us")
    shares = {}
    for name in ("bilstm", "cnn", "cbow-ffn"):
        build = find_shape(name)[1].build
        assert build is not None
        model: nn.Module = build().eval()
        short, padded = batch(WORDS), batch(PADDED, WORDS)
        plain = median_us(lambda model=model, short=short: model(**short), calls)
        inside = operators_us(lambda model=model, short=short: model(**short), calls)
        wasted = median_us(lambda model=model, padded=padded: model(**padded), calls)
        shares[name] = min(1.0, inside / plain)
        print(f"{name:10} {plain:7.0f} us a pass of {WORDS} words; in operators {inside:7.0f} us by the profiler; "
              f"padded to {PADDED} {wasted:7.0f} us; with tokenising {plain + reading:7.0f} us")  # fmt: skip
    print("share of a pass inside operators: " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items()))


if __name__ == "__main__":
    main()
