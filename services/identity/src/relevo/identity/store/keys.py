"""API keys, bus credentials and signing keys. Secrets are here as SHA-256 or sealed, never in the clear."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import RowMapping, text

from relevo.chassis.database import Tx
from relevo.contracts.identity import KeyState, SigningKeyState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.identity.store.directory import Stored

_KEYS = """
    select cast(id as text) as id, cast(account_id as text) as account_id, name, sha256, permissions, scope,
        cast(created_by as text) as created_by, expires_at, version, created_at
    from api_keys where account_id = :account and deleted_at is null
"""
_KEY_LIST = text(f"{_KEYS} and (cast(:after as uuid) is null or id > :after) order by id limit :limit")
_KEYS_BY_ID = text(f"{_KEYS} and id = any(cast(:ids as uuid[])) order by id for update")
_KEYS_OF_AGENT = text(f"{_KEYS} and created_by = :agent order by id for update")
_KEYS_OF_ROLE = text(
    f"{_KEYS} and created_by in (select id from agents where account_id = :account and role_id = :role"
    " and deleted_at is null) order by id for update"
)
_ADD_KEY = text(
    """
    insert into api_keys (id, account_id, name, sha256, permissions, scope, created_by, expires_at)
    values (:id, :account, :name, :sha256, cast(:permissions as text[]), :scope, :created_by, :expires_at)
    """
)
_TRIM_KEY = text(
    """
    update api_keys set permissions = cast(:permissions as text[]), scope = :scope, version = :version
    where account_id = :account and id = :id
    """
)
_REMOVE_KEYS = text(
    """
    update api_keys set deleted_at = now(), version = version + 1
    where account_id = :account and id = any(cast(:ids as uuid[])) and deleted_at is null
    """
)


@dataclass(frozen=True, slots=True)
class ApiKey(Stored[KeyState]):
    created_at: datetime


async def api_keys(tx: Tx, account: str, *, after: str | None, limit: int) -> list[ApiKey]:
    found = await tx.execute(_KEY_LIST, {"account": account, "after": after, "limit": limit})
    return [_key(row) for row in found.mappings()]


async def lock_api_keys(tx: Tx, account: str, ids: Sequence[str]) -> list[ApiKey]:
    found = await tx.execute(_KEYS_BY_ID, {"account": account, "ids": list(ids)})
    return [_key(row) for row in found.mappings()]


async def lock_api_keys_of_agent(tx: Tx, account: str, agent: str) -> list[ApiKey]:
    found = await tx.execute(_KEYS_OF_AGENT, {"account": account, "agent": agent})
    return [_key(row) for row in found.mappings()]


async def lock_api_keys_of_role(tx: Tx, account: str, role: str) -> list[ApiKey]:
    """The keys of the agents who have the role."""
    found = await tx.execute(_KEYS_OF_ROLE, {"account": account, "role": role})
    return [_key(row) for row in found.mappings()]


async def trim_api_key(tx: Tx, stored: Stored[KeyState]) -> None:
    """Write the permissions and scope of a key, which only ever shrink."""
    state = stored.state
    await tx.execute(
        _TRIM_KEY,
        {
            "account": state.account_id,
            "id": state.id,
            "permissions": sorted(state.permissions),
            "scope": state.scope.value,
            "version": stored.version,
        },
    )


async def add_api_key(tx: Tx, state: KeyState) -> None:
    await tx.execute(
        _ADD_KEY,
        {
            "id": state.id,
            "account": state.account_id,
            "name": state.name,
            "sha256": state.sha256,
            "permissions": sorted(state.permissions),
            "scope": state.scope.value,
            "created_by": state.agent_id,
            "expires_at": state.expires_at,
        },
    )


async def remove_api_keys(tx: Tx, account: str, ids: Sequence[str]) -> None:
    await tx.execute(_REMOVE_KEYS, {"account": account, "ids": list(ids)})


def _key(row: RowMapping) -> ApiKey:
    known = {str(p) for p in Permission}
    state = KeyState(
        id=row["id"],
        account_id=row["account_id"],
        kind="api",
        name=row["name"],
        sha256=row["sha256"],
        permissions=frozenset(Permission(p) for p in row["permissions"] if p in known),
        scope=ConversationScope(row["scope"]),
        agent_id=row["created_by"],
        expires_at=row["expires_at"],
    )
    return ApiKey(state, row["version"], row["created_at"])


InboxKind = Literal["adapter", "bot"]
"""Those of one inbox, which have a key for the HTTP door too."""
Kind = InboxKind | Literal["metrics"]
State = Literal["pending", "active", "revoked"]


@dataclass(frozen=True, slots=True)
class BusCredential:
    """A NATS user that was issued; an adapter's and a bot's have a key for the HTTP door beside it."""

    id: str
    account_id: str
    kind: Kind
    name: str
    inbox_id: str | None
    user_key: str
    sha256: str | None
    created_by: str | None
    state: State
    settled: bool
    version: int
    created_at: datetime
    revoked_at: datetime | None

    def key_state(self) -> KeyState | None:
        """What the others know of it: an adapter's or a bot's key for the HTTP door. Metrics consumers have none."""
        if self.sha256 is None or self.kind == "metrics":
            return None
        return KeyState(
            id=self.id,
            account_id=self.account_id,
            kind=self.kind,
            name=self.name,
            sha256=self.sha256,
            permissions=frozenset({Permission.INBOUND_PUBLISH} if self.kind == "adapter" else ()),
            inbox_id=self.inbox_id,
            agent_id=self.created_by,
        )

    def shown(self) -> dict[str, str | None]:
        """What the audit log keeps."""
        return {"name": self.name, "inbox_id": self.inbox_id, "user_key": self.user_key}


_COLUMNS = """
    cast(id as text), cast(account_id as text), kind, name, cast(inbox_id as text), user_key, sha256,
    cast(created_by as text), state, settled, version, created_at, revoked_at
