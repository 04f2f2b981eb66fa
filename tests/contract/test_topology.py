"""The reconciler: what it makes is what the catalogue says, what it would change it says, what could lose it refuses."""

import dataclasses
import json
from datetime import timedelta
from typing import Any

import nats
import pytest

from relevo.chassis.topology import DestructiveChange, apply, plan, stream_config
from relevo.contracts.streams import STREAMS
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
    altered = stream_config(STREAMS[0]) | {"max_age": 3600 * 10**9}
    await broker.request(f"$JS.API.STREAM.UPDATE.{STREAMS[0].name}", altered)
    (change,) = await plan(broker)
    assert (change.action, change.kind, change.name) == ("update", "stream", STREAMS[0].name)
    assert change.details == (f"max_age: {3600 * 10**9} → {7 * 24 * 3600 * 10**9}",)
    assert not change.destructive
    await apply(broker)
    assert await plan(broker) == []

    # What could lose messages is refused before anything is touched.
    for streams in (changed("METRICS", max_age=timedelta(hours=1)), changed("EVT_CONVERSATION", partitions=4)):
        (change,) = await plan(broker, streams=streams)
        assert change.destructive
        with pytest.raises(DestructiveChange, match=change.name):
            await apply(broker, streams=streams)
        assert await plan(broker) == []
    await apply(broker, streams=changed("METRICS", max_age=timedelta(hours=1)), allow_destructive=True)
    (change,) = await plan(broker)
    assert change.name == "METRICS"

    # A stream that nobody knows is said and left alone.
    await apply(broker)
    await broker.request("$JS.API.STREAM.CREATE.STRANGE", {"name": "STRANGE", "subjects": ["strange.>"]})
    (change,) = await plan(broker)
    assert (change.action, change.name) == ("unknown", "STRANGE")
    await apply(broker)
    await broker.request("$JS.API.STREAM.INFO.STRANGE", {})
    await client.close()
