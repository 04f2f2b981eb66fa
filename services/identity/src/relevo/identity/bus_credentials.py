"""Credentials of adapters and metrics consumers: rows here, users and durables on the broker, kept in step.

Issuing writes a pending row, makes the durable, then activates the row: whoever dies between leaves a pending row
that is given up later. Revoking commits first and tells the broker after; what the broker was not told yet is
unsettled, and `settle` is repeated until nothing is.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from relevo.chassis import Runtime, directory
from relevo.chassis.auth import new_key
from relevo.chassis.bus import until
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx, described
from relevo.contracts import streams
from relevo.contracts.base import new_id, now
from relevo.contracts.grants import adapter_grants, bot_grants, metrics_grants
from relevo.contracts.identity import KeyChanged
from relevo.identity import problems
from relevo.identity.bus_access import BusAccess, BusUnavailable
from relevo.identity.publish import Change, publish
from relevo.identity.store import audit, sign_in
from relevo.identity.store import directory as rows
from relevo.identity.store import keys as store
from relevo.identity.store.audit import By, Record

GIVE_UP_AFTER = timedelta(minutes=2)
"""A pending credential older than this has no maker any more."""
_EVERY_SECONDS = 5.0
_STREAMS = {"adapter": streams.OUTBOUND, "metrics": streams.METRICS, "bot": streams.OUTBOUND}


@dataclass(frozen=True, slots=True)
class Issued:
    """A credential just issued. ``key`` (adapters and bots) and ``credentials`` are secret, and shown this once."""

    id: str
    key: str | None = field(repr=False)
    credentials: str = field(repr=False)


async def issue_for_inbox(
    db: Database,
    bus: BusAccess,
    by: By,
    kind: store.InboxKind,
    *,
    account: str,
    inbox: str,
    name: str,
    created_by: str | None,
) -> Issued:
    """Credentials for an inbox. An adapter publishes what came in there and takes what goes out; a bot is told of the
    conversations that it has, and answers with its key.

    Raises Problem 422 for an unknown inbox, 503 when the bus is away.
    """

    async def known() -> bool:
        async with db.begin() as tx:
            found = (await directory.inboxes(tx, [inbox])).get(inbox)
        return found is not None and found.account_id == account

    # The inbox may have been made a moment ago: its event is on the way.
    if not await until(known, 1.0):
        raise problems.unknown("inbox", "/inbox_id", [inbox])
    key = new_key(kind)
    grants = adapter_grants(account, inbox, key.id) if kind == "adapter" else bot_grants(key.id)
    user_key, creds = bus.user(key.id, grants, issued_at=now())
    async with db.begin() as tx:
        await store.add_credential(
            tx,
            key.id,
            account,
            kind,
            name=name,
            inbox=inbox,
            user_key=user_key,
            sha256=key.sha256,
            created_by=created_by,
        )
        first = kind == "bot" or await store.first_of_inbox(tx, account, inbox, key.id)
    crash_point("identity.credential_pending")
    # What goes to a bot is addressed to its credential: that stands where an adapter's inbox does.
    addressed = inbox if kind == "adapter" else key.id
    try:
        await bus.make_outbound_durable(key.id, account=account, inbox=addressed, from_start=first)
    except BusUnavailable:
        await _give_up(db, account, key.id)
        raise problems.bus_unavailable() from None
    crash_point("identity.credential_durable")
    await _activate(db, by, account, kind, key.id)
    return Issued(key.id, key.plain, creds)


async def issue_metrics(
    db: Database, bus: BusAccess, by: By, *, account: str, name: str, created_by: str | None
) -> Issued:
    """A metrics consumer's credentials: it makes its own consumer, of the credential's id, from any time it likes."""
    credential = new_id()
    user_key, creds = bus.user(credential, metrics_grants(account, credential), issued_at=now())
    async with db.begin() as tx:
        await store.add_credential(
            tx,
            credential,
            account,
            "metrics",
            name=name,
            inbox=None,
            user_key=user_key,
            sha256=None,
            created_by=created_by,
        )
    await _activate(db, by, account, "metrics", credential)
    return Issued(credential, None, creds)


async def _activate(db: Database, by: By, account: str, kind: store.Kind, credential: str) -> None:
    async with db.begin() as tx:
        if await rows.lock_account(tx, account) is None:
            raise problems.not_found("account")
        found = await store.lock_credential(tx, account, kind, credential)
        if found is None or not await _alive(tx, found) or not await store.activate_credential(tx, account, credential):
            # Given up meanwhile, or whoever asked for it was removed: the pending row is cleared away.
            raise problems.bus_unavailable()
        if state := found.key_state():
            await publish(tx, [Change(KeyChanged(key=state), account, credential, 1)], actor=by.actor)
        record = Record(f"{kind}_credential.issued", f"{kind}_credential", credential, None, found.shown())
        await audit.append(tx, account, by, [record], at=now())


async def _alive(tx: Tx, credential: store.BusCredential) -> bool:
    creator = credential.created_by
    return creator is None or await sign_in.lock_agent(tx, credential.account_id, creator)


async def _give_up(db: Database, account: str, credential: str) -> None:
    async with db.begin() as tx:
        await store.revoke_credentials(tx, account, [credential], now())


async def settle(db: Database, bus: BusAccess, *, again: bool = False) -> None:
    """Tell the broker what it does not know yet: all revocations, and the durables that must go.

    ``again``: also when it should know everything; it may have been restored from before, or lost what it was told.
    Raises BusUnavailable; nothing is forgotten then, and it is done again.
    """
    async with db.begin(door="credentials") as tx:
        await store.lock_bus(tx)
        waiting = await store.unsettled_credentials(tx)
        revoked = await store.revocations(tx) if waiting or again else {}
        if not revoked:
            return
        await bus.publish_revocations(revoked, issued_at=now())
        crash_point("identity.revocations_published")
    # After the lock: what follows may take as long as it likes, and doing it twice does no harm.
    for credential in waiting:
        await bus.delete_durable(_STREAMS[credential.kind], credential.id)
    async with db.begin(door="credentials") as tx:
        await store.settle_credentials(tx, [credential.id for credential in waiting])


async def settler(runtime: Runtime) -> None:
    """The worker that gives up abandoned credentials and settles what could not be settled at once.

    At the start, and after every reconnection, the broker is told all revocations again.
    """
    bus: BusAccess = runtime.extra["bus_access"]
    again = asyncio.Event()
    again.set()
    runtime.bus.on_reconnect(again.set)
    while not runtime.stopping.is_set():
        try:
            async with runtime.database.begin(door="credentials") as tx:
                await store.abandon_credentials(tx, before=now() - GIVE_UP_AFTER, now=now())
            repeat = again.is_set()
            again.clear()
            try:
                await settle(runtime.database, bus, again=repeat)
            except BusUnavailable:
                if repeat:
                    again.set()
                raise
        except (BusUnavailable, psycopg.Error, OSError) as error:
            runtime.log.warning("credentials_unsettled", error=described(error))
        try:
            async with asyncio.timeout(_EVERY_SECONDS):
                await runtime.stopping.wait()
        except TimeoutError:
            continue
