"""All SQL of this service but the lists': a few statements, each over a whole batch, whatever its size.

Rows are written from the JSON of their snapshots: one parameter a statement. Locks are taken in one order by every
door: contacts by their keys, then conversations by id. Every statement names the account beside the id.
"""

from relevo.conversation.store import (
    attributes,
    commands,
    contacts,
    conversations,
    imports,
    merges,
    messages,
    names,
    notes,
    profiles,
    segments,
    surveys,
)

__all__ = [
    "attributes",
    "commands",
    "contacts",
    "conversations",
    "imports",
    "merges",
    "messages",
    "names",
    "notes",
    "profiles",
    "segments",
    "surveys",
]
