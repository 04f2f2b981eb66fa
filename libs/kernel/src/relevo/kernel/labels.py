"""The account's labels: which one a name means.

A label has a key, the name under which it was first used, which is what conversations, contacts, events, rules and
reports carry and which never changes; and a name, which people read and may change.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from relevo.kernel.text import fold

State = Literal["live", "merging", "merged", "deleting"]


@dataclass(frozen=True, slots=True)
class Known:
    """A label of the catalogue as far as names go. ``into_key``: of one that was merged, where it went."""

    key: str
    name: str
    state: State = "live"
    into_key: str | None = None


def meant(name: str, known: Iterable[Known]) -> str | None:
    """The key of the label that a name stands for; None: there is none yet.

    A name as people read it now goes before the key of another label, that before a name that differs in case and
    accents only. What was merged stands for what it became.
    """
    rows = list(known)
    folded = fold(name)
    fits = (
        (one for one in rows if one.state == "live" and one.name == name),
        (one for one in rows if one.key == name),
        (one for one in rows if one.state == "live" and fold(one.name) == folded),
    )
    for fitting in fits:
        if found := next(fitting, None):
            return found.into_key or found.key
    return None
