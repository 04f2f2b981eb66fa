"""Canned replies: a text under a code, with variables that are filled in when it is used."""

import re
from collections.abc import Mapping
from typing import Final

from relevo.conversation.domain.state import Refused

VARIABLES: Final = (
    "contact.name",
    "contact.first_name",
    "contact.email",
    "contact.phone",
    "agent.name",
    "agent.first_name",
    "inbox.name",
    "account.name",
    "conversation.number",
    "conversation.subject",
)
"""What a canned reply can name, as {{contact.name}} or, where it may be unknown, {{contact.first_name|amigo}}."""

_VARIABLE: Final = re.compile(r"\{\{([^{}|]*)(?:\|([^{}]*))?\}\}")


def check(text: str) -> None:
    """Raises Refused for a variable that does not exist, naming those that do."""
    unknown = [name for match in _VARIABLE.finditer(text) if (name := match[1].strip()) not in VARIABLES]
    if unknown:
        there = ", ".join(VARIABLES)
        raise Refused(
            "unknown_variable",
            es=f"La variable «{unknown[0]}» no existe. Existen: {there}.",
            en=f"There is no variable {unknown[0]!r}. There are: {there}.",
            pointer="/text",
        )


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables filled in; what is not known is what follows its bar, or nothing.

    One pass: what a value says is never taken for a variable.
    """
    return _VARIABLE.sub(lambda match: values.get(match[1].strip()) or (match[2] or "").strip(), text)


def first_name(name: str) -> str:
    """What one calls a person by."""
    return name.split(maxsplit=1)[0] if name.split() else ""
