"""Canned replies: a text under a code, with variables that are filled in when it is used."""

from typing import Final

from relevo.conversation.domain.state import Refused
from relevo.kernel.variables import unknown

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


def check(text: str) -> None:
    """Raises Refused for a variable that does not exist, naming those that do."""
    if (name := unknown(text, VARIABLES)) is not None:
        there = ", ".join(VARIABLES)
        raise Refused(
            "unknown_variable",
            es=f"La variable «{name}» no existe. Existen: {there}.",
            en=f"There is no variable {name!r}. There are: {there}.",
            pointer="/text",
        )


def first_name(name: str) -> str:
    """What one calls a person by."""
    return name.split(maxsplit=1)[0] if name.split() else ""
