"""What the jobs of a plan read: data, corpus, teacher checkpoint and tokenizers, verified before anything runs."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from bench.core import sealed
from bench.core.errors import DataError, ModelError, SpecError
from bench.core.files import file_sha256, remove_folder, whole_folder
from bench.core.paths import home
from bench.core.record import Answers
from bench.core.spec import digest
from bench.data import answers, entities, sequences, spans, synthetic, tags
from bench.data.batches import Encoded, Vocabulary, encode
from bench.data.corpus import about_bytes, check_corpus, corpus_sha256, corpus_texts, gathered
from bench.data.row_answers import Said, each_answer
from bench.data.rows import UNLABELLED, Rows, Texts
from bench.data.sources import open_source
from bench.data.tasks import Task, check_classes
from bench.data.unlabelled import read_unlabelled
from bench.models import load
from bench.models.checkpoint import tokenizer_files
from bench.models.config import CONFIG
from bench.run.request import Request
from bench.train import predict
from bench.train.settings import Windowing
from bench.train.tracking import Tracking

log = logging.getLogger(__name__)

TRACKED = "local/tracking"
"""Under the results, where git sees nothing of it: what a tracker keeps on this machine."""
SYNTHETIC_SENTENCES = 60_000
SHORTEST = 3
"""Tokens of a sequence of one word: no line is shorter."""


Examples = Encoded | spans.Windows | tags.Tagged
"""The rows of a task as a model reads them: whole, in windows, or word by word."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads the rows of a task."""

    tokenizer_folder: Path
    max_length: int
    """Word pieces per example, or per window"""
    windows: Windowing | None = None
    """Set for a task of spans"""

    def check(self) -> None:
        """Raises SpecError where windows would leave out a part of a context."""
        if self.windows:
            spans.check_windows(self.max_length, self.windows.stride, self.windows.question)


