"""Credentials are judged by the real broker: what it lets through, refuses, and cuts off."""

import asyncio
import base64
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import nats.errors
import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from relevo.chassis import credentials
from relevo.stack.testing import Bus, TestServers

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


class Connection:
    """One client that never reconnects, with what the broker told it."""

    def __init__(self) -> None:
        self.client = Client()
        self.errors: asyncio.Queue[str] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def open(self, bus: Bus, creds_text: str) -> "Connection":
        jwt, seed = credentials.parse_creds(creds_text)

        async def on_error(error: Exception) -> None:
            self.errors.put_nowait(str(error))

        async def on_close() -> None:
            self.closed.set()

        def sign(nonce: str) -> bytes:
            return base64.b64encode(nkeys.from_seed(bytearray(seed.encode())).sign(nonce.encode()))

        try:
            await self.client.connect(
                bus.nats_url,
                user_jwt_cb=lambda: bytearray(jwt.encode()),
                signature_cb=sign,
                allow_reconnect=False,
                error_cb=on_error,
                closed_cb=on_close,
            )
        except BaseException:
            if self.client._transport is not None:  # the client leaves it open when the broker refuses
                self.client._transport.close()
                await self.client._transport.wait_closed()
            raise
        return self

    async def error(self) -> str:
        return await asyncio.wait_for(self.errors.get(), 30)


opened: list[Client] = []


