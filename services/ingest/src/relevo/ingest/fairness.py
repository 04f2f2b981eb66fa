"""The gate's doorkeeper: an account that floods waits here, so that the others do not wait behind it.

While services tell that they fall behind, what an account brings above the level (domain/admission.py) is put aside in
the transaction that moves the position, and let in later by a worker, through the same gate. Order within an account
and partition is kept: while messages of it wait, those that come go behind them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import structlog
from nats.aio.msg import Msg

from relevo.chassis import Received, Runtime, Tx, dead_letters
from relevo.chassis.crash import crash_point
from relevo.chassis.database import described, is_transient
from relevo.contracts.grants import load_subject
from relevo.contracts.streams import INBOUND
from relevo.ingest import metrics
from relevo.ingest.domain import delivery
from relevo.ingest.domain.admission import Admission, Lane
from relevo.ingest.store import deferred

log = structlog.get_logger("relevo.ingest.fairness")

_AT_MOST: Final = 500
"""Messages of one round."""
_ROUND: Final = 0.2
"""Seconds between rounds while there is a level; only while somebody waits."""
_AGAIN: Final = 1.0
_ATTEMPTS: Final = 3
_MEASURE: Final = 5.0
_LOG_EVERY: Final = 60.0

TakeIn = Callable[[Sequence[delivery.BusMessage], Tx], Awaitable[None]]


class Fairness:
    """Stands before ``take_in``, which handles messages in order within a transaction.

    What is known here of who waits may be too much, never too little: a partition that somebody else may have handled
    meanwhile is looked up in the transaction that has just moved its position, after which nobody else can add to it.
    """

    def __init__(self, threshold: float, take_in: TakeIn) -> None:
        self._admission = Admission(threshold)
        self._take_in = take_in
        self._behind: set[Lane] = set()
        self._known: dict[int, int] = {}
        """By partition, the position up to which ``_behind`` holds every lane in which messages wait."""
        self._unlooked: set[int] = set()
        self._fresh: set[str] = set()
        """Accounts whose messages were put aside since the worker's round began."""
        self._some = asyncio.Event()
        self._logged = -_LOG_EVERY
        self._measured = -_MEASURE

    async def prepare(self, runtime: Runtime) -> None:
        """Hear the services, and learn of partitions as they are taken."""
        runtime.extra["fairness"] = self
        runtime.on_take(self._taken)
        await runtime.nats.subscribe(load_subject("*"), cb=self._heard)

    async def on_inbound(self, batch: Sequence[Received], tx: Tx) -> None:
        """Take in what may come in now, and put the rest aside."""
        lanes = [Lane(received.partition, delivery.address(received.subject).account_id) for received in batch]
        before: dict[int, int] = {}
        for received in batch:
            before.setdefault(received.partition, received.previous)
        doubtful = [p for p, seq in before.items() if self._known.get(p) != seq]
        waiting = set()
        if doubtful:
            # Of every account: those that bring nothing now must not be passed over later.
            async with tx.through("lanes"):
                waiting = await deferred.lanes(tx, doubtful)
        now = time.monotonic()
        admitted = self._admission.sift(lanes, self._behind | waiting, now)
        self._admission.came(Counter(lane.account for lane in lanes), now)
        aside = [
            (received, lane) for received, lane, at_once in zip(batch, lanes, admitted, strict=True) if not at_once
        ]
        if aside:
            await deferred.keep(tx, aside)
            crash_point("ingest.after_deferral")
        await self._take_in([received for received, at_once in zip(batch, admitted, strict=True) if at_once], tx)
        reached = {received.partition: received.seq for received in batch}
        tx.after_commit(lambda: self._committed(reached, waiting, [lane for _, lane in aside]))

    def wait_for(self, account: str, many: int) -> float:
        """How many seconds an account shall wait with so many messages for the HTTP door; 0: they may come in now."""
        return self._admission.wait_for(account, many, time.monotonic())

    async def run(self, runtime: Runtime) -> None:
        """Let in what waits, as the level allows; sleeps while nothing does."""
        while True:
            await self._some.wait()
            try:
                await self._look(runtime)
                if not await self._round(runtime):
                    continue
            except Exception as error:  # noqa: BLE001  (the database may be away; what waits is safe)
                log.warning("admission_again", error=described(error))
                await asyncio.sleep(_AGAIN)
            await asyncio.sleep(_ROUND if self._admission.limits else 0)

    async def _heard(self, message: Msg) -> None:
        try:
            waited = float(message.data)
        except ValueError:
            log.warning("load_unreadable", subject=message.subject)
            return
        self._admission.told(message.subject.rpartition(".")[2], waited, time.monotonic())
        metrics.LEVEL.set(self._admission.level)

    def _taken(self, p: int) -> None:
        self._known.pop(p, None)
        self._unlooked.add(p)
        self._some.set()

    def _committed(self, reached: Mapping[int, int], found: Collection[Lane], aside: Sequence[Lane]) -> None:
        self._known.update(reached)
        if not found and not aside:
            return
        self._behind.update(found, aside)
        self._fresh.update(lane.account for lane in (*found, *aside))
        self._some.set()
        if not aside:
            return
        metrics.DEFERRALS.inc(len(aside))
        if time.monotonic() - self._logged >= _LOG_EVERY:
            self._logged = time.monotonic()
            ((account, _),) = Counter(lane.account for lane in aside).most_common(1)
            log.warning("account_deferred", account=account, messages_a_second=round(self._admission.level, 1))

    async def _look(self, runtime: Runtime) -> None:
        """Learn who waits in the partitions that were taken, though nothing comes."""
        if ps := set(self._unlooked):
            async with runtime.database.begin(door="lanes") as tx:
                self._behind |= await deferred.lanes(tx, ps)
            self._unlooked -= ps

    async def _round(self, runtime: Runtime) -> bool:
        """Let in one round; tells whether somebody may wait still."""
        held = frozenset(runtime.leases.held)
        accounts = {lane.account for lane in self._behind if lane.p in held}
        if not accounts:
            metrics.DEFERRED.set(0)
            self._measured = -_MEASURE
            if not self._unlooked:
                self._some.clear()
            return False
        if time.monotonic() - self._measured >= _MEASURE:
            self._measured = time.monotonic()
            metrics.DEFERRED.set(await deferred.count(runtime.database, held))
        now = time.monotonic()
        metrics.LEVEL.set(self._admission.level)
        if wanted := self._admission.take(accounts, _AT_MOST, now):
            self._fresh.clear()
            came = await self._let_in_or_give_up(runtime, wanted, held)
            self._admission.took(came, now)
            metrics.ADMISSIONS.inc(came.total())
            done = {account for account, many in wanted.items() if came[account] < many} - self._fresh
            self._behind -= {lane for lane in self._behind if lane.account in done and lane.p in held}
        return True

    async def _let_in_or_give_up(
        self, runtime: Runtime, wanted: Mapping[str, int], held: Collection[int]
    ) -> Counter[str]:
        try:
            return await self._let_in(runtime, wanted, held)
        except Exception as error:
            if is_transient(error):
                raise
        came: Counter[str] = Counter()
        for account, many in wanted.items():
            for _ in range(many):
                came += await self._let_one_in(runtime, account, held)
        return came

    async def _let_in(self, runtime: Runtime, wanted: Mapping[str, int], held: Collection[int]) -> Counter[str]:
        async with runtime.database.begin(*wanted) as tx:
            taken = await deferred.take(tx, wanted, held)
            await self._take_in(taken, tx)
            crash_point("ingest.after_admission")
        return Counter(one.lane.account for one in taken)

    async def _let_one_in(self, runtime: Runtime, account: str, held: Collection[int]) -> Counter[str]:
        """One message, tried as often as a reader tries; then it is a dead letter, and the line moves on."""
        for _ in range(_ATTEMPTS):
            try:
                return await self._let_in(runtime, {account: 1}, held)
            except Exception as error:
                if is_transient(error):
                    raise
                told = described(error)
        async with runtime.database.begin(account) as tx:
            for one in await deferred.take(tx, {account: 1}, held):
                await dead_letters.keep(
                    tx,
                    one,
                    stream=INBOUND.name,
                    p=one.lane.p,
                    account=account,
                    reason="handler",
                    error=told,
                    attempts=_ATTEMPTS,
                )
        return Counter([account])
