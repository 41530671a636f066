"""Which library's 8-bit kernels are fastest for BERT-base at batch 1 of 128 tokens on this processor.

    python tests/benchmarks/int8_libraries.py                                a few minutes on one core

Ours are torch's own dynamic kernels; beside them stand ONNX Runtime's (weights per channel, activations as they come)
and torchao's, eager and compiled, where they are installed: torchao is no dependency of the suite. All round weights
and activations to 8 bits and take turns in random order. The last line is the fastest other one's time over ours.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import warnings
from collections.abc import Callable

import torch
from transformers import BertConfig, BertForSequenceClassification

from bench.measure.backends import BACKENDS, Batch, Call, eager
from bench.measure.latency import Protocol, interleaved, speedup

LENGTH = 128


def torchao(model: torch.nn.Module, batch: Batch, compiled: bool) -> Call:
    """torchao's int8 weights and int8 dynamic activations."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_  # pyright: ignore

    small = copy.deepcopy(model)
    quantize_(small, Int8DynamicActivationInt8WeightConfig())
    return eager(torch.compile(small, dynamic=False) if compiled else small, batch)  # pyright: ignore


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig()).eval()
    ids = torch.randint(1000, 30000, (1, LENGTH))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    makers: dict[str, Callable[[], Call]] = {
        "fp32": lambda: eager(model, batch),
        "ours": lambda: BACKENDS["int8"](model, batch),
        "onnxruntime": lambda: BACKENDS["onnxruntime-int8"](model, batch),
        "torchao": lambda: torchao(model, batch, compiled=False),
        "torchao compiled": lambda: torchao(model, batch, compiled=True),
    }
    calls: dict[str, Call] = {}
    for name, make in makers.items():
        if name not in ("fp32", "ours") and importlib.util.find_spec(name.split()[0]) is None:
            print(f"{name}: not installed")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            calls[name] = make()
            off = (calls[name]() - calls.get("fp32", calls[name])()).abs().max()
        print(f"{name}: logits off by up to {float(off):.3f}")
    seconds = interleaved(calls, Protocol(warmup=2, rounds=rounds, calls_per_round=3))
    ratios = {name: speedup(seconds[name], seconds["ours"]) for name in seconds}
    for name, ratio in ratios.items():
        print(f"{name:18} {ratio.value:.2f} times the time of ours [{ratio.low:.2f}, {ratio.high:.2f}]")
    others = [ratio.value for name, ratio in ratios.items() if name not in ("fp32", "ours")]
    print(f"fastest other over ours: {min(others):.2f}" if others else "nothing to compare with")


if __name__ == "__main__":
    main()
