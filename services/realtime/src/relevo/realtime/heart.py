"""Presence is told which sockets are open: a beat for each every few seconds, and a last one when it closes."""

import asyncio
import json
from collections.abc import Iterable

import structlog
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from relevo.chassis import Runtime
from relevo.chassis.database import described
from relevo.chassis.outbox import outgoing
from relevo.contracts.base import now
from relevo.contracts.presence import Heartbeat
from relevo.realtime.hub import Hub, Socket

log = structlog.get_logger("relevo.realtime")

_ACK = 5.0


async def beat(
    runtime: Runtime, sockets: Iterable[Socket], *, connected: bool = True, signed_out: bool = False
) -> None:
    """Tell presence about these sockets. A beat that fails is not tried again: the next one follows, or it expires."""
    await asyncio.gather(*(_beat(runtime, socket, connected, signed_out) for socket in sockets))


async def _beat(runtime: Runtime, socket: Socket, connected: bool, signed_out: bool) -> None:
    holder = socket.holder
    _, row = outgoing(
        runtime.name,
        Heartbeat(
            agent_id=holder.agent_id,
            device_id=socket.id,
            connected=connected,
            signed_out=signed_out,
            at=now(),
            acted_at=socket.acted_at,
        ),
        account=holder.account_id,
        entity=holder.agent_id,
        actor=f"agent:{holder.agent_id}",
        sequence=0,
        time=None,
        cause=None,
        id=None,
    )
    try:
        await runtime.js.publish(row.subject, row.body, timeout=_ACK, headers=json.loads(row.headers))
    except (NatsError, JetStreamError, TimeoutError, OSError) as error:
        log.warning("heartbeat_lost", error=described(error))


async def keep_beating(runtime: Runtime) -> None:
    """The worker that beats for every open socket."""
    hub: Hub = runtime.extra["hub"]
    while not runtime.stopping.is_set():  # a cancellation alone could be swallowed by a request under way
        await asyncio.sleep(hub.settings.heartbeat_seconds)
        if sockets := hub.sockets:
            await beat(runtime, sockets)
