"""A running service: what it is made of, and the order in which it starts and drains."""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.js import JetStreamContext

from relevo.chassis import broker, directory, dropping, erasing, health, http, idempotency, outbox
from relevo.chassis.archive import Archive
from relevo.chassis.bus import Bus, UnsafeBroker, until
from relevo.chassis.capacity import Capacity
from relevo.chassis.database import Database, Pool, described
from relevo.chassis.dropper import Dropper, Finish, Outside
from relevo.chassis.dropping import Gone
from relevo.chassis.eraser import Eraser
from relevo.chassis.erasing import Personal
from relevo.chassis.exporting import Exported
from relevo.chassis.exporting import router as exporting_router
from relevo.chassis.history import History, HistoryServer
from relevo.chassis.lease import Leases
from relevo.chassis.log import Log
from relevo.chassis.pressure import Pressure
from relevo.chassis.projection import Projection
from relevo.chassis.reader import Consumer, Handler, Reader
from relevo.chassis.relay import Relay
from relevo.chassis.settings import ServiceSettings
from relevo.chassis.stories import Stories
from relevo.chassis.timers import Handler as TimerHandler
from relevo.chassis.timers import run as run_timers
from relevo.contracts import catalogue
from relevo.contracts.streams import CMD_ACCOUNTS, CMD_ERASURE, Stream

_MEASURE = 2.0
_LAST_WORD = 3.0
"""Seconds that a worker has to end in once it was cancelled."""
_HOUR = 3600.0
_MINUTE = 60.0
_COLLECT_AFTER = 20_000
"""Objects; a batch of hundreds of events makes as many, and Python's 700 would look through them again and again."""

Worker = Callable[["Runtime"], Awaitable[None]]


@dataclass(frozen=True)
class Service:
    """What one service is made of; its ``app.build`` answers one of these and does nothing else.

    ``consumers`` handle the ordered streams, ``subscribers`` registers FastStream subscribers for unordered work on
    durables that the topology has, ``workers`` are loops that live as long as the process, ``setup`` runs once when
    database and bus are up, before anything is read. ``projections`` are what can be rebuilt, besides the directory;
    ``personal`` says what is held of people, where anything is. ``placed`` is the stream of its own whose stories are told
    (`stories`). ``account_columns`` names the column of tables whose account has another one than ``account_id``;
    ``drop_outside`` removes what is kept of an account outside of the database, ``drop_finish`` ends its drop where
    identity need not be told. ``exported`` is what is told of an account that is exported. ``urgent``: people wait for
    what comes of its events, so that none of them waits for more to come (`pacing`).
    """

    name: str
    settings: ServiceSettings
    migrations: str
    consumers: Sequence[Consumer] = ()
    router: APIRouter | None = None
    workers: Sequence[Worker] = ()
    timers: Mapping[str, TimerHandler] = field(default_factory=dict)
    setup: Callable[["Runtime"], Awaitable[None]] | None = None
    subscribers: Callable[[NatsBroker, "Runtime"], None] | None = None
    projections: Sequence[Projection] = ()
    personal: Personal | None = None
    placed: Stream | None = None
    account_columns: Mapping[str, str] = field(default_factory=dict)
    exported: Exported = field(default_factory=Exported)
    drop_outside: Outside | None = None
    drop_finish: Finish | None = None
    urgent: bool = False


