"""Surveys: what was asked, and what was answered."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.domain.surveys import Survey
from relevo.conversation.store.rows import Key, Row, plain

_COLUMNS = """
    cast(s.id as text) as id, cast(s.account_id as text) as account_id,
    cast(s.conversation_id as text) as conversation_id, s.cycle, s.way, cast(s.agent_id as text) as agent_id,
    cast(s.team_id as text) as team_id, s.language, s.sent_at, s.answer_until, s.change_days, s.rating, s.comment,
    s.version, s.answered_at, s.changed_at
"""

_ADD = text(
    """
    insert into surveys (
        id, account_id, conversation_id, cycle, way, inbox_id, agent_id, team_id, language, sent_at, answer_until,
        change_days
    )
    select * from unnest(
        cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:conversations as uuid[]), cast(:cycles as integer[]),
        cast(:ways as text[]), cast(:inboxes as uuid[]), cast(:agents as uuid[]), cast(:teams as uuid[]),
        cast(:languages as text[]), cast(:sent as timestamptz[]), cast(:until as timestamptz[]),
        cast(:change_days as integer[]))
    """
)

# By their conversations, so that a merge of contacts needs to know nothing of surveys.
_LAST_ASKED = text(
    """
    select cast(k.account_id as text) as account_id, cast(k.id as text) as id, max(s.sent_at) as at
    from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    join conversations c on c.account_id = k.account_id and c.contact_id = k.id
    join surveys s on s.conversation_id = c.id and s.account_id = c.account_id
    group by k.account_id, k.id
    """
)

_READ = text(
    f"""
    select {_COLUMNS}, f.secret from surveys s join file_secrets f on f.account_id = s.account_id
    where s.id = cast(:id as uuid) and s.account_id = cast(:account as uuid)
    """
)

_LOCK = text(
    f"""
    select {_COLUMNS} from surveys s
    where s.id = cast(:id as uuid) and s.account_id = cast(:account as uuid) for update
    """
)

_ASKED_IN_CHANNEL = text(
    f"""
    select {_COLUMNS}
    from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    join lateral (
        select * from surveys s where s.conversation_id = k.id and s.account_id = k.account_id
        order by s.cycle desc limit 1
    ) s on s.way = 'reply'
    """
)

_ANSWERED = text(
    """
    update surveys s set rating = k.rating, comment = k.comment, version = k.version, answered_at = k.answered_at,
        changed_at = k.changed_at
    from unnest(
        cast(:accounts as uuid[]), cast(:ids as uuid[]), cast(:ratings as smallint[]), cast(:comments as text[]),
        cast(:versions as integer[]), cast(:answered as timestamptz[]), cast(:changed as timestamptz[])
    ) as k(account_id, id, rating, comment, version, answered_at, changed_at)
    where s.id = k.id and s.account_id = k.account_id
    """
)

_OF_CONVERSATION = text(
    f"""
    select {_COLUMNS} from surveys s
    where s.conversation_id = cast(:conversation as uuid) and s.account_id = cast(:account as uuid) order by s.cycle
    """
)


def survey_of(row: Row) -> Survey:
    """The survey within a row."""
    return Survey(**{name: row[name] for name in Survey.__dataclass_fields__})


async def add(tx: Tx, asked: Sequence[tuple[Survey, str]]) -> None:
    """Keep surveys that are sent in this transaction, each with its inbox."""
    await tx.execute(
        _ADD,
        {
            "ids": [s.id for s, _ in asked],
            "accounts": [s.account_id for s, _ in asked],
            "conversations": [s.conversation_id for s, _ in asked],
            "cycles": [s.cycle for s, _ in asked],
            "ways": [s.way for s, _ in asked],
            "inboxes": [inbox for _, inbox in asked],
            "agents": [s.agent_id for s, _ in asked],
            "teams": [s.team_id for s, _ in asked],
            "languages": [s.language for s, _ in asked],
            "sent": [s.sent_at for s, _ in asked],
            "until": [s.answer_until for s, _ in asked],
            "change_days": [s.change_days for s, _ in asked],
        },
    )


async def last_asked(tx: Tx, contacts: Iterable[Key]) -> dict[Key, datetime]:
    """When each of these contacts was asked last, on whatever inbox."""
    wanted = sorted(set(contacts))
    rows = await tx.execute(_LAST_ASKED, {"accounts": [a for a, _ in wanted], "ids": [i for _, i in wanted]})
    return {(row["account_id"], row["id"]): row["at"] for row in plain(rows)}


async def read(tx: Tx, account_id: str, survey_id: str) -> tuple[Survey, bytes] | None:
    """A survey, with the secret that its token is signed with."""
    row = next(plain(await tx.execute(_READ, {"account": account_id, "id": survey_id})), None)
    return None if row is None else (survey_of(row), bytes(row["secret"]))


async def lock(tx: Tx, account_id: str, survey_id: str) -> Survey | None:
    """A survey, locked; lock its conversation first."""
    row = next(plain(await tx.execute(_LOCK, {"account": account_id, "id": survey_id})), None)
    return None if row is None else survey_of(row)


async def asked_in_channel(tx: Tx, keys: Iterable[Key]) -> dict[Key, Survey]:
    """The last survey of each of these conversations, locked before, where it asked for an answer in the channel."""
    wanted = sorted(set(keys))
    rows = await tx.execute(_ASKED_IN_CHANNEL, {"accounts": [a for a, _ in wanted], "ids": [i for _, i in wanted]})
    return {(row["account_id"], row["conversation_id"]): survey_of(row) for row in plain(rows)}


async def answered(tx: Tx, surveys: Collection[Survey]) -> None:
    """Keep the answers to surveys that are locked, by themselves or with their conversations."""
    if surveys:
        await tx.execute(
            _ANSWERED,
            {
                "accounts": [s.account_id for s in surveys],
                "ids": [s.id for s in surveys],
                "ratings": [s.rating for s in surveys],
                "comments": [s.comment for s in surveys],
                "versions": [s.version for s in surveys],
                "answered": [s.answered_at for s in surveys],
                "changed": [s.changed_at for s in surveys],
            },
        )


async def of_conversation(tx: Tx, account_id: str, conversation_id: str) -> Sequence[Survey]:
    """What was asked in a conversation that may be seen, the first first."""
    rows = await tx.execute(_OF_CONVERSATION, {"account": account_id, "conversation": conversation_id})
    return [survey_of(row) for row in plain(rows)]
