"""Each user of the bus may do what the catalogue grants, and nothing else: asked of a real broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from relevo.chassis.topology import apply
from relevo.contracts import grants, streams
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import DURABLES, MESSAGES, SERVICES, published_by, read_by
from relevo.contracts.grants import Grants, cleared_by, inbox_prefix, service_grants
from relevo.contracts.streams import STREAMS, Stream
from relevo.stack.testing import Bus, TestServers

MINE, THEIRS = "account-a", "account-b"


@dataclass
class User:
    """A connection with given grants, and what the broker refused it."""

    client: Client
    name: str
    refused: list[str] = field(default_factory=list)

    async def may_publish(self, subjects: Iterable[str]) -> dict[str, bool]:
        """Which of these subjects the broker lets pass."""
        asked = list(subjects)
        for subject in asked:
            await self.client.publish(subject, b"{}", reply=f"{inbox_prefix(self.name)}.nobody")
        said = await self._said()
        return {subject: f'publish to "{subject}"'.lower() not in said for subject in asked}

    async def _said(self) -> str:
        """All refusals so far: they come in order, so that of a last, surely forbidden one ends them."""
        mark = f"forbidden.{new_id()}"
        await self.client.publish(mark, b"")
        async with asyncio.timeout(10):
            while not any(mark in text for text in self.refused):
                await self.client.flush()
        said = " ".join(self.refused).lower()
        self.refused.clear()
        return said

    async def may_subscribe(self, subjects: Iterable[str]) -> dict[str, bool]:
        asked = list(subjects)
        for subject in asked:
            await self.client.subscribe(subject)
        said = await self._said()
        return {subject: f'subscription to "{subject}"'.lower() not in said for subject in asked}


@asynccontextmanager
async def user(bus: Bus, name: str, given: Grants) -> AsyncIterator[User]:
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    creds: Path = bus.user(name, publish=given.publish, subscribe=given.subscribe)
    client = await nats.connect(
        bus.nats_url, user_credentials=str(creds), inbox_prefix=inbox_prefix(name), error_cb=on_error
    )
    try:
        yield User(client, name, refused)
    finally:
        await client.close()


class Admin:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def request(self, subject: str, payload: dict[str, object]) -> dict[str, object]:
        reply = await self._client.request(subject, json.dumps(payload).encode(), timeout=10)
        answer: dict[str, object] = json.loads(reply.data)
        if error := answer.get("error"):
            refusal = RuntimeError(str(error))
            refusal.code = error["err_code"]  # type: ignore[attr-defined,index]
            raise refusal
        return answer


@pytest.fixture
async def bus(servers: TestServers) -> Bus:
    made = servers.create_bus()
    client = await nats.connect(made.nats_url, user_credentials=str(made.admin_creds))
    await apply(Admin(client))
    await client.close()
    return made


def example(stream: Stream, **fixed: str) -> str:
    """One subject of a stream."""
    return stream.published(**({"account": MINE} | fixed)).replace("*", "token")


def of_service(service: str) -> set[str]:
    return {pattern.replace("*", "token") for pattern in published_by(service).values()}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_publishes_its_own_subjects_and_no_others(service: str, bus: Bus) -> None:
    own = of_service(service)
    others = set().union(*(of_service(other) for other in SERVICES)) - own
    if streams.INBOUND not in published_by(service):
        others.add(example(streams.INBOUND))
    longer = {f"{subject}.more" for subject in own}
    shorter = {subject.rpartition(".")[0] for subject in own}
    # What the broker stores is written by the broker: nobody publishes with a partition in hand.
    stored = {s.stored(3).replace("*", "token") for s in published_by(service) if s.partitions}
    async with user(bus, service, service_grants(service)) as me:
        assert set((await me.may_publish(own)).values()) == {True}
        assert [s for s, may in (await me.may_publish(others | longer | shorter | stored)).items() if may] == []
        for message in MESSAGES:
            if service in message.publishers and message.stream in published_by(service):
                fixed = {"sender": service, "service": service, message.stream.fields()[-1]: message.token}
                subject = example(message.stream, **fixed)
                answer = json.loads((await me.client.request(subject, b"{}", timeout=30)).data)
                assert answer["stream"] == message.stream.name


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_its_own_streams_and_changes_none(service: str, bus: Bus) -> None:
    reads = {stream.name for stream in read_by(service)}
    looks = reads | {stream.name for stream in published_by(service)}
    kept = {stream.name for stream in cleared_by(service)}
    looks |= kept
    durables = {d.stream.name for d in DURABLES if d.service == service}
    bus_access = {"OUTBOUND", "METRICS"} if service == "identity" else set()
    foreign = [s.name for s in STREAMS if s.name not in looks]
    forbidden = [f"$JS.API.STREAM.MSG.GET.{name}" for name in foreign]
    forbidden += [f"$JS.API.CONSUMER.CREATE.{s.name}.mine" for s in STREAMS if s.name not in reads | bus_access]
    forbidden += [f"$JS.API.CONSUMER.MSG.NEXT.{s.name}.mine" for s in STREAMS if s.name not in reads | durables]
    for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE", "MSG.DELETE"):
        deletes = kept if verb == "MSG.DELETE" else set()
        forbidden += [f"$JS.API.STREAM.{verb}.{s.name}" for s in STREAMS if s.name not in deletes]
    forbidden += ["$JS.API.STREAM.NAMES", "$JS.API.ACCOUNT.PURGE.x", "$SYS.REQ.SERVER.PING"]
    forbidden += [f"load.{name}" for name in SERVICES if name != service]
    other = SERVICES[SERVICES.index(service) - 1]
    async with user(bus, service, service_grants(service)) as me:
        assert [s for s, may in (await me.may_publish(forbidden)).items() if may] == []
        allowed = [f"$JS.API.STREAM.INFO.{name}" for name in looks]
        assert set((await me.may_publish(allowed)).values()) == {True}
        deaf = [">", "evt.>", "inbound.>", "$JS.>", f"{inbox_prefix(other)}.>", "_INBOX.>", f"poke.{other}"]
        deaf += ["load.*", f"load.{other}"] if service != "ingest" else []
        assert [s for s, may in (await me.may_subscribe(deaf)).items() if may] == []
        hears = [f"{inbox_prefix(service)}.x", f"poke.{service}", *(["load.*"] if service == "ingest" else [])]
        assert set((await me.may_subscribe(hears)).values()) == {True}


async def test_an_adapter_has_one_inbox(bus: Bus) -> None:
    given = grants.adapter_grants(MINE, "inbox-1", "credential-1")
    at = {"account": MINE, "inbox": "inbox-1", "sender": "s", "kind": "message"}
    own = [streams.INBOUND.subject(**at), streams.INBOUND.subject(**at | {"kind": "status", "sender": "t"})]
    forbidden = [
        streams.INBOUND.subject(**at | {"inbox": "inbox-2"}),
        streams.INBOUND.subject(**at | {"account": THEIRS}),
        streams.INBOUND.subject(**at) + ".more",
        streams.INBOUND.subject(**at).rpartition(".")[0],
        streams.INBOUND.stored(3, **at),
        *(example(stream) for stream in STREAMS if stream is not streams.INBOUND),
        "$JS.API.STREAM.MSG.GET.INBOUND",
        "$JS.API.STREAM.INFO.INBOUND",
        "$JS.API.CONSUMER.CREATE.OUTBOUND.credential-1",
        "$JS.API.CONSUMER.CREATE.OUTBOUND.credential-1.outbound.>",
        "$JS.API.CONSUMER.MSG.NEXT.OUTBOUND.credential-2",
        "$JS.ACK.OUTBOUND.credential-2.1.1.1.1.1",
    ]
    async with user(bus, "credential-1", given) as me:
        assert set((await me.may_publish(own)).values()) == {True}
        assert [s for s, may in (await me.may_publish(forbidden)).items() if may] == []
        assert not any((await me.may_subscribe([">", "outbound.>", "_INBOX_credential-2.>", "_INBOX.>"])).values())


async def test_a_bot_only_takes_what_it_is_told(bus: Bus) -> None:
    given = grants.bot_grants("credential-1")
    forbidden = [
        *(example(stream) for stream in STREAMS),
        streams.INBOUND.subject(account=MINE, inbox="credential-1", sender="s", kind="message"),
        "$JS.API.STREAM.MSG.GET.OUTBOUND",
        "$JS.API.CONSUMER.CREATE.OUTBOUND.credential-1",
        "$JS.API.CONSUMER.CREATE.OUTBOUND.credential-1.outbound.>",
        "$JS.API.CONSUMER.MSG.NEXT.OUTBOUND.credential-2",
        "$JS.ACK.OUTBOUND.credential-2.1.1.1.1.1",
    ]
    async with user(bus, "credential-1", given) as me:
        own = ["$JS.API.CONSUMER.MSG.NEXT.OUTBOUND.credential-1", "$JS.ACK.OUTBOUND.credential-1.1.1.1.1.1"]
        assert set((await me.may_publish(own)).values()) == {True}
        assert [s for s, may in (await me.may_publish(forbidden)).items() if may] == []
        assert not any((await me.may_subscribe([">", "outbound.>", "_INBOX_credential-2.>", "_INBOX.>"])).values())


async def test_a_metrics_consumer_has_one_account(bus: Bus) -> None:
    given = grants.metrics_grants(MINE, "credential-1")
    create = "$JS.API.CONSUMER.CREATE.METRICS.credential-1"
    forbidden = [
        f"{create}.metrics.{THEIRS}.>",
        f"{create}.metrics.>",
        f"{create}.>",
        create,
        "$JS.API.CONSUMER.CREATE.METRICS",
        f"$JS.API.CONSUMER.CREATE.METRICS.credential-2.metrics.{MINE}.>",
        f"$JS.API.CONSUMER.CREATE.OUTBOUND.credential-1.metrics.{MINE}.>",
        "$JS.API.STREAM.MSG.GET.METRICS",
        "$JS.API.DIRECT.GET.METRICS",
        *(example(stream) for stream in STREAMS),
    ]
    async with user(bus, "credential-1", given) as me:
        assert [s for s, may in (await me.may_publish(forbidden)).items() if may] == []
        config = {"name": "credential-1", "ack_policy": "none", "filter_subject": f"metrics.{MINE}.>"}
        request = json.dumps({"stream_name": "METRICS", "config": config}).encode()
        answer = json.loads((await me.client.request(f"{create}.metrics.{MINE}.>", request, timeout=30)).data)
        assert answer["config"]["filter_subject"] == f"metrics.{MINE}.>"
        # The broker compares the subject with the body: another's filter does not slip in below an allowed subject.
        request = json.dumps({"stream_name": "METRICS", "config": config | {"filter_subject": "metrics.>"}}).encode()
        answer = json.loads((await me.client.request(f"{create}.metrics.{MINE}.>", request, timeout=30)).data)
        assert "error" in answer
