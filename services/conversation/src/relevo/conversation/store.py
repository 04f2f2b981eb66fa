"""All SQL of the hot path: a few statements, each over a whole batch, whatever its size.

Rows are written from the JSON of their snapshots: one parameter a statement. Locks are taken in one order by every
door: contacts by their keys, then conversations by id. Every statement names the account beside the id.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.chassis.statements import Rows
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot, MessageSnapshot
from relevo.conversation.domain.contacts import NewContact, Sighting
from relevo.conversation.domain.conversation import Conversation

Key = tuple[str, str]
"""Account id and id: no row is named without its account."""


class LostRace(RuntimeError):
    """Another transaction did the same just now; done again, this one finds what that one wrote."""


CONTACT_COLUMNS: Final = "cast(p.id as text) as contact_id, p.name, p.email, p.phone, p.language as contact_language, p.labels as contact_labels, p.blocked"
CONVERSATION_COLUMNS: Final = f"""
    cast(c.id as text) as id, cast(c.account_id as text) as account_id, c.number, cast(c.inbox_id as text) as inbox_id,
    c.channel, c.source_id, c.recipient_key, c.exclusive, c.status, c.stage, c.archived, c.priority, c.subject,
    c.language, c.labels, cast(c.assignee_id as text) as assignee_id, cast(c.team_id as text) as team_id,
    cast(c.participant_ids as text[]) as participant_ids, cast(c.owner_id as text) as owner_id,
    c.assignment_version, c.cycle, c.created_at, c.opened_at, c.resolved_at, c.first_reply_at, c.waiting_since,
    c.last_activity_at, c.message_count, c.sequence, {CONTACT_COLUMNS}
"""
MESSAGE_COLUMNS: Final = """
    cast(m.id as text) as id, cast(m.conversation_id as text) as conversation_id, m.kind, m.sequence, m.text, m.author,
    m.author_name, m.external_id, m.reply_to, m.attachments, m.mentions, m.status, m.error, m.occurred_at, m.created_at
