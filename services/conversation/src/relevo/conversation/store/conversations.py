"""Conversations, locked, read and written by the batch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation.domain.state import Conversation
from relevo.conversation.store.contacts import CONTACT_COLUMNS, contact_of
from relevo.conversation.store.rows import Key, json_list, plain

CONVERSATION_COLUMNS: Final = f"""
    cast(c.id as text) as id, cast(c.account_id as text) as account_id, c.number, cast(c.inbox_id as text) as inbox_id,
    c.channel, c.source_id, c.recipient_key, c.exclusive, c.status, c.stage, c.archived, c.priority, c.subject,
    c.attributes, c.snoozed_until, c.language, c.labels, cast(c.assignee_id as text) as assignee_id, cast(c.team_id as text) as team_id,
    cast(c.participant_ids as text[]) as participant_ids, cast(c.owner_id as text) as owner_id, cast(c.last_responder_id as text) as last_responder_id,
    c.assignment_version, c.cycle, c.created_at, c.opened_at, c.resolved_at, c.first_reply_at, c.people_since, c.waiting_since,
    c.last_activity_at, c.message_count, cast(c.merged_into as text) as merged_into, c.imported_through > 0 as historic, c.sequence,
    {CONTACT_COLUMNS}
"""

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

_NUMBERS = text(
    """
    select cast(k.account_id as text) as account, n as number
    from unnest(cast(:accounts as uuid[]), cast(:wanted as integer[])) as k(account_id, wanted),
        lateral next_conversation_numbers(k.account_id, k.wanted) as n
    order by n
    """
)

_SAVE = text(
    """
    insert into conversations (
        id, account_id, number, inbox_id, channel, contact_id, source_id, recipient_key, exclusive, status, stage,
        archived, snoozed_until, priority, subject, language, labels, attributes, assignee_id, team_id, participant_ids, owner_id,
        last_responder_id, assignment_version, cycle, created_at, opened_at, resolved_at, first_reply_at, people_since, waiting_since, last_activity_at,
        message_count, merged_into, sequence
    )
    select
        r.id, r.account_id, r.number, r.inbox_id, r.channel, cast(r.contact ->> 'id' as uuid), r.source_id,
        r.recipient_key, r.exclusive, r.status, r.stage, r.archived, r.snoozed_until, r.priority, r.subject, r.language,
        r.labels, r.attributes, r.assignee_id, r.team_id, r.participant_ids, r.owner_id, r.last_responder_id, r.assignment_version, r.cycle, r.created_at,
        r.opened_at, r.resolved_at, r.first_reply_at, r.people_since, r.waiting_since, r.last_activity_at, r.message_count, r.merged_into, r.sequence
    from rows from (
        json_to_recordset(cast(:states as json)) as (
            id uuid, account_id uuid, number bigint, inbox_id uuid, channel text, contact json, source_id text,
            status text, stage text, archived boolean, snoozed_until timestamptz, priority text, subject text,
            language text, labels text[], attributes jsonb, assignee_id uuid, team_id uuid, participant_ids uuid[], owner_id uuid, last_responder_id uuid, assignment_version bigint,
            cycle integer, created_at timestamptz, opened_at timestamptz, resolved_at timestamptz,
            first_reply_at timestamptz, people_since timestamptz, waiting_since timestamptz, last_activity_at timestamptz, message_count integer,
            merged_into uuid, sequence bigint
        ),
        unnest(cast(:keys as text[])),
        unnest(cast(:exclusive as boolean[]))
    ) as r(
        id, account_id, number, inbox_id, channel, contact, source_id, status, stage, archived, snoozed_until, priority,
        subject, language, labels, attributes, assignee_id, team_id, participant_ids, owner_id, last_responder_id, assignment_version, cycle, created_at,
        opened_at, resolved_at, first_reply_at, people_since, waiting_since, last_activity_at, message_count, merged_into, sequence,
        recipient_key, exclusive
    )
    on conflict (id) do update set
        status = excluded.status, stage = excluded.stage, archived = excluded.archived,
        snoozed_until = excluded.snoozed_until, priority = excluded.priority, subject = excluded.subject, language = excluded.language, labels = excluded.labels, attributes = excluded.attributes,
        assignee_id = excluded.assignee_id, team_id = excluded.team_id, participant_ids = excluded.participant_ids,
        owner_id = excluded.owner_id, last_responder_id = excluded.last_responder_id, assignment_version = excluded.assignment_version, cycle = excluded.cycle,
        opened_at = excluded.opened_at, resolved_at = excluded.resolved_at, first_reply_at = excluded.first_reply_at, people_since = excluded.people_since,
        waiting_since = excluded.waiting_since, last_activity_at = excluded.last_activity_at,
        message_count = excluded.message_count, merged_into = excluded.merged_into, sequence = excluded.sequence
    """
)


def snapshot_of(row: Mapping[str, Any]) -> ConversationSnapshot:
    """The conversation within a row that has CONVERSATION_COLUMNS."""
    # The columns that a snapshot lacks are ignored by the model.
    return ConversationSnapshot.model_validate({**row, "contact": contact_of(row)})


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """The same, with what only this service needs."""
    return Conversation(snapshot_of(row), row["recipient_key"], row["exclusive"])


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


async def new_numbers(tx: Tx, wanted: Mapping[str, int]) -> dict[str, list[int]]:
    """New conversation numbers of each account, rising. They are gone even if the transaction rolls back."""
    numbers: dict[str, list[int]] = {}
    if wanted:
        rows = await tx.execute(_NUMBERS, {"accounts": list(wanted), "wanted": list(wanted.values())})
        for row in rows:
            numbers.setdefault(row.account, []).append(row.number)
    return numbers


async def save(tx: Tx, conversations: Sequence[Conversation]) -> None:
    """Write conversations, new ones and ones that are locked."""
    if not conversations:
        return
    await tx.execute(
        _SAVE,
        {
            "states": json_list(c.state.model_dump_json() for c in conversations),
            "keys": [c.recipient_key for c in conversations],
            "exclusive": [c.exclusive for c in conversations],
        },
    )