class Inputs:
    """Everything that is read, read once."""

    def __init__(self, request: Request):
        self.request = request
        self.tracking = Tracking.by(request.track, Path(request.results) / TRACKED) if request.track else None
        self.source = open_source(request.source)
        self._rows: dict[tuple[str, str], Rows] = {}
        if request.scale == "smoke" and request.source != "synthetic" and not request.teacher:
            raise SpecError("smoke scale pre-trains on the made-up language", found=f"--data {request.source}",
                            fix="add --teacher FOLDER_OR_HUB_ID, or leave --data out")  # fmt: skip

    def rows(self, task: Task, split: str) -> Rows:
        """A split as a run sees it: training rows whole (see `used`), a scored split cut to the user's limit."""
        whole = self.whole(task, split)
        if split == task.train:
            return whole
        cut = whole.take(self.request.dev_limit)
        return cut if cut is whole else replace(cut, partial=True)

    def whole(self, task: Task, split: str) -> Rows:
        """The verified split as its source has it."""
        key = (task.name, split)
        if key not in self._rows:
            self._rows[key] = self.source.rows(task, split)
        return self._rows[key]

    def used(self, task: Task, split: str) -> Rows:
        """The rows of a split that are trained on with their labels, or scored, within the user's limits."""
        rows = self.rows(task, split)
        return rows.take(self._labelled()) if split == task.train else rows

    def _labelled(self) -> int | None:
        given = [number for number in (self.request.limit, self.request.labels) if number is not None]
        return min(given, default=None)

    def check(self, task: Task) -> None:
        """Raises DataError for rows that nothing can be learned from or scored on, or text that is none; SpecError for
        labels or text that the task cannot use.
        """
        self.check_labels(task)
        self._check_unlabelled(task)
        for split in (task.train, *task.scored):
            if split:
                rows = self.rows(task, split) if split in task.scored else self.whole(task, split)
                check_classes(task, split, rows.labels, self.request.source)

    def check_labels(self, task: Task) -> None:
        """Raises SpecError where more labels are asked for than there are rows."""
        labels, rows = self.request.labels, len(self.whole(task, task.train).take(self.request.limit))
        if labels is not None and labels > rows:
            raise SpecError("--labels is more than the task has", where=task.name, found=labels,
                            expected=f"1 to {rows}", fix="leave it out to use every label")  # fmt: skip

    def _check_unlabelled(self, task: Task) -> None:
        if self.request.unlabelled is None:
            return
        if task.spans or task.tags:
            raise SpecError("tasks of spans or tags read no unlabelled text", where=f"--unlabelled, task {task.name}",
                            found=self.request.unlabelled, fix="leave it out, or choose another --task")  # fmt: skip
        self._unlabelled(len(task.columns))

    def all_texts(self, task: Task) -> Texts:
        """All in-domain text: labelled rows, then those whose label is withheld, then the user's unlabelled file.

        Raises DataError for a file that is empty or not what the task reads.
        """
        rows, kept = self.rows(task, task.train).take(self.request.limit), self.used(task, task.train)
        others = np.flatnonzero(~np.isin(rows.ids, kept.ids))
        columns = [
            [*mine, *(column[i] for i in others)] for mine, column in zip(kept.columns, rows.columns, strict=True)
        ]
        if self.request.unlabelled:
            for column, given in zip(columns, self._unlabelled(len(columns)), strict=True):
                column += given
        more = len(columns[0]) - len(kept)
        withheld = np.full((more, *kept.labels.shape[1:]), UNLABELLED, kept.labels.dtype)
        return Texts(tuple(columns), np.concatenate([kept.labels, withheld]))

    @functools.lru_cache(maxsize=4)  # noqa: B019 - one Inputs lives as long as its plan
    def _unlabelled(self, columns: int) -> tuple[list[str], ...]:
        assert self.request.unlabelled is not None
        return read_unlabelled(Path(self.request.unlabelled), columns)

    def limits(self, task: Task) -> dict[str, int | None]:
        """The user's limits, as a record keeps them; all but that on training rows only where they leave some out."""
        cut = any(len(self.rows(task, split)) < len(self.whole(task, split)) for split in task.scored)
        found: dict[str, int | None] = {"limit": self.request.limit}
        found |= {"dev_limit": self.request.dev_limit} if cut else {}
        return found | ({"labels": self.request.labels} if self.request.labels else {})

    def encoded(self, task: Task, split: str, reading: Reading) -> Encoded:
        """A split as the model reads it; the training split is cut to the user's limit."""
        return _encoded(self._examples(task, split, reading))

    def mean_length(self, task: Task, reading: Reading, most: int) -> float:
        """Tokens that a training row of the task has, on average over at most so many."""
        rows = self.used(task, task.train).take(most)
        return len(_encoded(self._read(rows, task, reading)).tokens) / len(rows)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - one Inputs lives as long as its plan
    def _examples(self, task: Task, split: str, reading: Reading) -> Examples:
        return self._read(self.used(task, split), task, reading)

    def _read(self, rows: Rows, task: Task, reading: Reading) -> Examples:
        """Rows of a task as a model reads them."""
        words = self.tokenizer(reading.tokenizer_folder)
        if task.spans:
            assert reading.windows is not None, f"the recipe says nothing of the windows of {task.name}"
            return spans.windows(rows, words, reading.max_length, reading.windows.stride, reading.windows.question)
        return (tags.tagged if task.tags else encode)(rows, words, reading.max_length)

    def said(self, task: Task, split: str, reading: Reading, logits: np.ndarray) -> Said:
        """What a model's logits [N, ...], in the order of `encoded`, say of each row of a scored split."""
        examples = self._examples(task, split, reading)
        if isinstance(examples, tags.Tagged):
            return tags.best_tags(logits, examples)
        if isinstance(examples, Encoded):
            return predict.answers(task, logits)
        assert reading.windows is not None, "windows were read by it"
        return spans.best_answers(logits, examples, self.rows(task, split).columns[1], reading.windows.n_best,
                                  reading.windows.answer)  # fmt: skip

    def scores(self, task: Task, split: str, said: Said) -> dict[str, float | None]:
        """All metrics of the task for what was said of a scored split."""
        rows = self.rows(task, split)
        if isinstance(said, list):
            return answers.scores(said, rows.answers)
        if task.tags:
            return entities.scores(said, rows.labels, task.labels)
        from bench.data.metrics import compute  # a second and more, which a plan need not wait for

        return compute(task, said, rows.labels)

    def each_answer(self, task: Task, split: str, said: Said) -> Answers:
        """What was said of each row of a scored split, packed for a record."""
        return each_answer(task, said, self.rows(task, split))

    def data_identity(self, task: Task) -> str:
        """A hash of every row that a run of this task can see."""
        parts = {split: self.whole(task, split).sha256 for split in (task.train, *task.scored)}
        unlabelled = {"unlabelled": file_sha256(Path(self.request.unlabelled))} if self.request.unlabelled else {}
        return digest({"source": self.source.name, "sha256": parts} | self.limits(task) | unlabelled)

    @functools.cached_property
    def corpus_identity(self) -> str | None:
        """A hash of the corpus, or None when there is none. Raises DataError for one that cannot be read."""
        if self.request.corpus:
            return corpus_sha256(Path(self.request.corpus))
        if self.request.source == "synthetic":
            return f"synthetic-{synthetic.VERSION}-{SYNTHETIC_SENTENCES}"
        return None

    @property
    def corpus_bytes(self) -> int:
        """About how much text the user's corpus has; 0 without one."""
        return about_bytes(Path(self.request.corpus)) if self.request.corpus else 0

    @functools.cached_property
    def _corpus_documents(self) -> int:
        """How many documents the user's corpus has, 2 for two or more; all of it is verified."""
        assert self.request.corpus is not None
        return check_corpus(Path(self.request.corpus))

    @functools.lru_cache(maxsize=64)  # noqa: B019 - one Inputs lives as long as its plan
    def check_corpus(self, tokenizer_folder: Path, max_length: int, min_length: int, pairs: bool = False) -> bool:
        """Whether its lines are long enough by themselves; where none is, they are read together.

        Raises DataError for a corpus that would give a stage nothing: asked before anything runs.
        """
        if not self.request.corpus:
            return True
        documents = self._corpus_documents
        if pairs and documents < 2:
            raise DataError("sentence pairs need several documents", where=self.request.corpus, found="1",
                            expected="2 or more",
                            fix="separate documents by blank lines, or give a larger corpus")  # fmt: skip
        tokenizer = self.tokenizer(tokenizer_folder)
        if sequences.usable(sequences.lines_of(self._documents()), tokenizer, max_length, min_length):
            return True
        if min_length <= SHORTEST or not sequences.usable(self._together(), tokenizer, max_length, min_length):
            raise sequences.no_usable_text(self.request.corpus, min_length)
        log.info("corpus=together reason='no line has %d tokens, the least that is taken'", min_length)
        return False

    def _together(self) -> Iterable[str]:
        """The corpus as if it were one text: of short lines, as many as are a long one."""
        return gathered(sequences.lines_of(self._documents()), " ")

    def _documents(self) -> Iterable[str]:
        return corpus_texts(Path(self.request.corpus)) if self.request.corpus else synthetic.corpus(SYNTHETIC_SENTENCES)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - as above
    def corpus(self, tokenizer_folder: Path, max_tokens: int, max_length: int, min_length: int) -> Encoded:
        """Lines of the corpus as sequences, until `max_tokens` are gathered; see `bench.data.sequences`."""
        apart = self.check_corpus(tokenizer_folder, max_length, min_length)
        lines = sequences.Packed(sequences.lines_of(self._documents()) if apart else self._together())
        return _told(sequences.sequences(lines, self.tokenizer(tokenizer_folder), max_tokens, max_length, min_length,
                                      self.request.corpus), max_tokens)  # fmt: skip

    @functools.lru_cache(maxsize=8)  # noqa: B019 - as above
    def sentence_pairs(self, tokenizer_folder: Path, max_tokens: int, max_length: int, short: float) -> Encoded:
        """Pairs of sentence runs from documents, until `max_tokens` are gathered; see `bench.data.sequences`."""
        tokenizer = self.tokenizer(tokenizer_folder)
        found = sequences.pairs(sequences.Packed(self._documents()), tokenizer, max_tokens, max_length, short)
        return _told(found, max_tokens)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - as above
    def tokenizer(self, folder: Path) -> PreTrainedTokenizerBase:
        return load.tokenizer(folder)

    def vocabulary(self, folder: Path) -> Vocabulary:
        return Vocabulary.of(self.tokenizer(folder))

    @functools.cached_property
    def synthetic_tokenizer(self) -> Path:
        """The folder of the made-up language's tokenizer, trained on first use."""
        folder = home() / "tokenizers" / f"synthetic-{synthetic.VERSION}"
        try:
            sealed.checked(folder)
            return folder
        except sealed.LOST as damage:
            if folder.exists():
                log.warning("the tokenizer in %s is damaged: %s; it is made again", folder, damage)
                remove_folder(folder)
        with whole_folder(folder) as staging:  # dropped where another process was first: its files are the same
            synthetic.write_tokenizer(staging)
            sealed.seal(staging, {})
        return folder

    @functools.lru_cache(maxsize=8)  # noqa: B019 - as above
    def checkpoint(self, name: str, revision: str | None = None) -> load.Checkpoint:
        """A checked checkpoint by folder or hub id, whose tokenizer has the five words that BERTs need."""
        found = load.check(load.find(name, revision))
        try:
            self.vocabulary(found.folder)
        except DataError as error:
            raise ModelError(
                "the tokenizer of the checkpoint does not serve", where=found.folder, found=error
            ) from error
        return found


def _encoded(examples: Examples) -> Encoded:
    return examples if isinstance(examples, Encoded) else examples.encoded


def _told(corpus: Encoded, asked: int) -> Encoded:
    """Says where a corpus has less than the budget; the record holds what was used."""
    if len(corpus.tokens) < asked:
        log.info("corpus_tokens=%d asked=%d reason='the corpus gave no more'", len(corpus.tokens), asked)
    return corpus


@functools.cache
def checkpoint_identity(folder: Path) -> str:
    """A hash of a checkpoint's weights, config and tokenizer, the very files that are read: places do not matter."""
    total = hashlib.sha256()
    for file in (*load.weight_files(folder), folder / CONFIG, *tokenizer_files(folder)):
        total.update(f"{file.name} {file_sha256(file)}\n".encode())
    return total.hexdigest()
