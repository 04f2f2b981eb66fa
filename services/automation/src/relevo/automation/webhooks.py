"""The account's outgoing webhooks: which events wait for which endpoint, and who is told when one is paused."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from relevo.automation.domain.webhooks import RULE, TYPES, leaves, payload
from relevo.automation.settings import Settings
from relevo.chassis import Received, Runtime, Tx, directory
from relevo.chassis.database import described
from relevo.chassis.webhooks import Limits, Paused, Sender, deliveries, endpoints
from relevo.chassis.webhooks.endpoints import Subscription
from relevo.contracts.base import Model, now
from relevo.contracts.envelope import Envelope
from relevo.contracts.notification import Notify
from relevo.contracts.permissions import Permission

_TYPES: Final = frozenset(TYPES)
_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class Direct:
    """What a rule posts to one endpoint, whatever that wants to be told of by itself. The body is made by the time of posting."""

    account_id: str
    endpoint_id: str
    entity_id: str
    id: str
    body: Callable[[datetime], str]


class Webhooks:
    """The events' handler and the workers; one for each process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender: Sender | None = None

    async def setup(self, runtime: Runtime) -> None:
        """Make the sender; nothing is sent yet."""
        self._sender = runtime.extra["webhooks"] = Sender(
            runtime.database,
            key=self._settings.key,
            limits=Limits(
                seconds=self._settings.webhook_timeout,
                parallel=self._settings.webhook_parallel,
                allow_private=self._settings.webhooks_allow_private,
            ),
            paused=tell,
        )

    async def run(self, runtime: Runtime) -> None:
        """The worker that sends."""
        assert self._sender is not None
        await self._sender.run(runtime.stopping)

    async def forget(self, runtime: Runtime) -> None:
        """The worker that deletes old deliveries, also those that nobody resumed their endpoint for."""
        while True:
            before = now() - timedelta(days=self._settings.webhook_days)
            try:
                more = True
                while more:
                    async with runtime.database.begin(door="retention") as tx:
                        more = await deliveries.forget(tx, before)
            except Exception as error:  # noqa: BLE001  (the database may be away; the next round will do)
                runtime.log.warning("webhook_retention_again", error=described(error))
            await asyncio.sleep(_HOUR)

    async def on_conversation(self, batch: Sequence[Received], tx: Tx) -> None:
        """Have what endpoints want wait for them, in the order of the batch."""
        offered = [received for received in batch if received.type in _TYPES]
        if not offered:
            return
        of = await _subscriptions(tx, {received.envelope.account for received in offered})
        if of:
            wanted = [r for r in offered if any(one.wants(r.type) for one in of.get(r.envelope.account, ()))]
            await self._add(tx, of, [(received.envelope, received.data) for received in wanted])

    async def add(self, tx: Tx, events: Sequence[tuple[Envelope, Model]]) -> None:
        """Have events of our own wait for the endpoints that want them, in the transaction that emits them."""
        if events and (of := await _subscriptions(tx, {envelope.account for envelope, _ in events})):
            await self._add(tx, of, events)

    async def post(self, tx: Tx, posts: Sequence[Direct]) -> None:
        """Have what rules post wait for its endpoints; one that is gone or switched off is posted nothing."""
        if not posts:
            return
        of = await _subscriptions(tx, {one.account_id for one in posts})
        known = {(one.account_id, one.id): one for subscribed in of.values() for one in subscribed}
        moment = now()
        new = [
            deliveries.NewDelivery(endpoint, one.entity_id, one.id, RULE, one.body(moment))
            for one in posts
            if (endpoint := known.get((one.account_id, one.endpoint_id)))
        ]
        await deliveries.add(tx, new, moment)
        if new and self._sender is not None:
            tx.after_commit(self._sender.wake)

    async def _add(
        self, tx: Tx, of: Mapping[str, Sequence[Subscription]], events: Sequence[tuple[Envelope, Model]]
    ) -> None:
        new = []
        for envelope, event in events:
            wanting = [one for one in of.get(envelope.account, ()) if one.wants(envelope.type)]
            if not wanting or not leaves(event):
                continue
            body = payload(envelope, event)
            new += [deliveries.NewDelivery(one, envelope.entity, envelope.id, envelope.type, body) for one in wanting]
        await deliveries.add(tx, new, now())
        if new and self._sender is not None:
            tx.after_commit(self._sender.wake)


async def _subscriptions(tx: Tx, accounts: set[str]) -> dict[str, list[Subscription]]:
    of: dict[str, list[Subscription]] = defaultdict(list)
    for one in await endpoints.subscriptions(tx, accounts):
        of[one.account_id].append(one)
    return of


async def tell(tx: Tx, paused: Paused) -> None:
    """Tell everybody who looks after webhooks that one takes nothing any more."""
    for role in await directory.roles(tx, paused.account_id):
        if Permission.WEBHOOKS_MANAGE in role.permissions:
            command = Notify(
                dedup_key=f"webhook_paused:{paused.endpoint_id}:{paused.at.isoformat()}",
                kind="endpoint_paused",
                role_id=role.id,
                template="endpoint_paused",
                data={"host": paused.host, "error": paused.error},
            )
            tx.emit(command, account=paused.account_id, entity=paused.endpoint_id)
