"""Speed with tokenisation in it: the arithmetic by hand, the tokenizers of the students, and the verdicts on it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from worked_records import number, one, record, size_claim, speed_claim

from bench.core.record import Record
from bench.measure.latency import percentiles
from bench.measure.session import Effort, Rounds, Subject, Timing, Worker, measure, ratio_of, with_text
from bench.measure.worker import made_up_texts
from bench.models.shape import all_shapes
from bench.run.shapes import _times

PLAIN, TEXT = "batch1-length128", "batch1-length128-text"
GUESSED = "its width was chosen to meet the total"


def test_tokenising_is_added_to_both_sides_of_every_round() -> None:
    sets: list[Rounds] = [
        {"0": [[9.0, 9.0, 20.0], [11.0]], "1": [[0.5], [0.5]]},  # (9 + 1) / (0.5 + 1.5) = 5, then 12 / 2 = 6
        {"0": [[15.0], [15.0]], "1": [[0.5], [0.5]]},  # 8 and 8
    ]
    read = {"0": [1.0, 1.0, 7.0], "1": [1.5]}  # a stalled call does not move the median
    found = ratio_of(with_text(sets, read), "0", "1")
    assert found.samples == pytest.approx((5.5, 8.0)) and found.value == pytest.approx(math.sqrt(44.0))
    alone = ratio_of(with_text(sets[:1], read), "0", "1")
    assert alone.samples == pytest.approx((5.0, 6.0)), "one set of processes is judged by its rounds"


def test_texts_are_of_so_many_words_and_differ() -> None:
    texts = made_up_texts(3, 128)
    assert [len(text.split()) for text in texts] == [128] * 3 and len(set(texts)) == 3
    assert len(made_up_texts(400, 128)[-1].split()) == 128, "past its end the language begins again"


@pytest.mark.parametrize("variant", ["cnn", "bilstm", "cbow-ffn"])
def test_the_students_read_word_by_word(variant: str) -> None:
    make = all_shapes()["lowresource", variant].words
    assert make is not None and all_shapes()["bert", "bert"].words is None
    words = make()
    read = words(made_up_texts(2, 16), truncation=True, max_length=16, padding=True, return_tensors="pt")
    assert read["input_ids"].shape == (2, 16)
    share = (read["input_ids"] == words.unk_token_id).float().mean()
    assert len(words) <= 5000 and share < 0.05, "nearly all words are in the vocabulary"


def test_the_reference_reads_by_word_pieces() -> None:
    with Worker(Subject("bert", "bert"), 1) as worker:
        worker.load()
        assert worker.answer()["own_words"] is False
        seconds = worker.read(2, 16)
    assert len(seconds) > 1 and min(seconds) > 0


def test_a_session_times_the_tokenizers_once() -> None:
    reference, other = Subject("lowresource", "bilstm"), Subject("lowresource", "cbow-ffn")
    quick = Effort(copies=2, rounds=2, turn_s=0.001, warm_calls=1)
    mine, theirs = measure(reference, [other], (1,), 8, 1, quick).timings
    assert len(mine.read_s) == len(theirs.read_s) > 1 and mine.text is None
    assert theirs.text is not None and len(theirs.text.samples) == 2


def test_a_record_keeps_tokenising_apart_and_with_the_pass() -> None:
    ratio = ratio_of([{"0": [[4.0], [4.0]], "1": [[1.0], [1.0]]}], "0", "1")
    calls = percentiles([1.0])
    timing = Timing(Subject("a", "b"), 1, 128, (1.0, 1.0), calls, ratio, 1.0, 0.0, 1, ratio, (0.2, 0.1, 0.3), ratio)
    found = {(entry.metric, entry.split): entry for entry in _times(timing)}
    assert found["tokenise_s", PLAIN].value == 0.2 and found["tokenise_s", PLAIN].samples == [0.2, 0.1, 0.3]
    assert found["speedup", TEXT].value == found["speedup", PLAIN].value == pytest.approx(4.0)


def session(*extra: Any, speedup: float = 1.6, split: str = PLAIN, **given: Any) -> Record:
    entry = number("speedup", split, speedup, [speedup, speedup * 1.001, speedup / 1.001])
    return record(None, 0, entry, *extra, scale="shape", task="shape", **given)


@pytest.mark.parametrize(("speedup", "verdict"), [(1.6, "consistent"), (2.5, "better"), (1.1, "not seen")])
def test_a_guessed_architecture_shows_a_speed_by_proxy(speedup: float, verdict: str) -> None:
    stand_in = session(speedup=speedup, hyper={"guessed": GUESSED}, environment={"machine": "x", "cpu": "E5-2690"})
    judged = one(speed_claim(device="E5-2690"), [stand_in])
    assert (judged.verdict, judged.tier) == (verdict, "proxy"), "never stricter, be it on the paper's own device"
    assert f"The architecture is a stand-in: {GUESSED}." in judged.why


def test_a_guessed_architecture_shows_no_size_and_no_operations() -> None:
    counts = (number("parameters", "all", 66e6), number("flops_ratio", "teacher", 0.5))
    stand_in = session(*counts, hyper={"guessed": GUESSED})
    assert one(size_claim(), [stand_in]).verdict == "out of reach"
    operations = size_claim(metric="flops_ratio", split="teacher", value=2, unit="x smaller")
    assert one(operations, [stand_in]).verdict == "out of reach"


def test_the_papers_own_architecture_speaks_before_a_stand_in() -> None:
    stand_in = session(speedup=9.0, hyper={"guessed": GUESSED}, variant="toy", started="2026-01-09T00:00:00Z")
    own = session(speedup=1.6, variant="toy-released", id="own")
    judged = one(speed_claim(), [stand_in, own], released={"toy": "toy-released"})
    assert judged.records == ("own",) and judged.verdict == "consistent" and "stand-in" not in judged.why


def test_the_noise_floor_of_a_pass_holds_with_text_too() -> None:
    noise = number("aa_ratio", PLAIN, 1.25)
    judged = one(speed_claim(split=TEXT), [session(noise, split=TEXT)])
    assert judged.verdict == "inconclusive" and "25.0% wider each way" in judged.why
