"""What synthetic customers and agents write: drawn from real sentences where the operator gives some, else from ours."""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Final

from relevo.kernel.text import clean

_SAMPLE: Final = "sample.json"
_THINGS: Final = 20_000
_SYLLABLES: Final = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "xo", "za", "ñe")


class Texts:
    """Sentences by language. One in ten gets a code or the name of a thing, so that rare words exist, as they do."""

    def __init__(self, sentences: Iterable[tuple[str, str]]) -> None:
        """``sentences``: language (es, else English) and text."""
        self._by: dict[str, list[str]] = {"es": [], "en": []}
        for language, text in sentences:
            if shown := _escaped(text):
                self._by["es" if language == "es" else "en"].append(shown)
        if not all(self._by.values()):
            raise ValueError("texts in both languages are needed: rows of language es and of language en")

    @classmethod
    def ours(cls) -> "Texts":
        """The sample that comes with the service."""
        sample: dict[str, list[str]] = json.loads(files(__package__).joinpath(_SAMPLE).read_text("utf-8"))
        return cls((language, text) for language, texts in sample.items() for text in texts)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> "Texts":
        """JSON lines, each with `lang` and either `text` or `turns` of such. Raises ValueError naming file and line."""
        return cls(sentence for path in paths for sentence in _read(path))

    def draw(self, random: Random, language: str, *, opening: bool) -> str:
        """One text, escaped for COPY."""
        pool = self._by[language]
        text = pool[int(random.random() * len(pool))]
        draw = random.random()
        if opening and draw < 0.3:
            return f"{text} PED-{random.randrange(10**7):07d}"
        if draw > 0.92:
            # Few things are asked for often, most of them rarely.
            return f"{text} {_thing(int(_THINGS * random.random() ** 4))}"
        return text


@cache
def _thing(n: int) -> str:
    """A name that looks like one of a product."""
    name = ""
    for _ in range(4):
        n, at = divmod(n * 7 + 3, len(_SYLLABLES))
        name += _SYLLABLES[at]
    return f"{name.capitalize()}{n}"


def _read(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                turns = row.get("turns", [row])
                for turn in turns:
                    yield str(row["lang"]), str(turn["text"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: not a row with lang and text, or lang and turns with text"
                ) from error


def _escaped(text: str) -> str:
    plain = clean(text).strip()
    return plain.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "")