"""
_CREDENTIAL_LIST = text(
    f"""
    select {_COLUMNS} from bus_credentials
    where account_id = :account and kind = :kind and state = 'active'
      and (cast(:after as uuid) is null or id > :after)
    order by id limit :limit
    """
)
_LOCK_CREDENTIAL = text(
    f"select {_COLUMNS} from bus_credentials where account_id = :account and kind = :kind and id = :id for update"
)
_LOCK_LIVE = text(
    f"""
    select {_COLUMNS} from bus_credentials
    where account_id = :account and state <> 'revoked' and (:everything or created_by = :agent or inbox_id = :inbox)
    order by id for update
    """
)
_FIRST_OF_INBOX = text(
    """
    select not exists (
        select from bus_credentials
        where account_id = :account and inbox_id = :inbox and id <> :id and kind = 'adapter'
    )
    """
)
_ADD_CREDENTIAL = text(
    """
    insert into bus_credentials (id, account_id, kind, name, inbox_id, user_key, sha256, created_by, state)
    values (:id, :account, :kind, :name, :inbox, :user_key, :sha256, :created_by, 'pending')
    """
)
_ACTIVATE = text(
    """
    update bus_credentials set state = 'active', settled = true
    where account_id = :account and id = :id and state = 'pending'
    """
)
_REVOKE = text(
    """
    update bus_credentials set state = 'revoked', settled = false, revoked_at = :now, version = version + 1
    where account_id = :account and id = any(cast(:ids as uuid[])) and state <> 'revoked'
    """
)
_ABANDON = text(
    """
    update bus_credentials set state = 'revoked', revoked_at = :now
    where state = 'pending' and created_at < :before
    """
)
_LOCK_BUS = text("select pg_advisory_xact_lock(hashtextextended('identity.bus', 0))")
_UNSETTLED = text(f"select {_COLUMNS} from bus_credentials where state = 'revoked' and not settled order by id")
_REVOCATIONS = text(
    """
    select user_key, revoked_at from bus_credentials where state = 'revoked'
    union all select user_key, revoked_at from revoked_users
    """
)
_SETTLE = text("update bus_credentials set settled = true where id = any(cast(:ids as uuid[]))")


async def credentials(tx: Tx, account: str, kind: Kind, *, after: str | None, limit: int) -> list[BusCredential]:
    found = await tx.execute(_CREDENTIAL_LIST, {"account": account, "kind": kind, "after": after, "limit": limit})
    return [_credential(row) for row in found]


async def lock_credential(tx: Tx, account: str, kind: Kind, credential: str) -> BusCredential | None:
    row = (await tx.execute(_LOCK_CREDENTIAL, {"account": account, "kind": kind, "id": credential})).first()
    return _credential(row) if row else None


async def lock_live_credentials(
    tx: Tx, account: str, *, agent: str | None = None, inbox: str | None = None, everything: bool = False
) -> list[BusCredential]:
    """Those that were made by the agent, or are the inbox's, and not revoked; or all that are not."""
    given = {"account": account, "agent": agent, "inbox": inbox, "everything": everything}
    found = await tx.execute(_LOCK_LIVE, given)
    return [_credential(row) for row in found]