class Runtime:
    """One running process of a service."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self.service = service
        self.name = service.name
        self.settings = settings
        self.log = structlog.get_logger(f"relevo.{service.name}")
        self.stopping = asyncio.Event()
        self.extra: dict[str, Any] = {}
        credentials = str(settings.nats_credentials) if settings.nats_credentials else None
        self.bus = Bus(service.name, settings.nats_url, credentials)
        pool = Pool(
            settings.database_url,
            service=service.name,
            size=settings.pool_size,
            lease_seconds=settings.partition_lease_seconds,
        )
        self.database = Database(pool, service.name, self._committed)
        self.archive = settings.archive()
        owned = Log(self.database, self.archive)
        self.history = History(self.bus, owned)
        self.stories = None if service.placed is None else Stories(self.database, self.archive, service.placed)
        self._teller = HistoryServer(self.bus, owned)
        stirred = asyncio.Event()
        self.relay = Relay(self.bus, self.database, stirred, urgent=service.urgent)
        self.gone = Gone()
        self.reader = Reader(
            self.bus, self.database, self._handlers(), self.history, stirred, gone=self.gone, urgent=service.urgent
        )
        self._pressure = Pressure(
            self.bus, stirred, lambda: [*self.reader.waiting_since(), *self.relay.waiting_since()]
        )
        self._takers: list[Callable[[int], None]] = []
        self.leases = Leases(
            settings.database_url,
            seconds=settings.partition_lease_seconds,
            take=self._take,
            put_down=self._put_down,
            service=service.name,
        )
        self.started = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def broker(self) -> NatsBroker:
        """FastStream's broker: unordered subscribers, core NATS."""
        return self.bus.broker

    @property
    def nats(self) -> Client:
        """The client beneath the broker."""
        return self.bus.nats

    @property
    def js(self) -> JetStreamContext:
        """JetStream, for those who publish without an outbox."""
        return self.bus.nats.jetstream()

    def _handlers(self) -> dict[Stream, list[Handler]]:
        """The directory's projection first, then the service's own, by stream. Every stream of the catalogue is read."""
        found: dict[Stream, list[Handler]] = {}
        for stream, messages in catalogue.read_by(self.name).items():
            if any(directory.concerns(message) for message in messages):
                found[stream] = [directory.project]
        for consumer in self.service.consumers:
            found.setdefault(consumer.stream, []).append(consumer.handler)
        if self.service.personal is not None:
            found.setdefault(CMD_ERASURE, [erasing.hear])
        if CMD_ACCOUNTS in catalogue.read_by(self.name):
            found.setdefault(CMD_ACCOUNTS, [dropping.hear])
        if missing := set(catalogue.read_by(self.name)) - set(found):
            raise LookupError(
                f"{self.name} handles nothing of {sorted(s.name for s in missing)}, the catalogue says it does"
            )
        return found

    def _streams(self) -> list[Stream]:
        """All streams that this service reads or writes."""
        return list(dict.fromkeys([*catalogue.read_by(self.name), *catalogue.published_by(self.name)]))

    def _committed(self, partitions: set[int]) -> None:
        self.relay.wake(partitions)

    def on_take(self, callback: Callable[[int], None]) -> None:
        """Have ``callback`` called with every partition that this process takes, before it reads it."""
        self._takers.append(callback)

    async def _take(self, p: int) -> None:
        for callback in self._takers:
            callback(p)
        self.reader.take(p)
        await self.relay.take(p)

    async def _put_down(self, p: int) -> None:
        await asyncio.gather(self.reader.put_down(p), self.relay.put_down(p))

    def missing(self) -> dict[str, str]:
        """What keeps this process from being ready, by name; empty when it is."""
        found = {}
        if not self.started:
            found["start"] = "still starting"
        elif not self.bus.nats.is_connected:
            found["bus"] = "not connected"
        if self.stopping.is_set():
            found["stop"] = "draining"
        return found | self.reader.refused | self.relay.refused

    async def start(self) -> None:
        """Bring everything up: database, bus, then reader, relay and workers."""
        await self.bus.connect()
        await broker.check(self.bus, self.settings, self._streams())
        async with self.database.begin() as tx:
            await outbox.ensure_days(tx)
        await self._teller.start()
        await self.reader.prepare()
        await self.gone.refresh(self.database)
        if self.service.setup:
            await self.service.setup(self)
        if self.service.subscribers:
            self.service.subscribers(self.broker, self)
            await self.broker.start()
        self.bus.on_reconnect(self.reader.restart)
        self._spawn(self.reader.run(), "reader")
        self.bus.on_disconnect(self.relay.restart)
        self.bus.on_reconnect(self.relay.restart)
        self._spawn(self.relay.run(), "relay")
        self._spawn(self.leases.run(), "leases")
        self._spawn(self._pressure.run(), "maintenance of pressure")
        self._spawn(self._maintain(), "maintenance")
        self._spawn(self._keep_log(), "maintenance of the log")
        self._spawn(idempotency.run(self), "maintenance of idempotency keys")
        if self.service.personal is not None:
            self._spawn(self._eraser(self.service.personal).run(self.stopping), "maintenance of erasures")
        self._spawn(self._dropper().run(self.stopping), "maintenance of dropped accounts")
        if self.service.timers:
            self._spawn(run_timers(self, self.service.timers), "timers")
        for worker in self.service.workers:
            self._spawn(worker(self), getattr(worker, "__qualname__", "worker"))
        await self.leases.settled.wait()
        self.started = True
        self.log.info("started", partitions=len(self.leases.held))

    def _eraser(self, personal: Personal) -> Eraser:
        return Eraser(
            bus=self.bus,
            database=self.database,
            database_url=self.settings.database_url,
            store=self.archive,
            personal=personal,
            settle=timedelta(seconds=self.settings.erasure_settle_seconds),
        )

    def _dropper(self) -> Dropper:
        return Dropper(
            bus=self.bus,
            database=self.database,
            database_url=self.settings.database_url,
            store=self.archive,
            settle=timedelta(seconds=self.settings.erasure_settle_seconds),
            columns=self.service.account_columns,
            outside=self.service.drop_outside,
            finish=self.service.drop_finish,
        )

    async def stop(self) -> None:
        """Drain: finish what is under way, hand the partitions over, publish what was committed, close."""
        self.stopping.set()
        self.reader.stop()
        workers = [task for task in self._tasks if task.get_name().startswith(("worker ", "timers", "maintenance"))]
        # Cancelled more than once if need be: in Python 3.11 a wait that ends at the same moment swallows it.
        left = set(workers)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_LAST_WORD)
        self.relay.stop()
        rest = [task for task in self._tasks if task not in workers]
        # None of them runs yet where the start failed: the database or the bus was away.
        if relay := [task for task in rest if task.get_name() == "relay"]:
            await asyncio.wait(relay, timeout=5)
        await self.leases.stop()
        if rest:
            await asyncio.wait(rest, timeout=5)
        for task in rest:
            task.cancel()
        await self.bus.close()
        await self.database.close()
        self.log.info("stopped")

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        async def live() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except BaseException:
                if self.stopping.is_set():
                    self.log.warning("task_failed_while_stopping", task=name, exc_info=True)
                    return
                # A loop that died must not leave a half-working process behind: a new one will take over.
                self.log.critical("task_died", task=name, exc_info=True)
                os._exit(70)

        prefix = (
            ""
            if name.split(" ", maxsplit=1)[0] in {"reader", "relay", "leases", "timers", "maintenance"}
            else "worker "
        )
        self._tasks.append(asyncio.create_task(live(), name=prefix + name))

    async def _maintain(self) -> None:
        """Gauges every few seconds, memory every minute, outbox days every hour."""
        loop = asyncio.get_running_loop()
        next_days, next_prune = loop.time() + _HOUR, loop.time() + _MINUTE
        capacity = Capacity(self.bus)
        while True:
            await asyncio.sleep(_MEASURE)
            try:
                self.reader.measure()
                await self.relay.measure()
                await capacity.measure()
                await self.gone.refresh(self.database)
                if loop.time() >= next_prune:
                    await self.reader.positions.prune()
                    next_prune = loop.time() + _MINUTE
                if loop.time() >= next_days:
                    async with self.database.begin() as tx:
                        await outbox.ensure_days(tx)
                    next_days = loop.time() + _HOUR
            except Exception as error:  # noqa: BLE001  (the database may be away; the next round will do)
                self.log.warning("maintenance_again", error=described(error))

    async def _keep_log(self) -> None:
        """Archive the outbox days that are due, and forget what projections hold no longer."""
        settings = self.settings
        if self.archive is None:
            self.log.warning(
                "no_archive", mend="set RELEVO_ARCHIVE_URL or RELEVO_FILES; outbox days stay in the database"
            )
        while True:
            try:
                if self.archive is not None:
                    after = timedelta(seconds=settings.archive_after_seconds)
                    await Archive(self.name, settings.database_url, self.archive, after, self.service.placed).run()
                for projection in (*directory.projections(self.name), *self.service.projections):
                    if projection.tidy is not None:
                        async with self.database.begin() as tx:
                            await projection.tidy(tx)
            except Exception as error:  # noqa: BLE001  (database or object store may be away; the next round will do)
                self.log.warning("log_maintenance_again", error=described(error))
            await asyncio.sleep(settings.archive_every_seconds)

    async def idle(self, seconds: float = 10.0) -> bool:
        """Wait until nothing is known to wait in reader and outbox; tells whether that came."""

        async def quiet() -> bool:
            pending = (await self.database.single(outbox.ANY_WAITING)).scalar_one()
            return not pending and not self.reader.backlog

        return await until(quiet, seconds)


def settle_memory() -> None:
    """What the start made lives as long as the process: the collector looks at it no more, and less often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)


def application(service: Service) -> FastAPI:
    """The service as one FastAPI application; its lifespan starts and drains the runtime."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime = Runtime(service)
        app.state.runtime = runtime
        watchdog = health.LoopWatchdog(service.settings.loop_stall_seconds)
        watchdog.start()
        try:
            await runtime.start()
            settle_memory()
            yield
        except UnsafeBroker as refusal:
            runtime.log.critical("broker_refused", reason=str(refusal))
            app.state.refused = refusal
            # The server's traceback would bury the one line that tells what to do.
            logging.getLogger("uvicorn.error").disabled = True
            raise
        finally:
            await runtime.stop()
            watchdog.stop()

    router = APIRouter()
    for part in (service.router, exporting_router(service.name, service.exported)):
        if part is not None:
            router.include_router(part)
    return http.create_app(service.name, router, service.settings, lifespan)
