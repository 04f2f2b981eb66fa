"""HTTP: parse, authorise, call, answer."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database, Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency, Once
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.conversation import ContactUpdated
from relevo.contracts.inbound import MAX_TEXT
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import (
    ContactSnapshot,
    ConversationSnapshot,
    ConversationStatus,
    MessageSnapshot,
    Stage,
)
from relevo.conversation import lists, store
from relevo.conversation.changes import Changes
from relevo.conversation.domain import conversation as story
from relevo.conversation.domain.conversation import Change, Conversation
from relevo.conversation.lists import Filters
from relevo.kernel.access import ConversationFacts, may_see
from relevo.kernel.identity import InvalidIdentity, normal_email, normal_phone
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

SEQUENCE: Final = "Relevo-Sequence"
_MAX_MENTIONS: Final = 50

Reader = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_READ))]
Writer = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_REPLY, Permission.CONVERSATIONS_NOTE))]
Resolver = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_RESOLVE))]
Updater = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_UPDATE))]
Archiver = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_ARCHIVE))]
Labeller = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_LABEL))]
ContactReader = Annotated[Principal, Depends(require(Permission.CONTACTS_READ))]
ContactWriter = Annotated[Principal, Depends(require(Permission.CONTACTS_WRITE))]


def _said(value: str) -> str:
    text = clean(value)
    if not text.strip():
        es = "Escribe algo: un mensaje no puede estar vacío."
        en = "Write something: a message cannot be empty."
        raise PydanticCustomError("empty_text", "{en}", {"es": es, "en": en})
    return text


def _label(value: str) -> str:
    label = " ".join(clean(value).split())
    if not label:
        es, en = "Una etiqueta no puede estar vacía.", "A label cannot be empty."
        raise PydanticCustomError("empty_label", "{en}", {"es": es, "en": en})
    return label


Label = Annotated[str, StringConstraints(max_length=60), AfterValidator(_label)]
Mention = Annotated[str, StringConstraints(pattern=r"^(agent|team):[0-9a-f-]{36}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewMessage(_Body):
    """A reply to the customer, or a private note."""

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT), AfterValidator(_said)]
    private: bool = Field(default=False, description="A note for the team: it never leaves to the customer.")
    mentions: list[Mention] = Field(
        default=[], max_length=_MAX_MENTIONS, description="`agent:ID` or `team:ID`; only in a private note."
    )


class LabelChange(_Body):
    """Labels to put on and to take off; one named in both stays."""

    add: list[Label] = Field(default=[], max_length=50)
    remove: list[Label] = Field(default=[], max_length=50)


class ContactChannel(BaseModel):
    """From where a contact writes: an inbox, and the channel's own identifier of the person."""

    inbox_id: str
    source_id: str


class ContactOut(ContactSnapshot):
    """A contact."""

    created_at: Time
    sequence: int


class ContactDetail(ContactOut):
    """A contact with the channels that reach them."""

    channels: list[ContactChannel]


class Labels(BaseModel):
    """The labels in use."""

    items: list[str]


class Count(BaseModel):
    """A count; with ``more`` there are more than it says."""

    count: int
    more: bool = False


class Counts(BaseModel):
    """How many unresolved conversations one sees; ``mine`` is null for a key that stands for no agent."""

    open: Count
    unassigned: Count
    mine: Count | None = None


