"""SQL of the endpoints: where accounts want their events posted. Times come from the caller."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal, LiteralString

from sqlalchemy import Row, text

from relevo.chassis.database import Tx

OrderedBy = Literal["conversation", "endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an account wants events posted. Secrets are sealed."""

    id: str
    account_id: str
    url: str
    description: str
    types: tuple[str, ...]
    ordered_by: OrderedBy
    enabled: bool
    version: int
    created_at: datetime
    updated_at: datetime
    updated_by: str
    failures: int = 0
    failing_since: datetime | None = None
    paused_at: datetime | None = None
    last_error: str | None = None
    last_tried_at: datetime | None = None
    last_delivered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """As much of an endpoint as the events' handler needs."""

    id: str
    account_id: str
    types: tuple[str, ...]
    ordered_by: OrderedBy

    def wants(self, event_type: str) -> bool:
        """Whether events of this type go there."""
        return not self.types or event_type in self.types


@dataclass(frozen=True, slots=True)
class Secrets:
    """An endpoint's sealed secrets: the one in force, and the one before with when it was replaced."""

    secret: bytes
    previous: bytes | None
    rotated_at: datetime | None


_COLUMNS: Final[LiteralString] = """
    cast(id as text) as id, cast(account_id as text) as account_id, url, description, types, ordered_by, enabled,
    version, created_at, updated_at, updated_by, failures, failing_since, paused_at, last_error, last_tried_at,
    last_delivered_at
"""
_SUBSCRIPTIONS = text("""
    select cast(id as text) as id, cast(account_id as text) as account_id, types, ordered_by from webhook_endpoints
    where account_id = any(cast(:accounts as uuid[])) and enabled order by id
""")
_INSERT = text("""
    insert into webhook_endpoints (id, account_id, url, description, types, ordered_by, enabled, secret, next_at,
                                   version, created_at, updated_at, updated_by)
    values (cast(:id as uuid), cast(:account_id as uuid), :url, :description, cast(:types as text[]), :ordered_by,
            :enabled, :secret, :created_at, :version, :created_at, :updated_at, :updated_by)
""")
# What was found of another address says nothing of this one.
_UPDATE = text("""
    update webhook_endpoints
    set url = :url, description = :description, types = cast(:types as text[]), enabled = :enabled, version = :version,
        updated_at = :updated_at, updated_by = :updated_by, next_at = case when url = :url then next_at else :updated_at end
    where account_id = cast(:account_id as uuid) and id = cast(:id as uuid)
""")
_LIST = text(f"""
    select {_COLUMNS} from webhook_endpoints
    where account_id = cast(:account as uuid) and id > cast(:after as uuid) order by id limit :limit
""")
_READ: Final[LiteralString] = f"""
    select {_COLUMNS} from webhook_endpoints where account_id = cast(:account as uuid) and id = cast(:id as uuid)
"""
_DELETE = text("delete from webhook_endpoints where account_id = cast(:account as uuid) and id = cast(:id as uuid)")
_COUNT = text("select count(*) from webhook_endpoints where account_id = cast(:account as uuid)")
_SECRETS = text("""
    select secret, previous_secret, rotated_at from webhook_endpoints
    where account_id = cast(:account as uuid) and id = cast(:id as uuid)
""")
_ROTATE = text("""
    update webhook_endpoints
    set previous_secret = secret, secret = :sealed, rotated_at = :at, version = version + 1, updated_at = :at, updated_by = :by
    where account_id = cast(:account as uuid) and id = cast(:id as uuid)
""")
_RESUME = text("""
    update webhook_endpoints
    set paused_at = null, failures = 0, failing_since = null, next_at = :at, version = version + 1, updated_at = :at,
        updated_by = :by
    where account_id = cast(:account as uuid) and id = cast(:id as uuid)
""")
# Whoever resumes it starts all over: what waited is not given up for the time before.
_PATIENT_AGAIN = text("""
    update webhook_deliveries set first_tried_at = null
    where endpoint_id = cast(:id as uuid) and account_id = cast(:account as uuid) and state = 'waiting' and first_tried_at is not null
""")
_ALL_LANES_NOW = text("""
    update webhook_lanes set next_at = :at
    where endpoint_id = cast(:id as uuid) and account_id = cast(:account as uuid) and next_at > :at
""")


async def subscriptions(tx: Tx, accounts: Collection[str]) -> list[Subscription]:
    """Who wants events of these accounts. One that is paused does: they wait for it."""
    rows = await tx.execute(_SUBSCRIPTIONS, {"accounts": sorted(accounts)})
    return [Subscription(row.id, row.account_id, tuple(row.types), row.ordered_by) for row in rows]


async def insert(tx: Tx, endpoint: Endpoint, sealed: bytes) -> None:
    """Keep a new endpoint."""
    await tx.execute(_INSERT, _values(endpoint) | {"secret": sealed})


async def update(tx: Tx, endpoint: Endpoint) -> None:
    """Keep what somebody changed of an endpoint; the order of what waits stays as it was."""
    await tx.execute(_UPDATE, _values(endpoint))


async def delete(tx: Tx, account_id: str, id_: str) -> None:
    """Forget an endpoint with all its deliveries."""
    await tx.execute(_DELETE, {"account": account_id, "id": id_})


async def count(tx: Tx, account_id: str) -> int:
    """How many endpoints the account has."""
    return int((await tx.execute(_COUNT, {"account": account_id})).scalar_one())


async def endpoints(tx: Tx, account_id: str, *, after: str, limit: int) -> list[Endpoint]:
    """An account's endpoints from ``after`` on, in the order in which they were made."""
    rows = await tx.execute(_LIST, {"account": account_id, "after": after, "limit": limit})
    return [_endpoint(row) for row in rows]


async def read(tx: Tx, account_id: str, id_: str, *, lock: bool = False) -> Endpoint | None:
    """One endpoint."""
    statement = text(_READ + (" for no key update" if lock else ""))
    row = (await tx.execute(statement, {"account": account_id, "id": id_})).first()
    return None if row is None else _endpoint(row)


async def secrets(tx: Tx, account_id: str, id_: str) -> Secrets | None:
    """What an endpoint's deliveries are signed with."""
    row = (await tx.execute(_SECRETS, {"account": account_id, "id": id_})).first()
    return None if row is None else Secrets(row.secret, row.previous_secret, row.rotated_at)


async def rotate(tx: Tx, account_id: str, id_: str, sealed: bytes, *, at: datetime, by: str) -> None:
    """Sign with another secret, and for a while with the one before too."""
    await tx.execute(_ROTATE, {"account": account_id, "id": id_, "sealed": sealed, "at": at, "by": by})


async def resume(tx: Tx, account_id: str, id_: str, *, at: datetime, by: str) -> None:
    """Try an endpoint again, at once, with all that waits for it."""
    await tx.execute(_RESUME, {"account": account_id, "id": id_, "at": at, "by": by})
    await tx.execute(_PATIENT_AGAIN, {"account": account_id, "id": id_})
    await all_lanes_now(tx, account_id, id_, at)


async def all_lanes_now(tx: Tx, account_id: str, id_: str, at: datetime) -> None:
    """Have whatever waits for an endpoint be due."""
    await tx.execute(_ALL_LANES_NOW, {"account": account_id, "id": id_, "at": at})


def _values(endpoint: Endpoint) -> dict[str, Any]:
    return {field.name: getattr(endpoint, field.name) for field in fields(endpoint)} | {"types": list(endpoint.types)}


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(**{**row._asdict(), "types": tuple(row.types)})
