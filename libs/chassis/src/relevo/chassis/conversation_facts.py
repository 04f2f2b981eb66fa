"""What the access rule needs of every conversation, for services that must judge without asking: a projection of EVT_CONVERSATION.

The table is made by each such service's migrations; its handler of that stream calls `project`, in the transaction that
moves the reader's position.
"""

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import ARRAY, BigInteger, Column, MetaData, Table, Uuid, text

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.kernel.access import ConversationFacts

conversation_facts: Final = Table(
    "conversation_facts",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("inbox_id", Uuid, nullable=False),
    Column("team_id", Uuid),
    Column("assignee_id", Uuid),
    Column("participant_ids", ARRAY(Uuid), nullable=False),
    Column("owner_id", Uuid),
    Column("sequence", BigInteger, nullable=False),
)
"""For statements that are composed with `kernel.access.visible`."""

_PROJECT = text("""
    insert into conversation_facts as f
        (id, account_id, inbox_id, team_id, assignee_id, participant_ids, owner_id, sequence)
    select id, account_id, inbox_id, team_id, assignee_id, cast(participant_ids as uuid[]), owner_id, sequence
    from unnest(
        cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:inboxes as uuid[]), cast(:teams as uuid[]),
        cast(:assignees as uuid[]), cast(:participants as text[]), cast(:owners as uuid[]), cast(:sequences as bigint[]))
        as n(id, account_id, inbox_id, team_id, assignee_id, participant_ids, owner_id, sequence)
    on conflict (id) do update
        set inbox_id = excluded.inbox_id, team_id = excluded.team_id, assignee_id = excluded.assignee_id,
            participant_ids = excluded.participant_ids, owner_id = excluded.owner_id, sequence = excluded.sequence
        where excluded.sequence > f.sequence
""")
_FIND = text("""
    select cast(id as text) as id, cast(account_id as text) as account_id, cast(inbox_id as text) as inbox_id,
           cast(team_id as text) as team_id, cast(assignee_id as text) as assignee_id,
           cast(participant_ids as text[]) as participant_ids, cast(owner_id as text) as owner_id
    from conversation_facts where account_id = any(cast(:accounts as uuid[])) and id = any(cast(:ids as uuid[]))
""")


async def project(tx: Tx, snapshots: Iterable[ConversationSnapshot]) -> None:
    """Keep the facts of these conversations; an older state never replaces a newer one."""
    latest: dict[str, ConversationSnapshot] = {}
    for one in snapshots:
        if one.id not in latest or one.sequence > latest[one.id].sequence:
            latest[one.id] = one
    rows = [latest[id_] for id_ in sorted(latest)]
    if not rows:
        return
    await tx.execute(
        _PROJECT,
        {
            "ids": [row.id for row in rows],
            "accounts": [row.account_id for row in rows],
            "inboxes": [row.inbox_id for row in rows],
            "teams": [row.team_id for row in rows],
            "assignees": [row.assignee_id for row in rows],
            "participants": ["{" + ",".join(row.participant_ids) + "}" for row in rows],
            "owners": [row.owner_id for row in rows],
            "sequences": [row.sequence for row in rows],
        },
    )


async def find(tx: Tx, accounts: Collection[str], ids: Collection[str]) -> dict[str, ConversationFacts]:
    """What is known of these conversations, by id."""
    if not ids:
        return {}
    rows = await tx.execute(_FIND, {"accounts": sorted(accounts), "ids": sorted(ids)})
    return {
        row.id: ConversationFacts(
            row.account_id, row.inbox_id, row.team_id, row.assignee_id, frozenset(row.participant_ids), row.owner_id
        )
        for row in rows
    }
