"""The labels of accounts, as services keep them who compare or count by them: what a name means, and what a key is called.

A projection of LabelChanged. Conversations, contacts and events carry keys, which never change (docs/adr).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import LabelChanged
from relevo.kernel.labels import Known, meant

DDL_V1: Final[tuple[str, ...]] = (
    """
    create table label_names (
        id uuid primary key,
        account_id uuid not null,
        key text not null,
        name text not null,
        into_key text,
        deleted boolean not null,
        sequence bigint not null
    )
    """,
    "create index label_names_key on label_names (account_id, key)",
    "comment on table label_names is 'projection of the conversation service''s catalogue of labels'",
)
_CHANGED: Final = BY_MODEL[LabelChanged].name
TABLES: Final = ("label_names",)

_UPSERT = text("""
    insert into label_names (id, account_id, key, name, into_key, deleted, sequence)
    select * from unnest(
        cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:keys as text[]), cast(:names as text[]),
        cast(:into as text[]), cast(:deleted as boolean[]), cast(:sequences as bigint[]))
    on conflict (id) do update
        set name = excluded.name, into_key = excluded.into_key, deleted = excluded.deleted, sequence = excluded.sequence
        where excluded.sequence >= label_names.sequence
""")
_OF_ACCOUNT = text("""
    select key, name, into_key, deleted from label_names where account_id = cast(:account as uuid) order by deleted, key
""")


async def project(batch: Sequence[Received], tx: Tx) -> list[LabelChanged]:
    """Keep what the events of a batch tell of labels; answers the newest of each label."""
    latest = {r.envelope.entity: r for r in batch if r.type == _CHANGED}
    rows = [latest[id_] for id_ in sorted(latest)]
    if rows:
        told = [row.data for row in rows]
        await tx.execute(
            _UPSERT,
            {
                "ids": [one.label.id for one in told],
                "accounts": [one.label.account_id for one in told],
                "keys": [one.label.key for one in told],
                "names": [one.label.name for one in told],
                "into": [one.label.into_key for one in told],
                "deleted": [one.deleted for one in told],
                "sequences": [row.envelope.sequence for row in rows],
            },
        )
    return [row.data for row in rows]


async def kept(batch: Sequence[Received], tx: Tx) -> None:
    """The same as a projection's handler."""
    await project(batch, tx)


class Labels:
    """An account's labels. A key that is not known here is its own name: it may have come a moment ago."""

    def __init__(self, known: Iterable[Known]) -> None:
        self._known = {one.key: one for one in reversed(list(known))}

    def key(self, name: str) -> str:
        """What a name stands for."""
        return meant(name, (one for one in self._known.values() if one.state != "deleting")) or name

    def name(self, key: str) -> str:
        """What people call it now; of one that was deleted, what they called it."""
        found = self._known.get(self.became(key))
        return found.name if found else key

    def became(self, key: str) -> str:
        """The label that this one was merged into, or itself."""
        found = self._known.get(key)
        return found.into_key or key if found else key

    @property
    def merged(self) -> dict[str, str]:
        """The keys of merged labels, each with what it became."""
        return {key: one.into_key for key, one in self._known.items() if one.into_key}

    def all_of(self, key: str) -> list[str]:
        """The key, and those of the labels that were merged into it."""
        return [key, *sorted(one.key for one in self._known.values() if one.into_key == key)]


async def labels(tx: Tx, account_id: str) -> Labels:
    """The labels of an account: hundreds, seldom more."""
    rows = await tx.execute(_OF_ACCOUNT, {"account": account_id})
    return Labels(
        Known(row.key, row.name, "deleting" if row.deleted else "merged" if row.into_key else "live", row.into_key)
        for row in rows
    )
