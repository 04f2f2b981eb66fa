"""Posts what waits for endpoints: signed, in order within a lane, at least once."""

import asyncio
import contextlib
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import structlog

from relevo.chassis import sealing
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx, described
from relevo.chassis.egress import Egress, Unreachable
from relevo.chassis.webhooks import deliveries
from relevo.chassis.webhooks.endpoints import Secrets
from relevo.contracts.base import now
from relevo.kernel import webhooks
from relevo.kernel.addresses import BadAddress
from relevo.kernel.webhooks import Outcome, Patience, answered, decide, signature

log = structlog.get_logger("relevo.webhooks")

_POLL: Final = 1.0
_BOTH_SECRETS: Final = timedelta(days=1)
_SECRET_BYTES: Final = 32
_LEASE: Final = 3
"""Time limits of a request; a claim that runs out earlier would have it sent twice."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is sent at once, of one process. ``seconds`` is the time limit of one request."""

    seconds: float = 10.0
    parallel: int = 16
    patience: Patience = field(default_factory=Patience)
    allow_private: bool = False
    """Private addresses, and http: for tests and closed networks."""


@dataclass(frozen=True, slots=True)
class Paused:
    """An endpoint that was just paused. ``host`` and nothing more of its address: the rest may hold a secret."""

    account_id: str
    endpoint_id: str
    host: str
    error: str
    at: datetime


Tell = Callable[[Tx, Paused], Awaitable[None]]


def new_secret() -> str:
    """A secret to sign with, as it is shown."""
    return webhooks.secret(secrets.token_bytes(_SECRET_BYTES))


def seal(key: bytes, secret: str, endpoint_id: str) -> bytes:
    """A secret as it is kept."""
    return sealing.seal(key, secret.encode(), label=f"webhook {endpoint_id}")


class Sender:
    """Works off the deliveries that are due. Any number of replicas may.

    ``paused`` is called within the transaction that pauses an endpoint. ``clock`` tells the present moment.
    """

    def __init__(
        self,
        database: Database,
        *,
        key: bytes,
        limits: Limits,
        paused: Tell,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._key = key
        self._limits = limits
        self._paused = paused
        self._clock = clock
        self._of_one = max(limits.parallel // 4, 1)
        self._egress = Egress(
            allow_private=limits.allow_private, allow_plain=limits.allow_private, seconds=limits.seconds
        )
        self._under_way: set[asyncio.Task[None]] = set()
        self._of_endpoint: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at once: something was added."""
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until stopped."""
        try:
            while not stopping.is_set():
                self._wake.clear()
                started = 0
                try:
                    started = await self._start_due()
                except Exception as error:  # noqa: BLE001 — the database may be away; deliveries wait safely
                    log.warning("webhooks_again", error=described(error))
                if not started:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_POLL):
                            await self._wake.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of what is under way: it is sent again when its claim runs out."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._egress.close()

    async def send_due(self) -> int:
        """Try what is due now, as much as is sent at once, and wait for how it ends; answers how many were tried."""
        started = await self._start_due()
        await asyncio.gather(*self._under_way)
        return started

    async def attempt(self, url: str, signed_with: Secrets, endpoint_id: str, delivery_id: str, body: str) -> Outcome:
        """Post one body to an endpoint, whatever waits for it. Raises nothing for what the other side does."""
        at = self._clock()
        raw = body.encode()
        headers = {
            "content-type": "application/json",
            "user-agent": "Relevo",
            webhooks.ID: delivery_id,
            webhooks.TIMESTAMP: str(int(at.timestamp())),
            webhooks.SIGNATURE: signature(
                self._opened(signed_with, endpoint_id, at), delivery_id, int(at.timestamp()), raw
            ),
        }
        try:
            answer = await self._egress.post(url, headers, raw)
        except (BadAddress, Unreachable) as error:
            return Outcome(error=str(error))
        return answered(answer.status, answer.headers.get("retry-after"))

    def _opened(self, kept: Secrets, endpoint_id: str, at: datetime) -> list[str]:
        """The secret in force, and for a day the one before."""
        sealed = [kept.secret]
        if kept.previous is not None and kept.rotated_at is not None and kept.rotated_at > at - _BOTH_SECRETS:
            sealed.append(kept.previous)
        return [sealing.unseal(self._key, one, label=f"webhook {endpoint_id}").decode() for one in sealed]

    async def _start_due(self) -> int:
        free = self._limits.parallel - len(self._under_way)
        if free <= 0:
            return 0
        async with self._database.begin(door="webhooks") as tx:
            due = await deliveries.claim(
                tx,
                busy=[endpoint for endpoint, count in self._of_endpoint.items() if count >= self._of_one],
                limit=free,
                of_one=self._of_one,
                at=self._clock(),
                lease=timedelta(seconds=self._limits.seconds * _LEASE),
                struggles_after=self._limits.patience.struggles_after,
            )
        for lane in due:
            self._of_endpoint[lane.endpoint_id] += 1
            task = asyncio.create_task(self._deliver(lane), name="webhook")
            self._under_way.add(task)
            task.add_done_callback(partial(self._ended, lane.endpoint_id))
        return len(due)

    def _ended(self, endpoint_id: str, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._of_endpoint -= Counter([endpoint_id])
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            log.warning("webhook_again", error=described(error))  # when its claim runs out

    async def _deliver(self, lane: Any) -> None:
        async with self._database.begin(lane.account_id) as tx:
            row = await deliveries.first(tx, lane)
        if row is None:
            return
        kept = Secrets(row.secret, row.previous_secret, row.rotated_at)
        outcome = await self.attempt(row.url, kept, lane.endpoint_id, row.id, row.body)
        crash_point("webhooks.after_attempt")
        async with self._database.begin(lane.account_id) as tx:
            await self._note(tx, lane, row, outcome)

    async def _note(self, tx: Tx, lane: Any, row: Any, outcome: Outcome) -> None:
        found = await deliveries.health(tx, lane.account_id, lane.endpoint_id)
        if found is None:
            return
        before, host = found
        at = self._clock()
        verdict = decide(
            outcome,
            before,
            attempts=row.attempts + 1,
            first_tried_at=row.first_tried_at or at,
            at=at,
            patience=self._limits.patience,
            luck=random.random(),
        )
        await deliveries.note(tx, lane, row.id, verdict, outcome.status, outcome.words, at)
        if outcome.taken:
            return
        log.warning(
            "webhook_refused", account=lane.account_id, endpoint=lane.endpoint_id, delivery=row.id, error=outcome.words
        )
        if verdict.health.paused and not before.paused:
            log.error("webhook_paused", account=lane.account_id, endpoint=lane.endpoint_id, error=outcome.words)
            words = outcome.words or ""
            await self._paused(tx, Paused(lane.account_id, lane.endpoint_id, host, words, at))
