"""What a user asks for, in a profile or on the command line: ranges, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli.measure import _minutes, _numbers, _share
from bench.core.errors import SpecError
from bench.data.spans import check_windows
from bench.run import plan
from bench.run.request import Request, parse_set, read
from bench.run.shapes import Request as ShapeRequest
from bench.train.settings import Training


def profile(folder: Path, content: bytes | str) -> str:
    path = folder / "p.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_a_profile_as_editors_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    (found,) = read(profile(tmp_path, b'\xef\xbb\xbfcorpus = "~/c.txt"\nresults = "~/r"\nunlabelled = "~/u"\n'), {})
    home = "/home/somebody"
    assert (found.corpus, found.results, found.unlabelled) == (f"{home}/c.txt", f"{home}/r", f"{home}/u")


def test_keys_of_set_are_dotted_quoted_or_tables(tmp_path: Path) -> None:
    text = '[set]\na.b = 1\n"c.d" = 2.5\nbetas = [0.9, 0.99]\nflag = true\nnames = ["x"]\n[set.e]\nf.g = "h"\n'
    wanted = {"a.b": "1", "c.d": "2.5", "betas": "[0.9, 0.99]", "flag": "True", "names": '["x"]', "e.f.g": "h"}
    assert read(profile(tmp_path, text), {})[0].set == wanted
    both = read(profile(tmp_path, text), {"set": {"a.b": "3", "new": "4"}})[0].set
    assert both == wanted | {"a.b": "3", "new": "4"}, "the command line changes its own fields only"
    with pytest.raises(SpecError, match=r"twice.*a\.b"):
        read(profile(tmp_path, '[set]\na.b = 1\n"a.b" = 2\n'), {})


def test_parts_stand_in_their_order_on_what_is_above_them(tmp_path: Path) -> None:
    text = """
        scale = "small"
        limit = 100
        [set]
        a.b = 1
        [[part]]
        says = "the main comparison"
        task = ["rte"]
        [[part]]
        limit = 7
        [part.set]
        c = 2
    """
    first, second = read(profile(tmp_path, text), {"seeds": 2, "set": {"d": "3"}})
    assert (first.says, first.task, first.limit, first.seeds) == ("the main comparison", ("rte",), 100, 2)
    assert (second.says, second.task, second.limit, second.seeds) == ("", (), 7, 2)
    assert first.set == {"a.b": "1", "d": "3"}
    assert second.set == {"a.b": "1", "c": "2", "d": "3"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("corpsu = 'x'", r"corpsu.*next: write corpus"),
        ("task = 'wnli'", r"task.*a valid tuple.*for example"),
        ("corpus = ''", r"corpus.*at least 1 character"),
        ("corpus = '~nobody-has-this-name/c'", r"corpus.*home folder is known"),
        ("seeds = 0", r"seeds.*greater than or equal to 1"),
        ("seeds = 1000000000", r"seeds.*less than or equal to 1000"),
        ("limit = true", "limit; found true"),
        ("checkpoint_minutes = inf", r"checkpoint_minutes.*finite"),
        ("checkpoint_minutes = nan", "checkpoint_minutes"),
        ("set = 3", r"set.*valid dictionary"),
        ("part = 3", r"part.*expected a table for each part.*\[\[part\]\]"),
        ("part = []", r"part.*expected a table for each part"),
        ("[[part]]\nlimit = 5\n[[part]]\nlimti = 5", r"part 2: limti.*next: write limit"),
        ("[[part]]\nlimit = true", r"part 1: limit; found true"),
        ("scale = 'smal'", r"unknown scale.*next: write small"),
        ("corpus = 'x'".encode("utf-16"), r"cannot be read.*UTF-8"),
    ],
)
def test_a_profile_that_means_nothing(tmp_path: Path, content: bytes | str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        read(profile(tmp_path, content), {})


def test_a_profile_of_another_name_and_an_empty_path_are_told(tmp_path: Path) -> None:
    (tmp_path / "mine.tml").write_text("")
    with pytest.raises(SpecError, match=r"unknown scale.*next: call a profile NAME\.toml"):
        read(str(tmp_path / "mine.tml"), {})
    with pytest.raises(SpecError, match=r"corpus.*at least 1 character"):
        read("smoke", {"corpus": ""})


def test_a_field_has_one_value() -> None:
    assert parse_set(["a=1", "a = 1", "b="]) == {"a": "1", "b": ""}
    with pytest.raises(SpecError, match="two values; in a; found 1 and 2"):
        parse_set(["a=1", "a=2"])


@pytest.mark.parametrize(
    "change",
    ["lr=inf", "lr=nan", "lr=-inf", "lr=0", "weight_decay=inf", "betas=[0.9,1.0]", "betas=[1,0.9]", "betas=[-0.1,0.9]",
     "betas=[NaN,0.9]", "eps=inf", "clip=inf", "warmup=1", "epochs=1000000000000000", "batch_size=99999999999999999999",
     "epochs=-1", "batch_tokens=0"],
)  # fmt: skip
def test_values_that_no_optimiser_takes(change: str) -> None:
    name, _, value = change.partition("=")
    with pytest.raises(SpecError, match=rf"does not fit its field; in {name}(\.\d)?; found"):
        Training().override({name: value})


def test_measuring_has_ranges() -> None:
    assert _share("3%") == _share("3") == 0.03 and _share("") is None and _minutes(0.5, "3%") == 0.5
    assert _numbers("--batch", "1,32,1") == (1, 32)
    for text in ("0%", "-3%", "100%", "nan", "inf", "x", "%"):
        with pytest.raises(SpecError, match="--until"):
            _share(text)
    for minutes in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(SpecError, match="--minutes"):
            _minutes(minutes, "3%")
    for text in (",", "1,", "a"):
        with pytest.raises(SpecError, match="--batch"):
            _numbers("--batch", text)
    for batches, length, threads in (
        ((1, 0), 8, ()),
        ((10**7,), 8, ()),
        ((1,), 513, ()),
        ((1,), 0, ()),
        ((1,), 8, (0,)),
    ):
        with pytest.raises(SpecError, match="out of range"):
            ShapeRequest(batches=batches, length=length, threads=threads)


def test_windows_without_room_offer_no_empty_range() -> None:
    with pytest.raises(SpecError, match=r"no room.*in max_length; found 32; expected 52 or more"):
        check_windows(32, 64, 48)
    check_windows(52, 1, 48)


def test_what_is_set_for_one_paper_reaches_no_other_and_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))

    def epochs(**changes: str) -> dict[str, tuple[int, dict[str, str]]]:
        made = plan.make(Request(variant=("distilbert",), task=("sst2",), set=changes))
        return {
            job.recipe.name: (job.hyper.model_dump()["fine_tune"]["epochs"], dict(job.overrides)) for job in made.jobs
        }

    usual = epochs()
    assert usual.keys() == {"bert", "distilbert"} and all(not changed for _, changed in usual.values())
    set_ = {"fine_tune.epochs": "5"}
    assert epochs(**set_) == {"bert": (5, set_), "distilbert": (5, set_)}
    assert epochs(**{"bert:fine_tune.epochs": "5"}) == {"bert": (5, set_), "distilbert": usual["distilbert"]}
    both = epochs(**{"bert:fine_tune.epochs": "7"}, **set_)
    assert both == {"bert": (7, {"fine_tune.epochs": "7"}), "distilbert": (5, set_)}
    for wrong in (
        "bert:general.epochs",
        "bret:fine_tune.epochs",
        "bert:",
        ":fine_tune.epochs",
        "bert::fine_tune.epochs",
    ):
        with pytest.raises(SpecError, match="unknown field in --set"):
            epochs(**{wrong: "5"})
