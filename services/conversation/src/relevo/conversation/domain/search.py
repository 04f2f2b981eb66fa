"""What is looked for, and where it is in a text: pure functions over what people type.

`"a phrase"`, `from:me|customer|agent|NAME`, `in:CHANNEL or inbox name`, `label:NAME`; every other word must occur, in any
form of it; the last one may be unfinished. Values with spaces are quoted: `label:"cambio de talla"`.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from relevo.kernel.text import fold, stems

MAX_WORDS: Final = 12
_SHORTEST_OPEN: Final = 2
_AROUND: Final = 60
_LONGEST: Final = 240

_TOKEN: Final = re.compile(
    r'(?:(?P<name>from|in|label|de|en|etiqueta):)?(?:"(?P<quoted>[^"]*)"?|(?P<bare>[^\s"]+))', re.IGNORECASE
)
_NAMES: Final = {"de": "from", "en": "in", "etiqueta": "label"}
_WORD: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Query:
    """What was typed, taken apart. ``open_end``: the last word may go on."""

    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    open_end: bool = False

    @property
    def empty(self) -> bool:
        """Whether it looks for no text."""
        return not (self.words or self.phrases)


def parse(typed: str) -> Query:
    """Take apart what was typed. Never raises: what is no operator is a word."""
    words: list[str] = []
    phrases: list[str] = []
    named: dict[str, list[str]] = {"from": [], "in": [], "label": []}
    open_end = False
    for token in _TOKEN.finditer(typed):
        name = (token["name"] or "").lower()
        quoted, bare = token["quoted"], token["bare"]
        value = (bare if quoted is None else quoted).strip()
        open_end = False
        if name and value:
            named[_NAMES.get(name, name)].append(value)
        elif quoted is not None:
            if parts := tuple(plain_words(value)):
                (phrases if len(parts) > 1 else words).append(" ".join(_WORD.findall(value)))
        elif found := _WORD.findall(value if not name else f"{name} {value}"):
            words += found
            open_end = token.end() == len(typed) and bool(_WORD.search(typed[-1:])) and len(found[-1]) >= _SHORTEST_OPEN
    return Query(
        tuple(words[:MAX_WORDS]),
        tuple(phrases[:MAX_WORDS]),
        tuple(named["from"]),
        tuple(named["in"]),
        tuple(named["label"]),
        open_end and len(words) <= MAX_WORDS,
    )


def plain(text: str) -> str:
    """Lower case, no accents, no tildes: as words are compared in search."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char)).lower()


def plain_words(text: str) -> list[str]:
    """The words of a text in that form."""
    return _WORD.findall(plain(text))


class Terms:
    """What is looked for, ready to be found in texts."""

    def __init__(self, query: Query) -> None:
        wanted = [*query.words, *(word for phrase in query.phrases for word in phrase.split())]
        self._exact = {word.lower() for word in wanted}
        self._plain = {plain(word) for word in wanted}
        self._stems = {stem for word in wanted for stem in _stems(word)}
        self._open = plain(query.words[-1]) if query.open_end and query.words else None

    def marks(self, text: str) -> list[tuple[int, int]]:
        """Where a word that is looked for, or a form of it, is: from and to, as indexes of code points."""
        return [word.span() for word in _WORD.finditer(text) if self._meant(word[0])]

    def exactness(self, text: str) -> int:
        """How many of the words are in the text as they were spelled, accents and all."""
        return len(self._exact & {word.lower() for word in _WORD.findall(text)})

    def _meant(self, word: str) -> bool:
        bare = plain(word)
        return (
            bare in self._plain
            or (self._open is not None and bare.startswith(self._open))
            or bool(_stems(word) & self._stems)
        )


@lru_cache(maxsize=16_384)
def _stems(word: str) -> frozenset[tuple[str, str]]:
    spanish, english = stems(fold(word, fold_n=True))
    return frozenset({("es", spanish), ("en", english)})


def excerpt(text: str, marks: Sequence[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
    """The part of a text around its first mark, cut between words, and the marks within it."""
    start = max(0, marks[0][0] - _AROUND) if marks else 0
    end = min(len(text), start + _LONGEST)
    if start > 0:
        start = _next_gap(text, start, marks[0][0])
    shown = text[start:end]
    if end < len(text) and (gap := shown.rfind(" ")) > _AROUND:
        shown = shown[:gap]
    before, after = "…" if start else "", "…" if start + len(shown) < len(text) else ""
    moved = [
        (low - start + len(before), high - start + len(before))
        for low, high in marks
        if low >= start and high <= start + len(shown)
    ]
    return f"{before}{shown}{after}", moved


def _next_gap(text: str, start: int, latest: int) -> int:
    gap = text.find(" ", start, latest)
    return start if gap < 0 else gap + 1


@dataclass(frozen=True, slots=True)
class Word:
    """One word that is looked for, as the database tells its forms. ``common``: so frequent that it says nothing.

    ``begun``: what a word that may go on begins with.
    """

    forms: tuple[str, ...]
    common: bool
    begun: str | None = None


def pattern(words: Iterable[Word], author: str | None = None) -> str:
    """The words as a tsquery, `~` standing for what every lexeme begins with. Common ones count only among themselves."""
    wanted = list(words)
    telling = [word for word in wanted if not word.common or word.begun] or wanted
    groups = [
        "("
        + " | ".join(
            [
                *(f"'~{form}'" for form in word.forms if form != word.begun),
                *([f"'~{word.begun}':*"] if word.begun else []),
            ]
        )
        + ")"
        for word in telling
    ]
    if author is not None:
        groups.append(f"!'~{author[1:]}'" if author.startswith("!") else f"'~{author}'")
    return " & ".join(groups)
