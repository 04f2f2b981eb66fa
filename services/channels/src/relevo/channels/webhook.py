"""Delivers the messages of API inboxes to their webhooks: signed, in order within a conversation, at least once."""

import asyncio
import contextlib
import json
import secrets
import time
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog

from relevo.channels import store
from relevo.channels.domain import signing
from relevo.channels.domain.outcome import Failed, Sent, delay, of_answer
from relevo.channels.inboxes import Inboxes
from relevo.channels.reports import refusal, status_of
from relevo.channels.settings import Settings
from relevo.chassis import Runtime, sealing
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Tx, described
from relevo.chassis.egress import Egress, Unreachable
from relevo.contracts.base import Model, now
from relevo.contracts.conversation import OutboundMessage, OutboundUpdate
from relevo.contracts.inbound import InboundStatus
from relevo.contracts.ingest import InboxState
from relevo.kernel.addresses import BadAddress

log = structlog.get_logger("relevo.channels")

_POLL: Final = 1.0
_BOTH_SECRETS: Final = timedelta(days=1)


def new_secret() -> str:
    """A secret to sign with, as it is shown."""
    return f"whsec_{secrets.token_urlsafe(32)}"


async def keys(tx: Tx, settings: Settings, inbox: InboxState) -> list[bytes]:
    """What the inbox's webhooks are signed with: its secret, and for a day the one before. Makes one if there is none."""
    found = await store.secrets(tx, inbox.account_id, inbox.id)
    if found is None:
        sealed = sealing.seal(settings.key, new_secret().encode(), label=inbox.id)
        await store.first_secret(tx, inbox.account_id, inbox.id, sealed, now())
        found = await store.secrets(tx, inbox.account_id, inbox.id)
        assert found is not None
    opened = [sealing.unseal(settings.key, found.sealed, label=inbox.id)]
    if found.previous is not None and found.rotated_at > now() - _BOTH_SECRETS:
        opened.append(sealing.unseal(settings.key, found.previous, label=inbox.id))
    return opened


class Deliverer:
    """Works off the deliveries that are due. Any number of replicas may."""

    def __init__(self, runtime: Runtime, inboxes: Inboxes) -> None:
        settings = runtime.settings
        assert isinstance(settings, Settings)
        self._settings = settings
        self._runtime = runtime
        self._inboxes = inboxes
        self._wake: asyncio.Event = runtime.extra["deliveries"]
        self._under_way: set[asyncio.Task[None]] = set()
        self._of_inbox: Counter[str] = Counter()
        self._of_one = max(settings.webhook_parallel // 4, 1)

    async def run(self) -> None:
        """Deliver until stopped."""
        egress = Egress(
            allow_private=self._settings.webhooks_allow_private,
            allow_plain=True,
            seconds=self._settings.webhook_timeout * 2,  # an answer may also drip
        )
        try:
            while not self._runtime.stopping.is_set():
                self._wake.clear()
                started = 0
                try:
                    started = await self._start_due(egress)
                except Exception as error:  # noqa: BLE001 — the database may be away; deliveries wait safely
                    log.warning("deliveries_again", error=described(error))
                if not started:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_POLL):
                            await self._wake.wait()
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
            await egress.close()

    async def _start_due(self, egress: Egress) -> int:
        free = self._settings.webhook_parallel - len(self._under_way)
        if free <= 0:
            return 0
        busy = {inbox for inbox, count in self._of_inbox.items() if count >= self._of_one}
        # Longer than name, connection, sending and answer can take together: no second attempt meanwhile.
        claim = self._settings.webhook_timeout * 5
        async with self._runtime.database.begin(door="deliveries") as tx:
            due = await store.claim(tx, busy, limit=free, of_one=self._of_one, seconds=claim)
        for row in due:
            self._of_inbox[row.inbox_id] += 1
            task = asyncio.create_task(self._deliver(egress, row), name="webhook")
            self._under_way.add(task)
            task.add_done_callback(partial(self._ended, row.inbox_id))
        return len(due)

    def _ended(self, inbox_id: str, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._of_inbox -= Counter([inbox_id])
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            log.warning("delivery_again", error=described(error))  # when its claim runs out

    async def _deliver(self, egress: Egress, row: Any) -> None:
        what: OutboundMessage | OutboundUpdate
        if row.kind == "update":
            what = OutboundUpdate.model_validate_json(row.body)
        else:
            what = OutboundMessage.model_validate_json(row.body)
        outcome = await self._attempt(egress, row, what)
        crash_point("channels.after_webhook")
        async with self._runtime.database.begin(row.account_id) as tx:
            if isinstance(outcome, Sent):
                news = await store.delivered(tx, row.message_id)
            elif outcome.permanent or row.attempts >= self._settings.webhook_attempts:
                news = await store.failed(tx, row.message_id, outcome.error)
            else:
                first = timedelta(seconds=self._settings.webhook_backoff)
                await store.again(tx, row.message_id, delay(row.attempts, first, outcome.retry_after), outcome.error)
                return
            status = _told(what, outcome)
            if news and status is not None:
                await store.report(tx, row.account_id, row.inbox_id, [status])
        self._runtime.extra["reports"].set()

    async def _attempt(self, egress: Egress, row: Any, what: Model) -> Sent | Failed:
        inbox = await self._inboxes.get(row.inbox_id)
        if inbox is None or inbox.webhook_url is None:
            return Failed("the inbox has no webhook any more", permanent=True)
        async with self._runtime.database.begin(inbox.account_id) as tx:
            signed_with = await keys(tx, self._settings, inbox)
        body = json.dumps({"type": row.kind, "data": what.model_dump(mode="json")}, ensure_ascii=False).encode()
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Relevo",
            signing.TIMESTAMP: str(timestamp),
            signing.SIGNATURE: signing.signature(signed_with, timestamp, body),
            signing.DELIVERY: row.message_id,
        }
        try:
            answer = await egress.post(inbox.webhook_url, headers, body)
        except BadAddress as refused:
            return Failed(f"the webhook was not called. {refused}", permanent=True)
        except Unreachable as error:
            return Failed(f"the webhook could not be reached ({error})", permanent=False)
        return of_answer(answer.status, answer.headers.get("retry-after"), _json(answer.body))


def _json(raw: bytes | None) -> Any:
    """An answer's body if it is small and JSON, else None."""
    try:
        return None if raw is None else json.loads(raw)
    except ValueError:
        return None


def _told(what: OutboundMessage | OutboundUpdate, outcome: Sent | Failed) -> InboundStatus | None:
    """What is reported of a delivery that is over: of a change only that it was refused."""
    if isinstance(what, OutboundUpdate):
        return refusal(what, outcome.error) if isinstance(outcome, Failed) else None
    if isinstance(outcome, Failed):
        return status_of(what.message_id, what.recipient_id, "failed", error=outcome.error)
    return status_of(what.message_id, what.recipient_id, outcome.status, external_id=outcome.external_id)
