"""Long work on tables, log and streams, in steps that each commit how far they are: erasing people, dropping accounts.

Whoever dies is followed by one that goes on. Any number of replicas may run one; one of them works at a time, and the
archive does not meanwhile.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, Generic, Protocol, TypeVar

import psycopg
import structlog

from relevo.chassis.archive import LOCK
from relevo.chassis.database import described

log = structlog.get_logger("relevo.stepwise")

AGAIN: Final = timedelta(seconds=1)
"""When a step that could not end is looked at again."""
_IDLE: Final = 2.0


class NotYet(Exception):
    """Something must happen before this step can end; it is looked at again a little later."""


class Due(Protocol):
    """What is due, and at which step it is."""

    @property
    def step(self) -> str: ...


Work = TypeVar("Work", bound=Due)


class Stepwise(ABC, Generic[Work]):
    """Does what is due, step by step."""

    def __init__(
        self, what: str, database_url: str, service: str, steps: Mapping[str, Callable[[Work], Awaitable[None]]]
    ) -> None:
        """``what`` names it, for people who look at the database's connections and at the log.

        A step raises NotYet when it cannot end; else it has committed which one follows.
        """
        self._what, self._again = what, what + "_again"
        self._url = database_url
        self._service = service
        self._steps = steps

    @abstractmethod
    async def _due(self) -> Work | None:
        """What is to be done first, None when nothing is."""

    @abstractmethod
    async def _later(self, work: Work) -> None:
        """Have it be due again after AGAIN."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Do what there is to do, until stopped."""
        while not stopping.is_set():
            try:
                worked = await self.work()
            except Exception as error:  # noqa: BLE001  (database, broker or object store may be away: it goes on where it was)
                log.warning(self._again, error=described(error))
                worked = False
            if not worked:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):
                        await stopping.wait()

    async def work(self) -> bool:
        """Do what is due now; tells whether there was anything. Raises what database, broker and object store raise."""
        if await self._due() is None:
            return False
        async with self._alone() as mine:
            worked = False
            while mine and (work := await self._due()) is not None:
                try:
                    await self._steps[work.step](work)
                except NotYet:
                    await self._later(work)
                worked = True
            return worked

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        """Whether nobody else changes what the log consists of at this moment; nobody begins to meanwhile."""
        async with await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, application_name=f"relevo-{self._service}-{self._what}", connect_timeout=5
        ) as connection:
            row = await (await connection.execute("select pg_try_advisory_lock(%s, 0)", (LOCK,))).fetchone()
            yield bool(row and row[0])
