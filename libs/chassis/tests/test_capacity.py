"""A stream that fills, on a real broker: said before, waited for while full, and nothing lost when it has room again."""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from relevo.chassis import Consumer, Service, topology
from relevo.chassis import capacity as capacity_module
from relevo.chassis.bus import until
from relevo.chassis.capacity import Capacity
from relevo.chassis.service import Runtime
from relevo.chassis.settings import ServiceSettings
from relevo.chassis.testing import Admin, admin_of, chassis_database, dead_letter
from relevo.chassis.topology import Fill
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.contracts.envelope import MESSAGE_ID
from relevo.contracts.grants import service_grants
from relevo.contracts.presence import AgentStatus, StatusChanged
from relevo.contracts.streams import EVT_PRESENCE

ACCOUNT = "acc1"
AGENTS = 6


@asynccontextmanager
async def line(servers) -> AsyncIterator[tuple[Runtime, Admin]]:
    """A presence service that reads nothing of interest, and whose stream takes 64 KiB."""
    bus = servers.create_bus()
    grants = service_grants("presence")
    settings = ServiceSettings(
        database_url=chassis_database(servers),
        nats_url=bus.nats_url,
        nats_credentials=bus.user("presence", publish=list(grants.publish), subscribe=list(grants.subscribe)),
        allow_unsafe_broker=True,
    )

    async def pass_over(_batch: object, _tx: object) -> None: ...

    async with admin_of(bus) as admin:
        await topology.apply(admin)
        small = topology.stream_config(EVT_PRESENCE) | {"max_bytes": 64 * 1024}
        await admin.request(f"$JS.API.STREAM.UPDATE.{EVT_PRESENCE.name}", small)
        runtime = Runtime(
            Service(
                "presence",
                settings,
                "none",
                (Consumer(streams.CMD_PRESENCE, pass_over), Consumer(streams.EVT_ASSIGNMENT, pass_over)),
            )
        )
        await runtime.start()
        try:
            yield runtime, admin
        finally:
            await runtime.stop()


async def emit(runtime: Runtime, first: int, count: int) -> None:
    """Events number ``first`` and on of every agent, committed."""
    async with runtime.database.begin() as tx:
        for number in range(first, first + count):
            for agent in range(AGENTS):
                status = AgentStatus(agent_id=f"a{agent}", state="away", since=now(), cause="manual")
                tx.emit(
                    StatusChanged(status=status, previous="busy", previous_since=now()),
                    account=ACCOUNT,
                    entity=f"a{agent}",
                    sequence=number,
                )


async def fill(admin: Admin) -> Fill:
    return next(one for one in await topology.fills(admin) if one.name == EVT_PRESENCE.name)


async def waiting(runtime: Runtime) -> int:
    await runtime.relay.measure()
    (value,) = [
        sample.value
        for metric in capacity_module.telemetry.OUTBOX_PENDING.collect()
        for sample in metric.samples
        if sample.labels["service"] == "presence"
    ]
    return int(value)


async def test_a_full_stream_is_said_once_its_rows_wait_and_flow_when_it_has_room(servers, monkeypatch):
    monkeypatch.setattr(capacity_module, "REST", 0.3)
    async with line(servers) as (runtime, admin):
        number = 1
        while (await fill(admin)).ratio < capacity_module.ALERT:
            await emit(runtime, number, 1)
            number += 1
            assert await runtime.idle(10)

        # Before it is full the service says so, once, with what to do.
        capacity = Capacity(runtime.bus)
        with capture_logs() as lines:
            await capacity.measure()
            capacity._next = 0
            await capacity.measure()
        (said,) = [entry for entry in lines if entry["event"] == "stream_filling"]
        assert said["stream"] == EVT_PRESENCE.name
        assert 80 <= said["percent"] < 100
        assert "relevo topology limits EVT_PRESENCE=" in said["mend"]

        # Full: what is committed stays committed, and waits; readiness and one log line tell why.
        with capture_logs() as lines:
            await emit(runtime, number, 200)
            number += 200

            async def tried_thrice() -> bool:
                errors = capacity_module.telemetry.RELAY_ERRORS.labels("presence", EVT_PRESENCE.name)
                return errors._value.get() >= 3

            assert await until(tried_thrice, 30)
            # What goes into another stream goes on meanwhile.
            async with runtime.database.begin() as tx:
                tx.emit(dead_letter("presence"), account=ACCOUNT, entity="x", sequence=1)

            async def passed() -> bool:
                return bool(await admin.stored("DEAD"))

            assert await until(passed, 30)
        assert [entry["event"] for entry in lines].count("stream_full") == 1
        assert not [entry for entry in lines if entry["event"] in ("relay_again", "relay_failed")]
        held = await waiting(runtime)
        assert held > 600
        (reason,) = runtime.missing().values()
        assert "is full" in reason
        assert "relevo topology limits EVT_PRESENCE=" in reason

        # With room again everything flows, in order, once.
        with capture_logs() as lines:
            await topology.limit(admin, EVT_PRESENCE, max_bytes=topology.LEAST_BYTES)
            assert await runtime.idle(20)
        assert [entry["event"] for entry in lines].count("stream_has_room") == 1
        assert runtime.missing() == {}
        by_agent = defaultdict(list)
        stored = await admin.stored(EVT_PRESENCE.name)
        for _, headers, _ in stored:
            by_agent[headers["ce-subject"]].append(int(headers["relevo-sequence"]))
        assert len(by_agent) == AGENTS
        assert all(found == list(range(1, number)) for found in by_agent.values())
        assert len({headers[MESSAGE_ID] for _, headers, _ in stored}) == AGENTS * (number - 1)


async def test_a_stream_that_was_given_a_shorter_age_is_not_taken_for_an_emptied_one(servers):
    async with line(servers) as (runtime, admin):
        await emit(runtime, 1, 1)
        assert await runtime.idle(10)
        await topology.limit(admin, EVT_PRESENCE, max_bytes=topology.LEAST_BYTES, max_age=topology.LEAST_AGE)
        # As it is a day later: the broker let go of everything by age, and the marks are as old.
        await admin.nats.jetstream().purge_stream(EVT_PRESENCE.name)
        async with runtime.database.begin() as tx:
            await tx.execute(text("update relay_mark set at = at - interval '2 days'"))
        runtime.relay.restart()
        await emit(runtime, 2, 1)
        assert await runtime.idle(10), runtime.missing()
        assert runtime.missing() == {}


@pytest.mark.parametrize(("ratio", "said"), [(0.79, 0), (0.8, 1)])
def test_it_is_said_from_eighty_percent_and_again_only_after_it_was_emptier(ratio, said):
    class Named:
        service = "presence"

    capacity = Capacity(Named())
    shown = Fill("EVT_PRESENCE", int(ratio * 1000), 1000, EVT_PRESENCE.max_age)
    with capture_logs() as lines:
        capacity.tell([shown])
        capacity.tell([shown])
    assert len(lines) == said
    with capture_logs() as lines:
        capacity.tell([Fill("EVT_PRESENCE", 700, 1000, EVT_PRESENCE.max_age)])
        capacity.tell([shown])
    assert len(lines) == said
