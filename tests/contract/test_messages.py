"""What was published once can be read for ever: golden samples, released schemas, the envelope, partitions."""

import ast
import asyncio
import copy
import json
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import pytest
from chaos.checker import Streams
from contract.samples import FOLDER, RELEASED, promise
from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.topology import stream_config
from relevo.contracts.catalogue import BY_NAME, MESSAGES, Message, decode
from relevo.contracts.envelope import Envelope, MalformedEnvelope
from relevo.contracts.partition import partition
from relevo.contracts.streams import CMD_CONVERSATION, EVT_CONVERSATION, EVT_PRESENCE, INBOUND
from relevo.stack.testing import TestServers

ROOT = Path(__file__).parents[2]
SAMPLES = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.json")}


def test_every_message_type_has_a_sample() -> None:
    assert SAMPLES.keys() == BY_NAME.keys()


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_is_read_whole_and_unknown_fields_are_ignored(name: str) -> None:
    sample = SAMPLES[name]
    data = decode(name, json.dumps(sample["body"]).encode())
    assert lacking(sample["body"], json.loads(data.model_dump_json())) == []
    assert decode(name, json.dumps(of_tomorrow(sample["body"])).encode()) == data
    envelope = Envelope.from_headers(sample["headers"])
    assert (envelope.type, envelope.id) == (name, sample["headers"]["ce-id"])
    assert envelope.time == datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=UTC)
    message = BY_NAME[name]
    fixed, subject = message.stream.tokens, sample["subject"].split(".")
    assert len(subject) == len(fixed)
    assert all(token.startswith("{") or token == found for token, found in zip(fixed, subject, strict=True))


def lacking(sample: Any, found: Any, where: str = "") -> list[str]:
    """Places of the sample whose value is not found again; sets have no order."""
    if isinstance(sample, dict):
        return [
            place
            for name, value in sample.items()
            for place in (
                lacking(value, found[name], f"{where}/{name}")
                if isinstance(found, dict) and name in found
                else [f"{where}/{name}"]
            )
        ]
    if isinstance(sample, list) and isinstance(found, list) and len(sample) == len(found):
        return [
            place for n, pair in enumerate(zip(sample, found, strict=True)) for place in lacking(*pair, f"{where}/{n}")
        ]
    return [] if sample == found else [where]


def of_tomorrow(value: Any) -> Any:
    """The same with a field more in every object that is one of ours."""
    if isinstance(value, dict):
        free_form = {"data", "raw", "headers", "attributes", "needs"}
        inner = {name: one if name in free_form else of_tomorrow(one) for name, one in value.items()}
        return inner | {"field_of_tomorrow": {"any": ["thing"]}}
    return [of_tomorrow(one) for one in value] if isinstance(value, list) else value


# -- released schemas -------------------------------------------------------------------------------------------------

_WORDS = {"title", "description", "default", "examples"}


def meaning(schema: Any) -> Any:
    """A schema without its words: defaults matter to publishers only."""
    if isinstance(schema, dict):
        return {name: meaning(value) for name, value in schema.items() if name not in _WORDS}
    return [meaning(value) for value in schema] if isinstance(schema, list) else schema


def breaks(released: dict[str, Any], today: dict[str, Any]) -> list[str]:
    """What of a release no longer holds. Within a major version only optional fields and messages may be added."""
    found = [
        f"{kind} {name}: {today[kind].get(name, 'gone')} instead of {one}"
        for kind in ("messages", "streams")
        for name, one in released[kind].items()
        if today[kind].get(name) != one
    ]
    for name, was in released["schemas"].items():
        now = today["schemas"].get(name)
        if now is None:
            found.append(f"{name} is gone")
            continue
        properties = now.get("properties", {})
        found += [
            f"{name}.{field} is {'gone' if field not in properties else 'another'}"
            for field, schema in was.get("properties", {}).items()
            if meaning(properties.get(field)) != meaning(schema)
        ]
        found += [f"{name}.{f} is required now" for f in now.get("required", []) if f not in was.get("required", [])]
        found += [f"{name}.{f} may be missing now" for f in was.get("required", []) if f not in now.get("required", [])]
        found += [f"{name}.{key} differs" for key in ("type", "enum", "pattern") if was.get(key) != now.get(key)]
    return found


