"""Which words may stand for a word: a masked LM's guesses for whole words, word vectors for words of several pieces.

Many masked positions of many sentences go through the model at once, sorted by length, and only the hidden state at
the masked position is projected on the vocabulary. The guesses are those of one position at a time.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.batches import Batch, Vocabulary
from bench.models.lm import parts
from bench.models.outputs import frozen
from bench.train.augmentation.wordvectors import Neighbours
from bench.train.processes import divided

MAX_BATCH = 2048
"""Most masked positions per batch: each needs a row of vocabulary width."""

_CONTRACTIONS = (
    "you're you've you'll you'd she's it's that'll don't should've aren't couldn't didn't doesn't hadn't hasn't "
    "haven't isn't mightn't mustn't needn't shan't shouldn't wasn't weren't won't wouldn't 's 're"
)
STOP_WORDS = frozenset(
    (
        "i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers "
        "herself it its itself they them their theirs themselves this that these those am is are was were be been "
        "being have has had having do does did doing a an the and but if or because as until while of at by for with "
        "about against between into through during before after above below to from up down in out on off over under "
        "again further then once here there all any both each few more most other some such no nor not only own same "
        "so than too very s t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn "
        "haven isn ma mightn mustn needn shan shouldn wasn weren won wouldn " + _CONTRACTIONS
    ).split()
)
"""The words that the released code leaves alone (the contractions never come up: words are split at apostrophes)."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text as words, each with the ids of its word pieces."""

    words: tuple[str, ...]
    pieces: tuple[tuple[int, ...], ...]


class Splitter:
    """Cuts texts into words as the tokenizer does before it looks for pieces (lower-cased where it lower-cases).

    What the tokenizer takes for one token as it stands, such as a literal [MASK] in a text, stays whole.
    """

    def __init__(self, tokenizer: Any):
        backend = tokenizer.backend_tokenizer
        self._normalizer, self._cutter, self._model = backend.normalizer, backend.pre_tokenizer, backend.model
        self._known: dict[str, tuple[int, ...]] = {}
        self._whole = {token.content: (place,) for place, token in tokenizer.added_tokens_decoder.items()
                       if token.special or not token.normalized}  # fmt: skip
        longest = sorted(self._whole, key=len, reverse=True)
        self._wholes = re.compile("|".join(map(re.escape, longest)) or r"(?!)")

    def is_whole(self, word: str) -> bool:
        """Whether a word is a token that the tokenizer looks for in texts: nothing may stand for it."""
        return word in self._whole

    def __call__(self, text: str) -> Sentence:
        words: list[str] = []
        end = 0
        for found in self._wholes.finditer(text):
            words += [*self._cut(text[end : found.start()]), found[0]]
            end = found.end()
        words += self._cut(text[end:])
        return Sentence(tuple(words), tuple(self.pieces(word) for word in words))

    def _cut(self, text: str) -> list[str]:
        """The words of a text without such tokens."""
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        words = [w for w, _ in self._cutter.pre_tokenize_str(text)] if self._cutter is not None else text.split()
        return [word for word in words if word and not word.isspace()]

    def pieces(self, word: str) -> tuple[int, ...]:
        """The ids of a word's pieces."""
        if word not in self._known:
            self._known[word] = self._whole.get(word) or tuple(token.id for token in self._model.tokenize(word))
        return self._known[word]


def replaceable(word: str, skip_stop_words: bool, letters_only: bool) -> bool:
    """Whether a word may be replaced; letters are a to z, as in the released code."""
    lower = word.lower()
    if letters_only and not re.fullmatch("[a-z]+", lower):
        return False
    return not (skip_stop_words and lower in STOP_WORDS)


@dataclass(frozen=True, slots=True)
class _Masked:
    """One request to the masked LM: a row of ids with the mask at `place`, which is put in when the batch is made."""

    ids: np.ndarray
    segments: np.ndarray
    place: int


