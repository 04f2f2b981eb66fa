"""Deleting a whole account: asked for, a time of grace, then everybody is shut out, and every service drops it.

The end is in steps that are each one transaction, so that whoever dies is followed by one that goes on:

closed    everybody is shut out: agents, keys and credentials are gone, which ends sessions and sockets; nothing comes in
dropping  after a while every other service is told to drop what it holds, and answers
sweeping  once more, for what came late, and for what they said in each other's streams
own       identity drops what it holds, as they did
done      the certificate is told, and kept
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import psycopg

from relevo.chassis import Received, Runtime, dropping
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx, described
from relevo.contracts.accounts import AccountDropped, DropAccount
from relevo.contracts.base import Model, new_id, now
from relevo.contracts.catalogue import SERVICES
from relevo.contracts.identity import (
    PLATFORM,
    AccountChanged,
    AccountDeleted,
    AccountState,
    AgentChanged,
    AgentState,
    DroppedPart,
    KeyChanged,
    KeyState,
)
from relevo.contracts.notification import Notify
from relevo.contracts.permissions import Permission
from relevo.identity import links, problems
from relevo.identity.administration import Act
from relevo.identity.publish import Change, publish
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import deletions as store
from relevo.identity.store import directory, keys
from relevo.identity.store.audit import SYSTEM, Record
from relevo.identity.store.deletions import Certificate, Deletion

_EVERY_SECONDS: Final = 2.0
REMIND_BEFORE: Final = timedelta(days=3)
"""So long before the end everybody who administers is told once more."""
_OTHERS: Final = tuple(service for service in SERVICES if service != "identity")


async def ask(act: Act, settings: IdentitySettings, name: str) -> Deletion:
    """Note that the account is to be deleted, and tell everybody who administers it; asked again, nothing more happens.

    Raises Problem 422 when that is not the account's name.
    """
    if name.strip() != act.stored.state.name:
        raise problems.not_the_accounts_name()
    if (found := await store.find(act.tx, act.account)) is not None:
        return found
    at = now()
    # Shorter than the reminder's notice, there is nothing to remind of.
    grace = timedelta(days=settings.account_grace_days)
    deletion = Deletion(new_id(), act.account, at, at + grace, act.by.actor, act.by.name)
    await store.add(act.tx, deletion)
    if grace <= REMIND_BEFORE:
        await store.reminded(act.tx, act.account)
    shown = {"due_at": deletion.due_at.isoformat()}
    await act.done([], [Record("account.deletion_asked", "account", act.account, None, shown)])
    await _tell(act.tx, act.stored.state, deletion, "account_deletion_asked")
    return deletion


async def call_off(act: Act) -> None:
    """The account stays. Raises Problem 404 where no deletion was asked for."""
    found = await store.find(act.tx, act.account)
    if found is None:
        raise problems.not_found("account_deletion")
    await store.remove(act.tx, act.account)
    before = {"due_at": found.due_at.isoformat()}
    await act.done([], [Record("account.deletion_called_off", "account", act.account, before, None)])
    await _tell(act.tx, act.stored.state, found, "account_deletion_called_off", by=act.by.name)


async def _tell(tx: Tx, account: AccountState, deletion: Deletion, template: str, *, by: str | None = None) -> None:
    """To everybody whose role may delete the account: by e-mail, and in their list. Also to who did it, in case it was not them."""
    data = {
        "account": account.name,
        "by": by or deletion.asked_by_name,
        "until": links.local(deletion.due_at, account.time_zone),
    }
    after, roles = None, []
    while page := await directory.roles(tx, account.id, after=after, limit=100):
        roles += [stored.state for stored in page]
        after = page[-1].state.id
    for role in roles:
        if Permission.ACCOUNT_MANAGE in role.permissions:
            for kind in ("security", "alert"):
                command = Notify(
                    dedup_key=f"{template}:{deletion.id}:{kind}:{role.id}",
                    kind=kind,
                    role_id=role.id,
                    template=template,
                    data=data,
                )
                tx.emit(command, account=account.id, entity=role.id, actor="system")


async def worker(runtime: Runtime) -> None:
    """Reminds, closes what is due, and brings what is closed to its end. Any number of replicas may run one."""
    settings = runtime.settings
    assert isinstance(settings, IdentitySettings)
    while not runtime.stopping.is_set():
        try:
            await work(runtime.database, settings)
        except (psycopg.Error, OSError) as error:
            runtime.log.warning("account_deletions_again", error=described(error))
        try:
            async with asyncio.timeout(_EVERY_SECONDS):
                await runtime.stopping.wait()
        except TimeoutError:
            continue


async def work(db: Database, settings: IdentitySettings) -> None:
    """Do what can be done now. Raises psycopg.Error, OSError."""
    at = now()
    async with db.begin(door="deletions") as tx:
        due = await store.due(tx, at, at + REMIND_BEFORE)
    for account in due:
        async with db.begin(account) as tx:
            await _close_or_remind(tx, account)
    async with db.begin() as tx:
        certificates = await store.at_work(tx)
    for certificate in certificates:
        await _advance(db, settings, certificate)


async def _close_or_remind(tx: Tx, account: str) -> None:
    stored = await directory.lock_account(tx, account)
    deletion = await store.find(tx, account)
    if stored is None or deletion is None:  # called off, or closed by another replica meanwhile
        return
    at = now()
    if deletion.due_at > at:
        if not deletion.reminded:
            await store.reminded(tx, account)
            await _tell(tx, stored.state, deletion, "account_deletion_soon")
        return
    await _close(tx, deletion, at)


async def _close(tx: Tx, deletion: Deletion, at: datetime) -> None:
    """Shut everybody out, and begin the certificate."""
    account = deletion.account_id
    credentials = await keys.lock_live_credentials(tx, account, everything=True)
    known = await store.projected(tx, account)
    await keys.revoke_credentials(tx, account, [credential.id for credential in credentials], at)
    await store.close(tx, account, at)
    changes = []
    for kind, id_, state, sequence in known:
        data: Model
        if kind == "agent":
            agent = AgentState.model_validate(state).model_copy(update={"active": False, "team_ids": ()})
            data = AgentChanged(agent=agent, deleted=True)
        elif kind == "key":
            data = KeyChanged(key=KeyState.model_validate(state), deleted=True)
        else:
            data = AccountChanged(account=AccountState.model_validate(state), deleted=True)
        changes.append(Change(data, account, id_, sequence + 1))
    await publish(tx, changes, actor=SYSTEM.actor)
    await store.remove(tx, account)
    await store.begin(tx, deletion, at)
    crash_point("identity.account_closed")


async def _advance(db: Database, settings: IdentitySettings, certificate: Certificate) -> None:
    """The next step, once what it waits for has come."""
    at, account = now(), certificate.account_id
    told = DropAccount(drop_id=certificate.id, account_id=account, asked_at=at)
    async with db.begin(account, PLATFORM) as tx:
        if certificate.state == "closed":
            settled = at >= certificate.closed_at + timedelta(seconds=settings.erasure_settle_seconds)
            if settled and not await store.unsettled(tx, account) and await store.go(tx, certificate, "dropping", at):
                await store.keep_revoked(tx, account)
                tx.emit(told, account=PLATFORM, entity=account)
        elif certificate.state == "dropping" and _all_said(certificate, "dropped_at"):
            if await store.go(tx, certificate, "sweeping", at):
                tx.emit(told.model_copy(update={"sweep": True}), account=PLATFORM, entity=account)
        elif (
            certificate.state == "sweeping"
            and _all_said(certificate, "done_at")
            and await store.go(tx, certificate, "own", at)
        ):
            await dropping.add(tx, told.model_copy(update={"sweep": True}))
    crash_point("identity.account_advanced")


def _all_said(certificate: Certificate, what: str) -> bool:
    return all(what in certificate.parts.get(service, {}) for service in _OTHERS)


async def on_accounts(batch: Sequence[Received], tx: Tx) -> None:
    """What the services answer; a stream that was filled again may bring it twice."""
    for received in batch:
        if received.is_a(AccountDropped):
            await _note(tx, received.envelope.source.removeprefix("relevo/"), received.data)


async def _note(tx: Tx, service: str, told: AccountDropped) -> None:
    part = told.model_dump(mode="json", include={"tables", "log", "messages", "files"})
    # A service that answers late to the first question has said both, or will.
    await store.add_part(
        tx, told.drop_id, service, part | {"done_at" if told.sweep else "dropped_at": now().isoformat()}
    )


async def finish(tx: Tx, told: AccountDropped) -> None:
    """Identity holds nothing any more either: the certificate is whole."""
    await _note(tx, "identity", told)
    found = await store.certificate(tx, told.account_id)
    assert found is not None, "an account is dropped only with a certificate"
    at = now()
    if not await store.go(tx, found, "done", at):
        return
    parts = tuple(
        DroppedPart.model_validate({"service": service, **found.parts[service]}) for service in sorted(found.parts)
    )
    certificate = AccountDeleted(
        certificate_id=found.id,
        account_id=found.account_id,
        asked_at=found.asked_at,
        closed_at=found.closed_at,
        done_at=at,
        parts=parts,
    )
    tx.emit(certificate, account=PLATFORM, entity=found.account_id)
