"""The shortcuts past the client library do what the library does."""

import asyncio

import nats
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from relevo.chassis.wire import Delivery, Wire, header_lines, lines_of

_names = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=20)
_values = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n"), max_size=30)
_blank = st.sampled_from(["", " ", "  ", "\t"])


@given(st.lists(st.tuples(_names, _blank, _values, _blank)))
def test_headers_are_read_as_the_library_reads_them(headers: list[tuple[str, str, str, str]]) -> None:
    raw = "".join(f"{name}:{before}{value}{after}\r\n" for name, before, value, after in headers).encode() + b"\r\n"
    assert header_lines(raw) == Client._parse_header_lines(raw)


@given(st.binary(max_size=80))
def test_what_is_no_header_block_is_left_to_the_library(raw: bytes) -> None:
    ours, theirs = header_lines(raw), Client._parse_header_lines(raw)
    assert all(ours.get(name) == value for name, value in theirs.items())


def test_no_value_can_forge_a_header() -> None:
    lines = lines_of('{"a": "x\\r\\nNats-Msg-Id: forged"}', {"b": "y"})
    assert header_lines(lines.encode()) == {"a": "x Nats-Msg-Id: forged", "b": "y"}


async def test_what_is_published_arrives_with_its_parts_and_a_broken_taker_stops_nobody(servers) -> None:
    bus = servers.create_bus()
    client = await nats.connect(bus.nats_url, user_credentials=str(bus.admin_creds))
    wire = Wire(client)
    taken: asyncio.Queue[Delivery] = asyncio.Queue()

    async def take(delivery: Delivery) -> None:
        taken.put_nowait(delivery)
        if delivery.data == b"1":
            raise ValueError("planted")

    subscription = await wire.subscribe("here.>", take)
    messages = [(f"here.{n}", lines_of('{"ce-id": "é"}', {"n": str(n)}), str(n).encode()) for n in range(3)]
    await wire.publish(messages)
    async with asyncio.timeout(30):
        got = [await taken.get() for _ in messages]
    assert [(one.subject, one.data, one.headers) for one in got] == [
        (f"here.{n}", str(n).encode(), {"ce-id": "é", "n": str(n)}) for n in range(3)
    ]
    await wire.unsubscribe(subscription)
    reply = await client.subscribe("usual")
    await client.publish("usual", b"x")
    assert (await reply.next_msg(5)).data == b"x"
    await client.close()
