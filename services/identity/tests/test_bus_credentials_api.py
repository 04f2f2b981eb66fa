"""Credentials of adapters and metrics consumers, as the real broker judges them."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import nats.js.errors
import psycopg
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig

from relevo.chassis import credentials
from relevo.chassis.bus import until
from relevo.chassis.testing import unique
from relevo.contracts import streams
from relevo.contracts.base import new_id, now
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.ingest import InboxChanged, InboxState
from relevo.identity import bus_credentials
from relevo.identity.bus_access import BusAccess, BusUnavailable

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def new_inbox(account, *, deleted=False, inbox=None, sequence=1):
    inbox = inbox or new_id()
    state = InboxState(id=inbox, account_id=account.id, name="In", channel="custom")
    await account.service.admin.publish(
        InboxChanged(inbox=state, deleted=deleted), account=account.id, entity=inbox, sequence=sequence
    )
    return inbox


async def issue(account, inbox):
    body = {"inbox_id": inbox, "name": "adapter"}
    return (await account.call("POST", "/adapter-credentials", body, expect=201)).json()


@asynccontextmanager
async def connected(servers, issued):
    """A client with the issued credentials, the errors it was told, and whether it was cut off."""
    path = Path(servers.folder) / f"{issued['id']}.creds"
    path.write_text(issued["credentials"])
    errors, gone = [], asyncio.Event()

    async def on_error(error):
        errors.append(str(error))

    async def on_gone():
        gone.set()

    client = Client()
    connecting = client.connect(
        servers.nats_url,
        user_credentials=str(path),
        inbox_prefix=inbox_prefix(issued["id"]).encode(),
        allow_reconnect=False,
        error_cb=on_error,
        disconnected_cb=on_gone,
        connect_timeout=2,
    )
    client.errors, client.gone = errors, gone
    try:
        await connecting
        yield client
    finally:
        await client.close()
        if client._transport is not None:  # cut off by the broker, the client leaves its socket open
            client._transport.close()
            await client._transport.wait_closed()


async def refused(client, subject):
    """Whether the broker refuses a publication on the subject."""
    before = len(client.errors)
    await client.publish(subject, b"{}")
    await client.flush(timeout=30)

    async def told():
        return any(subject.lower() in error.lower() for error in client.errors[before:])

    return await until(told, 30)


async def test_an_adapter_publishes_for_its_inbox_and_takes_what_goes_out_there_only(account, servers):
    inbox, other = await new_inbox(account), await new_inbox(account)
    await account.service.admin.nats.jetstream().publish(
        streams.OUTBOUND.subject(account=account.id, inbox=inbox, contact="c", kind="message"), b"waits"
    )
    issued = await issue(account, inbox)
    async with connected(servers, issued) as client:
        js = client.jetstream()
        await js.publish(streams.INBOUND.subject(account=account.id, inbox=inbox, sender="s", kind="message"), b"{}")
        await account.service.admin.nats.jetstream().publish(
            streams.OUTBOUND.subject(account=account.id, inbox=other, contact="c", kind="message"), b"not yours"
        )
        await account.service.admin.nats.jetstream().publish(
            streams.OUTBOUND.subject(account=account.id, inbox=inbox, contact="c", kind="message"), b"yours"
        )
        pull = await js.pull_subscribe_bind(durable=issued["id"], stream="OUTBOUND")
        got = await pull.fetch(2, timeout=30)
        assert [message.data for message in got] == [b"waits", b"yours"]
        for message in got:
            await message.ack_sync()
        for subject in (
            streams.INBOUND.subject(account=account.id, inbox=other, sender="s", kind="message"),
            streams.INBOUND.subject(account=new_id(), inbox=inbox, sender="s", kind="message"),
            f"inbound.{account.id}.{inbox}.s.message.more",
            streams.OUTBOUND.subject(account=account.id, inbox=inbox, contact="c", kind="message"),
            f"evt.identity.{account.id}.x.agent_changed",
            f"$JS.API.CONSUMER.CREATE.OUTBOUND.mine.outbound.{account.id}.{other}.>",
            "$JS.API.CONSUMER.MSG.NEXT.OUTBOUND.channels",
            "$JS.API.STREAM.MSG.GET.OUTBOUND",
            f"$JS.API.CONSUMER.DELETE.OUTBOUND.{issued['id']}",
        ):
            assert await refused(client, subject), subject
        for subject in ("outbound.>", "inbound.>", ">", "_INBOX.>", "_INBOX_identity.>"):
            before = len(client.errors)
            await client.subscribe(subject)
            await client.flush(timeout=30)

            async def told(count=before):
                return len(client.errors) > count

            assert await until(told, 30), subject


async def test_a_second_adapter_of_an_inbox_takes_what_comes_from_now_on(account):
    inbox = await new_inbox(account)
    await issue(account, inbox)
    js = account.service.admin.nats.jetstream()
    await js.publish(streams.OUTBOUND.subject(account=account.id, inbox=inbox, contact="c", kind="message"), b"1")
    second = await issue(account, inbox)
    info = await js.consumer_info("OUTBOUND", second["id"])
    assert (info.num_pending, info.config.ack_policy, info.config.ack_wait, info.config.max_ack_pending) == (
        0,
        "explicit",
        30,
        1000,
    )


async def test_a_revoked_adapter_is_cut_off_at_once_and_its_durable_is_gone(account, servers):
    inbox = await new_inbox(account)
    issued, stays = await issue(account, inbox), await issue(account, inbox)
    assert issued["key"].startswith(f"ak_{issued['id']}_")
    async with connected(servers, issued) as client, connected(servers, stays) as other:
        await account.call("DELETE", f"/adapter-credentials/{issued['id']}", expect=204)
        await asyncio.wait_for(client.gone.wait(), 30)
        assert not other.gone.is_set()
        await other.flush(timeout=30)
    with pytest.raises((nats.errors.Error, OSError, TimeoutError)):
        async with connected(servers, issued):
            pass
    # A later revocation does not bring an earlier one back.
    await account.call("DELETE", f"/adapter-credentials/{stays['id']}", expect=204)
    with pytest.raises((nats.errors.Error, OSError, TimeoutError)):
        async with connected(servers, issued):
            pass
    with pytest.raises(nats.js.errors.NotFoundError):
        await account.service.admin.nats.jetstream().consumer_info("OUTBOUND", issued["id"])
    await account.call("DELETE", f"/adapter-credentials/{issued['id']}", expect=404)
    listed = (await account.call("GET", "/adapter-credentials", expect=200)).json()["items"]
    assert {issued["id"], stays["id"]}.isdisjoint(one["id"] for one in listed)
    await account.service.settle()
    keys = [
        (int(headers["relevo-sequence"]), json.loads(body)["deleted"])
        for _, headers, body in await account.service.admin.stored("EVT_IDENTITY")
        if headers["ce-subject"] == issued["id"]
    ]
    assert keys == [(1, False), (2, True)]
    # Identity itself, whose user another key signs, was not cut off by the new account JWT.
    assert account.service.runtime.nats.is_connected


async def test_a_metrics_consumer_reads_its_accounts_metrics_and_nothing_else(account, servers):
    other = new_id()
    js = account.service.admin.nats.jetstream()
    for owner in (account.id, other):
        await js.publish(streams.METRICS.subject(account=owner, family="fact", metric="m"), owner.encode())
    issued = (await account.call("POST", "/metrics-credentials", {"name": "bi"}, expect=201)).json()
    assert set(issued) == {"id", "credentials"}
    name, mine = issued["id"], f"metrics.{account.id}.>"
    async with connected(servers, issued) as client:
        config = ConsumerConfig(name=name, durable_name=name, filter_subject=mine)
        await client.jetstream().add_consumer("METRICS", config)
        pull = await client.jetstream().pull_subscribe_bind(durable=name, stream="METRICS")
        assert [message.data for message in await pull.fetch(1, timeout=30)] == [account.id.encode()]
        for subject in (
            f"$JS.API.CONSUMER.CREATE.METRICS.{name}.metrics.{other}.>",
            f"$JS.API.CONSUMER.CREATE.METRICS.{name}",
            f"$JS.API.CONSUMER.CREATE.METRICS.another.{mine}",
            f"$JS.API.CONSUMER.CREATE.OUTBOUND.{name}.{mine}",
            f"metrics.{account.id}.fact.m",
            f"inbound.{account.id}.x.y.message",
        ):
            assert await refused(client, subject), subject
        await account.call("DELETE", f"/metrics-credentials/{name}", expect=204)
        await asyncio.wait_for(client.gone.wait(), 30)
    with pytest.raises(nats.js.errors.NotFoundError):
        await js.consumer_info("METRICS", name)


async def test_credentials_are_for_inboxes_of_the_account(account, other):
    theirs = await new_inbox(other)
    await account.service.settle()
    for inbox in (theirs, new_id()):
        refused_ = await account.call("POST", "/adapter-credentials", {"inbox_id": inbox, "name": "a"}, expect=422)
        assert refused_.json()["code"] == "inbox_unknown"
    issued = await issue(other, theirs)
    await account.call("DELETE", f"/adapter-credentials/{issued['id']}", expect=404)
    await other.call("DELETE", f"/metrics-credentials/{issued['id']}", expect=404)


async def test_a_removed_agents_credentials_are_cut_off(account, servers):
    agent = await account.new_agent((await account.role("administrator"))["id"])
    token = await account.signed_in(agent["email"])
    inbox = await new_inbox(account)
    body = {"inbox_id": inbox, "name": "a"}
    issued = (await account.call("POST", "/adapter-credentials", body, token=token, expect=201)).json()
    async with connected(servers, issued) as client:
        await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
        await asyncio.wait_for(client.gone.wait(), 30)


async def test_a_removed_inboxs_credentials_are_cut_off(account, servers):
    inbox = await new_inbox(account)
    issued = await issue(account, inbox)
    async with connected(servers, issued) as client:
        await new_inbox(account, inbox=inbox, deleted=True, sequence=2)
        await account.service.settle()
        # The worker comes round every few seconds; here it is told.
        await bus_credentials.settle(account.service.runtime.database, account.service.runtime.extra["bus_access"])
        await asyncio.wait_for(client.gone.wait(), 30)
    assert (await account.call("GET", "/adapter-credentials")).json()["items"] == []


class Away(BusAccess):
    """The broker, while it does not answer."""

    def __init__(self):
        self.user = lambda *_, **__: (credentials.new_user().public, "")

    async def make_outbound_durable(self, *_, **__):
        raise BusUnavailable("away")

    async def publish_revocations(self, *_, **__):
        raise BusUnavailable("away")


@asynccontextmanager
async def bus_away(account):
    extra = account.service.runtime.extra
    there, extra["bus_access"] = extra["bus_access"], Away()
    try:
        yield
    finally:
        extra["bus_access"] = there


async def test_when_the_bus_is_away_nothing_is_issued_by_halves(account):
    inbox = await new_inbox(account)
    await account.service.settle()
    async with bus_away(account):
        answer = await account.call("POST", "/adapter-credentials", {"inbox_id": inbox, "name": "a"}, expect=503)
    assert (answer.json()["code"], answer.headers["retry-after"]) == ("bus_unavailable", "5")
    assert (await account.call("GET", "/adapter-credentials")).json()["items"] == []
    actions = {item["action"] for item in (await account.call("GET", "/audit?limit=200")).json()["items"]}
    assert "adapter_credential.issued" not in actions
    await issue(account, inbox)


async def test_a_revocation_while_the_bus_is_away_is_kept_and_carried_out_later(account, servers):
    issued = await issue(account, await new_inbox(account))
    async with connected(servers, issued) as client:
        async with bus_away(account):
            for _ in range(2):
                answer = await account.call("DELETE", f"/adapter-credentials/{issued['id']}", expect=503)
                assert answer.json()["code"] == "revocation_under_way"
        await account.call("DELETE", f"/adapter-credentials/{issued['id']}")
        await asyncio.wait_for(client.gone.wait(), 10)
    records = (await account.call("GET", f"/audit?entity_id={issued['id']}")).json()["items"]
    assert [record["action"] for record in records] == ["adapter_credential.revoked", "adapter_credential.issued"]


async def test_a_credential_whose_maker_died_is_given_up_with_its_durable(account):
    database, bus = account.service.runtime.database, account.service.runtime.extra["bus_access"]
    inbox, credential = await new_inbox(account), new_id()
    await bus.make_outbound_durable(credential, account=account.id, inbox=inbox, from_start=True)
    with psycopg.connect(account.service.dsn) as connection:
        connection.execute(
            """
            insert into bus_credentials (id, account_id, kind, name, inbox_id, user_key, sha256, state, created_at)
            values (%s, %s, 'adapter', 'x', %s, %s, %s, 'pending', now() - interval '1 hour')
            """,
            (credential, account.id, inbox, credentials.new_user().public, unique()),
        )
    js = account.service.admin.nats.jetstream()

    async def gone():
        await bus_credentials.settle(database, bus)
        try:
            await js.consumer_info("OUTBOUND", credential)
        except nats.js.errors.NotFoundError:
            return True
        return False

    assert await until(gone, 30)


async def test_revocations_that_the_broker_does_not_apply_are_no_success(account):
    bus = account.service.runtime.extra["bus_access"]
    stranger = credentials.new_operator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus, "_operator_seed", stranger.seed)
        with pytest.raises(BusUnavailable, match="does not apply them"):
            await bus.publish_revocations({}, issued_at=now())


async def test_a_broker_that_forgot_its_revocations_is_told_again(account, servers):
    issued = await issue(account, await new_inbox(account))
    await account.call("DELETE", f"/adapter-credentials/{issued['id']}", expect=204)
    # As if it had been restored from before the revocation.
    bus = account.service.bus
    seed = servers.keys.operator_signing.seed
    servers.push_account(credentials.account_jwt(bus.account, "forgetful", seed, issued_at=now()))
    async with connected(servers, issued) as client:
        runtime = account.service.runtime
        await bus_credentials.settle(runtime.database, runtime.extra["bus_access"], again=True)
        await asyncio.wait_for(client.gone.wait(), 30)


async def test_a_bot_is_told_what_is_addressed_to_it_and_publishes_nothing(account, servers):
    inbox = await new_inbox(account)
    body = {"inbox_id": inbox, "name": "Menú"}
    issued = (await account.call("POST", "/bots", body, expect=201)).json()
    assert issued["key"].startswith(f"bk_{issued['id']}_")
    assert (await account.call("POST", "/bots", {"inbox_id": new_id(), "name": "x"}, expect=422)).json()["code"] == (
        "inbox_unknown"
    )
    listed = (await account.call("GET", "/bots", expect=200)).json()["items"]
    assert [(one["id"], one["inbox_id"], one["name"]) for one in listed] == [(issued["id"], inbox, "Menú")]
    # Its inbox's first adapter takes what waits there, though a bot was there before.
    js = account.service.admin.nats.jetstream()
    await js.publish(
        streams.OUTBOUND.subject(account=account.id, inbox=inbox, contact="c", kind="message"), b"adapter's"
    )
    adapter = await issue(account, inbox)
    assert (await js.consumer_info("OUTBOUND", adapter["id"])).num_pending == 1
    await js.publish(
        streams.OUTBOUND.subject(account=account.id, inbox=issued["id"], contact="c", kind="bot"), b"yours"
    )
    async with connected(servers, issued) as client:
        pull = await client.jetstream().pull_subscribe_bind(durable=issued["id"], stream="OUTBOUND")
        (got,) = await pull.fetch(1, timeout=30)
        assert got.data == b"yours"
        await got.ack_sync()
        for subject in (
            streams.INBOUND.subject(account=account.id, inbox=inbox, sender="s", kind="message"),
            streams.INBOUND.subject(account=account.id, inbox=issued["id"], sender="s", kind="message"),
            streams.OUTBOUND.subject(account=account.id, inbox=inbox, contact="c", kind="message"),
            f"$JS.API.CONSUMER.MSG.NEXT.OUTBOUND.{adapter['id']}",
            f"$JS.API.CONSUMER.CREATE.OUTBOUND.{issued['id']}.outbound.{account.id}.>",
        ):
            assert await refused(client, subject), subject
        await account.call("DELETE", f"/bots/{issued['id']}", expect=204)
        await asyncio.wait_for(client.gone.wait(), 30)
    with pytest.raises(nats.js.errors.NotFoundError):
        await js.consumer_info("OUTBOUND", issued["id"])
    await account.service.settle()
    keys = [
        (json.loads(body)["key"]["kind"], json.loads(body)["key"]["permissions"], json.loads(body)["deleted"])
        for _, headers, body in await account.service.admin.stored("EVT_IDENTITY")
        if headers["ce-subject"] == issued["id"]
    ]
    assert keys == [("bot", [], False), ("bot", [], True)]