def test_a_service_names_only_what_it_publishes_or_is_given() -> None:
    """Its reader passes over whatever the catalogue does not say that it reads, without a word."""
    by_name: dict[tuple[str, str], list[Message]] = {}
    for one in MESSAGES:
        by_name.setdefault((one.model.__module__, one.model.__name__), []).append(one)
    for service in (ROOT / "services").iterdir():
        for file in service.rglob("src/**/*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.ImportFrom):
                    continue
                for one in (one for name in node.names for one in by_name.get((node.module or "", name.name), ())):
                    assert {service.name, "*"} & {*one.publishers, *one.consumers}, (
                        f"{file.name} of {service.name}: {one.name}"
                    )


def test_nothing_that_was_released_is_broken() -> None:
    assert breaks(json.loads(RELEASED.read_text(encoding="utf-8")), promise()) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda s: s["MessageReceived"]["properties"].pop("received_at"), "MessageReceived.received_at is gone"),
        (lambda s: s["MessageReceived"]["required"].append("reply_to"), "MessageReceived.reply_to is required now"),
        (lambda s: s["MessageReceived"]["required"].remove("sender"), "MessageReceived.sender may be missing now"),
        (lambda s: s["Sender"]["properties"]["id"].update(maxLength=10), "Sender.id is another"),
        (lambda s: s.pop("RuleExecuted"), "RuleExecuted is gone"),
        (lambda s: s["MessageReceived"]["properties"].update(more={"type": "string", "default": ""}), None),
        (lambda s: s["Sender"]["properties"]["name"].update(title="Another", default="x"), None),
        (lambda s: s.update(Another={"type": "object", "properties": {}}), None),
    ],
)
def test_a_break_is_found_and_an_addition_is_none(change: Any, found: str | None) -> None:
    today = copy.deepcopy(promise())
    change(today["schemas"])
    assert breaks(promise(), today) == ([found] if found else [])


# -- envelope ---------------------------------------------------------------------------------------------------------

tokens = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=64)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
envelopes = st.builds(
    Envelope,
    id=tokens,
    type=st.sampled_from([message.name for message in MESSAGES]),
    source=tokens.map(lambda name: f"relevo/{name}"),
    account=tokens,
    entity=tokens,
    time=moments,
    recorded=moments,
    actor=st.one_of(st.just("system"), tokens.map(lambda token: f"agent:{token}")),
    correlation_id=tokens,
    causation_id=st.one_of(st.just(""), tokens),
    sequence=st.integers(0, 2**63 - 1),
    depth=st.integers(0, 1000),
    traceparent=st.one_of(st.just(""), tokens),
    ancestors=st.lists(tokens, max_size=3).map(tuple),
    actor_version=st.integers(0, 1000),
)


@given(envelopes)
def test_an_envelope_comes_back_as_it_was(envelope: Envelope) -> None:
    assert Envelope.from_headers(envelope.headers()) == envelope


@given(envelopes, st.data())
def test_an_envelope_without_a_needed_header_names_it(envelope: Envelope, data: st.DataObject) -> None:
    headers = envelope.headers()
    needed = ["ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "relevo-account"]
    gone = data.draw(st.sampled_from(needed))
    del headers[gone]
    with pytest.raises(MalformedEnvelope, match=gone):
        Envelope.from_headers(headers)


# -- partitions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [INBOUND, EVT_CONVERSATION, CMD_CONVERSATION, EVT_PRESENCE], ids=lambda s: s.name)
async def test_the_broker_partitions_as_we_do(stream: Any, servers: TestServers) -> None:
    bus = servers.create_bus()
    client = await nats.connect(bus.nats_url, user_credentials=str(bus.admin_creds))
    config = stream_config(stream)
    answer = json.loads(
        (await client.request(f"$JS.API.STREAM.CREATE.{stream.name}", json.dumps(config).encode())).data
    )
    assert "error" not in answer
    luck = __import__("random").Random(stream.name)
    letters = string.ascii_letters + string.digits + "-_ñ€😀"
    wanted = {}
    for _ in range(500):
        values = {f: "".join(luck.choices(letters, k=luck.randint(1, 40))) for f in stream.fields()}
        wanted[stream.subject(**values)] = stream.partition_of(**values)
        assert wanted[stream.subject(**values)] == partition(
            stream.partitions, *(values[name] for name in stream.partition_by)
        )
    for chunk in range(0, 500, 100):
        await asyncio.gather(
            *(client.request(subject, b"{}", timeout=10) for subject in list(wanted)[chunk : chunk + 100])
        )
    found = {}
    async for message in Streams(client).read(stream.name):
        parts = message.subject.split(".")
        number = int(parts.pop(stream.partition_at))
        found[".".join(parts)] = number
    await client.close()
    assert found == wanted
    assert len(set(found.values())) == stream.partitions


def test_samples_live_beside_the_tests() -> None:
    assert FOLDER.parent == Path(__file__).parent
