"""Messages that wait for their time to be sent, and agents' signatures."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import TextClause, text

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Key, Row, plain


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits. ``id`` is the message's own once it is sent."""

    id: str
    account_id: str
    conversation_id: str
    agent_id: str
    author_name: str
    text: str
    reply_to: str | None
    send_at: datetime
    created_at: datetime
    refused: str | None = None


_COLUMNS = """
    cast(id as text) as id, cast(account_id as text) as account_id, cast(conversation_id as text) as conversation_id,
    cast(agent_id as text) as agent_id, author_name, text, cast(reply_to as text) as reply_to, send_at, created_at,
    refused
"""

_ADD = text(
    """
    insert into waiting_messages (
        id, account_id, conversation_id, agent_id, author_name, text, reply_to, attachments, send_at, created_at
    ) values (
        :id, :account_id, :conversation_id, :agent_id, :author_name, :text, :reply_to, '[]', :send_at, :created_at
    )
    """
)

_LIST = text(
    f"""
    select {_COLUMNS} from waiting_messages where account_id = :account and conversation_id = :conversation
    order by send_at, id limit 200
    """
)

_FOUND: Final = f"""
    select {_COLUMNS}
    from waiting_messages w
    where w.refused is null and (w.account_id, w.id) in (
        select k.account_id, k.id from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    )
    order by w.id
"""
_FIND = text(_FOUND)
_LOCK = text(f"{_FOUND} for update")

_SENT = text("delete from waiting_messages where account_id = :account and id = :id")
_REFUSE = text("update waiting_messages set refused = :why where id = :id and account_id = :account")
_DROP = text(
    """
    delete from waiting_messages
    where id = :id and account_id = :account and conversation_id = :conversation returning cast(id as text) as id
    """
)

_SIGN = text(
    """
    insert into signatures (account_id, agent_id, text) values (:account, :agent, :text)
    on conflict (agent_id) do update set text = excluded.text
    """
)
_UNSIGN = text("delete from signatures where account_id = :account and agent_id = :agent")
_SIGNATURE = text("select text from signatures where account_id = :account and agent_id = :agent")


async def add(tx: Tx, waiting: Waiting) -> None:
    """Keep a message until its time."""
    await tx.execute(_ADD, {name: value for name, value in asdict(waiting).items() if name != "refused"})


async def of_conversation(tx: Tx, account_id: str, conversation_id: str) -> Sequence[Row]:
    """What waits in a conversation, also what could not be sent, the next first."""
    return list(plain(await tx.execute(_LIST, {"account": account_id, "conversation": conversation_id})))


async def find(tx: Tx, keys: Iterable[Key]) -> dict[str, Waiting]:
    """Those of these messages that still wait, by id."""
    return await _those(tx, _FIND, keys)


async def lock(tx: Tx, keys: Iterable[Key]) -> dict[str, Waiting]:
    """Those of these messages that still wait, by id: whoever would undo them now waits. Their conversations are locked."""
    return await _those(tx, _LOCK, keys)


async def _those(tx: Tx, statement: TextClause, keys: Iterable[Key]) -> dict[str, Waiting]:
    wanted = list(keys)
    rows = await tx.execute(statement, {"accounts": [a for a, _ in wanted], "ids": [i for _, i in wanted]})
    return {row["id"]: Waiting(**row) for row in plain(rows)}


async def sent(tx: Tx, waiting: Waiting) -> None:
    """A message waits no more: it is sent in this transaction."""
    await tx.execute(_SENT, {"account": waiting.account_id, "id": waiting.id})


async def refuse(tx: Tx, waiting: Waiting, why: str) -> None:
    """A message could not be sent when its time came: it stays to be read."""
    await tx.execute(_REFUSE, {"account": waiting.account_id, "id": waiting.id, "why": why})


async def drop(tx: Tx, account_id: str, conversation_id: str, id_: str) -> bool:
    """Undo a message that waits, or forget one that was refused; tells whether there was one."""
    given = {"account": account_id, "conversation": conversation_id, "id": id_}
    return (await tx.execute(_DROP, given)).first() is not None


async def sign(tx: Tx, account_id: str, agent_id: str, said: str) -> None:
    """Keep an agent's signature; an empty one is none."""
    given = {"account": account_id, "agent": agent_id}
    await (tx.execute(_SIGN, {**given, "text": said}) if said else tx.execute(_UNSIGN, given))


async def signature(tx: Tx, account_id: str, agent_id: str) -> str:
    """An agent's signature, empty when there is none."""
    row = (await tx.execute(_SIGNATURE, {"account": account_id, "agent": agent_id})).first()
    return "" if row is None else str(row.text)
