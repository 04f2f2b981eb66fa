"""The timeline of a conversation, and what it was at a past moment: both told from the log of its events."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, ValidationError

from relevo.chassis import directory, paging
from relevo.chassis.http import Db, Rt
from relevo.chassis.paging import Cursor
from relevo.chassis.problems import FieldError, Problem, language_of, unavailable
from relevo.chassis.segments import LogRow, SegmentDamaged
from relevo.chassis.stories import Stories, recorded
from relevo.contracts.base import Id, Time, now
from relevo.contracts.catalogue import BY_MODEL, UnknownType, decode
from relevo.contracts.conversation import (
    ContactCreated,
    ContactRestored,
    ContactUpdated,
    ConversationEvent,
    ConversationReviewed,
    MessageCreated,
)
from relevo.contracts.envelope import Envelope
from relevo.contracts.personal import redacted
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation import lists
from relevo.conversation.api.common import Reader, no_conversation
from relevo.conversation.api.shown import MessageShown, reading
from relevo.conversation.domain import timeline
from relevo.conversation.domain.timeline import CauseKind, Happened
from relevo.conversation.store import labels, names
from relevo.conversation.store import timeline as store

router = APIRouter(tags=["conversations"])

_MOST: Final = 100
_CONTACT: Final = tuple(BY_MODEL[model].name for model in (ContactCreated, ContactUpdated, ContactRestored))
_NO_STORY: Final = frozenset({BY_MODEL[ConversationReviewed].name})
"""Told of a conversation although nothing happened in it."""


class Cause(BaseModel):
    """What brought an event about.

    `chain` are the events and commands that led to it, of this and other services, the nearest first: those of this
    conversation are entries of its timeline. `correlation_id` is what the whole chain began with.
    """

    kind: CauseKind
    text: str = Field(description="In the language asked for.")
    actor: str = Field(description="`agent:ID`, `contact:ID`, `rule:ID`, `bot:ID`, `key:ID` or `system`.")
    actor_name: str = ""
    rule_version: int | None = Field(default=None, description="Of a rule: which version of it acted.")
    reason: str | None = Field(default=None, description="Of an assignment: the decision's code.")
    event_id: Id | None = Field(default=None, description="The nearest event of this conversation that led to it.")
    sequence: int | None = Field(default=None, description="That event's number.")
    chain: list[str]
    correlation_id: str


class Entry(BaseModel):
    """One event: `type` is the catalogue's; `text` says it in the language asked for, with names as they are today.

    `values` are what an activity line tells (`from`, `to`, …). `message` is the message that was written, as it is today.
    """

    id: Id
    sequence: int
    type: str
    at: Time = Field(description="When it occurred.")
    recorded_at: Time = Field(description="When it was recorded.")
    text: str
    values: dict[str, Any] = {}
    message_id: Id | None = None
    message: MessageShown | None = None
    cause: Cause


class AsOf(BaseModel):
    """A conversation as it was at a moment, since `changed_at`, by the event that made it so."""

    at: Time
    conversation: ConversationSnapshot
    event_id: Id
    changed_at: Time


class Timeline(BaseModel):
    """One page of a timeline. It may hold fewer than asked for, even none, while `next` leads on."""

    items: list[Entry]
    next: str | None = Field(default=None, description="Cursor of the next page; null when this is the last.")


@router.get("/conversations/{conversation_id}/timeline")
async def get_timeline(
    *,
    who: Reader,
    db: Db,
    runtime: Rt,
    conversation_id: UUID,
    order: Annotated[Literal["oldest", "newest"], Query(description="Which come first, by number.")] = "oldest",
    limit: Annotated[int, Query(ge=1, le=_MOST, description="How many at most.")] = 50,
    cursor: Cursor = None,
    request: Request,
) -> Timeline:
    """Every event of a conversation with its cause: a person's act, a rule in a version, the policy, a timer, the customer.

    What became part of another conversation has its own timeline; the event that tells of a merge names it.
    """
    id_, newest, language = str(conversation_id), order == "newest", language_of(request)
    after: int | None = paging.decode(cursor, int)[0] if cursor else None
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, id_) is None:
            raise no_conversation()
        erased = await store.is_erased(tx, who.account_id, id_)
    stories = _stories(runtime)
    with _readable(runtime):
        stretch = await stories.stretch(who.account_id, id_, after=after, limit=limit, newest_first=newest)
    events = [_event(row, erased=erased) for row in stretch.rows if row.type not in _NO_STORY]
    known = {one.envelope.id: one for one in events}
    elsewhere = {id_ for one in events if timeline.origin_of(one, known) is None for id_ in one.chain}
    for row in await stories.found(who.account_id, id_, elsewhere):
        known[row.event_id] = _event(row, erased=erased)
    every = list(known.values())
    async with db.begin() as tx:
        written = {one.message_id for one in events if isinstance(one.data, MessageCreated) and one.message_id}
        rows = await store.said(tx, who.account_id, id_, written)
        show = await reading(tx, who.account_id, rows, language)
        called = await names.find(tx, who.account_id, set().union(*(one.ids() for one in every)))
        lines = [line for one in every if (line := one.line)]
        called |= await labels.names(tx, who.account_id, set().union(*(line.labels() for line in lines)))
        account = (await directory.accounts(tx, [who.account_id])).get(who.account_id)
    zone = account.time_zone if account else "UTC"
    shown = {row["id"]: show(row) for row in rows}
    items = []
    for one in events:
        origin = timeline.origin_of(one, known)
        entry = _entry(one, shown)
        entry.text = timeline.told(one, called, language, zone)
        entry.cause.text = timeline.because(one, called, language, origin=origin, zone=zone)
        entry.cause.actor_name = called.get(one.actor.partition(":")[2], "")
        if origin is not None:
            entry.cause.event_id, entry.cause.sequence = origin.envelope.id, origin.envelope.sequence
        items.append(entry)
    return Timeline(items=items, next=paging.encode(stretch.through) if stretch.more else None)


@router.get("/conversations/{conversation_id}/as-of")
async def get_conversation_as_of(
    *,
    who: Reader,
    db: Db,
    runtime: Rt,
    conversation_id: UUID,
    at: Annotated[Time, Query(description="The moment, RFC 3339; not in the future.")],
) -> AsOf:
    """What a conversation was at a past moment: its status, stage, assignee, team, labels, priority, attributes and all else.

    As the last event tells that was recorded until then, and its contact likewise. What was erased since stays erased.
    """
    id_, stories = str(conversation_id), _stories(runtime)
    async with db.begin() as tx:
        present = await lists.conversation(tx, who.viewer, id_)
        erased = await store.is_erased(tx, who.account_id, id_)
    if present is None:
        raise no_conversation()
    if at > now():
        raise _not_yet()
    with _readable(runtime):
        row = await stories.last(who.account_id, id_, at, but=_NO_STORY)
        if row is None:
            raise await _unknown(stories, who.account_id, id_)
        told = _event(row, erased=erased)
        if told.data is None:
            raise unavailable("event_unreadable", es=_UNREADABLE[0], en=_UNREADABLE[1])
        state = told.data.conversation
        contact = await stories.last(who.account_id, state.contact.id, at, _CONTACT)
    if contact is not None and not erased and recorded(contact) > told.envelope.recorded:
        data = decode(contact.type, contact.body)
        state = state.model_copy(update={"contact": data.contact})
    return AsOf(at=at, conversation=state, event_id=told.envelope.id, changed_at=told.envelope.recorded)


async def _unknown(stories: Stories, account_id: str, conversation_id: str) -> Problem:
    """404: it was not there yet; 409: it was there, or may have been, and the log tells of it only from later on."""
    first = await stories.stretch(account_id, conversation_id, after=None, limit=1)
    if first.rows and _event(first.rows[0]).envelope.sequence == 1:
        return Problem(
            404,
            "not_there_yet",
            es="La conversación no existía todavía en ese momento.",
            en="The conversation was not there yet at that moment.",
        )
    since = recorded(first.rows[0]) if first.rows else None
    return Problem(
        409,
        "beyond_the_log",
        es="El registro de esta conversación no llega hasta ese momento: pide uno desde `known_since`.",
        en="The log of this conversation does not reach back to that moment: ask for one from `known_since` on.",
        extra={"known_since": since.isoformat() if since else None},
    )


def _not_yet() -> Problem:
    return Problem(
        422,
        "moment_in_the_future",
        es="Ese momento aún no ha llegado: pide uno pasado.",
        en="That moment has not come yet: ask for a past one.",
        errors=(FieldError("/query/at", es="Debe estar en el pasado.", en="Must be in the past."),),
    )


_UNREADABLE: Final = (
    "El evento de ese momento está en un formato que esta versión no lee.",
    "The event of that moment has a form that this release does not read.",
)


@contextmanager
def _readable(runtime: Rt) -> Iterator[None]:
    """503 when a part of the archive cannot be read; the log has the reason."""
    try:
        yield
    except (SegmentDamaged, OSError) as error:
        runtime.log.warning("story_not_told", reason=str(error))
        raise unavailable(
            "archive_unavailable",
            es="Ahora no se puede leer una parte del archivo de eventos; inténtalo de nuevo en un momento.",
            en="A part of the archive of events cannot be read now; try again in a moment.",
            retry_after=30,
        ) from None


def _stories(runtime: Rt) -> Stories:
    assert runtime.stories is not None, "app.build names the stream"
    return runtime.stories


def _event(row: LogRow, *, erased: bool = False) -> Happened:
    """A row of the log, decoded; of one that cannot be, what happened is not known, but that something did.

    ``erased``: its person is, so that nothing of them is told, however far the eraser is with the log.
    """
    envelope = Envelope.from_headers(json.loads(row.headers))
    try:
        data = decode(row.type, row.body)
    except (UnknownType, ValidationError):
        data = None
    if erased and data is not None:
        data = redacted(data)
    return Happened(envelope, data if isinstance(data, ConversationEvent) else None)


def _entry(one: Happened, shown: Mapping[str, MessageShown]) -> Entry:
    envelope, line = one.envelope, one.line
    return Entry(
        id=envelope.id,
        sequence=envelope.sequence,
        type=envelope.type,
        at=envelope.time,
        recorded_at=envelope.recorded,
        text="",
        values={"code": line.code, **line.values} if line else {},
        message_id=one.message_id,
        message=shown.get(one.message_id or "") if isinstance(one.data, MessageCreated) else None,
        cause=Cause(
            kind=timeline.cause_of(one),
            text="",
            actor=one.actor,
            rule_version=envelope.actor_version or None,
            reason=getattr(one.data, "reason", None) or None,
            chain=one.chain,
            correlation_id=envelope.correlation_id or envelope.id,
        ),
    )
