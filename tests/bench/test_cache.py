"""The cache of stages: a model is written once, however many stages hand it on, and again when one has trained it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from bench.core.record import StageEntry
from bench.run.cache import Cache
from bench.train.recipe import State

TRAINED = StageEntry(name="stage", seconds=1.0, steps=5)


def bert() -> BertModel:
    return BertModel(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                intermediate_size=8))  # fmt: skip


def save(cache: Cache, key: str, after: State, before: State, before_key: str | None) -> None:
    cache.save(key, after, before, before_key, TRAINED, 0, None)


def test_a_model_that_was_handed_on_is_written_once(tmp_path: Path) -> None:
    cache, first = Cache(tmp_path), State({"words": bert(), "model": bert()})
    save(cache, "aa1", first, State(), None)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.add_(1.0)
    second = State({**first.models}, {"seen": 1})
    save(cache, "aa2", second, first, "aa1")
    assert cache.model_folder("aa2", "words") == cache.model_folder("aa1", "words")
    assert cache.model_folder("aa2") != cache.model_folder("aa1"), "the same object, but trained"
    loaded = cache.load("aa2")
    assert loaded.facts == {"seen": 1}
    for name, model in second.models.items():
        for mine, theirs in zip(model.parameters(), loaded.models[name].parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_another_object_is_written_though_it_holds_the_same(tmp_path: Path) -> None:
    cache, model = Cache(tmp_path), bert()
    save(cache, "aa1", State({"model": model}), State(), None)
    save(cache, "aa2", State({"model": model}), State({"model": bert()}), "aa1")
    assert cache.model_folder("aa2") != cache.model_folder("aa1")
