"""The reconciler: what it makes is what the catalogue says, what it would change it says, what could lose it refuses."""

import dataclasses
import json
from datetime import timedelta
from typing import Any

import nats
import pytest

from relevo.chassis.topology import BadLimit, DestructiveChange, apply, fills, limit, plan, stream_config
from relevo.contracts.streams import BY_NAME, STREAMS
from relevo.stack.testing import TestServers


class Refusal(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Broker:
    def __init__(self, client: nats.aio.client.Client) -> None:
        self._client = client

    async def request(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]:
        reply = await self._client.request(subject, json.dumps(payload).encode(), timeout=10)
        answer: dict[str, Any] = json.loads(reply.data)
        if error := answer.get("error"):
            raise Refusal(str(error), error["err_code"])
        return answer


def changed(name: str, **values: Any) -> tuple[Any, ...]:
    return tuple(dataclasses.replace(s, **values) if s.name == name else s for s in STREAMS)


async def test_the_topology_is_applied_planned_and_guarded(servers: TestServers) -> None:
    bus = servers.create_bus()
    client = await nats.connect(bus.nats_url, user_credentials=str(bus.admin_creds))
    broker = Broker(client)
    made = await apply(broker)
    assert {change.name for change in made} >= {stream.name for stream in STREAMS}
    assert {change.action for change in made} == {"create"}
    assert await plan(broker) == []
    assert await apply(broker) == []

    # Another hand changed a stream: the plan tells what, in words, and mends it.
    altered = stream_config(STREAMS[0]) | {"description": "other"}
    await broker.request(f"$JS.API.STREAM.UPDATE.{STREAMS[0].name}", altered)
    (change,) = await plan(broker)
    assert (change.action, change.kind, change.name) == ("update", "stream", STREAMS[0].name)
    assert change.details == (f"description: 'other' → {STREAMS[0].description!r}",)
    assert not change.destructive
    await apply(broker)
    assert await plan(broker) == []

    # A stream may store more subjects than before; none may go.
    (fewer, more) = (
        stream_config(STREAMS[0]) | {"subjects": [STREAMS[0].published(), *other]} for other in ([], ["x.>"])
    )
    await broker.request(f"$JS.API.STREAM.UPDATE.{STREAMS[0].name}", fewer)
    (change,) = await plan(broker)
    assert not change.destructive
    await apply(broker)
    await broker.request(f"$JS.API.STREAM.UPDATE.{STREAMS[0].name}", more)
    (change,) = await plan(broker)
    assert change.destructive
    await apply(broker, allow_destructive=True)

    # What could lose messages is refused before anything is touched.
    for streams in (
        changed("METRICS", pattern="metrics.{account}.{family}"),
        changed("EVT_CONVERSATION", partitions=4),
    ):
        (change,) = await plan(broker, streams=streams)
        assert change.destructive
        with pytest.raises(DestructiveChange, match=change.name):
            await apply(broker, streams=streams)
        assert await plan(broker) == []
    await apply(broker, streams=changed("EVT_CONVERSATION", partitions=4), allow_destructive=True)
    (change,) = await plan(broker)
    assert change.name == "EVT_CONVERSATION"
    await apply(broker, allow_destructive=True)

    # How much is kept is the operator's: another release, or another disk, changes nothing of it.
    evt = BY_NAME["EVT_CONVERSATION"]
    with pytest.raises(BadLimit, match="too little"):
        await limit(broker, evt, max_bytes=1000)
    with pytest.raises(BadLimit, match="from 1 to 7 days"):
        await limit(broker, evt, max_age=timedelta(days=8))
    before, after = await limit(broker, evt, max_bytes=20 * 1024**3, max_age=timedelta(days=3))
    assert before.limit == 64 * 1024**3 * 30 // 100
    assert (after.limit, after.age) == (20 * 1024**3, timedelta(days=3))
    await apply(broker, room=10 * 1024**3)
    assert after in await fills(broker)

    # A stream that nobody knows is said and left alone.
    await apply(broker)
    await broker.request("$JS.API.STREAM.CREATE.STRANGE", {"name": "STRANGE", "subjects": ["strange.>"]})
    (change,) = await plan(broker)
    assert (change.action, change.name) == ("unknown", "STRANGE")
    await apply(broker)
    await broker.request("$JS.API.STREAM.INFO.STRANGE", {})
    await client.close()