class MaskedWords:
    """The guesses of a masked LM for masked words.

    Raises: AssertionError for a model that is no masked LM.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, device: torch.device, *,
                 precision: Literal["fp32", "bf16"] = "fp32", batch_tokens: int | None = None):  # fmt: skip
        model = frozen(model, device)
        self._logits = parts(model).logits
        # Cast once: autocast casts weights that need no gradient again in every pass.
        self._hidden = parts(copy.deepcopy(model).to(torch.bfloat16) if precision == "bf16" else model).hidden
        self._ids, self._device = Vocabulary.of(tokenizer), device
        self._tokens = batch_tokens or (2048 if device.type == "cpu" else 65536)
        self._limit = min(512, getattr(model.config, "max_position_embeddings", 512))
        self.vocabulary: list[str] = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._allowed = [self._is_word(i, token) for i, token in enumerate(self.vocabulary)]

    def _is_word(self, place: int, token: str) -> bool:
        """Not a special token, an unused one ([unused7]), or the inner part of a word."""
        bracketed = len(token) > 2 and token[0] == "[" and token[-1] == "]"
        return place not in self._ids.special and not token.startswith("##") and not bracketed and not _blank(token)

    def find(self, wanted: Sequence[tuple[Sentence, Sequence[int]]], count: int) -> list[list[tuple[str, ...]]]:
        """For each sentence and each of its asked word places: the words among the `count` likeliest pieces.

        The model reads [CLS] masked sentence [SEP] sentence [SEP], cut to what it takes; a word beyond the cut has
        no candidates. Candidates come in the order of their ids, so that rounding cannot reorder them.
        Raises: AssertionError for a place that is no word of one piece.
        """
        requests: list[_Masked] = []
        owners: list[tuple[int, int]] = []
        for number, (sentence, places) in enumerate(wanted):
            for position, request in enumerate(self._requests(sentence, places)):
                if request is not None:
                    requests.append(request)
                    owners.append((number, position))
        found = [[()] * len(places) for _, places in wanted]
        for chosen, ids in self._answers(requests, count):
            for i, row in zip(chosen, np.sort(ids, axis=1).tolist(), strict=True):
                number, position = owners[i]
                found[number][position] = tuple(self.vocabulary[j] for j in row if self._fits(j))
        return found

    def _fits(self, place: int) -> bool:
        """Whether an id of the model (which may know more than the tokenizer) is a word."""
        return place < len(self._allowed) and self._allowed[place]

    def _requests(self, sentence: Sentence, places: Sequence[int]) -> Iterator[_Masked | None]:
        # The place of a word's first piece in the row: [CLS] stands at 0. A row is cut at its end.
        flat = [piece for pieces in sentence.pieces for piece in pieces]
        starts = np.cumsum([1, *(len(pieces) for pieces in sentence.pieces)])
        ids = np.array([self._ids.cls, *flat, self._ids.sep, *flat, self._ids.sep])[: self._limit]
        segments = (np.arange(len(ids)) >= len(flat) + 2).astype(np.int64)
        for place in places:
            assert len(sentence.pieces[place]) == 1, "only words of one piece are masked"
            yield _Masked(ids, segments, int(starts[place])) if starts[place] < self._limit else None

    def _answers(self, requests: Sequence[_Masked], count: int) -> Iterator[tuple[list[int], np.ndarray]]:
        """Batches of request numbers with the ids of the likeliest pieces [P, count], longest rows first.

        Processes that train together share the batches, which are those of one process.
        """
        order = sorted(range(len(requests)), key=lambda i: -len(requests[i].ids))
        batches: list[list[int]] = []
        start = 0
        while start < len(order):
            longest = len(requests[order[start]].ids)
            batches.append(order[start : start + max(1, min(MAX_BATCH, self._tokens // longest))])
            start += len(batches[-1])

        def answer(chosen: list[int]) -> np.ndarray:
            return self._likeliest(*self._batch([requests[i] for i in chosen]), count)

        yield from zip(batches, divided(batches, answer), strict=True)

    def _batch(self, requests: Sequence[_Masked]) -> tuple[Batch, Tensor]:
        shape = (len(requests), len(requests[0].ids))
        ids, segments = np.full(shape, self._ids.pad), np.zeros(shape, np.int64)
        attended = np.zeros(shape, np.int64)
        for row, request in enumerate(requests):
            width = len(request.ids)
            ids[row, :width], segments[row, :width], attended[row, :width] = request.ids, request.segments, 1
            ids[row, request.place] = self._ids.mask
        batch = {"input_ids": ids, "attention_mask": attended, "token_type_ids": segments}
        places = torch.tensor([request.place for request in requests], device=self._device)
        return {name: torch.from_numpy(array).to(self._device) for name, array in batch.items()}, places

    @torch.inference_mode()
    def _likeliest(self, batch: Batch, places: Tensor, count: int) -> np.ndarray:
        # Of the states [P, L, H] only those at the masks are projected, [P, H]: that keeps [P, L, V] from being made.
        rows = torch.arange(len(places), device=self._device)
        logits = self._logits(self._hidden(batch)[rows, places].float())
        return logits.topk(min(count, logits.shape[1]), dim=1).indices.cpu().numpy()


def _blank(token: str) -> bool:
    """Whether a token would not stay one word when words are joined by blanks."""
    return not token or any(letter.isspace() for letter in token)


class Candidates:
    """Words of a sentence -> what may stand for them."""

    def __init__(self, splitter: Splitter, masked: MaskedWords, neighbours: Neighbours, count: int,
                 skip_stop_words: bool = True, letters_only: bool = True):  # fmt: skip
        self._splitter, self._masked, self._neighbours, self._count = splitter, masked, neighbours, count
        self._rules = (skip_stop_words, letters_only)
        self._near: dict[str, tuple[str, ...]] = {}

    def find(self, texts: Sequence[str]) -> list[tuple[Sentence, dict[int, tuple[str, ...]]]]:
        """Each text's words, and by word place its candidates; a word without any is left out and stays as it is."""
        sentences = [self._splitter(text) for text in texts]
        single: list[list[int]] = []
        several: list[list[int]] = []
        for sentence in sentences:
            places = [i for i, word in enumerate(sentence.words)
                      if replaceable(word, *self._rules) and not self._splitter.is_whole(word)]  # fmt: skip
            single.append([i for i in places if len(sentence.pieces[i]) == 1])
            several.append([i for i in places if len(sentence.pieces[i]) > 1])
        self._look_up({s.words[i] for s, places in zip(sentences, several, strict=True) for i in places})
        guessed = self._masked.find(list(zip(sentences, single, strict=True)), self._count)
        found = []
        for sentence, masked, near, guesses in zip(sentences, single, several, guessed, strict=True):
            by_place = dict(zip(masked, guesses, strict=True)) | {i: self._near[sentence.words[i]] for i in near}
            found.append((sentence, {i: by_place[i] for i in sorted(by_place) if by_place[i]}))
        return found

    def _look_up(self, words: set[str]) -> None:
        """Nearest words of those not looked up before; title case is kept, as in the released code."""
        new = sorted(words - self._near.keys())
        for word, near in zip(new, self._neighbours.nearest(new, self._count), strict=True):
            whole = [other for other in near if not _blank(other)]
            self._near[word] = tuple(other.title() for other in whole) if word.istitle() else tuple(whole)
