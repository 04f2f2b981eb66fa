"""The catalogue of labels."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.conversation import LabelState
from relevo.conversation.store.rows import Key, Row, plain
from relevo.kernel.labels import Known
from relevo.kernel.text import fold

_COLUMNS: Final = (
    "cast(id as text) as id, cast(account_id as text) as account_id, key, name, folded, color, description, sidebar,"
    " state, into_key, version, updated_by, updated_at"
)

# Who puts a label on holds it so until the commit: a deletion that found it nowhere any more waits, and looks again.
_KNOWN = text(
    """
    select cast(l.account_id as text) as account_id, l.key, l.name, l.state, l.into_key from labels l
    where l.id in (
        select k.id from labels k
        join unnest(cast(:accounts as uuid[]), cast(:names as text[])) as w(account_id, name)
            on k.account_id = w.account_id and k.key = w.name
        union
        select k.id from labels k
        join unnest(cast(:accounts as uuid[]), cast(:folded as text[])) as w(account_id, folded)
            on k.account_id = w.account_id and k.folded = w.folded
    )
    order by l.account_id, l.key
    """
)
_HELD = text(f"{_KNOWN.text} for share")
_ADD = text(
    f"""
    insert into labels (id, account_id, key, name, folded, color, description, sidebar, state, version, updated_by,
                        updated_at)
    select r.id, r.account_id, r.name, r.name, r.folded, :color, :description, :sidebar, 'live', 1, r.actor, now()
    from unnest(cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:names as text[]), cast(:folded as text[]),
                cast(:actors as text[])) as r(id, account_id, name, folded, actor)
    order by r.account_id, r.name
    on conflict (account_id, key) do nothing
    returning {_COLUMNS}
    """
)
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('labels:' || cast(:account as text), 0))")
_COUNT = text("select count(*) from labels where account_id = cast(:account as uuid) and state = 'live'")
_READ = text(
    f"select {_COLUMNS} from labels where account_id = cast(:account as uuid) and id = cast(:id as uuid) for update"
)
_NAMED = text(
    f"""
    select {_COLUMNS} from labels
    where account_id = cast(:account as uuid) and (key = :name or folded = :folded) for update
    """
)
_PAGE = text(
    f"""
    select {_COLUMNS} from labels
    where account_id = cast(:account as uuid) and state = 'live' and strpos(folded, :wanted) > 0
        and (cast(:after as text) is null or (folded, id) > (:after, cast(:id as uuid)))
    order by folded, id limit :limit
    """
)
_WRITE = text(
    f"""
    update labels set name = :name, folded = :folded, color = :color, description = :description, sidebar = :sidebar,
        state = :state, into_key = :into_key, version = version + 1, updated_by = :actor, updated_at = now()
    where account_id = cast(:account as uuid) and id = cast(:id as uuid)
    returning {_COLUMNS}
    """
)
_FOLLOW = text(
    "update labels set into_key = :to where account_id = cast(:account as uuid) and into_key = cast(:key as text)"
)
_DROP = text(
    """
    delete from labels
    where account_id = cast(:account as uuid) and (id = cast(:id as uuid) or into_key = cast(:key as text))
    """
)
_TAKING = text(
    "select exists (select from labels where account_id = cast(:account as uuid) and into_key = :key and state = 'merging')"
)
_NAMES = text("select key, name from labels where account_id = cast(:account as uuid) and key = any(:keys)")
_EVERY_NAME = text("select key, name from labels where account_id = cast(:account as uuid) and name <> key")
_HAVING = {
    table: text(
        f"""
        select cast(id as text) as id from {table}
        where account_id = cast(:account as uuid) and labels @> array[cast(:key as text)] limit :limit
        """
    )
    for table in ("conversations", "contacts")
}
_VIEWS = text(
    """
    update views set filters = jsonb_set(filters, '{label}', (
            select jsonb_agg(distinct case when one = :key then :to else one end)
            from jsonb_array_elements_text(filters -> 'label') as one)), version = version + 1
    where account_id = cast(:account as uuid) and filters -> 'label' ? :key
    """
)


async def known(tx: Tx, wanted: Iterable[Key], *, hold: bool) -> dict[str, list[Known]]:
    """By account, the labels that these (account, name) can mean; held, none of them goes away before the commit."""
    pairs = sorted(set(wanted))
    found: dict[str, list[Known]] = {}
    if pairs:
        given = {
            "accounts": [account for account, _ in pairs],
            "names": [name for _, name in pairs],
            "folded": [fold(name) for _, name in pairs],
        }
        for row in plain(await tx.execute(_HELD if hold else _KNOWN, given)):
            account = row.pop("account_id")
            found.setdefault(account, []).append(Known(**row))
    return found


async def add(
    tx: Tx,
    new: Iterable[tuple[str, str, str, str]],
    color: str = "#6b7280",
    description: str = "",
    sidebar: bool = True,
) -> list[Row]:
    """Keep new labels, each (id, account, name, actor); answers those whose key nobody has taken meanwhile."""
    rows = sorted(new, key=lambda row: row[1:3])
    given = {
        "ids": [row[0] for row in rows],
        "accounts": [row[1] for row in rows],
        "names": [row[2] for row in rows],
        "folded": [fold(row[2]) for row in rows],
        "actors": [row[3] for row in rows],
        "color": color,
        "description": description,
        "sidebar": sidebar,
    }
    return list(plain(await tx.execute(_ADD, given))) if rows else []


async def lock_and_count(tx: Tx, account_id: str) -> int:
    """How many labels the account has; nobody else makes, renames or merges any by hand until the transaction ends."""
    await tx.execute(_LOCK, {"account": account_id})
    return int((await tx.execute(_COUNT, {"account": account_id})).scalar_one())


async def read(tx: Tx, account_id: str, id_: str) -> Row | None:
    """One, locked, whatever its state."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "id": id_})), None)


