"""Settings: changes by --set, budgets, the learning rate's course, and a description for every field."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as checked
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.core.errors import SpecError
from bench.train.mlm import HeadTraining
from bench.train.settings import FEW, Budget, Group, Settings, Training, Windowing, unknown_field
from papers.bert import recipe as bert
from papers.distilbert import recipe as distilbert

BERT = bert.RECIPE.variants["bert"]
SECOND = distilbert.RECIPE.variants["distilbert-d"]


class Inner(Settings):
    """Two budget fields and one that is not."""

    corpus_tokens: Annotated[int, Budget()] = 100
    """Tokens."""
    lr: float = 1.0
    """Rate."""
    training: Training = Training.model_validate({})
    """How."""


class Outer(Settings):
    """Nested, with an optional part."""

    first: Inner = Inner()
    """One."""
    second: Inner | None = None
    """Perhaps another."""
    name: str = "x"
    """A text."""


def training(**fields: Any) -> Training:
    return Training.model_validate(fields)


def models(found: type[Settings]) -> Iterator[type[Settings]]:
    """A settings class and the ones inside it, optional ones included."""
    yield found
    for field in found.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and not isinstance(part, types.GenericAlias) and issubclass(part, Settings):
                yield from models(part)


@pytest.mark.parametrize(
    "settings",
    [Training.model_validate({}), HeadTraining.model_validate({}), bert.hyper(BERT, "squad", "smoke", None),
     distilbert.hyper(SECOND, "squad", "full", None)],
    ids=lambda settings: f"{type(settings).__module__}.{type(settings).__name__}",
)  # fmt: skip
def test_every_field_has_a_description(settings: Settings) -> None:
    found = [(model, name, field) for model in models(type(settings)) for name, field in model.model_fields.items()]
    lacking = [f"{model.__name__}.{name}" for model, name, field in found if not (field.description or "").strip()]
    assert not lacking
    nested = len(list(models(type(settings)))) - 1
    recipes_own = sum(name == "clip_each" for _, name, _ in found)
    assert len(found) - nested - recipes_own == len(settings.names()) >= 13, "every settable field was looked at"


def test_a_field_that_is_not_set_leaves_no_trace_where_it_may() -> None:
    without, with_windows = bert.hyper(BERT, "rte", "small", None), bert.hyper(BERT, "squad", "small", None)
    assert "windows" not in without.model_dump(mode="json") and "windows" not in without.names()
    assert with_windows.model_dump(mode="json")["windows"]["stride"] == 64
    changed = with_windows.override({"windows.stride": "32"})
    assert changed.windows is not None and changed.windows.stride == 32 and changed.windows.question == 48
    with pytest.raises(SpecError, match=r"unknown field in --set; found windows\.stride"):
        without.override({"windows.stride": "32"})


# Changes


def test_override_changes_the_named_fields_only_and_reads_their_types() -> None:
    before = Outer()
    after = before.override({"first.training.lr": "3e-4", "first.training.epochs": "7", "name": "y",
                             "first.training.engine": "eager", "first.training.clip": "none"})  # fmt: skip
    assert after.first.training.lr == 3e-4 and after.first.training.epochs == 7 and after.name == "y"
    assert after.first.training.engine == "eager" and after.first.training.clip is None
    restored = after.model_dump()
    restored["name"] = "x"
    restored["first"]["training"] |= {"lr": 2e-5, "epochs": 3, "engine": "auto", "clip": 1.0}
    assert restored == before.model_dump() == Outer().model_dump()


def test_no_change_is_the_same_object() -> None:
    settings = Outer()
    assert settings.override({}) is settings


@pytest.mark.parametrize("path", ["nothing", "first.nothing", "first.lr.more", "second.lr", ".", "", "first."])
def test_an_unknown_field_names_those_there_are(path: str) -> None:
    with pytest.raises(SpecError) as error:
        Outer().override({path: "1"})
    message = str(error.value)
    assert "\n" not in message and "--set" in message and path in message
    assert "first.training.lr" in message and "name" in message and "second" in message


def test_of_many_fields_the_close_ones_are_named_or_the_groups() -> None:
    many = [f"{group}.{name}" for group in ("general", "head") for name in Training.model_fields]
    assert len(many) > FEW
    assert "expected one of general.epochs" in str(unknown_field("general.epoch", many))
    assert "expected one of general.lr, head.lr" in str(unknown_field("lr", many))
    assert str(unknown_field("zzz", many)).endswith("expected one of general.*, head.*")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("first.training.epochs", "0"), ("first.training.epochs", "many"), ("first.training.epochs", "none"),
        ("first.training.lr", "-1"), ("first.training.lr", "nan"), ("first.training.warmup", "1"),
        ("first.training.schedule", "cosine"), ("first.training.precision", "fp16"), ("first.training", "5"),
        ("first.training.batch_tokens", "7"), ("first", "none"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_names_the_field_and_the_value(path: str, text: str) -> None:
    with pytest.raises(SpecError) as error:
        Outer().override({path: text})
    message = str(error.value)
    assert "\n" not in message and f"in {path};" in message and "expected" in message
    assert f"found {None if text == 'none' else text}" in message


def test_settings_are_frozen_and_strict_about_names() -> None:
    settings = training()
    with pytest.raises(ValidationError):
        settings.__setattr__("lr", 1.0)
    with pytest.raises(ValidationError, match="extra_forbidden"):
        training(learning_rate=1.0)
    assert settings == Training.model_validate({})


def test_names_are_the_settable_fields() -> None:
    names = Outer().names()
    assert len(names) == len(set(names)) == 2 + 14 + 2
    for name in names:
        if name != "second":
            value: Any = Outer()
            for part in name.split("."):
                value = getattr(value, part)
            assert not isinstance(value, Settings)
    filled = Outer.model_validate({"second": {}})
    assert len(filled.names()) == 16 + 16 + 1 and "second.training.lr" in filled.names()


def test_changes_by_value_are_checked_as_texts_are() -> None:
    before = Outer()
    after = before.changed({"first.training.lr": 3e-4, "first.training.betas": (0.8, 0.9), "second": Inner(lr=2.0),
                            "second.training.epochs": 7})  # fmt: skip
    assert after.first.training.lr == 3e-4 and after.first.training.betas == (0.8, 0.9)
    assert after.second == Inner(lr=2.0, training=training(epochs=7)) and isinstance(after, Outer)
    assert before == Outer() and before.changed({}) is before
    texts = before.override({"first.training.lr": "3e-4", "first.training.betas": "[0.8, 0.9]"})
    assert texts == after.changed({"second": None})
    for path in ("nothing", "first.nothing", "first.lr.more", "second.lr", ""):
        with pytest.raises(SpecError, match=r"unknown field in the changes.*first\.training\.lr"):
            before.changed({path: 1})
    with pytest.raises(SpecError, match=r"a value in the changes does not fit .*in first\.training\.epochs; found 0;"):
        before.changed({"first.training.epochs": 0})


def test_changes_by_value_reach_what_set_does_not_know() -> None:
    with pytest.raises(SpecError, match="unknown field"):
        training().override({"clip_each": "true"})
    assert training().changed({"clip_each": True}).clip_each is True
    plain = bert.hyper("bert", "rte", "small", None)
    assert plain.changed({"windows": Windowing(stride=32)}).windows == Windowing(stride=32)
    assert plain.changed({"max_length": 32}).model_dump() == plain.model_dump() | {"max_length": 32}


def test_only_these_fields_can_be_read() -> None:
    whole = Outer.model_validate({"name": "y", "second": {}})
    part = whole.only("name", "first")
    assert type(part) is Outer and part.name == "y" and part.first is whole.first
    with pytest.raises(AttributeError, match="second"):
        _ = part.second
    assert not hasattr(part, "second"), "nor by its default"
    assert part.model_dump() == {"first": Inner().model_dump(), "name": "y"} and "second" not in repr(part)
    assert part.model_dump_json() == whole.model_copy().only("first", "name").model_dump_json()
    assert part == whole.only("first", "name") != whole
    assert part.names() == [name for name in whole.names() if not name.startswith("second")]
    assert part.budget() == {"first.corpus_tokens": 100, "first.training.epochs": 3}
    assert whole.only().model_dump() == {} and whole.second is not None
    with pytest.raises(ValidationError):
        part.__setattr__("second", None)


def test_only_takes_fields_that_are_there_and_a_part_is_not_changed() -> None:
    for name in ("nothing", "first.lr", "nam"):
        with pytest.raises(
            SpecError, match=rf"unknown field in only; found {name}; expected one of first, second, name"
        ):
            Outer().only(name)
    part = Outer().only("first")
    with pytest.raises(SpecError, match="unknown field in only; found name"):
        part.only("name")
    for change in (lambda: part.changed({"first.lr": 2.0}), lambda: part.override({"first.lr": "2"})):
        with pytest.raises(SpecError, match=r"part of the settings cannot be changed.*found only first"):
            change()
    assert part.first.changed({"lr": 2.0}).lr == 2.0


@pytest.mark.parametrize("wrong", [{"rate": -0.1}, {"rate": float("nan")}, {"rate": float("inf")}, {"match": ""},
                                   {"weight_decay": -1.0}, {"lr": 1.0}])  # fmt: skip
def test_a_group_takes_a_rate_from_0(wrong: dict[str, Any]) -> None:
    assert Group(match="*", rate=0).weight_decay is None
    with pytest.raises(ValidationError):
        Group.model_validate({"match": "*", "rate": 1.0} | wrong)


# Budgets


def test_the_budget_is_found_at_any_depth() -> None:
    assert Outer().budget() == {"first.corpus_tokens": 100, "first.training.epochs": 3}
    both = Outer.model_validate({"second": {"corpus_tokens": 5}}).budget()
    assert both == {"first.corpus_tokens": 100, "first.training.epochs": 3, "second.corpus_tokens": 5,
                    "second.training.epochs": 3}  # fmt: skip


def test_a_change_of_budget_shows_and_no_other_does() -> None:
    before = Outer().budget()
    assert Outer().override({"first.lr": "3", "first.training.batch_size": "1"}).budget() == before
    assert Outer().override({"first.training.epochs": "4"}).budget() != before


# The learning rate


def test_the_rate_rises_linearly_and_falls_to_zero_by_hand() -> None:
    settings = training(lr=1.0, warmup=0.4)
    rates = [settings.lr_at(step, 10) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert settings.lr_at(10, 10) == 0.0


def test_a_constant_rate_stays() -> None:
    settings = training(lr=0.5, warmup=0.2, schedule="constant")
    assert [settings.lr_at(step, 10) for step in range(10)] == pytest.approx([0.5 / 3, 1 / 3, *[0.5] * 8])


@checked(deadline=None)
@given(
    steps=st.integers(1, 400), warmup=st.floats(0, 0.99), lr=st.floats(1e-7, 1.0),
    schedule=st.sampled_from(["linear", "constant"]),
)  # fmt: skip
def test_the_rate_is_positive_reaches_its_peak_once_and_has_one_top(
    steps: int, warmup: float, lr: float, schedule: str
) -> None:
    settings = training(lr=lr, warmup=warmup, schedule=schedule)
    rates = [settings.lr_at(step, steps) for step in range(steps)]
    top = int(warmup * steps)
    assert all(0 < rate <= lr * (1 + 1e-12) for rate in rates)
    assert rates[top] == pytest.approx(lr) and max(rates) == rates[top]
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
