"""Bus: heartbeats of sockets, and what the directory says about agents and sessions."""

from collections.abc import Awaitable, Callable, Sequence

from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.chassis.timers import DueTimer
from relevo.contracts.assignment import AgentLoadChanged
from relevo.contracts.base import now
from relevo.contracts.identity import AgentChanged, SessionRevoked
from relevo.contracts.presence import Heartbeat
from relevo.presence import changes
from relevo.presence.changes import Step
from relevo.presence.domain.status import Beat, Directory, Input, Left, Limits, Loaded, SignedOut

Handler = Callable[[Sequence[Received], Tx], Awaitable[None]]


def commands(limits: Limits) -> Handler:
    """The handler of CMD_PRESENCE."""

    async def on_commands(batch: Sequence[Received], tx: Tx) -> None:
        steps = [
            Step(received.envelope.account, beat.agent_id, _of(beat), received.envelope)
            for received in batch
            if isinstance(beat := received.data, Heartbeat)
        ]
        await changes.apply(tx, steps, now(), limits)

    return on_commands


def _of(beat: Heartbeat) -> Input:
    if beat.connected:
        return Beat(beat.device_id, beat.at, beat.acted_at)
    return Left(beat.device_id, beat.at, beat.signed_out)


def directory(limits: Limits) -> Handler:
    """The handler of EVT_IDENTITY."""

    async def on_directory(batch: Sequence[Received], tx: Tx) -> None:
        steps = []
        for received in batch:
            data = received.data
            if isinstance(data, AgentChanged):
                given = Directory(active=data.agent.active and not data.deleted)
                steps.append(Step(data.agent.account_id, data.agent.id, given, received.envelope))
            elif isinstance(data, SessionRevoked):
                steps.append(Step(data.account_id, data.agent_id, SignedOut(), received.envelope))
        if steps:
            await changes.apply(tx, steps, now(), limits)

    return on_directory


def loads(limits: Limits) -> Handler:
    """The handler of EVT_ASSIGNMENT."""

    async def on_loads(batch: Sequence[Received], tx: Tx) -> None:
        steps = []
        for received in batch:
            load: AgentLoadChanged = received.data
            given = Loaded(load.open, load.capacity, load.received)
            steps.append(Step(received.envelope.account, load.agent_id, given, received.envelope))
        await changes.apply(tx, steps, now(), limits)

    return on_loads


def alarm(limits: Limits) -> Callable[[Sequence[DueTimer], Tx], Awaitable[None]]:
    """The handler of the timers that watch agents."""

    async def on_due(due: Sequence[DueTimer], tx: Tx) -> None:
        await changes.ring(tx, {timer.key: timer.due_at for timer in due}, now(), limits)

    return on_due
