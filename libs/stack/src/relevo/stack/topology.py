"""Carries the chassis's reconciler of streams and durables to a broker, as the user that may change them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from relevo.chassis import topology
from relevo.chassis.topology import Change, DestructiveChange
from relevo.stack.errors import StackError

if TYPE_CHECKING:
    from relevo.chassis.bus import Bus

_T = TypeVar("_T")


def plan(nats_url: str, creds: Path, *, replicas: int = 1) -> list[Change]:
    """What `apply` would do."""
    return _with_bus(nats_url, creds, lambda bus: topology.plan(bus, replicas=replicas))


def apply(nats_url: str, creds: Path, *, replicas: int = 1, allow_destructive: bool = False) -> list[Change]:
    """Make the broker as the catalogue says. Raises StackError when that could lose messages and is not allowed."""
    try:
        return _with_bus(
            nats_url, creds, lambda bus: topology.apply(bus, replicas=replicas, allow_destructive=allow_destructive)
        )
    except DestructiveChange as error:
        raise StackError(str(error)) from error


def _with_bus(nats_url: str, creds: Path, work: Callable[["Bus"], Awaitable[_T]]) -> _T:
    from relevo.chassis.bus import Bus  # noqa: PLC0415 — seconds of imports that no other command needs

    async def run() -> _T:
        bus = Bus("topology", nats_url, str(creds))
        await bus.connect()
        try:
            return await work(bus)
        finally:
            await bus.close()

    return asyncio.run(run())
