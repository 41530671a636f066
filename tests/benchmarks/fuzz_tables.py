"""Parquet tables of every kind of column, name and damage: read rightly or refused in one line, never a traceback.

    .venv/bin/python tests/benchmarks/fuzz_tables.py [EXAMPLES]      2,000 by default, half a minute

A table that is read must hold what was written: the texts and labels come back as they were. The short form is
tests/bench/test_fuzz_tables.py.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core.errors import BenchError
from bench.data.corpus import check_corpus, corpus_texts
from bench.data.rows import Rows
from bench.data.sources import open_source
from bench.data.tasks import TASKS, Task

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TASK_NAMES = ("sst2", "mrpc", "stsb", "mnli", "imdb", "squad", "conll2003")
STRINGS = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
WHOLE = (pa.int8(), pa.int64(), pa.uint64(), pa.dictionary(pa.int32(), pa.int64()))
FLOATS = (pa.float16(), pa.float32(), pa.float64())
LISTS = (pa.list_(pa.string()), pa.large_list(pa.string()))
TAGS = pa.list_(pa.int64())
ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
KINDS: tuple[pa.DataType, ...] = (
    *STRINGS, *WHOLE, *FLOATS, *LISTS, TAGS, ANSWERS, pa.binary(), pa.bool_(), pa.date32(), pa.timestamp("us"),
    pa.decimal128(10, 2), pa.null(), pa.struct([("text", pa.string())]),
    pa.struct([("text", pa.list_(pa.int64())), ("answer_start", pa.list_(pa.string()))]),
    pa.struct([("text", pa.string()), ("answer_start", pa.int32())]),
    pa.list_(pa.struct([("text", pa.string()), ("answer_start", pa.int32())])), pa.map_(pa.string(), pa.int64()),
)  # fmt: skip
NAMES = ("sentence", "sentence1", "sentence2", "premise", "hypothesis", "text", "label", "question", "context",
         "answers", "tokens", "ner_tags", "idx", "", "a.b", "text.en", "Sentence", "ünï", "label ")  # fmt: skip
METADATA = (b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"info": 3}', b'{"info": {"features": []}}',
            b'{"info": {"features": {"label": {"names": "ab"}}}}', b'{"info": {"features": {"label": 7}}}',
            b'{"info": {"features": {"label": {"names": ["negative", "positive"]}}}}', b"[" * 5000)  # fmt: skip
RARELY = st.sampled_from(6 * [False] + [True])


def _only_gaps(kind: pa.DataType) -> bool:
    return pa.types.is_decimal(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """What may stand in a cell of that kind; mostly what a task would have there."""
    if pa.types.is_dictionary(kind):
        return values(kind.value_type)
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({kind.field(i).name: values(kind.field(i).type) for i in range(kind.num_fields)})
    if pa.types.is_map(kind):
        return st.just([])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return st.lists(values(kind.value_type), max_size=3)
    if pa.types.is_floating(kind):
        return st.sampled_from(8 * [0.0, 1.0, 4.5] + [-1.0, float("nan"), float("inf"), 6.0])
    if pa.types.is_uint64(kind):
        return st.sampled_from(8 * [0, 1] + [2**63, 2**64 - 1])
    if pa.types.is_integer(kind):
        return st.sampled_from(16 * [0, 1] + [2, -1, -2, 100])
    if pa.types.is_binary(kind):
        return st.binary(max_size=8)
    if pa.types.is_boolean(kind):
        return st.booleans()
    return st.none() if pa.types.is_null(kind) else TEXTS


@st.composite
def columns(draw: st.DrawFn, kind: pa.DataType, rows: int, nulls: bool) -> pa.Array:
    """A column of that kind, with gaps or without."""
    if _only_gaps(kind):
        return pa.nulls(rows, kind)
    one = st.one_of(st.none(), values(kind)) if nulls else values(kind)
    given = draw(st.lists(one, min_size=rows, max_size=rows))
    if pa.types.is_dictionary(kind):
        return pa.array(given, kind.value_type).dictionary_encode()
    return pa.array(given, kind)


def fitting(task: Task) -> dict[str, tuple[pa.DataType, ...]]:
    """Column -> kinds that the task takes."""
    if task.spans:
        return {"question": STRINGS, "context": STRINGS, "answers": (ANSWERS,)}
    if task.tags:
        return {"tokens": LISTS, "ner_tags": (TAGS,)}
    return dict.fromkeys(task.columns, STRINGS) | {"label": FLOATS if task.regression else WHOLE}


@st.composite
def tables(draw: st.DrawFn, task: Task) -> pa.Table:
    """A table that is mostly the task's, with columns of other kinds, other names, names twice, gaps and metadata."""
    rows = draw(st.sampled_from([1, 2, 3, 4, 0]))
    nulls = draw(RARELY)
    names, arrays = [], []
    for name, kinds in fitting(task).items():
        kind = draw(st.sampled_from(KINDS if draw(RARELY) else kinds))
        names.append(draw(st.sampled_from(NAMES)) if draw(RARELY) else name)
        arrays.append(draw(columns(kind, rows, nulls)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        names.append(draw(st.sampled_from(NAMES)))
        arrays.append(draw(columns(draw(st.sampled_from(KINDS)), rows, True)))
    table = pa.Table.from_arrays(arrays, names=names)
    if rows and {"context", "answers"} <= set(names) and not draw(RARELY):
        table = _answered(table, names)
    return table.replace_schema_metadata({b"huggingface": draw(st.sampled_from(METADATA))} if draw(RARELY) else None)


def _answered(table: pa.Table, names: list[str]) -> pa.Table:
    """The same with each context's first letter as its answer, so that some tables of spans are right."""
    contexts = table.column(names.index("context")).to_pylist()
    answers = [{"text": [c[:1]], "answer_start": [0]} if isinstance(c, str) else None for c in contexts]
    return table.set_column(names.index("answers"), "answers", pa.array(answers, ANSWERS))


@st.composite
def damage(draw: st.DrawFn, raw: bytes) -> bytes:
    """The file as it is, most often; else cut, or with a few bytes changed."""
    how = draw(st.sampled_from(["whole", "whole", "whole", "cut", "changed"]))
    if how == "cut":
        return raw[: draw(st.integers(0, len(raw) - 1))]
    spoilt = bytearray(raw)
    for _ in range(draw(st.integers(1, 4)) if how == "changed" else 0):
        spoilt[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(spoilt)


def check_rows(rows: Rows, table: pa.Table, task: Task) -> None:
    """What was read is what was written."""
    written = [table.column(table.column_names.index(name)).to_pylist() for name in (*task.columns, task.answer_column)]
    if task.tags:
        assert [text.split(" ") for text in rows.columns[0]] == written[0]
        assert [[tag for tag in row if tag >= 0] for row in rows.labels.tolist()] == written[1]
        return
    assert [list(column) for column in rows.columns] == written[: len(task.columns)]
    if not task.spans:
        assert rows.labels.tolist() == [float(v) if task.regression else int(v) for v in written[-1]]


def one(data: st.DataObject, folder: Path, seen: Counter[str]) -> None:
    """One table, read as a split and as a corpus."""
    task = TASKS[data.draw(st.sampled_from(TASK_NAMES))]
    table = data.draw(tables(task))
    path = folder / task.name / f"{task.train}_subset.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression=data.draw(st.sampled_from(["none", "snappy", "zstd"])))
    whole = path.read_bytes()
    raw = data.draw(damage(whole))
    path.write_bytes(raw)
    try:
        rows = open_source(str(folder)).rows(task, task.train)
        seen["split read"] += 1
        if raw == whole:
            check_rows(rows, table, task)
    except BenchError as error:
        assert "\n" not in str(error) and error.exit_code == 2, error
        seen["split refused"] += 1
    try:
        check_corpus(path)
        assert all(text.strip() for text in corpus_texts(path))
        seen["corpus read"] += 1
    except BenchError as error:
        assert "\n" not in str(error) and error.exit_code == 2, error
        seen["corpus refused"] += 1


def fuzz(examples: int, folder: Path) -> Counter[str]:
    """So many tables; raises what broke, as small as hypothesis can make it."""
    seen: Counter[str] = Counter()

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])  # fmt: skip
    @given(st.data())
    def each(data: st.DataObject) -> None:
        one(data, folder, seen)

    each()
    return seen


if __name__ == "__main__":
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        found = fuzz(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, Path(scratch))
    print(", ".join(f"{name}: {count}" for name, count in sorted(found.items())), f"{time.monotonic() - started:.0f} s")