async def first_of_inbox(tx: Tx, account: str, inbox: str, credential: str) -> bool:
    """Whether the inbox never had another adapter."""
    answer = await tx.execute(_FIRST_OF_INBOX, {"account": account, "inbox": inbox, "id": credential})
    return bool(answer.scalar_one())


async def add_credential(
    tx: Tx,
    credential: str,
    account: str,
    kind: Kind,
    *,
    name: str,
    inbox: str | None,
    user_key: str,
    sha256: str | None,
    created_by: str | None,
) -> None:
    """A pending one: nobody has its secrets before `activate_credential` commits."""
    await tx.execute(
        _ADD_CREDENTIAL,
        {
            "id": credential,
            "account": account,
            "kind": kind,
            "name": name,
            "inbox": inbox,
            "user_key": user_key,
            "sha256": sha256,
            "created_by": created_by,
        },
    )


async def activate_credential(tx: Tx, account: str, credential: str) -> bool:
    """False when it is no longer pending: it was given up or revoked meanwhile."""
    return (await tx.execute(_ACTIVATE, {"account": account, "id": credential})).rowcount == 1


async def revoke_credentials(tx: Tx, account: str, ids: Sequence[str], now: datetime) -> None:
    await tx.execute(_REVOKE, {"account": account, "ids": list(ids), "now": now})


async def abandon_credentials(tx: Tx, *, before: datetime, now: datetime) -> None:
    """Give up those that have been pending since before then: whoever made them died on the way."""
    await tx.execute(_ABANDON, {"before": before, "now": now})


async def lock_bus(tx: Tx) -> None:
    """One at a time tells the broker its revocations, so that a shorter list never replaces a longer one."""
    await tx.execute(_LOCK_BUS)


async def unsettled_credentials(tx: Tx) -> list[BusCredential]:
    """The revoked ones that the broker may still honour, of every account."""
    return [_credential(row) for row in await tx.execute(_UNSETTLED)]


async def revocations(tx: Tx) -> dict[str, datetime]:
    """All users that were ever revoked, of every account, and when: the broker is told the whole list each time."""
    rows: Sequence[Any] = (await tx.execute(_REVOCATIONS)).all()
    return {row.user_key: row.revoked_at for row in rows}


async def settle_credentials(tx: Tx, ids: Sequence[str]) -> None:
    await tx.execute(_SETTLE, {"ids": list(ids)})


def _credential(row: Any) -> BusCredential:
    return BusCredential(*row)


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A signing key with its private half sealed."""

    state: SigningKeyState
    private_sealed: bytes = field(repr=False)
    version: int
    created_at: datetime


_LOCK_SIGNING = text("select pg_advisory_xact_lock(hashtextextended('identity.signing', 0))")
_SIGNING_KEYS = text(
    """
    select cast(id as text) as id, public_pem, private_sealed, version, created_at, not_after from signing_keys
    order by created_at, id
    """
)
_ADD_SIGNING_KEY = text(
    "insert into signing_keys (id, public_pem, private_sealed) values (:id, :public_pem, :private_sealed)"
)
_RETIRE_SIGNING_KEY = text("update signing_keys set not_after = :not_after, version = :version where id = :id")
_FORGET_SIGNING_KEY = text("delete from signing_keys where id = :id")


async def lock_signing(tx: Tx) -> None:
    """One replica makes the first key."""
    await tx.execute(_LOCK_SIGNING)


async def signing_keys(tx: Tx) -> list[SealedKey]:
    """All that are known, the oldest first: there are never more than a few."""
    return [
        SealedKey(
            SigningKeyState(id=row["id"], public_pem=row["public_pem"], not_after=row["not_after"]),
            bytes(row["private_sealed"]),
            row["version"],
            row["created_at"],
        )
        for row in (await tx.execute(_SIGNING_KEYS)).mappings()
    ]


async def add_signing_key(tx: Tx, key: SealedKey) -> None:
    await tx.execute(
        _ADD_SIGNING_KEY,
        {"id": key.state.id, "public_pem": key.state.public_pem, "private_sealed": key.private_sealed},
    )


async def retire_signing_key(tx: Tx, stored: Stored[SigningKeyState]) -> None:
    """From now on the key is only accepted, until ``not_after``."""
    await tx.execute(
        _RETIRE_SIGNING_KEY,
        {"id": stored.state.id, "not_after": stored.state.not_after, "version": stored.version},
    )


async def forget_signing_key(tx: Tx, id_: str) -> None:
    """The key is gone, with its private half."""
    await tx.execute(_FORGET_SIGNING_KEY, {"id": id_})
