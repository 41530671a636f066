"""The front matter of exported cards, read by the hub's own library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_eval_result

from bench.core.record import Data, Measurement, Record
from bench.data.tasks import get_task
from bench.run.export_file import Exported, _card
from bench.run.exports import card
from bench.run.modelindex import front_matter

REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


def data(source: str = "folder", partial: bool = False) -> Data:
    return Data(source=source, revision=REVISION if source == "hub" else "", sha256="cd" * 32, partial=partial,
                rows={"train": 2490, "validation": 277})  # fmt: skip


def read(text: str) -> Any:
    """What the hub's library makes of a card's front matter, strictly."""
    return ModelCard(text, ignore_metadata_errors=False).data


def parsed(lines: list[str]) -> Any:
    return read("\n".join([*lines, "# a card", ""]))


def test_a_card_says_what_the_record_says(make_record: Callable[..., Record], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]}))
    record = make_record(data=data("hub"))
    text = card(record, tmp_path, [])
    found = read(text)
    assert found.model_name == "bert on sst2" and "\n---\n\n# bert on sst2\n" in text
    (result,) = found.eval_results
    assert (result.task_type, result.task_name) == ("text-classification", "sst2")
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("nyu-mll/glue", "sst2", "validation")
    assert (result.dataset_name, result.dataset_revision) == ("sst2", REVISION)
    assert (result.metric_type, result.metric_value, result.metric_name) == ("accuracy", 0.9, "accuracy (872 rows)")
    wanted = metadata_eval_result(
        model_pretty_name="bert on sst2", task_pretty_name="sst2", task_id="text-classification",
        metrics_pretty_name="accuracy (872 rows)", metrics_id="accuracy", metrics_value=0.9, dataset_pretty_name="sst2",
        dataset_id="nyu-mll/glue", dataset_config="sst2", dataset_split="validation", dataset_revision=REVISION,
    )  # fmt: skip
    [theirs] = wanted["model-index"]
    for result in theirs["results"]:  # whether the hub has checked it: nothing that a card says of itself
        assert result["metrics"][0].pop("verified") is False
    assert found.to_dict()["model-index"] == [theirs]


@pytest.mark.parametrize(
    ("task", "split", "metric", "names"),
    [
        ("cola", "validation", "matthews", ("text-classification", "nyu-mll/glue", "matthews_correlation")),
        ("stsb", "validation", "spearman", ("text-classification", "nyu-mll/glue", "spearmanr")),
        ("squad", "validation", "exact_match", ("question-answering", "rajpurkar/squad", "exact_match")),
        ("conll2003", "validation", "f1", ("token-classification", "lhoestq/conll2003", "f1")),
        ("mnli", "validation_mismatched", "accuracy", ("text-classification", "nyu-mll/glue", "accuracy")),
    ],
)
def test_tasks_and_metrics_have_the_names_of_the_hub(
    make_record: Callable[..., Record], task: str, split: str, metric: str, names: tuple[str, str, str]
) -> None:
    scored = [Measurement(metric=metric, split=split, value=0.123456789, unit="fraction", n=9)]
    record = make_record(spec={"task": task}, data=data(), measurements=scored)
    (result,) = parsed(front_matter(record)).eval_results
    assert (result.task_type, result.dataset_type, result.metric_type) == names
    assert (result.dataset_split, result.metric_value) == (split, 0.123457)


def test_rows_that_are_not_the_whole_set_are_called_so(make_record: Callable[..., Record]) -> None:
    def named(given: Data) -> tuple[str, str]:
        (result,) = parsed(front_matter(make_record(data=given))).eval_results
        return result.dataset_type, result.dataset_name

    assert named(data(partial=True)) == ("nyu-mll/glue", "sst2, read from a folder, a part of it")
    assert named(data("synthetic")) == ("synthetic", "made-up rows in the form of sst2")


def test_only_scores_are_results(make_record: Callable[..., Record]) -> None:
    def score(**changes: Any) -> Measurement:
        return Measurement(**{"metric": "accuracy", "split": "validation", "value": 0.5, "unit": "fraction", "n": 2}
                           | changes)  # fmt: skip

    others = [score(metric="retention"), score(split="train"), score(value=None), score(metric="majority")]
    assert front_matter(make_record(measurements=others)) == []
    found = parsed(front_matter(make_record(measurements=[*others, score()]))).eval_results
    assert [one.metric_value for one in found] == [0.5]


def test_names_end_no_front_matter(make_record: Callable[..., Record]) -> None:
    name = "x: [y]\n---\n- 'z\" # {w}"
    record = make_record(spec={"variant": name})
    assert parsed(front_matter(record)).model_name == f"{name} on sst2"


def test_a_file_of_another_runtime_has_its_own_score(make_record: Callable[..., Record]) -> None:
    found = Exported(score=0.875, recorded=0.9, rows=872, latency_s=0.01, eager_s=0.02, bytes=10, length=None)
    text = _card(make_record(), "model.onnx", get_task("sst2"), found)
    (result,) = read(text).eval_results
    assert result.metric_value == 0.875