@router.get("/conversations")
async def list_conversations(
    *,
    who: Reader,
    db: Db,
    status: Annotated[list[ConversationStatus] | None, Query()] = None,
    stage: Annotated[list[Stage] | None, Query()] = None,
    channel: Annotated[list[str] | None, Query(max_length=20)] = None,
    inbox: UUID | None = None,
    assignee: Annotated[UUID | Literal["me", "none"] | None, Query(description="An id, `me` or `none`.")] = None,
    team: UUID | None = None,
    label: Annotated[str | None, Query(max_length=60)] = None,
    contact: UUID | None = None,
    source: Annotated[
        str | None, Query(max_length=512, description="The channel's own id of the person; needs `inbox`.")
    ] = None,
    archived: Annotated[bool | None, Query(description="True: only archived ones. They are in no other list.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ConversationSnapshot]:
    """The conversations that one may see, newest activity first."""
    if assignee == "me" and who.viewer.agent_id is None:
        raise Problem(
            422,
            "not_an_agent",
            es="Esta clave no representa a ningún agente: indica un id en lugar de «me».",
            en="This key stands for no agent: give an id instead of `me`.",
            errors=(FieldError("/query/assignee", es="Usa el id de un agente.", en="Use an agent's id."),),
        )
    if source is not None and inbox is None:
        raise Problem(
            422,
            "source_needs_inbox",
            es="El identificador del canal solo dice algo dentro de una bandeja: indica también `inbox`.",
            en="A channel's id means something within an inbox only: give `inbox` too.",
            errors=(FieldError("/query/inbox", es="Falta.", en="It is missing."),),
        )
    filters = Filters(
        status=tuple(status or ()),
        stage=tuple(stage or ()),
        channel=tuple(channel or ()),
        inbox_id=_text(inbox),
        assignee_id=who.viewer.agent_id if assignee == "me" else _text(assignee) if assignee != "none" else None,
        unassigned=assignee == "none",
        team_id=_text(team),
        label=_label(label) if label and label.strip() else None,
        contact_id=_text(contact),
        source_id=source,
        archived=archived,
    )
    async with db.begin() as tx:
        rows = await lists.conversations_page(tx, who.viewer, filters, limit, _after(cursor))
    return paging.page(rows, limit, lambda r: (r["last_activity_at"].isoformat(), r["id"]), store.snapshot_of)


@router.get("/conversations/counts")
async def count_conversations(who: Reader, db: Db) -> Counts:
    """How many unresolved conversations one sees: all, unassigned, mine. Exact up to 1,000."""
    async with db.begin() as tx:
        found = await lists.counts(tx, who.viewer)
    return Counts.model_validate(
        {name: Count(count=min(n, lists.COUNT_LIMIT), more=n > lists.COUNT_LIMIT) for name, n in found.items()}
    )


@router.get("/conversations/{conversation_id}")
async def get_conversation(who: Reader, db: Db, conversation_id: UUID) -> ConversationSnapshot:
    """One conversation."""
    async with db.begin() as tx:
        row = await lists.conversation(tx, who.viewer, str(conversation_id))
    if row is None:
        raise _no_conversation()
    return store.snapshot_of(row)


@router.get("/conversations/{conversation_id}/messages")
async def list_messages(
    *,
    who: Reader,
    db: Db,
    conversation_id: UUID,
    order: Annotated[
        Literal["oldest", "newest"], Query(description="Which come first, by sequence: the order of record.")
    ] = "oldest",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[MessageSnapshot]:
    """The messages and private notes of a conversation, by sequence."""
    after: int | None = paging.decode(cursor, int)[0] if cursor else None
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, str(conversation_id)) is None:
            raise _no_conversation()
        rows = await lists.messages_page(
            tx, who.account_id, str(conversation_id), limit, after, newest_first=order == "newest"
        )
    return paging.page(rows, limit, lambda row: (row["sequence"],), store.message_of)


@router.post("/conversations/{conversation_id}/messages", status_code=201)
async def write_message(
    *, who: Writer, db: Db, once: Idempotency, response: Response, conversation_id: UUID, body: NewMessage
) -> MessageSnapshot:
    """Reply to the customer, or write a private note.

    A reply to a resolved conversation is sent and does not reopen it; an archived one is 409: unarchive it first.
    """
    needed = Permission.CONVERSATIONS_NOTE if body.private else Permission.CONVERSATIONS_REPLY
    await require(needed)(who)
    if body.mentions and not body.private:
        raise Problem(
            422,
            "mentions_need_a_note",
            es="Solo se puede mencionar a alguien en una nota privada.",
            en="People can be mentioned only in a private note.",
            errors=(
                FieldError(
                    "/mentions",
                    es="Pon «private» a true o quita las menciones.",
                    en="Set `private` to true, or leave the mentions out.",
                ),
            ),
        )
    writing = story.Writing(new_id(), body.text, who.actor, who.name, human=who.kind == "agent")
    async with db.begin() as tx:
        await once.start(tx)
        mentioned = await _mentioned(tx, who.account_id, body.mentions) if body.mentions else []
        conversation = await _locked(tx, who, conversation_id)

        def write(conversation: Conversation, moment: datetime) -> Change:
            if body.private:
                return story.note(conversation, writing, moment, mentions=body.mentions, mentioned_agents=mentioned)
            return story.reply(conversation, writing, moment)

        change = await _apply(tx, who, conversation, write)
        assert change.message
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return await once.finish(tx, change.message)


@router.post("/conversations/{conversation_id}/resolve")
async def resolve_conversation(
    *, who: Resolver, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Close a conversation."""
    return await _act(story.resolve, db, once=once, who=who, response=response, conversation_id=conversation_id)


@router.post("/conversations/{conversation_id}/reopen")
async def reopen_conversation(
    *, who: Updater, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Open a resolved conversation again; an archived one loses that flag first."""
    try:
        return await _act(story.reopen, db, once=once, who=who, response=response, conversation_id=conversation_id)
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != "conversations_one_unresolved":
            raise
        raise Problem(
            409,
            "another_conversation_is_open",
            es="Este contacto ya tiene otra conversación abierta en esta bandeja: continúa en ella.",
            en="This contact has another open conversation on this inbox: go on in that one.",
        ) from None


@router.post("/conversations/{conversation_id}/archive")
async def archive_conversation(
    *, who: Archiver, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Put a conversation away for the record; one that is not resolved is resolved first."""
    return await _act(story.archive, db, once=once, who=who, response=response, conversation_id=conversation_id)


@router.post("/conversations/{conversation_id}/unarchive")
async def unarchive_conversation(
    *, who: Archiver, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Take an archived conversation back; it is resolved."""
    return await _act(story.unarchive, db, once=once, who=who, response=response, conversation_id=conversation_id)


@router.post("/conversations/{conversation_id}/labels")
async def change_labels(
    *, who: Labeller, db: Db, once: Idempotency, response: Response, conversation_id: UUID, body: LabelChange
) -> ConversationSnapshot:
    """Put labels on a conversation, take others off. What is so already stays so."""

    def act(conversation: Conversation, moment: datetime) -> Change:
        return story.change_labels(conversation, body.add, body.remove, moment)

    return await _act(act, db, once=once, who=who, response=response, conversation_id=conversation_id)


@router.get("/labels")
async def list_labels(who: Reader, db: Db) -> Labels:
    """The labels that conversations have, in order."""
    async with db.begin() as tx:
        return Labels(items=await lists.labels(tx, who.account_id))


@router.get("/contacts", tags=["contacts"])
async def list_contacts(
    *,
    who: ContactReader,
    db: Db,
    email: Annotated[str | None, Query(max_length=320)] = None,
    phone: Annotated[str | None, Query(max_length=64, description="With its country code: +34600111222.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ContactOut]:
    """The contacts of the account, the newest first."""
    async with db.begin() as tx:
        rows = await lists.contacts_page(
            tx,
            who.account_id,
            limit,
            _after(cursor),
            email=_normal("email", email, normal_email) if email else None,
            phone=_normal("phone", phone, normal_phone) if phone else None,
        )
    return paging.page(rows, limit, lambda r: (r["created_at"].isoformat(), r["contact_id"]), _contact_out)


@router.get("/contacts/{contact_id}", tags=["contacts"])
async def get_contact(who: ContactReader, db: Db, contact_id: UUID) -> ContactDetail:
    """One contact, with the channels that reach them."""
    async with db.begin() as tx:
        row = await lists.contact(tx, who.account_id, str(contact_id))
        if row is None:
            raise _no_contact()
        channels = await lists.contact_channels(tx, who.account_id, str(contact_id))
    return ContactDetail.model_validate(
        {**_contact_out(row).model_dump(), "channels": [dict(channel) for channel in channels]}
    )


@router.post("/contacts/{contact_id}/block", tags=["contacts"])
async def block_contact(
    *, who: ContactWriter, db: Db, once: Idempotency, response: Response, contact_id: UUID
) -> ContactOut:
    """From now on this contact's messages are kept, open nothing and notify nobody."""
    return await _block(db, once=once, who=who, response=response, contact_id=contact_id, blocked=True)


@router.post("/contacts/{contact_id}/unblock", tags=["contacts"])
async def unblock_contact(
    *, who: ContactWriter, db: Db, once: Idempotency, response: Response, contact_id: UUID
) -> ContactOut:
    """From now on this contact's messages reach conversations again."""
    return await _block(db, once=once, who=who, response=response, contact_id=contact_id, blocked=False)


async def _block(
    db: Database, *, once: Once, who: Principal, response: Response, contact_id: UUID, blocked: bool
) -> ContactOut:
    async with db.begin() as tx:
        await once.start(tx)
        row = await lists.contact(tx, who.account_id, str(contact_id), lock=True)
        if row is None:
            raise _no_contact()
        contact = _contact_out(row)
        if contact.blocked != blocked:
            contact = contact.model_copy(update={"blocked": blocked, "sequence": contact.sequence + 1})
            await store.block_contact(tx, who.account_id, contact.id, blocked=blocked, sequence=contact.sequence)
            tx.emit(
                ContactUpdated(contact=ContactSnapshot.model_validate(contact.model_dump())),
                account=who.account_id,
                entity=contact.id,
                actor=who.actor,
                sequence=contact.sequence,
            )
        response.headers[SEQUENCE] = str(contact.sequence)
        return await once.finish(tx, contact)


async def _act(
    act: Callable[[Conversation, datetime], Change],
    db: Database,
    *,
    once: Once,
    who: Principal,
    response: Response,
    conversation_id: UUID,
) -> ConversationSnapshot:
    async with db.begin() as tx:
        await once.start(tx)
        change = await _apply(tx, who, await _locked(tx, who, conversation_id), act)
        state = change.conversation.state
        response.headers[SEQUENCE] = str(state.sequence)
        return await once.finish(tx, state)


async def _locked(tx: Tx, who: Principal, conversation_id: UUID) -> Conversation:
    """The conversation, locked. Raises Problem 404 when it is not there for this principal."""
    found = await store.lock(tx, [(who.account_id, str(conversation_id))])
    conversation = found.get((who.account_id, str(conversation_id)))
    if conversation is None:
        raise _no_conversation()
    state = conversation.state
    facts = ConversationFacts(
        account_id=state.account_id,
        inbox_id=state.inbox_id,
        team_id=state.team_id,
        assignee_id=state.assignee_id,
        participant_ids=frozenset(state.participant_ids),
        owner_id=state.owner_id,
    )
    if not may_see(who.viewer, facts):
        raise _no_conversation()
    return conversation


async def _apply(
    tx: Tx, who: Principal, conversation: Conversation, act: Callable[[Conversation, datetime], Change]
) -> Change:
    try:
        change = act(conversation, now())
    except story.Refused as refused:
        raise Problem(409, refused.code, es=refused.es, en=refused.en) from None
    changes = Changes({(conversation.state.account_id, conversation.state.id): conversation})
    changes.apply(change, actor=who.actor)
    await changes.save(tx)
    return change


async def _mentioned(tx: Tx, account_id: str, mentions: list[str]) -> list[str]:
    """The agents whom the mentions stand for, a team standing for its members. Raises Problem 422 naming the unknown."""
    agents = {agent.id for agent in await directory.agents(tx, account_id) if agent.active}
    teams = {team.id: team.member_ids for team in await directory.teams(tx, account_id)}
    found: list[str] = []
    errors = []
    for index, mention in enumerate(mentions):
        kind, _, id_ = mention.partition(":")
        if kind == "agent" and id_ in agents:
            found.append(id_)
        elif kind == "team" and id_ in teams:
            found.extend(member for member in teams[id_] if member in agents)
        else:
            es, en = ("No existe ese agente.", "There is no such agent.")
            if kind == "team":
                es, en = ("No existe ese equipo.", "There is no such team.")
            errors.append(FieldError(f"/mentions/{index}", es=es, en=en))
    if errors:
        raise Problem(
            422,
            "unknown_mention",
            es="Se menciona a alguien que no existe.",
            en="Somebody is mentioned who does not exist.",
            errors=errors,
        )
    return found


def _contact_out(row: Any) -> ContactOut:
    contact = store.contact_of(row)
    return ContactOut.model_validate(
        {**contact.model_dump(), "created_at": row["created_at"], "sequence": row["sequence"]}
    )


def _after(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    moment, id_ = paging.decode(cursor, str, str)
    try:
        return datetime.fromisoformat(moment), str(UUID(id_))
    except ValueError:
        raise Problem(
            422,
            "invalid_cursor",
            es="El cursor no es válido: usa el valor «next» de la página anterior.",
            en="The cursor is not valid: use the `next` of the page before.",
        ) from None


def _normal(name: str, value: str, normal: Callable[[str], str]) -> str:
    try:
        return normal(value)
    except InvalidIdentity as invalid:
        es = "No es una dirección de correo." if name == "email" else "No es un teléfono con prefijo de país."
        raise Problem(
            422,
            f"invalid_{name}",
            es=es,
            en=str(invalid),
            errors=(FieldError(f"/query/{name}", es=es, en=f"{invalid.reason} {invalid.mend}"),),
        ) from None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _no_conversation() -> Problem:
    return Problem(404, "conversation_not_found", es="No existe esa conversación.", en="There is no such conversation.")


def _no_contact() -> Problem:
    return Problem(404, "contact_not_found", es="No existe ese contacto.", en="There is no such contact.")
