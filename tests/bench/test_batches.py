"""Batches and masking: pure functions of (seed, epoch, position), every example once."""

import numpy as np
import pytest
import torch

from bench.data import batches
from bench.data.batches import Batches, Encoded, encode, in_order, pad
from bench.data.masking import IGNORED, Masking
from bench.data.rows import Texts


def encoded(count: int = 101, seed: int = 0) -> Encoded:
    rng = np.random.default_rng(seed)
    rows = [[2, *rng.integers(5, 50, rng.integers(1, 40)).tolist(), 3] for _ in range(count)]
    return Encoded.from_lists(rows, [[0] * len(r) for r in rows], rng.integers(0, 2, count))


def test_an_epoch_visits_every_example_once_and_is_a_pure_function() -> None:
    batches = Batches(encoded(), 8, seed=3)
    first, again, other = batches.order(0), batches.order(0), batches.order(1)
    assert sorted(np.concatenate(first)) == list(range(101))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(first, other, strict=True))
    assert len(first) == 13


def test_bucketing_pads_less_than_random_order() -> None:
    data = encoded(1000)

    def padded(bucket: bool) -> int:
        orders = Batches(data, 16, 0, bucket=bucket).order(0)
        return sum(int(data.lengths[o].max()) * len(o) for o in orders)

    real = int(data.lengths.sum())
    assert padded(True) < 1.15 * real < padded(False)


def test_a_batch_by_tokens_keeps_to_its_size() -> None:
    data = encoded(300)
    orders = Batches(data, 1, 0, tokens=128).order(2)
    assert sorted(np.concatenate(orders)) == list(range(300))
    assert max(int(data.lengths[o].max()) * len(o) for o in orders) <= 128


def test_padding_by_hand() -> None:
    data = Encoded.from_lists([[2, 7, 3], [2, 3]], [[0, 0, 1], [0, 0]], np.array([1, 0]), pad=9)
    batch = pad(data, np.array([1, 0]))
    assert batch["input_ids"].tolist() == [[2, 3, 9], [2, 7, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert batch["labels"].tolist() == [0, 1] and batch["example_id"].tolist() == [1, 0]


def test_evaluation_order_covers_the_split() -> None:
    seen = torch.cat([batch["example_id"] for batch in in_order(encoded(), 16)])
    assert sorted(seen.tolist()) == list(range(101))


SPECIAL = frozenset({0, 1, 2, 3, 4})


@pytest.mark.parametrize("whole_batch", [True, False])
def test_masking_spares_special_tokens_and_pads(whole_batch: bool) -> None:
    data = encoded(400)
    weights = np.where(np.arange(50) < 5, 0.0, 1.0) if whole_batch else None
    masking = Masking(4, 50, SPECIAL, 0.15, weights)
    batch = pad(data, np.arange(400))
    out = masking(batch, np.random.default_rng(0))
    chosen = out["labels"] != IGNORED
    real = batch["attention_mask"].bool()
    assert not chosen[~real].any() and not chosen[(batch["input_ids"] <= 3)].any()
    assert torch.equal(out["labels"][chosen], batch["input_ids"][chosen])
    assert torch.equal(out["input_ids"][~chosen], batch["input_ids"][~chosen])
    if whole_batch:
        assert int(chosen.sum()) == -(-15 * int(real.sum()) // 100)
    share = (out["input_ids"][chosen] == 4).float().mean().item()
    kept = (out["input_ids"][chosen] == batch["input_ids"][chosen]).float().mean().item()
    assert 0.75 < share < 0.86 and 0.06 < kept < 0.15


def test_masking_is_a_function_of_seed_epoch_and_position() -> None:
    data = encoded()
    batches = Batches(data, 16, 5, transform=Masking(4, 50, SPECIAL))
    indices = batches.order(1)[2]
    one, two = batches.batch(1, 2, indices), batches.batch(1, 2, indices)
    assert torch.equal(one["input_ids"], two["input_ids"])
    assert not torch.equal(one["labels"], batches.batch(2, 2, indices)["labels"])


def test_texts_are_tokenised_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Letters:
        pad_token_id = 7

        def __call__(self, *columns: list[str], max_length: int, **_: object) -> dict[str, list[list[int]]]:
            asked.append(len(columns[0]))
            joined = [[ord(c) for c in "".join(pair)][:max_length] for pair in zip(*columns, strict=True)]
            return {"input_ids": joined, "token_type_ids": [[i % 2 for i in range(len(row))] for row in joined]}

    tokenizer = Letters()

    texts = Texts((["a", "bcd", "", "efghij", "k"], ["x", "y", "z", "", "w"]), np.arange(5))
    whole = encode(texts, tokenizer, 4)
    monkeypatch.setattr(batches, "AT_ONCE", 2)
    parts = encode(texts, tokenizer, 4)
    assert asked == [5, 2, 2, 1] and whole.sha256 == parts.sha256 and parts.pad == 7
    assert np.array_equal(parts.labels, whole.labels) and np.array_equal(parts.ids, np.arange(5))
    assert encode(Texts(([],), np.arange(0)), tokenizer, 4).sha256 == Encoded.from_lists([], [], np.arange(0)).sha256
