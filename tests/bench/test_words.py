"""The word table in training: the words of the texts alone, and the same weights in the end as with the whole table."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from bench.data.batches import Batch, Batches, Encoded, InTurn, WithLogits
from bench.train import fit as fitting
from bench.train import words
from bench.train.checkpoint import Checkpointer
from bench.train.fit import fit
from bench.train.losses import supervised
from bench.train.settings import Group, Training

TEXTS = [[2, 7, 9, 3], [2, 5, 3], [2, 9, 9, 11, 3], [2, 5, 7, 3]]
ROWS = Encoded.from_lists(TEXTS, [[0] * len(text) for text in TEXTS], np.array([0, 1, 1, 0]))
OCCUR = [0, 2, 3, 5, 7, 9, 11]
SETTINGS = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
TRAINING = Training(epochs=6, batch_size=2, lr=1e-2, weight_decay=0.1, precision="fp32", clip=0.05)


def bert() -> Any:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SETTINGS))


def trained(training: Training = TRAINING, groups: tuple[Group, ...] = ()) -> Any:
    model = bert()
    fit(model, supervised("label"), Batches(ROWS, 2, 0), training, Accelerator(cpu=True), groups=groups)
    return model


@pytest.fixture
def whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def nothing(*_: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr(fitting.words, "only_those_of", nothing)


GROUPS = [
    (),
    (Group(match="*word_embeddings*", rate=0.5, weight_decay=0.3),),
    (Group(match="*word_embeddings*", rate=0),),
]


@pytest.mark.parametrize("groups", GROUPS)
def test_the_weights_are_those_of_a_training_of_the_whole_table(
    groups: tuple[Group, ...], request: pytest.FixtureRequest
) -> None:
    few = trained(groups=groups)
    request.getfixturevalue("whole_table")
    whole = trained(groups=groups)
    for (name, one), other in zip(few.named_parameters(), whole.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7), name


def test_a_word_that_never_occurs_is_decayed_by_every_step() -> None:
    before, after = bert().get_input_embeddings().weight, trained().get_input_embeddings().weight
    factor = 1.0
    for step in range(12):
        factor *= 1 - TRAINING.lr_at(step, 12) * 0.1
    assert torch.allclose(after[20], before[20] * factor, rtol=1e-6)
    assert not torch.allclose(after[7], before[7] * factor, rtol=1e-3)


def test_inside_the_table_has_the_words_of_the_texts_and_afterwards_all() -> None:
    model, seen = bert(), list[tuple[type, list[int]]]()

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        table: Any = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
        seen.append((type(table), table.words.tolist()))
        return supervised("label")(model, batch)

    fit(model, loss, Batches(ROWS, 2, 0), TRAINING, Accelerator(cpu=True))
    assert seen == [(words.Occurring, OCCUR)] * 12
    assert type(model.get_input_embeddings()) is nn.Embedding
    assert model.get_input_embeddings().weight.shape == (40, 8)
    assert model.get_input_embeddings().weight.requires_grad


def test_a_training_that_fails_gives_the_table_back() -> None:
    model = bert()

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        raise ValueError("the loss is wrong")

    with pytest.raises(ValueError, match="the loss is wrong"):
        fit(model, loss, Batches(ROWS, 2, 0), TRAINING, Accelerator(cpu=True))
    assert torch.equal(model.get_input_embeddings().weight, bert().get_input_embeddings().weight)


def test_answers_are_those_of_the_whole_table_and_other_words_have_no_place() -> None:
    model, batch = bert().eval(), {"input_ids": torch.tensor([[2, 7, 3, 0]])}
    whole = model(**batch).logits
    with words.only_those_of(Batches(ROWS, 2, 0), model, TRAINING):
        assert torch.equal(model(**batch).logits, whole)
        with pytest.raises(IndexError):
            model(input_ids=torch.tensor([[2, 8, 3]]))


def test_a_training_that_is_taken_up_brings_back_the_other_words_too(tmp_path: Path) -> None:
    class Early(Checkpointer):
        def due(self, now_s: float) -> bool:
            return not list(tmp_path.glob("fit/step-*"))

    whole, other = bert(), bert()
    with torch.no_grad():
        other.get_input_embeddings().weight.add_(1.0)
    batches, accelerator = Batches(ROWS, 2, 0), Accelerator(cpu=True)
    fit(whole, supervised("label"), batches, TRAINING, accelerator, checkpointer=Early(tmp_path / "fit"))
    fit(other, supervised("label"), batches, TRAINING, accelerator, checkpointer=Checkpointer(tmp_path / "fit"))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_a_padding_word_keeps_its_vector() -> None:
    table = nn.Embedding(10, 3, padding_idx=4)
    few = words.Occurring(table, torch.tensor([1, 4, 6]))
    few(torch.tensor([[6, 4, 1]])).sum().backward()
    assert few.weight.grad is not None
    assert few.weight.grad.tolist() == [[1.0] * 3, [0.0] * 3, [1.0] * 3]


def tied() -> Any:
    return BertForMaskedLM(BertConfig(**SETTINGS))


def frozen() -> Any:
    model = bert()
    model.get_input_embeddings().weight.requires_grad_(False)
    return model


def other_words(batch: Batch, rng: np.random.Generator) -> Batch:
    return {**batch, "input_ids": batch["input_ids"] + 1}


@pytest.mark.parametrize(
    ("made", "training", "transform"),
    [
        (tied, TRAINING, None),
        (frozen, TRAINING, None),
        (lambda: nn.Linear(2, 2), TRAINING, None),
        (bert, TRAINING.changed({"optimizer": "lamb"}), None),
        (bert, TRAINING, other_words),
        (bert, TRAINING, InTurn((other_words,))),
    ],
    ids=["tied", "frozen", "no table", "lamb", "other words", "other words in turn"],
)
def test_the_whole_table_stays_where_more_than_the_texts_words_matter(
    made: Any, training: Training, transform: Any
) -> None:
    model = made()
    with words.only_those_of(Batches(ROWS, 2, 0, transform=transform), model, training) as found:
        assert found is None


def test_logits_beside_the_texts_bring_no_other_words() -> None:
    batches = Batches(ROWS, 2, 0, transform=WithLogits(np.zeros((4, 2), np.float32)))
    found = batches.words()
    assert found is not None
    assert found.tolist() == OCCUR