async def connected(bus: Bus, creds_text: str) -> Connection:
    connection = await Connection().open(bus, creds_text)
    opened.append(connection.client)
    return connection


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The scenario; its connections are closed however it ends, or the next tests would be blamed for them."""

    async def whole() -> None:
        try:
            await scenario()
        finally:
            while opened:
                await opened.pop().close()

    asyncio.run(whole())


async def refused(bus: Bus, creds_text: str) -> None:
    with pytest.raises((nats.errors.Error, OSError)):
        await connected(bus, creds_text)


def user_of(bus: Bus, seed: str | None = None, **claims: object) -> tuple[str, str]:
    pair = credentials.key_pair(seed) if seed else credentials.new_user()
    given_claims = {"publish": [], "subscribe": [], "issued_at": datetime.now(UTC), **claims}
    jwt = credentials.user_jwt(pair.public, "someone", bus.signing_seed, bus.account, **given_claims)
    return pair.public, credentials.creds_file(jwt, pair.seed)


def test_a_user_may_do_what_its_jwt_says_and_nothing_else(servers: TestServers) -> None:
    bus = servers.create_bus()
    _, narrow = user_of(bus, publish=["inbound.acme.>"], subscribe=["outbound.acme.>"])
    _, wide = user_of(bus, publish=[">"], subscribe=[">"])

    async def scenario() -> None:
        adapter, observer = await connected(bus, narrow), await connected(bus, wide)
        heard = await observer.client.subscribe("inbound.>")
        await observer.client.flush()
        await adapter.client.publish("inbound.other.x", b"forged")
        await adapter.client.publish("inbound.acme.x", b"mine")
        await adapter.client.flush()
        assert (await heard.next_msg(timeout=30)).data == b"mine"
        assert 'publish to "inbound.other.x"' in (await adapter.error()).lower()
        await adapter.client.subscribe("outbound.other.x")
        assert 'subscription to "outbound.other.x"' in (await adapter.error()).lower()

    play(scenario)


def test_empty_permissions_mean_nothing(servers: TestServers) -> None:
    bus = servers.create_bus()
    _, nothing = user_of(bus)

    async def scenario() -> None:
        connection = await connected(bus, nothing)
        await connection.client.publish("anything", b"")
        assert "publish" in (await connection.error()).lower()
        await connection.client.subscribe("anything")
        assert "subscription" in (await connection.error()).lower()

    play(scenario)


def test_a_payload_above_the_limit_is_refused(servers: TestServers) -> None:
    bus = servers.create_bus()
    _, small = user_of(bus, publish=[">"], payload_limit=100)

    async def scenario() -> None:
        connection = await connected(bus, small)
        await connection.client.publish("x", b"x" * 100)
        await connection.client.flush()
        await connection.client.publish("x", b"x" * 101)
        await asyncio.wait_for(connection.closed.wait(), 30)

    play(scenario)


def test_an_expired_user_and_one_of_an_unknown_account_are_refused(servers: TestServers) -> None:
    bus = servers.create_bus()
    _, expired = user_of(bus, expires=datetime.now(UTC) - timedelta(seconds=2))
    stranger = credentials.new_account()
    user = credentials.new_user()
    jwt = credentials.user_jwt(user.public, "x", stranger.seed, stranger.public, issued_at=NOW, publish=[">"])

    asyncio.run(refused(bus, expired))
    asyncio.run(refused(bus, credentials.creds_file(jwt, user.seed)))


def test_a_signing_key_signs_for_its_account_until_it_is_withdrawn(servers: TestServers) -> None:
    account, signing = credentials.new_account(), credentials.new_account()
    bus = Bus(servers.nats_url, account.public, servers.folder, signing.seed)

    def publish_account(keys: list[str], issued_at: datetime) -> None:
        servers.push_account(
            credentials.account_jwt(
                account.public, "a", servers.keys.operator_signing.seed, issued_at=issued_at, signing_keys=keys
            )
        )

    now = datetime.now(UTC)
    publish_account([signing.public], now)
    _, creds = user_of(bus, publish=[">"])

    async def scenario() -> None:
        connection = await connected(bus, creds)
        await asyncio.to_thread(publish_account, [], now + timedelta(seconds=1))
        await asyncio.wait_for(connection.closed.wait(), 30)
        await refused(bus, creds)

    play(scenario)


def test_a_revoked_user_is_cut_at_once_and_stays_out_while_others_stay(servers: TestServers) -> None:
    bus = servers.create_bus()
    revoked_key, revoked = user_of(bus, publish=[">"])
    _, other = user_of(bus, publish=[">"], subscribe=[">"])
    now = datetime.now(UTC)
    account_jwt = credentials.account_jwt(
        bus.account,
        "a",
        servers.keys.operator_signing.seed,
        issued_at=now + timedelta(seconds=1),
        revocations={revoked_key: now},
    )

    async def scenario() -> None:
        bad, good = await connected(bus, revoked), await connected(bus, other)
        began = time.monotonic()
        await asyncio.to_thread(servers.push_account, account_jwt)
        await asyncio.wait_for(bad.closed.wait(), 30)
        assert time.monotonic() - began < 10
        await refused(bus, revoked)
        subscription = await good.client.subscribe("still.here")
        await good.client.publish("still.here", b"")
        await subscription.next_msg(timeout=30)

    play(scenario)


def test_a_jwt_parses_back_and_a_changed_one_does_not() -> None:
    account, user = credentials.new_account(), credentials.new_user()
    jwt = credentials.user_jwt(
        user.public, "ana", account.seed, account.public, issued_at=NOW, publish=["b", "a"], expires=NOW
    )
    claims = credentials.parse(jwt)
    assert (claims.kind, claims.subject, claims.issuer, claims.name) == ("user", user.public, account.public, "ana")
    assert claims.issued_at == claims.expires == int(NOW.timestamp())
    assert claims.body["pub"] == {"allow": ["a", "b"]}
    assert claims.body["sub"] == {"deny": [">"]}
    head, payload, signature = jwt.split(".")
    flipped = "A" if payload[10] != "A" else "B"
    with pytest.raises(credentials.InvalidCredentialError):
        credentials.parse(".".join([head, payload[:10] + flipped + payload[11:], signature]))


def test_creds_text_round_trips() -> None:
    assert credentials.parse_creds(credentials.creds_file("a.b.c", "SUX")) == ("a.b.c", "SUX")
    with pytest.raises(credentials.InvalidCredentialError, match="SEED"):
        credentials.parse_creds("-----BEGIN NATS USER JWT-----\nx\n")


def test_a_seed_is_not_shown_and_kinds_are_not_mixed() -> None:
    account, user, operator = credentials.new_account(), credentials.new_user(), credentials.new_operator()
    assert account.seed not in repr(account)
    assert credentials.is_public_key(account.public, "account")
    assert not credentials.is_public_key(account.public, "user")
    with pytest.raises(credentials.InvalidCredentialError, match="kind account"):
        credentials.user_jwt(user.public, "x", user.seed, account.public, issued_at=NOW)
    with pytest.raises(credentials.InvalidCredentialError, match="public account key"):
        credentials.account_jwt(user.public, "x", operator.seed, issued_at=NOW)
    with pytest.raises(ValueError, match="timezone"):
        credentials.account_jwt(account.public, "x", operator.seed, issued_at=NOW.replace(tzinfo=None))


@given(st.text())
def test_any_text_is_refused_clearly(text: str) -> None:
    for judge in (credentials.parse, credentials.key_pair, credentials.parse_creds):
        with pytest.raises(credentials.InvalidCredentialError):
            judge(text)
    assert not credentials.is_public_key(text, "user")
