"""Carries the chassis's reconciler of streams and durables to a broker, as the user that may change them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from relevo.chassis import topology
from relevo.chassis.topology import ROOM, BadLimit, Change, DestructiveChange, Fill, Healed
from relevo.contracts.streams import BY_NAME
from relevo.stack.errors import StackError

if TYPE_CHECKING:
    from relevo.chassis.bus import Bus

_T = TypeVar("_T")


def plan(nats_url: str, creds: Path, *, replicas: int = 1, room: int = ROOM) -> list[Change]:
    """What `apply` would do."""
    return _with_bus(nats_url, creds, lambda bus: topology.plan(bus, replicas=replicas, room=room))


def apply(
    nats_url: str, creds: Path, *, replicas: int = 1, allow_destructive: bool = False, room: int = ROOM
) -> list[Change]:
    """Make the broker as the catalogue says; new streams share the room (bytes).

    Raises StackError when that could lose messages and is not allowed.
    """
    try:
        return _with_bus(
            nats_url,
            creds,
            lambda bus: topology.apply(bus, replicas=replicas, allow_destructive=allow_destructive, room=room),
        )
    except DestructiveChange as error:
        raise StackError(str(error)) from error


def lost(nats_url: str, creds: Path) -> list[str]:
    """The catalogue's streams that are missing or hold nothing."""
    return _with_bus(nats_url, creds, topology.lost)


def heal(
    nats_url: str,
    creds: Path,
    names: Sequence[str],
    *,
    replicas: int = 1,
    since: datetime | None = None,
    room: int = ROOM,
) -> list[Healed]:
    """Make these streams again where they are missing, and let their owners fill them; see chassis.topology.heal."""
    return _with_bus(nats_url, creds, lambda bus: topology.heal(bus, names, replicas=replicas, since=since, room=room))


def fills(nats_url: str, creds: Path) -> list[Fill]:
    """How full the catalogue's streams are."""
    return _with_bus(nats_url, creds, topology.fills)


def limit(
    nats_url: str, creds: Path, wanted: Mapping[str, tuple[int | None, timedelta | None]]
) -> list[tuple[Fill, Fill]]:
    """Change what streams keep (bytes, age; None: as it is), in turn; answers how full each was and is.

    Raises StackError at the first that cannot be.
    """

    async def change(bus: "Bus") -> list[tuple[Fill, Fill]]:
        return [
            await topology.limit(bus, BY_NAME[name], max_bytes=max_bytes, max_age=max_age)
            for name, (max_bytes, max_age) in wanted.items()
        ]

    try:
        return _with_bus(nats_url, creds, change)
    except BadLimit as error:
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