"""

# The account of a conversation is compared outside of its lateral join: within, a planner without statistics takes the
# index of the whole inbox for as good as the one of the sender.
_FIND_SENDERS = text(
    f"""
    select k.n, cast(v.id as text) as conversation_id, ch.contact_id is not null as channel_known, {CONTACT_COLUMNS}
    from unnest(
        cast(:accounts as uuid[]), cast(:inboxes as uuid[]), cast(:sources as text[]),
        cast(:emails as text[]), cast(:phones as text[])
    ) with ordinality as k(account_id, inbox_id, source_id, email, phone, n)
    left join contact_channels ch
        on ch.inbox_id = k.inbox_id and ch.source_id = k.source_id and ch.account_id = k.account_id
    left join lateral (
        select e.id from contacts e
        where ch.contact_id is null and e.account_id = k.account_id and e.email = k.email
    ) by_email on true
    left join lateral (
        select f.id from contacts f
        where ch.contact_id is null and f.account_id = k.account_id and f.phone = k.phone
    ) by_phone on true
    left join contacts p on p.id = coalesce(ch.contact_id, by_email.id, by_phone.id)
    left join lateral (
        select c.id, c.account_id from conversations c
        where c.inbox_id = k.inbox_id and c.source_id = k.source_id
        order by c.status = 'resolved', c.opened_at desc, c.number desc limit 1
    ) v on v.account_id = k.account_id and ch.contact_id is not null
    order by k.n
    """
)

_ADD_CONTACTS = text(
    """
    insert into contacts (id, account_id, name, email, phone, language, sequence, created_at)
    select r.id, r.account_id, r.name, r.email, r.phone, r.language, 1, :now
    from rows from (
        json_to_recordset(cast(:contacts as json)) as (id uuid, name text, email text, phone text, language text),
        unnest(cast(:accounts as uuid[]))
    ) as r(id, name, email, phone, language, account_id)
    order by r.account_id, r.email, r.phone
    on conflict do nothing
    returning cast(id as text)
    """
)

_ADD_CHANNELS = text(
    """
    insert into contact_channels (account_id, inbox_id, source_id, recipient_key, contact_id, created_at)
    select k.account_id, k.inbox_id, k.source_id, k.recipient_key, k.contact_id, :now
    from unnest(
        cast(:accounts as uuid[]), cast(:inboxes as uuid[]), cast(:sources as text[]),
        cast(:keys as text[]), cast(:contacts as uuid[])
    ) as k(account_id, inbox_id, source_id, recipient_key, contact_id)
    order by k.inbox_id, k.source_id
    on conflict do nothing
    """
)

_LOCK = text(
    f"""
    with wanted as (
        select k.account_id, k.id
        from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
        union
        select m.account_id, m.conversation_id
        from unnest(cast(:message_accounts as uuid[]), cast(:message_ids as uuid[])) as k(account_id, id)
        join messages m on m.id = k.id and m.account_id = k.account_id
    )
    select {CONVERSATION_COLUMNS}
    from wanted w
    join conversations c on c.id = w.id and c.account_id = w.account_id
    join contacts p on p.id = c.contact_id
    order by c.id
    for update of c
    """
)

_MESSAGES = text(
    f"""
    select cast(m.account_id as text) as account_id, {MESSAGE_COLUMNS}
    from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    join messages m on m.id = k.id and m.account_id = k.account_id
    where m.conversation_id is not null
    """
)

_NUMBERS = text(
    """
    select cast(k.account_id as text) as account, n as number
    from unnest(cast(:accounts as uuid[]), cast(:wanted as integer[])) as k(account_id, wanted),
        lateral next_conversation_numbers(k.account_id, k.wanted) as n
    order by n
    """
)

_SAVE_CONVERSATIONS = text(
    """
    insert into conversations (
        id, account_id, number, inbox_id, channel, contact_id, source_id, recipient_key, exclusive, status, stage,
        archived, priority, subject, language, labels, assignee_id, team_id, participant_ids, owner_id,
        assignment_version, cycle, created_at, opened_at, resolved_at, first_reply_at, waiting_since, last_activity_at,
        message_count, sequence
    )
    select
        r.id, r.account_id, r.number, r.inbox_id, r.channel, cast(r.contact ->> 'id' as uuid), r.source_id,
        r.recipient_key, r.exclusive, r.status, r.stage, r.archived, r.priority, r.subject, r.language, r.labels,
        r.assignee_id, r.team_id, r.participant_ids, r.owner_id, r.assignment_version, r.cycle, r.created_at,
        r.opened_at, r.resolved_at, r.first_reply_at, r.waiting_since, r.last_activity_at, r.message_count, r.sequence
    from rows from (
        json_to_recordset(cast(:states as json)) as (
            id uuid, account_id uuid, number bigint, inbox_id uuid, channel text, contact json, source_id text,
            status text, stage text, archived boolean, priority text, subject text, language text, labels text[],
            assignee_id uuid, team_id uuid, participant_ids uuid[], owner_id uuid, assignment_version bigint,
            cycle integer, created_at timestamptz, opened_at timestamptz, resolved_at timestamptz,
            first_reply_at timestamptz, waiting_since timestamptz, last_activity_at timestamptz, message_count integer,
            sequence bigint
        ),
        unnest(cast(:keys as text[])),
        unnest(cast(:exclusive as boolean[]))
    ) as r(
        id, account_id, number, inbox_id, channel, contact, source_id, status, stage, archived, priority, subject,
        language, labels, assignee_id, team_id, participant_ids, owner_id, assignment_version, cycle, created_at,
        opened_at, resolved_at, first_reply_at, waiting_since, last_activity_at, message_count, sequence,
        recipient_key, exclusive
    )
    on conflict (id) do update set
        status = excluded.status, stage = excluded.stage, archived = excluded.archived, priority = excluded.priority,
        subject = excluded.subject, language = excluded.language, labels = excluded.labels,
        assignee_id = excluded.assignee_id, team_id = excluded.team_id, participant_ids = excluded.participant_ids,
        owner_id = excluded.owner_id, assignment_version = excluded.assignment_version, cycle = excluded.cycle,
        opened_at = excluded.opened_at, resolved_at = excluded.resolved_at, first_reply_at = excluded.first_reply_at,
        waiting_since = excluded.waiting_since, last_activity_at = excluded.last_activity_at,
        message_count = excluded.message_count, sequence = excluded.sequence
    """
)

_SAVE_MESSAGES = text(
    """
    insert into messages (
        id, account_id, conversation_id, withheld_from, sequence, kind, text, author, author_name, external_id,
        reply_to, attachments, mentions, status, error, occurred_at, created_at
    )
    select
        r.id, r.account_id, case when r.withheld_from is null then r.conversation_id end, r.withheld_from,
        case when r.withheld_from is null then r.sequence end, r.kind, r.text, r.author, r.author_name, r.external_id,
        r.reply_to, r.attachments, r.mentions, r.status, r.error, r.occurred_at, r.created_at
    from rows from (
        json_to_recordset(cast(:messages as json)) as (
            id uuid, conversation_id uuid, kind text, sequence bigint, text text, author text, author_name text,
            external_id text, reply_to text, attachments jsonb, mentions text[], status text, error text,
            occurred_at timestamptz, created_at timestamptz
        ),
        unnest(cast(:accounts as uuid[])),
        unnest(cast(:withheld as uuid[]))
    ) as r(
        id, conversation_id, kind, sequence, text, author, author_name, external_id, reply_to, attachments, mentions,
        status, error, occurred_at, created_at, account_id, withheld_from
    )
    on conflict (id) do update set
        status = excluded.status, error = excluded.error, external_id = excluded.external_id
    """
)

_REMEMBER_COMMANDS = text(
    """
    insert into handled_commands (account_id, id)
    select k.account_id, k.id from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    order by k.account_id, k.id
    on conflict do nothing
    returning cast(account_id as text) as account, cast(id as text) as id
    """
)

_BLOCK_CONTACT = text(
    """
    update contacts set blocked = :blocked, sequence = :sequence
    where id = cast(:id as uuid) and account_id = cast(:account as uuid)
    """
)

_FORGET_COMMANDS = text("delete from handled_commands where handled_at < :before")


@dataclass(frozen=True, slots=True)
class Found:
    """What the database knows of a sender: their contact, and the conversation where they wrote last, if any."""

    contact: ContactSnapshot | None
    channel_known: bool
    conversation_id: str | None


def contact_of(row: Mapping[str, Any]) -> ContactSnapshot:
    """The contact within a row that has CONTACT_COLUMNS."""
    return ContactSnapshot(
        id=row["contact_id"],
        name=row["name"],
        email=row["email"],
        phone=row["phone"],
        language=row["contact_language"],
        labels=row["contact_labels"],
        blocked=row["blocked"],
    )


def snapshot_of(row: Mapping[str, Any]) -> ConversationSnapshot:
    """The conversation within a row that has CONVERSATION_COLUMNS."""
    # The columns that a snapshot lacks are ignored by the model.
    return ConversationSnapshot.model_validate({**row, "contact": contact_of(row)})


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """The same, with what only this service needs."""
    return Conversation(snapshot_of(row), row["recipient_key"], row["exclusive"])


def message_of(row: Mapping[str, Any]) -> MessageSnapshot:
    """The message within a row that has MESSAGE_COLUMNS."""
    return MessageSnapshot.model_validate(dict(row))


async def find_senders(tx: Tx, sightings: Sequence[Sighting]) -> list[Found]:
    """What is known of every sender, in the order asked."""
    if not sightings:
        return []
    rows = await tx.execute(
        _FIND_SENDERS,
        {
            "accounts": [s.account_id for s in sightings],
            "inboxes": [s.inbox_id for s in sightings],
            "sources": [s.source_id for s in sightings],
            "emails": [s.email for s in sightings],
            "phones": [s.phone for s in sightings],
        },
    )
    return [
        Found(contact_of(row) if row["contact_id"] else None, row["channel_known"], row["conversation_id"])
        for row in plain(rows)
    ]


async def add_contacts(tx: Tx, new: Sequence[NewContact], now: datetime) -> set[str]:
    """Insert contacts; answers the ids that were. One that is missing met the e-mail or phone of another just made."""
    if not new:
        return set()
    rows = await tx.execute(
        _ADD_CONTACTS,
        {
            "contacts": _json_list(n.contact.model_dump_json() for n in new),
            "accounts": [n.sighting.account_id for n in new],
            "now": now,
        },
    )
    return set(rows.scalars())


async def add_channels(tx: Tx, links: Sequence[tuple[Sighting, ContactSnapshot]], now: datetime) -> None:
    """Remember who writes from where. Raises LostRace when another door linked one of them just now."""
    if not links:
        return
    result = await tx.execute(
        _ADD_CHANNELS,
        {
            "accounts": [s.account_id for s, _ in links],
            "inboxes": [s.inbox_id for s, _ in links],
            "sources": [s.source_id for s, _ in links],
            "keys": [s.recipient_key for s, _ in links],
            "contacts": [c.id for _, c in links],
            "now": now,
        },
    )
    if result.rowcount != len(links):
        raise LostRace("a sender's channel was linked by another transaction")


async def lock(tx: Tx, keys: Iterable[Key], messages: Iterable[Key] = ()) -> dict[Key, Conversation]:
    """Lock conversations, named by their keys and by messages in them, and read them as they are then."""
    wanted, of_messages = set(keys), set(messages)
    if not wanted and not of_messages:
        return {}
    rows = await tx.execute(
        _LOCK,
        {
            "accounts": [account for account, _ in wanted],
            "ids": [id_ for _, id_ in wanted],
            "message_accounts": [account for account, _ in of_messages],
            "message_ids": [id_ for _, id_ in of_messages],
        },
    )
    return {(row["account_id"], row["id"]): conversation_of(row) for row in plain(rows)}


async def messages(tx: Tx, keys: Iterable[Key]) -> dict[Key, MessageSnapshot]:
    """The messages that exist among these; lock their conversations first."""
    wanted = set(keys)
    if not wanted:
        return {}
    rows = await tx.execute(_MESSAGES, {"accounts": [a for a, _ in wanted], "ids": [i for _, i in wanted]})
    return {(row["account_id"], row["id"]): message_of(row) for row in plain(rows)}


async def new_numbers(tx: Tx, wanted: Mapping[str, int]) -> dict[str, list[int]]:
    """New conversation numbers of each account, rising. They are gone even if the transaction rolls back."""
    numbers: dict[str, list[int]] = {}
    if wanted:
        rows = await tx.execute(_NUMBERS, {"accounts": list(wanted), "wanted": list(wanted.values())})
        for row in rows:
            numbers.setdefault(row.account, []).append(row.number)
    return numbers


async def save_conversations(tx: Tx, conversations: Sequence[Conversation]) -> None:
    """Write conversations, new ones and ones that are locked."""
    if not conversations:
        return
    await tx.execute(
        _SAVE_CONVERSATIONS,
        {
            "states": _json_list(c.state.model_dump_json() for c in conversations),
            "keys": [c.recipient_key for c in conversations],
            "exclusive": [c.exclusive for c in conversations],
        },
    )


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message with its account. ``withheld_from`` is the blocked contact who wrote it: it is in no conversation."""

    account_id: str
    message: MessageSnapshot
    withheld_from: str | None = None


