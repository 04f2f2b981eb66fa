"""Custom attributes: what an account defines, and the values that fit, as JSON and as text of a file."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import urlsplit

from relevo.contracts.snapshots import AttributeValue
from relevo.kernel.conditions import FieldType
from relevo.kernel.text import clean, fold

Kind = Literal["text", "number", "currency", "percent", "date", "list", "checkbox", "link"]
Entity = Literal["contact", "conversation"]

MAX_TEXT: Final = 1_000
MAX_DEFINITIONS: Final = 100
MAX_OPTIONS: Final = 200
_LARGEST: Final = Decimal(10) ** 15
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,16}(?:[.,][0-9]{1,9})?")
_DAY_FIRST: Final = re.compile(r"([0-9]{1,2})[/.]([0-9]{1,2})[/.]([0-9]{4})")
_YES: Final = frozenset({"si", "yes", "true", "verdadero", "1", "x", "y", "s"})
_NO: Final = frozenset({"no", "false", "falso", "0", "n"})

FIELD_TYPES: Final[Mapping[Kind, FieldType]] = MappingProxyType(
    {
        "text": FieldType.TEXT,
        "number": FieldType.NUMBER,
        "currency": FieldType.NUMBER,
        "percent": FieldType.NUMBER,
        "date": FieldType.DATETIME,
        "list": FieldType.KEYWORD,
        "checkbox": FieldType.BOOLEAN,
        "link": FieldType.TEXT,
    }
)
"""As what conditions compare each kind; a date is its first moment in UTC."""


class Unfit(ValueError):
    """A value does not fit where it is to stand: the reason with the mend, in both languages."""

    def __init__(self, es: str, en: str) -> None:
        super().__init__(en)
        self.es = es
        self.en = en


@dataclass(frozen=True, slots=True)
class Definition:
    """A custom attribute of an account. `kind` never changes; `options` are those of a list, `currency` is ISO 4217."""

    key: str
    kind: Kind
    options: tuple[str, ...] = ()
    currency: str | None = None


def fitting(definition: Definition, value: object) -> AttributeValue:
    """The value as it is stored, from JSON. Raises Unfit."""
    return _JSON[definition.kind](definition, value)


def reading(definition: Definition, text: str) -> AttributeValue:
    """The value as it is stored, from text that a person wrote, not empty. Raises Unfit.

    Numbers may have a decimal comma, never a sign between thousands; dates are YYYY-MM-DD or DD/MM/YYYY; a checkbox
    is sí, no, true, false, 1 or 0; the options of a list are compared without case and accents.
    """
    return _TEXTS[definition.kind](definition, text.strip())


def _text(_: Definition, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not (text := clean(value).strip()):
        raise Unfit(
            f"Debe ser un texto de 1 a {MAX_TEXT} caracteres; null lo borra.",
            f"Must be text of 1 to {MAX_TEXT} characters; null takes it away.",
        )
    return text


def _number(_: Definition, value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise Unfit(
            "Debe ser un número de menos de dieciséis cifras, sin comillas.",
            "Must be a number of less than sixteen digits, without quotes.",
        )
    return value


def _date(_: Definition, value: object) -> str:
    try:
        if isinstance(value, str) and len(value) == 10:
            return date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    raise Unfit("Debe ser una fecha que exista, como 2025-01-31.", "Must be a date that exists, such as 2025-01-31.")


def _option(definition: Definition, value: object) -> str:
    if isinstance(value, str) and value in definition.options:
        return value
    raise _no_option(definition)


def _checkbox(_: Definition, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise Unfit("Debe ser true o false.", "Must be true or false.")


def _link(_: Definition, value: object) -> str:
    link = clean(value).strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(link)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and not any(c.isspace() for c in link)
    except ValueError:
        fits = False
    if not fits or len(link) > MAX_TEXT:
        raise Unfit(
            f"Debe ser una dirección http:// o https:// completa de hasta {MAX_TEXT} caracteres.",
            f"Must be a whole http:// or https:// address of at most {MAX_TEXT} characters.",
        )
    return link


def _number_text(_: Definition, text: str) -> int | float:
    text = text.removesuffix("%").rstrip()
    if _NUMBER.fullmatch(text):
        try:
            number = Decimal(text.replace(",", "."))
        except InvalidOperation:  # pragma: no cover  (the pattern allows nothing else)
            number = _LARGEST
        if abs(number) < _LARGEST:
            return int(number) if number == number.to_integral_value() else float(number)
    raise Unfit(
        "No es un número: escríbelo sin separador de miles, como 1234,5 o 1234.5.",
        "Not a number: write it without a sign between thousands, such as 1234.5 or 1234,5.",
    )


def _date_text(definition: Definition, text: str) -> str:
    if found := _DAY_FIRST.fullmatch(text):
        text = f"{found[3]}-{int(found[2]):02}-{int(found[1]):02}"
    try:
        return _date(definition, text)
    except Unfit:
        raise Unfit(
            "No es una fecha que exista: escríbela como 2025-01-31 o 31/01/2025.",
            "Not a date that exists: write it as 2025-01-31 or 31/01/2025.",
        ) from None


def _option_text(definition: Definition, text: str) -> str:
    wanted = fold(clean(text), fold_n=True)
    for option in definition.options:
        if fold(option, fold_n=True) == wanted:
            return option
    raise _no_option(definition)


def _checkbox_text(_: Definition, text: str) -> bool:
    word = fold(clean(text))
    if word in _YES or word in _NO:
        return word in _YES
    raise Unfit("Debe ser sí o no.", "Must be yes or no.")


def _no_option(definition: Definition) -> Unfit:
    known = ", ".join(definition.options[:20]) + (", …" if len(definition.options) > 20 else "")
    return Unfit(f"Debe ser uno de: {known}.", f"Must be one of: {known}.")


_JSON: Final[Mapping[Kind, Callable[[Definition, object], AttributeValue]]] = MappingProxyType(
    {
        "text": _text,
        "number": _number,
        "currency": _number,
        "percent": _number,
        "date": _date,
        "list": _option,
        "checkbox": _checkbox,
        "link": _link,
    }
)
_TEXTS: Final[Mapping[Kind, Callable[[Definition, str], AttributeValue]]] = MappingProxyType(
    {
        "text": _text,
        "number": _number_text,
        "currency": _number_text,
        "percent": _number_text,
        "date": _date_text,
        "list": _option_text,
        "checkbox": _checkbox_text,
        "link": _link,
    }
)
