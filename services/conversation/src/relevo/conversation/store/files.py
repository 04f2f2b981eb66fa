"""Attachments that the team sends: which there are, of which message; the bytes are in the object store."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Row, plain

_SECRET = text(
    """
    insert into file_secrets as s (account_id, secret)
    values (:account, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
    on conflict (account_id) do update set secret = s.secret returning secret
    """
)

_BEGIN = text(
    """
    insert into files (id, account_id, name, content_type, uploaded_by, created_at)
    values (:id, :account, :name, :type, :actor, now())
    """
)

_COMPLETE = text("update files set size = :size, sha256 = :sha256 where id = :id and account_id = :account")

_CLAIM = text(
    """
    update files set message_id = :message
    where account_id = :account and id = any(cast(:ids as uuid[])) and uploaded_by = :actor
        and message_id is null and size is not null
    returning cast(id as text) as id, name, content_type, size
    """
)

_READ = text(
    """
    select f.name, f.content_type, f.size, s.secret from files f
    join file_secrets s on s.account_id = f.account_id
    where f.id = :id and f.account_id = :account and f.size is not null and not f.forgotten
    """
)

_FORGOTTEN = text(
    """
    select cast(id as text) as id, cast(account_id as text) as account_id from files
    where forgotten or (message_id is null and created_at < :before) order by id limit 500
    """
)

_OF_ACCOUNT = text(
    "select cast(id as text) as id from files"
    " where account_id = cast(:account as uuid) and id > cast(:after as uuid) order by id limit :limit"
)
_WRITTEN = text(
    "select cast(id as text) as id, size from files where account_id = cast(:account as uuid)"
    " and id > cast(:after as uuid) and size is not null and not forgotten order by id limit :limit"
)
_FORGET = text(
    """
    delete from files using unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    where files.id = k.id and files.account_id = k.account_id
        and (files.forgotten or files.message_id is null)
    """
)


async def secret(tx: Tx, account_id: str) -> bytes:
    """What the account's file addresses are signed with; made when it is first asked for."""
    return bytes((await tx.execute(_SECRET, {"account": account_id})).scalar_one())


async def begin(tx: Tx, account_id: str, file_id: str, *, name: str, content_type: str, actor: str) -> None:
    """A file is about to be written: if nothing more comes of it, it is found and forgotten."""
    given = {"id": file_id, "account": account_id, "name": name, "type": content_type, "actor": actor}
    await tx.execute(_BEGIN, given)


async def complete(tx: Tx, account_id: str, file_id: str, *, size: int, sha256: bytes) -> None:
    """A file is in the object store, whole."""
    await tx.execute(_COMPLETE, {"id": file_id, "account": account_id, "size": size, "sha256": sha256})


async def claim(tx: Tx, account_id: str, ids: Iterable[str], *, message_id: str, actor: str) -> dict[str, Row]:
    """Files become those of a message: each of one message only, and only by who uploaded it. By id."""
    given = {"account": account_id, "ids": list(ids), "message": message_id, "actor": actor}
    return {row["id"]: row for row in plain(await tx.execute(_CLAIM, given))}


async def read(tx: Tx, account_id: str, file_id: str) -> Row | None:
    """A file, with the secret that its addresses are signed with."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "id": file_id})), None)


async def of_account(tx: Tx, account: str, *, after: str, limit: int) -> list[str]:
    """The next files of an account, whatever became of them."""
    return [row.id for row in await tx.execute(_OF_ACCOUNT, {"account": account, "after": after, "limit": limit})]


async def written(tx: Tx, account: str, *, after: str, limit: int) -> list[tuple[str, int]]:
    """The next files of an account that are there whole, with their sizes."""
    rows = await tx.execute(_WRITTEN, {"account": account, "after": after, "limit": limit})
    return [(row.id, row.size) for row in rows]


async def forgotten(tx: Tx, before: datetime) -> Sequence[Row]:
    """Files of deleted messages, and those that came to no message since before."""
    return list(plain(await tx.execute(_FORGOTTEN, {"before": before})))


async def forget(tx: Tx, rows: Sequence[Row]) -> None:
    """Files whose bytes are gone."""
    given = {"accounts": [row["account_id"] for row in rows], "ids": [row["id"] for row in rows]}
    await tx.execute(_FORGET, given)
