"""Text: cleaning of hostile input, folding for comparison, words and their stems.

Folding is defined so that Python and PostgreSQL (17 or later, see `fold_sql`) agree character by character: the simple
lower-case mapping, then a table that takes acute accents and diaereses off. ñ, ç and other marks are letters of their
own and stay; `fold_n` turns ñ into n too.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Any, Final

import snowballstemmer
from sqlalchemy import ColumnElement, Text, cast, collate, func

_ACUTE: Final = "\u0301"
_DIAERESIS: Final = "\u0308"

# What is not part of a word, as closed ranges of code points; everything else is: letters of any script, digits,
# combining marks, underscore. One explicit list, because the notion of a word differs between regular-expression
# engines and between Unicode versions.
_SEPARATOR_RANGES: Final = (
    (0x00, 0x2F),
    (0x3A, 0x40),
    (0x5B, 0x5E),
    (0x60, 0x60),
    (0x7B, 0xA9),
    (0xAB, 0xB1),
    (0xB4, 0xB4),
    (0xB6, 0xB8),
    (0xBB, 0xBB),
    (0xBF, 0xBF),
    (0xD7, 0xD7),
    (0xF7, 0xF7),
    (0x02C2, 0x02C5),
    (0x037E, 0x037E),
    (0x0387, 0x0387),
    (0x055A, 0x055F),
    (0x0589, 0x058A),
    (0x05BE, 0x05BE),
    (0x060C, 0x060D),
    (0x061B, 0x061F),
    (0x066A, 0x066D),
    (0x06D4, 0x06D4),
    (0x0964, 0x0965),
    (0x2000, 0x206F),
    (0x20A0, 0x20CF),
    (0x2190, 0x245F),
    (0x2500, 0x2BFF),
    (0x2E00, 0x2E2E),
    (0x2E30, 0x2E7F),
    (0x3000, 0x3004),
    (0x3008, 0x3020),
    (0x3030, 0x3030),
    (0xFE10, 0xFE1F),
    (0xFE30, 0xFE6F),
    (0xFF01, 0xFF0F),
    (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF3E),
    (0xFF5B, 0xFF65),
    (0xFFE0, 0xFFEF),
    (0xFFF9, 0xFFFD),
    (0x1F000, 0x1FAFF),
)
SEPARATORS: Final = frozenset(chr(code) for low, high in _SEPARATOR_RANGES for code in range(low, high + 1))


def _class_item(low: int, high: int) -> str:
    first, last = (chr(edge) if edge > 0x7F else f"\\x{edge:02x}" for edge in (low, high))
    return first if low == high else f"{first}-{last}"


# For a bracket expression, read alike by Python's re and by PostgreSQL; NUL cannot be in PostgreSQL text.
SEPARATOR_CLASS: Final = "".join(_class_item(max(low, 1), high) for low, high in _SEPARATOR_RANGES)
_WORD: Final = re.compile(f"[^\\x00{SEPARATOR_CLASS}]+")


def _accents() -> dict[int, int | None]:
    table: dict[int, int | None] = {
        ord(_ACUTE): None,
        ord(_DIAERESIS): None,
        ord("ς"): ord("σ"),
    }
    for code in range(0xC0, 0x2000):
        letter = chr(code)
        if letter != letter.lower() or not (set(parts := unicodedata.normalize("NFD", letter)) & {_ACUTE, _DIAERESIS}):
            continue
        bare = unicodedata.normalize("NFC", parts.replace(_ACUTE, "").replace(_DIAERESIS, ""))
        table[code] = ord(bare) if bare else None
    return table


_ACCENTS: Final = _accents()
_ACCENTS_AND_N: Final = {**_ACCENTS, ord("ñ"): ord("n")}
_ACCENTS_ANY_CASE: Final = {
    **_ACCENTS,
    **{
        ord(chr(code).upper()): ord(chr(bare).upper())
        for code, bare in _ACCENTS.items()
        if bare and chr(code) != "ς" and len(chr(code).upper()) == len(chr(bare).upper()) == 1
    },
}


def fold(text: str, *, fold_n: bool = False) -> str:
    """The form in which text is compared: no case, no acute accents, no diaereses; año stays año unless `fold_n`.

    Accepts any str, composed or decomposed.
    """
    if text.isascii():
        return text.lower()
    # İ is the one letter whose full lower case is longer than its simple one.
    lowered = unicodedata.normalize("NFC", text).replace("İ", "i").lower()
    return lowered.translate(_ACCENTS_AND_N if fold_n else _ACCENTS)


def fold_accents(text: str, *, fold_n: bool = False) -> str:
    r"""`fold` without touching case: for patterns, where case carries meaning (`\S` is not `\s`)."""
    folded = unicodedata.normalize("NFC", text).translate(_ACCENTS_ANY_CASE)
    return folded.replace("ñ", "n").replace("Ñ", "N") if fold_n else folded


def fold_sql(column: ColumnElement[Any], *, fold_n: bool = False) -> ColumnElement[str]:
    """`fold` as an SQL expression, equal to it for text that went through `clean` (which composes it).

    Needs PostgreSQL 17 or later (collation `pg_c_utf8`). It is immutable, so an index on it is possible.
    """
    table = _ACCENTS_AND_N if fold_n else _ACCENTS
    kept = [(code, bare) for code, bare in table.items() if bare is not None]
    dropped = [code for code, bare in table.items() if bare is None]
    source = "".join(chr(code) for code, _ in kept) + "".join(map(chr, dropped))
    target = "".join(chr(bare) for _, bare in kept)
    return func.translate(func.lower(collate(cast(column, Text), "pg_c_utf8")), source, target, type_=Text)


def words(text: str) -> list[str]:
    """The words of a text, in order, as written. Scripts without spaces come as one word."""
    return _WORD.findall(text)


def contains_words(text: str, phrase: str) -> bool:
    """Whether `phrase` is in `text`, not as a part of a longer word. Both are compared as they are: fold them first.

    Where the phrase itself begins or ends with a separator, that side may touch anything ("c++" is in "use c++11").
    """
    size = len(phrase)
    open_left = phrase[:1] in SEPARATORS
    open_right = phrase[-1:] in SEPARATORS
    at = text.find(phrase)
    while at >= 0:
        end = at + size
        if (open_left or at == 0 or text[at - 1] in SEPARATORS) and (
            open_right or end == len(text) or text[end] in SEPARATORS
        ):
            return True
        at = text.find(phrase, at + 1)
    return False


def words_pattern(phrase: str) -> str:
    """`contains_words` for this phrase as a regular expression of PostgreSQL (and of Python's re)."""
    left = "" if phrase[:1] in SEPARATORS else f"(?<![^{SEPARATOR_CLASS}])"
    right = "" if phrase[-1:] in SEPARATORS else f"(?![^{SEPARATOR_CLASS}])"
    escaped = "".join(f"\\{char}" if char.isascii() and not char.isalnum() else char for char in phrase)
    return f"{left}{escaped}{right}"


@lru_cache(maxsize=65_536)
def stems(word: str) -> tuple[str, str]:
    """The Spanish and the English stem of one folded word: two words are forms of one when either stem agrees.

    Depends on the folded form only, so an accent that a customer left out changes nothing.
    """
    # Spanish words in -ion carry an accent that folding took off and that the stemmer looks for.
    accented = word[:-3] + "ión" if word.endswith("ion") else word
    spanish: str = snowballstemmer.stemmer("spanish").stemWord(accented)
    english: str = snowballstemmer.stemmer("english").stemWord(word)
    return fold(spanish), english


_LINE_BREAKS: Final = re.compile("\r\n?|[\x85\u2028\u2029]")
# Control characters but \t and \n, the twelve bidirectional controls, the byte order mark, noncharacters of the BMP.
_UNWANTED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff]"
)
_PLAIN: Final = re.compile(r"[\t\n\x20-\x7e]*")


def clean(text: str) -> str:
    """Text that is safe to store, show and send, whatever came in. Never raises; cleaning twice changes nothing.

    Line breaks become line feeds; control characters (NUL among them) but tab and line feed, bidirectional controls and
    noncharacters are taken out; a lone surrogate becomes U+FFFD, a pair its character; the result is in NFC.
    """
    if _PLAIN.fullmatch(text):
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = _UNWANTED.sub("", _LINE_BREAKS.sub("\n", text))
    return unicodedata.normalize("NFC", text)


def clean_json(value: Any) -> Any:
    """The same of every text in a JSON value, names of members too."""
    match value:
        case str():
            return clean(value)
        case list():
            return [clean_json(one) for one in value]
        case dict():
            return {clean_json(name): clean_json(one) for name, one in value.items()}
        case _:
            return value
