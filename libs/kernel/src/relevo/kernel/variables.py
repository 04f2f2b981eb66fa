"""Texts with variables: {{contact.name}} or, where it may be unknown, {{contact.first_name|amigo}}."""

import re
from collections.abc import Collection, Mapping
from typing import Final

_VARIABLE: Final = re.compile(r"\{\{([^{}|]*)(?:\|([^{}]*))?\}\}")


def unknown(text: str, known: Collection[str]) -> str | None:
    """The first variable of a text that does not exist, None when all do."""
    return next((name for match in _VARIABLE.finditer(text) if (name := match[1].strip()) not in known), None)


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables filled in; what is not known is what follows its bar, or nothing.

    One pass: what a value says is never taken for a variable.
    """
    return _VARIABLE.sub(lambda match: values.get(match[1].strip()) or (match[2] or "").strip(), text)
