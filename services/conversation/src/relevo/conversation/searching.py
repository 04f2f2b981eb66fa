"""A search from what was typed to what is shown: names are looked up, candidates found, hits ranked and marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal, or_, text

from relevo.chassis import directory
from relevo.chassis.database import Tx
from relevo.contracts.base import Id, Model, Time
from relevo.conversation import labels
from relevo.conversation.domain.search import Query, Terms, excerpt, parse, pattern, plain
from relevo.conversation.filters import Filters
from relevo.conversation.store import search as store
from relevo.conversation.store.rows import Row
from relevo.conversation.store.search import Looked
from relevo.conversation.tables import messages
from relevo.kernel.access import Viewer

# From few candidates to their rows: whatever the planner guesses of their number, one by one is right.
_FROM_THE_CANDIDATES = text(
    """
    select set_config('plan_cache_mode', 'force_custom_plan', true) as plan,
        set_config('enable_hashjoin', 'off', true) as hash, set_config('enable_mergejoin', 'off', true) as merge
    """
)
END_OF_TIME = (datetime.fromisoformat("9999-01-01T00:00:00+00:00"), str(UUID(int=2**128 - 1)))
Place = tuple[datetime, str, int]
"""Before which moment and id a block of hits begins, and how many of the block were shown."""


class Hit(Model):
    """A message, private note or subject that was found. ``marks`` are from-to pairs of code points in the excerpt."""

    kind: str
    message_id: Id | None
    conversation_id: Id
    number: int
    inbox_id: Id
    channel: str
    status: str
    subject: str
    contact_id: Id
    contact_name: str
    author: str | None
    author_name: str | None
    at: Time
    excerpt: str
    marks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """One page of hits. ``next``: where the following page begins, None after the last; a page may be short, even empty,
    and have one, since what is looked at for one answer is bounded.
    """

    hits: Sequence[Hit]
    next: Place | None


async def messages_of(tx: Tx, viewer: Viewer, typed: str, limit: int, place: Place | None) -> Found:
    """Messages, notes and subjects that the viewer may see, exact spelling first within blocks of the newest."""
    query = parse(typed)
    at, id_, shown = place or (*END_OF_TIME, 0)
    looked = await _looked(tx, viewer, query, (at, id_))
    if looked is None:
        return Found((), None)
    keys = tuple(await labels.keys(tx, viewer.account_id, query.labels)) if query.labels else ()
    filters = Filters(with_archived=True, labels=keys, inbox_ids=await _inboxes(tx, viewer, query.places) or ())
    if query.places and not filters.inbox_ids:
        return Found((), None)
    await tx.execute(_FROM_THE_CANDIDATES)
    found = await store.messages_found(tx, viewer, looked, filters, _by(viewer, query))
    block, more = found.rows[: store.BLOCK], found.rows[store.BLOCK :]
    terms = Terms(query)
    ranked = sorted(block, key=lambda row: -terms.exactness(row["text"]))  # stable: the newest first among equals
    hits = [_hit(row, terms) for row in ranked[shown : shown + limit]]
    if shown + limit < len(ranked):
        return Found(hits, (at, id_, shown + limit))
    if more:
        return Found(hits, (block[-1]["at"], block[-1]["id"], 0))
    return Found(hits, None if found.last is None else (*found.last, 0))


async def conversations_of(tx: Tx, viewer: Viewer, typed: str) -> tuple[str, ...]:
    """The conversations of the newest candidates for this text, to narrow a list to."""
    looked = await _looked(tx, viewer, parse(typed), END_OF_TIME)
    return () if looked is None else tuple(await store.conversations_found(tx, viewer.account_id, looked))


async def contacts_of(tx: Tx, viewer: Viewer, typed: str, limit: int) -> Sequence[Row]:
    """Contacts by fragments of what is known of them, one more than asked."""
    digits = "".join(char for char in typed if char.isdigit())
    if len(digits) >= 3 and not typed.strip("+0123456789 ().-/"):
        return await store.contacts_found(tx, viewer.account_id, [digits], limit + 1)
    fragments = plain(typed).split()[:6]
    return await store.contacts_found(tx, viewer.account_id, fragments, limit + 1) if fragments else []


async def _looked(tx: Tx, viewer: Viewer, query: Query, before: tuple[datetime, str]) -> Looked | None:
    # The words of a phrase must be there as they are.
    phrased = [word for phrase in query.phrases for word in phrase.split()]
    typed = [*phrased, *query.words]
    words = await store.forms(tx, typed, verbatim=len(phrased), open_end=query.open_end) if typed else []
    author = _author(viewer, query)
    if not words and author is None:
        return None
    return Looked(pattern(words, author), query.phrases, before)


def _author(viewer: Viewer, query: Query) -> str | None:
    """What stands for the author among the words of a message, where one such does."""
    match [name.lower() for name in query.authors]:
        case ["me" | "yo" | "mí"] if viewer.agent_id:
            return f"@{viewer.agent_id[-12:]}"
        case ["customer" | "cliente"]:
            return "@customer"
        case _:
            return None


def _by(viewer: Viewer, query: Query) -> ColumnElement[bool] | None:
    """The condition on authors that are named."""
    ways: list[ColumnElement[bool]] = []
    for name in query.authors:
        match name.lower():
            case "me" | "yo" | "mí":
                ways.append(messages.c.author == f"agent:{viewer.agent_id}")
            case "customer" | "cliente":
                ways.append(messages.c.kind == "incoming")
            case "agent" | "agente":
                ways.append(messages.c.author.startswith("agent:"))
            case _:
                spelled = func.search_plain(messages.c.author_name)
                ways.append(spelled.contains(func.search_plain(literal(name))))
    return or_(*ways) if ways else None


async def _inboxes(tx: Tx, viewer: Viewer, places: Sequence[str]) -> tuple[str, ...]:
    """The inboxes that the places name, by channel, name or id."""
    wanted = {plain(place) for place in places}
    known = await directory.account_inboxes(tx, viewer.account_id) if wanted else []
    return tuple(inbox.id for inbox in known if {inbox.id, plain(inbox.channel), plain(inbox.name)} & wanted)


def _hit(row: Row, terms: Terms) -> Hit:
    shown, marks = excerpt(row["text"], terms.marks(row["text"]))
    fields: dict[str, Any] = {name: value for name, value in row.items() if name in Hit.model_fields}
    message_id = None if row["kind"] == "subject" else row["id"]
    return Hit(**fields, message_id=message_id, excerpt=shown, marks=tuple(marks))