async def named(tx: Tx, account_id: str, name: str) -> Sequence[Row]:
    """Those that have this name, but for case and accents, or this key; locked."""
    return list(plain(await tx.execute(_NAMED, {"account": account_id, "name": name, "folded": fold(name)})))


async def page(tx: Tx, account_id: str, wanted: str, limit: int, after: tuple[str, str] | None) -> Sequence[Row]:
    """One page of those whose name has this (folded), by name, one row more than asked."""
    folded, id_ = after or (None, None)
    given = {"account": account_id, "wanted": wanted, "after": folded, "id": id_, "limit": limit + 1}
    return list(plain(await tx.execute(_PAGE, given)))


async def write(tx: Tx, row: Row, actor: str, **changed: Any) -> Row:
    """Write one that is locked, as its next version."""
    after = {**row, **changed}
    given = {name: after[name] for name in ("id", "name", "color", "description", "sidebar", "state", "into_key")}
    given |= {"account": row["account_id"], "folded": fold(after["name"]), "actor": actor}
    return next(plain(await tx.execute(_WRITE, given)))


async def follow(tx: Tx, account_id: str, key: str, to: str) -> None:
    """What was merged into one label is of another one now; saved views ask for that one."""
    await tx.execute(_FOLLOW, {"account": account_id, "key": key, "to": to})
    await tx.execute(_VIEWS, {"account": account_id, "key": key, "to": to})


async def drop(tx: Tx, row: Row) -> None:
    """Remove one for good, and what was merged into it."""
    await tx.execute(_DROP, {"account": row["account_id"], "id": row["id"], "key": row["key"]})


async def is_taking(tx: Tx, row: Row) -> bool:
    """Whether another label is just becoming this one."""
    return bool((await tx.execute(_TAKING, {"account": row["account_id"], "key": row["key"]})).scalar_one())


async def names(tx: Tx, account_id: str, keys: Iterable[str]) -> dict[str, str]:
    """Names by key."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    return {row.key: row.name for row in await tx.execute(_NAMES, {"account": account_id, "keys": wanted})}


async def renamed(tx: Tx, account_id: str) -> dict[str, str]:
    """The names of all labels that have another one than their key."""
    return {row.key: row.name for row in await tx.execute(_EVERY_NAME, {"account": account_id})}


async def conversations_having(tx: Tx, account_id: str, key: str, limit: int) -> list[str]:
    """Some conversations that have the label."""
    given = {"account": account_id, "key": key, "limit": limit}
    return list((await tx.execute(_HAVING["conversations"], given)).scalars())


async def contacts_having(tx: Tx, account_id: str, key: str, limit: int) -> list[str]:
    """Some contacts that have the label."""
    return list((await tx.execute(_HAVING["contacts"], {"account": account_id, "key": key, "limit": limit})).scalars())


def state_of(row: Row) -> LabelState:
    """The label within a row."""
    return LabelState.model_validate(row)
