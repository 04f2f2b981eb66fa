"""What identity reacts to: an inbox that was removed takes its adapters' credentials with it."""

from collections.abc import Sequence

from relevo.chassis import Received, Tx
from relevo.contracts.base import now
from relevo.contracts.ingest import InboxChanged
from relevo.identity import administration
from relevo.identity.publish import publish
from relevo.identity.store import audit, directory, keys


async def on_ingest(batch: Sequence[Received], tx: Tx) -> None:
    """Revoke the credentials of removed inboxes; the settler tells the broker. Removals are rare: one at a time."""
    removed = [r.data.inbox for r in batch if isinstance(r.data, InboxChanged) and r.data.deleted]
    # In the order of their ids, as every account is locked, lest two wait for each other.
    for inbox in sorted(removed, key=lambda state: (state.account_id, state.id)):
        if await directory.lock_account(tx, inbox.account_id) is None:
            continue
        credentials = await keys.lock_live_credentials(tx, inbox.account_id, inbox=inbox.id)
        changes, records = await administration.revoke_credentials(tx, inbox.account_id, credentials)
        await publish(tx, changes, actor=audit.SYSTEM.actor)
        await audit.append(tx, inbox.account_id, audit.SYSTEM, records, at=now())