async def save_messages(tx: Tx, stored: Sequence[StoredMessage]) -> None:
    """Write messages; of those that exist only the delivery status changes."""
    if not stored:
        return
    await tx.execute(
        _SAVE_MESSAGES,
        {
            "messages": _json_list(s.message.model_dump_json() for s in stored),
            "accounts": [s.account_id for s in stored],
            "withheld": [s.withheld_from for s in stored],
        },
    )


async def remember_commands(tx: Tx, keys: Iterable[Key]) -> set[Key]:
    """Take note of commands; answers those that were not known. A command that is being handled elsewhere is waited for."""
    wanted = set(keys)
    if not wanted:
        return set()
    rows = await tx.execute(_REMEMBER_COMMANDS, {"accounts": [a for a, _ in wanted], "ids": [i for _, i in wanted]})
    return {(row.account, row.id) for row in rows}


async def block_contact(tx: Tx, account_id: str, contact_id: str, *, blocked: bool, sequence: int) -> None:
    """Block or unblock a contact that is locked."""
    await tx.execute(
        _BLOCK_CONTACT, {"account": account_id, "id": contact_id, "blocked": blocked, "sequence": sequence}
    )


async def forget_commands(tx: Tx, before: datetime) -> None:
    """Drop the memory of commands older than the bus keeps them."""
    await tx.execute(_FORGET_COMMANDS, {"before": before})


def plain(rows: Rows) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries by column name."""
    return iter(rows.mappings())


def _json_list(items: Iterable[str]) -> str:
    return f"[{','.join(items)}]"
