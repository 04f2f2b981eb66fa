"""Past conversations that are imported: which are here already, where their contacts write from, and their rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.domain.history import Imported
from relevo.conversation.store.rows import json_list

_KNOWN = text(
    """
    select external_key from conversations
    where account_id = cast(:account as uuid) and external_key = any(cast(:keys as text[]))
    """
)
_NAMED = text(
    """
    select external_key, line from conversation_import_keys
    where account_id = cast(:account as uuid) and import_id = cast(:id as uuid)
        and external_key = any(cast(:keys as text[]))
    """
)
_NAME = text(
    """
    insert into conversation_import_keys (account_id, import_id, external_key, line)
    select cast(:account as uuid), cast(:id as uuid), * from unnest(cast(:keys as text[]), cast(:lines as integer[]))
    """
)
_SOURCES = text(
    """
    select distinct on (ch.inbox_id, ch.contact_id) cast(ch.inbox_id as text) as inbox_id,
        cast(ch.contact_id as text) as contact_id, ch.source_id
    from unnest(cast(:inboxes as uuid[]), cast(:contacts as uuid[])) as k(inbox_id, contact_id)
    join contact_channels ch on ch.contact_id = k.contact_id and ch.inbox_id = k.inbox_id
        and ch.account_id = cast(:account as uuid)
    order by ch.inbox_id, ch.contact_id, ch.created_at
    """
)
_FIELDS: Final = (
    "id, account_id, number, inbox_id, channel, source_id, status, stage, archived, priority, subject, language, labels,"
    " owner_id, assignment_version, cycle, created_at, opened_at, resolved_at, first_reply_at, last_activity_at,"
    " message_count, sequence"
)
_INSERT = text(
    f"""
    insert into conversations ({_FIELDS}, contact_id, recipient_key, external_key, imported_through, exclusive,
        attributes, participant_ids)
    select {_FIELDS}, cast(contact ->> 'id' as uuid), recipient_key, external_key, message_count, false, '{{}}', '{{}}'
    from rows from (
        json_to_recordset(cast(:states as json)) as (
            id uuid, account_id uuid, number bigint, inbox_id uuid, channel text, contact json, source_id text,
            status text, stage text, archived boolean, priority text, subject text, language text, labels text[],
            owner_id uuid, assignment_version bigint, cycle integer, created_at timestamptz, opened_at timestamptz,
            resolved_at timestamptz, first_reply_at timestamptz, last_activity_at timestamptz, message_count integer,
            sequence bigint
        ),
        unnest(cast(:recipients as text[])),
        unnest(cast(:keys as text[]))
    ) as r(
        id, account_id, number, inbox_id, channel, contact, source_id, status, stage, archived, priority, subject,
        language, labels, owner_id, assignment_version, cycle, created_at, opened_at, resolved_at, first_reply_at,
        last_activity_at, message_count, sequence, recipient_key, external_key
    )
    """
)


async def known(tx: Tx, account_id: str, keys: Iterable[str]) -> set[str]:
    """Those of these keys whose conversation is here already."""
    return set((await tx.execute(_KNOWN, {"account": account_id, "keys": sorted(keys)})).scalars())


async def named(tx: Tx, account_id: str, import_id: str, keys: Iterable[str]) -> dict[str, int]:
    """Those of these keys that this file has named before, with the line."""
    rows = await tx.execute(_NAMED, {"account": account_id, "id": import_id, "keys": sorted(keys)})
    return {row.external_key: row.line for row in rows}


async def name(tx: Tx, account_id: str, import_id: str, lines: Mapping[str, int]) -> None:
    """Remember until the import ends on which line each key was."""
    if lines:
        given = {"keys": list(lines), "lines": list(lines.values())}
        await tx.execute(_NAME, {"account": account_id, "id": import_id, **given})


async def sources(tx: Tx, account_id: str, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """From where contacts write on inboxes, by inbox and contact, where they do."""
    wanted = sorted(set(pairs))
    if not wanted:
        return {}
    given = {"inboxes": [inbox for inbox, _ in wanted], "contacts": [contact for _, contact in wanted]}
    rows = await tx.execute(_SOURCES, {"account": account_id, **given})
    return {(row.inbox_id, row.contact_id): row.source_id for row in rows}


async def insert(tx: Tx, imported: Sequence[Imported]) -> None:
    """Write conversations that were imported; their messages are written as all are."""
    if imported:
        await tx.execute(
            _INSERT,
            {
                "states": json_list(one.state.model_dump_json() for one in imported),
                "recipients": [one.recipient_key for one in imported],
                "keys": [one.external_key for one in imported],
            },
        )
