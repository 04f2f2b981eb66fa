"""The SDK against a real nats-server, with exactly the permissions that an adapter gets."""

import asyncio
import json
import logging
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import pytest

from relevo.adapter import (
    Adapter,
    BadCredentials,
    Closed,
    Content,
    InboundMessage,
    NotAuthorized,
    OutboundMessage,
    OutboundUpdate,
    PartlyPublished,
    Sender,
    SpoolFull,
    Undeliverable,
    outbound,
    sender_key,
)
from relevo.chassis import topology
from relevo.chassis.testing import Admin, admin_of
from relevo.contracts.base import new_id, now
from relevo.contracts.grants import adapter_grants
from relevo.contracts.streams import OUTBOUND
from relevo.stack.testing import start_servers

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def message(number: int, sender: str = "ana", text: str = "hola") -> InboundMessage:
    return InboundMessage(
        kind="message",
        external_id=str(number),
        sender=Sender(id=sender),
        content=Content(text=text),
        occurred_at=AT,
    )


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


@dataclass
class World:
    """An account with streams, an inbox, a credential for it and its durable; and an admin's eyes."""

    servers: Any
    bus: Any
    admin: Admin
    spool: Path
    credentials: Path
    account: str = field(default_factory=new_id)
    inbox: str = field(default_factory=new_id)
    credential: str = field(default_factory=new_id)

    def adapter(self, **options: Any) -> Adapter:
        options = {"spool": self.spool, "connect_timeout": 2} | options
        return Adapter(self.bus.nats_url, self.credentials, self.account, self.inbox, **options)

    async def inbound(self) -> list[dict[str, Any]]:
        return [
            json.loads(body) | {"subject": subject, "headers": headers}
            for subject, headers, body in await self.admin.stored("INBOUND")
        ]

    async def texts(self) -> list[str]:
        return [event["content"]["text"] for event in await self.inbound()]

    async def statuses(self) -> list[tuple[str, str, str | None]]:
        return [
            (event["message_id"], event["status"], event.get("error"))
            for event in await self.inbound()
            if event["kind"] == "status"
        ]

    async def outbound(self, number: int, recipient: str = "ana", message_id: str | None = None) -> str:
        made = OutboundMessage(
            message_id=message_id or new_id(),
            conversation_id=new_id(),
            inbox_id=self.inbox,
            channel="api",
            recipient_id=recipient,
            recipient_key=sender_key(recipient),
            text=str(number),
            created_at=now(),
        )
        await self.admin.publish(made, account=self.account, entity=made.conversation_id)
        return made.message_id

    async def change(self, message_id: str, text: str) -> str:
        """Have a message to "ana" edited that was sent."""
        update = OutboundUpdate(
            change_id=new_id(),
            of_message_id=message_id,
            update="edit",
            new_text=text,
            conversation_id="c",
            inbox_id=self.inbox,
            channel="api",
            recipient_id="ana",
            recipient_key=sender_key("ana"),
            updated_at=now(),
        )
        await self.admin.publish(update, account=self.account, entity="c")
        return update.change_id

    async def unacknowledged(self) -> int:
        info = await self.admin.nats.jetstream().consumer_info("OUTBOUND", self.credential)
        return (info.num_ack_pending or 0) + (info.num_pending or 0)


@asynccontextmanager
async def a_world(servers: Any, folder: Path, *, ack_wait: float = 30, max_deliver: int = 20) -> AsyncIterator[World]:
    bus = servers.create_bus()
    client = await nats.connect(bus.nats_url, user_credentials=str(bus.admin_creds), max_reconnect_attempts=-1)
    world = World(servers, bus, Admin(client), folder / "spool", Path())
    grants = adapter_grants(world.account, world.inbox, world.credential)
    world.credentials = bus.user(world.credential, publish=grants.publish, subscribe=grants.subscribe)
    try:
        await topology.apply(world.admin)
        config = {
            "durable_name": world.credential,
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait * 1e9),
            "max_deliver": max_deliver,
            "filter_subject": OUTBOUND.published(account=world.account, inbox=world.inbox),
        }
        await world.admin.request(
            f"$JS.API.CONSUMER.CREATE.OUTBOUND.{world.credential}.{config['filter_subject']}",
            {"stream_name": "OUTBOUND", "config": config},
        )
        yield world
    finally:
        await client.close()


