"""The corpus: short documents in which words that belong together meet, for masked-LM training.

Synonyms and kinds are stated and used; a second sentence often rewords, follows from or judges the first, so that a
masked word can be read off the other sentence.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.data.synthetic import agreement, entailment, opinion
from bench.data.synthetic import lexicon as words
from bench.data.synthetic.grammar import Draw, different, event, reworded, sentence
from bench.data.synthetic.lexicon import Concept, lexicon, plural, third


def _scene(draw: Draw) -> list[str]:
    return [sentence(event(draw, draw.theme()))]


def _agreement(draw: Draw) -> list[str]:
    return [sentence(agreement.grammatical_pair(draw)[0])]


def _pronoun(draw: Draw) -> list[str]:
    whole, holds, _ = agreement.pronoun(draw)
    return [sentence(whole), sentence("so", holds)]


def _paraphrase(draw: Draw) -> list[str]:
    if draw.chance(0.5):
        given = event(draw, draw.theme())
        return [sentence(given), sentence("in other words", reworded(draw, given, 0.8))]
    # The answer says whether the two agree: where it is masked, they have to be compared.
    given = event(draw, draw.theme(), adjectives=0.1, manner=0.0, same_number=True)
    agree = draw.chance(0.5)
    told = reworded(draw, given if agree else different(draw, given))
    return [sentence("is it true that", given, end="?"), sentence("yes" if agree else "no", told)]


def _with_synonym(draw: Draw, concepts: tuple[Concept, ...]) -> Concept:
    """A concept of two words; rare ones come often enough to be learnt, so half of the draws are even."""
    having = [concept for concept in concepts if len(concept.words) == 2]
    return draw.uniform(having) if draw.chance(0.5) else draw.zipf(having)


def _synonym(draw: Draw) -> list[str]:
    """`a dog is the same as a hound`, for each word class in a form of its own."""
    lex = lexicon()
    kind = draw.uniform(("noun", "noun", "nouns", "verb", "verb", "plain", "manner"))
    if kind in ("noun", "nouns"):
        first, second = draw.shuffled(_with_synonym(draw, lex.nouns).words)
        if kind == "noun":
            return [sentence("a", first, "is the same as a", second)]
        return [sentence(plural(first), "are the same as", plural(second))]
    classes = {"verb": lex.transitive + lex.intransitive, "plain": lex.plain, "manner": lex.manners}
    first, second = draw.shuffled(_with_synonym(draw, classes[kind]).words)
    if kind == "verb":
        form = third if draw.chance(0.5) else str
        return [sentence(form(first), "is the same as", form(second))]
    return [sentence(first, "is the same as", second)]


def _hypernym(draw: Draw) -> list[str]:
    """`every dog is a mammal`, `all dogs are mammals`, `no dog is a fish`."""
    lex = lexicon()
    theme = draw.theme() if draw.chance(0.6) else draw.uniform(range(words.THEMES))
    kind = draw.zipf(lex.kinds(theme))
    lower, upper = (draw.zipf(lex.things(kind)), kind) if draw.chance(0.75) else (kind, theme)
    below, above = draw.word(lex.nouns[lower]), draw.word(lex.nouns[upper])
    form = draw.uniform(("every", "each", "all", "kind", "no"))
    if form == "all":
        return [sentence("all", plural(below), "are", plural(above))]
    if form == "kind":
        return [sentence("a", below, "is a kind of", above)]
    if form == "no":
        elsewhere = draw.uniform([t for t in range(words.THEMES) if t != theme])
        return [sentence("no", below, "is a", draw.word(lex.nouns[draw.zipf(lex.kinds(elsewhere))]))]
    return [sentence(form, below, "is a", above)]


def _inference(draw: Draw) -> list[str]:
    """A statement and what follows; or, with `perhaps`, what does not."""
    if draw.chance(0.25):
        first, second = entailment.balanced(draw)[1]
        return [sentence(first.render(draw)), sentence("perhaps", second.render(draw))]
    first, second = entailment.balanced(draw)[0] if draw.chance(0.6) else entailment.labelled(draw, 0)
    return [sentence(first.render(draw)), sentence("so", second.render(draw))]


def _opinion(draw: Draw) -> list[str]:
    """An opinion, and somebody whose attitude or next word shows its sign."""
    good = draw.chance(0.5)
    shown = opinion.opinions(draw)[0 if good else 1]
    if draw.chance(0.5):
        verb = draw.uniform(words.LIKE if good else words.DISLIKE)
        return [sentence(shown), sentence("so", draw.zipf(lexicon().names), verb, "it")]
    degree = draw.uniform(words.STRONG) if draw.chance(0.3) else ""
    return [sentence(shown), sentence("overall it is", degree, opinion.adjective(draw, 1 if good else -1))]


def _graded(draw: Draw) -> list[str]:
    """`good and even great`: adjectives of one sign meet."""
    sign = 1 if draw.chance(0.5) else -1
    subject, verb = opinion.topic(draw)
    return [sentence(subject, verb, opinion.adjective(draw, sign), "and", opinion.adjective(draw, sign))]


def _question(draw: Draw) -> list[str]:
    """A question and its answer."""
    given = event(draw, draw.theme(), manner=0.0)
    answer = reworded(draw, given)
    form = draw.uniform(("who", "what", "frame", "which"))
    if form == "frame":
        return [
            sentence(draw.uniform(words.FRAMES), given, end="?"),
            sentence("yes" if draw.chance(0.5) else "", answer),
        ]
    if form == "which":
        theme = draw.theme()
        (kind, thing), (what, adjectival) = entailment.related(draw, "down", theme), entailment.predicate(draw, theme)
        nouns, shown = lexicon().nouns, f"is {draw.word(what)}" if adjectival else third(draw.word(what))
        question = sentence("which", draw.word(nouns[kind]), shown, end="?")
        return [question, sentence("the", draw.word(nouns[thing]), shown)]
    if form == "who":
        verb = third(given.verb_word)
        return [sentence("who", verb, given.target, end="?"), sentence(answer)]
    do = "do" if given.subject.many else "does"
    return [sentence("what", do, given.subject, given.verb_word, end="?"), sentence(answer)]


KINDS: tuple[tuple[Callable[[Draw], list[str]], int], ...] = (
    (_scene, 6), (_agreement, 14), (_pronoun, 6), (_paraphrase, 20), (_synonym, 10), (_hypernym, 10),
    (_inference, 14), (_opinion, 12), (_graded, 2), (_question, 6),
)  # fmt: skip
"""Kinds of document and their shares in percent."""


def corpus(sentences: int, seed: int = 0) -> list[str]:
    """Documents of one or two sentences, one string each, `sentences` sentences in all.

    A pure function of its arguments; a longer corpus starts with the shorter one of the same seed.
    """
    draw = Draw(f"corpus {seed}")
    documents: list[str] = []
    left = sentences
    wheel = [kind for kind, share in KINDS for _ in range(share)]
    while left > 0:
        document = draw.uniform(wheel)(draw)[:left]
        left -= len(document)
        documents.append(" ".join(document))
    return documents
