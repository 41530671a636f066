"""A hub that is slow, broken, gated or moved, and downloads that break off: gone through, or one line that helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rehearsal.hub import Fault, Hub, serving
from rehearsal.models import BERT, MOBILEBERT, REVISIONS, TINY_4, models
from rehearsal.rows import counts, data_sets

from bench.core import hub as troubles
from bench.core.errors import BenchError, ModelError
from bench.data.hub import HubSource
from bench.data.tasks import TASKS, get_task
from bench.models import checkpoint

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@pytest.fixture(scope="module")
def served() -> Iterator[Hub]:
    whole = {name: task.splits for name, task in TASKS.items()}
    for task in TASKS.values():
        object.__setattr__(task, "splits", counts(task))
    with serving([*models(pickled=True), *data_sets()]) as found:
        yield found
    for name, splits in whole.items():
        object.__setattr__(TASKS[name], "splits", splits)


@pytest.fixture
def hub(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The little hub without faults, with an empty cache; what the libraries read of the environment once is set."""
    from datasets import config
    from huggingface_hub import constants

    files = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    rows = f"{served.url}/datasets/{{repo_id}}/resolve/{{revision}}/{{path}}"
    for name in OFFLINE:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    for name, value in {"ENDPOINT": served.url, "HUGGINGFACE_CO_URL_TEMPLATE": files, "HF_HUB_OFFLINE": False,
                        "HF_HUB_CACHE": str(tmp_path / "hub")}.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    for name, value in {"HF_ENDPOINT": served.url, "HUB_DATASETS_URL": rows, "HF_HUB_OFFLINE": False,
                        "HF_DATASETS_OFFLINE": False, "HF_DATASETS_CACHE": tmp_path / "datasets"}.items():  # fmt: skip
        monkeypatch.setattr(config, name, value)
    for module in ("file_download", "utils._http"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time.sleep", lambda seconds: None)
    monkeypatch.setattr(troubles, "WAITS_S", (0.0, 0.0))
    served.faults.clear()
    served.asked.clear()
    return served


def model() -> object:
    return checkpoint.find(BERT, REVISIONS[BERT])


def rows() -> object:
    return HubSource().rows(get_task("cola"), "train")


FETCHES = pytest.mark.parametrize("fetch", [model, rows])


@FETCHES
@pytest.mark.parametrize("fault", [Fault("broken", "", 2), Fault("broken", "/store", 1), Fault("cut", "/store", 1),
                                   Fault("slow", "/resolve", 1, 0.1)])  # fmt: skip
def test_what_passes_is_waited_for(hub: Hub, fetch: Callable[[], object], fault: Fault) -> None:
    hub.faults.append(Fault(fault.what, fault.where, fault.times, fault.seconds))
    assert fetch()
    assert hub.faults[0].times == 0, "it went wrong, and then well"


SAYS = {
    "missing": "found no such repository, or a private one; next: check its name",
    "gated": "found a repository whose terms have to be accepted; next: accept them on http",
    "moved": r"found no revision \w{8}: it was moved or removed; next: (give a folder|use --data FOLDER)",
    "forbidden": r"found no access \(status 403\); next: hf auth login",
    "broken": r"found a hub that is busy or broken \(status 500\); next: wait, then run the same command again",
    "cut": "found a download that broke off; next: run the same command again: what was fetched is kept",
}


@FETCHES
@pytest.mark.parametrize("what", SAYS)
def test_what_stays_is_one_line_that_says_what_to_do(hub: Hub, fetch: Callable[[], object], what: str) -> None:
    hub.faults.append(Fault(what, "/store" if what == "cut" else ""))  # pyright: ignore[reportArgumentType]
    with pytest.raises(BenchError, match=SAYS[what]) as told:
        fetch()
    line = str(told.value)
    assert "\n" not in line and "FOLDER" in line and told.value.exit_code == 2
    assert (BERT if fetch is model else "nyu-mll/glue") in line


def test_a_hub_too_slow_to_wait_for_says_how_to_wait_longer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    hub.faults.append(Fault("slow", "/store", None, 0.2))
    with pytest.raises(ModelError, match=r"found no answer in time; .*HF_HUB_DOWNLOAD_TIMEOUT=60"):
        model()


def test_no_hub_at_all(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"found no connection to http://127.0.0.1:9; next: connect"):
        model()


def test_a_broken_download_goes_on_where_it_was(hub: Hub) -> None:
    hub.faults.append(Fault("cut", "/store"))
    with pytest.raises(BenchError, match="broke off"):
        model()
    hub.faults.clear()
    hub.asked.clear()
    assert model()
    assert not any("vocab.txt" in asked and asked.startswith("GET") for asked in hub.asked), "it was whole before"


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("huggingface_hub.constants.HF_HUB_OFFLINE", "datasets.config.HF_HUB_OFFLINE"):
        monkeypatch.setattr(name, True)


@FETCHES
def test_offline_the_cache_serves_what_it_has(
    hub: Hub, fetch: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        offline(patch)
        with pytest.raises(BenchError, match="no copy in the cache, and offline mode is on; next: connect once"):
            fetch()
    assert fetch()
    hub.asked.clear()
    offline(monkeypatch)
    assert fetch() and not hub.asked


def test_rows_of_another_revision_are_not_taken_from_the_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows()
    task, other = get_task("cola"), "f" * 40
    offline(monkeypatch)
    before = task.hub
    object.__setattr__(task, "hub", (*before[:2], other))
    try:
        with pytest.raises(BenchError, match=f"of another revision; .*found {before[2]}; expected {other}"):
            rows()
    finally:
        object.__setattr__(task, "hub", before)


def test_pickled_weights_are_named_and_not_fetched(hub: Hub) -> None:
    with pytest.raises(ModelError, match=r"only pickled weights pytorch_model\.bin.*convert it"):
        checkpoint.find(TINY_4)
    assert not any("pytorch_model.bin" in asked for asked in hub.asked)


def test_a_model_is_found_by_its_name_whatever_its_kind(hub: Hub) -> None:
    folder = checkpoint.find(MOBILEBERT)
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors", "vocab.txt"}


def test_without_a_network_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(troubles, "WAITS_S", (0.0, 0.0))
    asked: list[int] = []

    def fetch() -> None:
        asked.append(1)
        raise ConnectionError("[Errno -3] Temporary failure in name resolution")

    with pytest.raises(ConnectionError):
        troubles.patiently(fetch)
    assert len(asked) == 1