def test_publishes_with_keys_and_folds_immediate_repetitions(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w:
            async with w.adapter() as adapter:
                assert adapter.credential == w.credential
                first = await adapter.publish(message(1))
                again = await adapter.publish(message(1))
                assert (first.spooled, first.duplicate, again.duplicate) == (False, False, True)
                await adapter.report("m1", "delivered", recipient_id="ana", external_id="wamid")
                await adapter.report("m1", "read", recipient_id="ana", external_id="wamid")
            events = await w.inbound()
            assert [event["kind"] for event in events] == ["message", "status", "status"]
            tokens = events[0]["subject"].split(".")
            assert tokens[2:] == [w.account, w.inbox, sender_key("ana"), "message"]
            assert events[0]["headers"]["relevo-account"] == w.account
            with pytest.raises(Closed):
                await adapter.publish(message(2))

    asyncio.run(scenario())


def test_many_at_once_in_order_of_each_sender(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w, w.adapter() as adapter:
            events = [message(number, f"s{number % 5}", str(number)) for number in range(600)]
            receipts = await adapter.publish_many(events)
            assert len(receipts) == 600
            found = await w.inbound()
            assert len(found) == 600
            for rest in range(5):
                mine = [int(e["content"]["text"]) for e in found if e["sender"]["id"] == f"s{rest}"]
                assert mine == list(range(rest, 600, 5))

    asyncio.run(scenario())


def test_a_credential_reaches_its_own_inbox_only(
    servers: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w:
            wrong = Adapter(
                w.bus.nats_url, w.credentials, w.account, new_id(), spool=tmp_path / "wrong", connect_timeout=2
            )
            async with wrong:
                receipt = await wrong.publish(message(1))
            assert receipt.spooled
            assert await w.inbound() == []

    with caplog.at_level(logging.ERROR, "relevo.adapter"):
        asyncio.run(scenario())
    assert "may not do this" in caplog.text


def test_bad_credentials_are_said_at_once(servers: Any, tmp_path: Path) -> None:
    (tmp_path / "x.creds").write_text("hello")
    with pytest.raises(BadCredentials, match="no user JWT"):
        Adapter("nats://localhost:1", tmp_path / "x.creds", "a", "b")
    with pytest.raises(BadCredentials, match="cannot be read"):
        Adapter("nats://localhost:1", tmp_path / "none.creds", "a", "b")

    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w:
            # The user JWT of one with the seed of another: the signature does not fit.
            marker = "-----BEGIN USER NKEY SEED-----"
            other = servers.create_bus().user("stranger", publish=["a"], subscribe=["b"])
            mixed = tmp_path / "mixed.creds"
            mixed.write_text(
                other.read_text().partition(marker)[0] + marker + w.credentials.read_text().partition(marker)[2]
            )
            with pytest.raises(NotAuthorized, match="refused"):
                async with Adapter(w.bus.nats_url, mixed, "a", "b", spool=None, connect_timeout=1):
                    pass

    asyncio.run(scenario())


def test_a_client_that_is_closed_for_good_is_replaced(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w, w.adapter() as adapter:
            sent: list[str] = []

            @adapter.on_outbound
            async def send(outgoing: OutboundMessage) -> None:
                sent.append(outgoing.text)

            await w.outbound(1)
            await until(lambda: sent == ["1"])
            before = adapter._connection.client
            assert before is not None
            # What the library does at an error of the server's that is no permissions violation.
            await before._process_err("'User Authentication Expired'")
            await until(lambda: adapter._connection.client is not before and adapter.connected)
            assert before.is_closed
            assert not (await adapter.publish(message(1))).spooled
            await w.outbound(2)
            await until(lambda: sent == ["1", "2"])

    asyncio.run(scenario())


def test_outbound_in_order_acknowledged_and_reported(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w, w.adapter() as adapter:
            sent: list[tuple[str, int]] = []

            @adapter.on_outbound
            async def send(outgoing: OutboundMessage) -> str:
                await asyncio.sleep(0)
                sent.append((outgoing.recipient_id, int(outgoing.text)))
                return f"provider-{outgoing.text}"

            for number in range(60):
                await w.outbound(number, f"r{number % 4}")

            async def all_done() -> bool:
                return await w.unacknowledged() == 0 and len(await w.statuses()) == 60

            await until(all_done)
            for rest in range(4):
                assert [n for who, n in sent if who == f"r{rest}"] == list(range(rest, 60, 4))
            # The same message once more on the bus (a new delivery of it) is acknowledged and not sent.
            first = (await w.statuses())[0][0]
            await w.admin.nats.jetstream().publish(
                OUTBOUND.subject(account=w.account, inbox=w.inbox, contact=sender_key("r0"), kind="message"),
                OutboundMessage(
                    message_id=first, conversation_id="c", inbox_id=w.inbox, channel="api", recipient_id="r0",
                    recipient_key=sender_key("r0"), text="0", created_at=now(),
                ).model_dump_json().encode(),
            )  # fmt: skip
            await until(all_done)
            assert len(sent) == 60

    asyncio.run(scenario())


def test_changes_come_behind_their_message_and_refusals_are_reported(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w, w.adapter() as adapter:
            seen: list[tuple[str, str]] = []

            message = await w.outbound(1, "ana")
            await w.change(message, "dos")
            refused = await w.change(message, "tarde")

            @adapter.on_update
            async def change(update: OutboundUpdate) -> None:
                if update.new_text == "tarde":
                    raise Undeliverable("too old")
                seen.append((update.of_message_id, update.new_text))

            @adapter.on_outbound
            async def send(outgoing: OutboundMessage) -> str:
                seen.append((outgoing.message_id, outgoing.text))
                return "provider-1"

            async def all_done() -> bool:
                return await w.unacknowledged() == 0 and len(await w.statuses()) == 2

            await until(all_done)
            assert seen == [(message, "1"), (message, "dos")]
            sent, failed = await w.inbound()
            assert (sent["status"], sent.get("change_id")) == ("sent", None)
            told = [failed[name] for name in ("status", "message_id", "change_id", "external_id", "error")]
            assert told == ["failed", message, refused, refused, "too old"]

    asyncio.run(scenario())


def test_changes_are_remembered_no_longer_than_messages(
    servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "_REMEMBERED", 3)

    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w, w.adapter() as adapter:
            changed: list[str] = []

            @adapter.on_update
            async def change(update: OutboundUpdate) -> None:
                changed.append(update.change_id)

            @adapter.on_outbound
            async def send(_: OutboundMessage) -> None: ...

            message = await w.outbound(1)
            told = [await w.change(message, str(number)) for number in range(8)]

            async def all_done() -> bool:
                return len(changed) == len(told) and await w.unacknowledged() == 0

            await until(all_done)
            assert changed == told
            assert adapter._reader is not None
            assert list(adapter._reader._done) == told[-3:]

    asyncio.run(scenario())


def test_nothing_takes_a_change_for_a_message_not_even_what_was_built_before_there_were_any() -> None:
    assert not {"message_id", "text", "created_at"} & set(OutboundUpdate.model_fields)


def test_outbound_is_tried_again_and_failures_are_reported(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path, max_deliver=2) as w, w.adapter() as adapter:
            tries: dict[str, int] = {}

            @adapter.on_outbound
            async def send(outgoing: OutboundMessage) -> None:
                tries[outgoing.text] = tries.get(outgoing.text, 0) + 1
                if outgoing.text == "1":
                    raise Undeliverable("no such number")
                if outgoing.text == "2" or tries[outgoing.text] == 1:
                    raise ConnectionError("provider is down")

            wrong = await w.outbound(1, "ana")
            hopeless = await w.outbound(2, "eva")
            await w.outbound(3, "leo")

            async def all_done() -> bool:
                return await w.unacknowledged() == 0 and len(tries) == 3

            await until(all_done)
            assert tries == {"1": 1, "2": 2, "3": 2}
            assert sorted(await w.statuses()) == sorted(
                [
                    (wrong, "failed", "no such number"),
                    (hopeless, "failed", "ConnectionError: provider is down (tried 2 times)"),
                ]
            )

    asyncio.run(scenario())


def test_a_slow_send_is_not_given_to_somebody_else(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path, ack_wait=1) as w, w.adapter() as adapter:
            begun = 0
            go = asyncio.Event()

            @adapter.on_outbound
            async def send(_: OutboundMessage) -> None:
                nonlocal begun
                begun += 1
                await go.wait()

            await w.outbound(1)
            await until(lambda: begun == 1)
            started = asyncio.get_running_loop().time()
            # Longer than three times ack_wait: without the heartbeat the broker would deliver it again.
            await until(lambda: asyncio.get_running_loop().time() - started > 3.2)
            info = await w.admin.nats.jetstream().consumer_info("OUTBOUND", w.credential)
            assert (begun, info.num_redelivered) == (1, 0)
            go.set()

            async def all_done() -> bool:
                return await w.unacknowledged() == 0

            await until(all_done)

    asyncio.run(scenario())


def test_closing_ends_what_is_under_way_and_gives_back_the_rest(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path) as w:
            begun: list[str] = []
            go = asyncio.Event()
            adapter = w.adapter(concurrency=2)

            @adapter.on_outbound
            async def send(outgoing: OutboundMessage) -> str:
                begun.append(outgoing.text)
                await go.wait()
                return f"id-{outgoing.text}"

            async with adapter:
                for number in range(6):
                    await w.outbound(number, f"r{number % 2}")
                await until(lambda: len(begun) == 2)
                asyncio.get_running_loop().call_later(0.3, go.set)
            assert sorted(begun) == ["0", "1"]
            assert len(await w.statuses()) == 2
            rest: list[str] = []
            async with w.adapter() as other:

                @other.on_outbound
                async def send_rest(outgoing: OutboundMessage) -> None:
                    rest.append(outgoing.text)

                async def all_done() -> bool:
                    return await w.unacknowledged() == 0

                await until(all_done)
            assert sorted(rest) == ["2", "3", "4", "5"]

    asyncio.run(scenario())


def test_what_arrives_while_closing_is_given_back_at_once(servers: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_world(servers, tmp_path, ack_wait=60) as w:
            sent: list[str] = []

            async def send(outgoing: OutboundMessage) -> None:
                sent.append(outgoing.text)

            async def fetching() -> bool:
                return (await w.admin.nats.jetstream().consumer_info("OUTBOUND", w.credential)).num_waiting == 1

            async def all_done() -> bool:
                return await w.unacknowledged() == 0

            async def publish() -> None:
                async with admin_of(w.bus) as admin:
                    for number in range(10):
                        await replace(w, admin=admin).outbound(number, f"r{number}")

            adapter = w.adapter()
            adapter.on_outbound(send)
            async with adapter:
                await until(fetching)
                # All of them are with the client before its loop, which runs nothing meanwhile, sees one.
                elsewhere = threading.Thread(target=asyncio.run, args=(publish(),))
                elsewhere.start()
                elsewhere.join()
            other = w.adapter()
            other.on_outbound(send)
            async with other:
                await until(all_done)
            assert sorted(sent) == sorted(map(str, range(10)))

    asyncio.run(scenario())


def test_the_bus_goes_away_and_comes_back() -> None:
    # Not tmp_path: the servers run as another user, who must be able to reach the folder.
    with tempfile.TemporaryDirectory(prefix="relevo-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        servers = start_servers(folder)
        try:
            asyncio.run(_away_and_back(servers, folder))
        finally:
            assert servers.nats
            assert servers.postgres
            servers.nats.stop()
            servers.postgres.stop()


async def _away_and_back(servers: Any, folder: Path) -> None:
    async with a_world(servers, folder) as w:
        sent: list[str] = []
        async with w.adapter(spool_bytes=60_000) as adapter:

            @adapter.on_outbound
            async def send(outgoing: OutboundMessage) -> None:
                sent.append(outgoing.text)

            await w.outbound(1)
            await until(lambda: sent == ["1"])
            await adapter.publish(message(0, text="0"))
            await asyncio.to_thread(servers.nats.stop)
            receipts = await adapter.publish_many([message(n, text=str(n)) for n in range(1, 40)])
            assert all(receipt.spooled for receipt in receipts)
            assert adapter.spooled == 39
            with pytest.raises(PartlyPublished) as partly:
                await adapter.publish_many([message(n, text=str(n)) for n in range(40, 400)])
            assert isinstance(partly.value.failures[359], SpoolFull)
            kept = adapter.spooled
            await asyncio.to_thread(servers.nats.start)
            await until(lambda: adapter.spooled == 0, 30)
            late = await adapter.publish(message(1000, text="1000"))
            assert not late.spooled
            await until(lambda: w.admin.nats.is_connected, 30)
            assert await w.texts() == [str(n) for n in range(kept + 1)] + ["1000"]
            await w.outbound(2)
            await until(lambda: sent == ["1", "2"], 30)
            await asyncio.to_thread(servers.nats.stop)
            await adapter.publish(message(2000, text="2000"))
        # A new process, while the bus is still away, then with it.
        async with w.adapter(connect_timeout=0.2) as adapter:
            assert not adapter.connected
            assert adapter.spooled == 1
            await adapter.publish(message(2001, text="2001"))
            await asyncio.to_thread(servers.nats.start)
            await until(lambda: adapter.spooled == 0, 30)
        await until(lambda: w.admin.nats.is_connected, 30)
        assert (await w.texts())[-2:] == ["2000", "2001"]
