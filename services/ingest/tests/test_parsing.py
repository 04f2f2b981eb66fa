"""The parser: what it takes, what it refuses and why; and that nothing hostile gets past or breaks it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.ingest.domain.delivery import address, read
from relevo.ingest.domain.parsing import Limits, parse_batch, parse_event, parse_json, shown_id
from relevo.ingest.domain.refusal import Refused
from relevo.kernel.identity import sender_key
from relevo.kernel.text import clean

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = Limits()


def message(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "message",
        "external_id": "wamid.1",
        "sender": {"id": "573001234567", "name": "Ana"},
        "content": {"text": "Hola"},
        "occurred_at": "2026-03-01T11:59:00Z",
    } | changes


def status(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "status",
        "external_id": "wamid.9",
        "sender": {"id": "573001234567"},
        "message_id": "0198",
        "status": "delivered",
        "occurred_at": "2026-03-01T11:59:00+01:00",
    } | changes


def parse(value: Any) -> Any:
    return parse_event(value, now=NOW, limits=LIMITS)


def refusal(value: Any) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        parse(value)
    fault = caught.value.first
    assert fault.es
    assert fault.en
    return fault.code, fault.pointer


def test_takes_a_message_and_a_status() -> None:
    assert parse(message()).content.text == "Hola"
    assert parse(status()).occurred_at == datetime(2026, 3, 1, 10, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "code", "pointer"),
    [
        ([], "not_object", ""),
        ({}, "kind_missing", "/kind"),
        (message(kind="reaction"), "kind_unknown", "/kind"),
        ({k: v for k, v in message().items() if k != "sender"}, "field_missing", "/sender"),
        (message(external_id=""), "identifier_invalid", "/external_id"),
        (message(external_id="   "), "identifier_invalid", "/external_id"),
        (message(external_id=5), "not_text", "/external_id"),
        (message(external_id="x" * 513), "text_too_long", "/external_id"),
        (message(external_id="a\x00b"), "identifier_invalid", "/external_id"),
        (message(sender={"id": "a\u202eb"}), "identifier_invalid", "/sender/id"),
        (message(sender={"id": "\ud800"}), "identifier_invalid", "/sender/id"),
        (message(sender="573001234567"), "not_object", "/sender"),
        (message(content={"text": "x" * 1_000_000}), "text_too_long", "/content/text"),
        (message(content={"attachments": [{"url": "https://a/b"}] * 16}), "too_many", "/content/attachments"),
        (message(content={"attachments": [{"url": "javascript:alert(1)"}]}), "url_invalid", "/content/attachments/0/url"),
        (message(content={"attachments": [{"url": "https://a/b", "size": -1}]}), "number_too_small", "/content/attachments/0/size"),
        (message(occurred_at="2026-03-01T11:59:00"), "time_without_offset", "/occurred_at"),
        (message(occurred_at="ayer"), "not_a_time", "/occurred_at"),
        (message(occurred_at=1772366340), "not_a_time", "/occurred_at"),
        (message(occurred_at="2026-13-01T00:00:00Z"), "not_a_time", "/occurred_at"),
        (message(occurred_at="0001-01-01T00:00:00+14:00"), "not_a_time", "/occurred_at"),
        (message(occurred_at="2026-03-02T12:00:01Z"), "occurred_at_in_future", "/occurred_at"),
        (status(status="bounced"), "not_one_of", "/status"),
        (message(raw={"n": float("inf")}), "number_out_of_range", ""),
        (message(raw={"a\x00": 1}), "field_name_invalid", ""),
    ],
)  # fmt: skip
def test_refuses_with_code_and_place(value: Any, code: str, pointer: str) -> None:
    assert refusal(value) == (code, pointer)


def test_every_fault_is_named() -> None:
    with pytest.raises(Refused) as caught:
        parse(message(external_id=" ", occurred_at="ayer", content={"text": 3}))
    assert {fault.pointer for fault in caught.value.faults} == {"/external_id", "/occurred_at", "/content/text"}


def test_the_past_is_fine_and_the_skew_is_a_limit() -> None:
    assert parse(message(occurred_at="1999-01-01T00:00:00Z")).occurred_at.year == 1999
    soon = message(occurred_at="2026-03-01T12:30:00Z")
    assert parse(soon)
    with pytest.raises(Refused):
        parse_event(soon, now=NOW, limits=Limits(future=timedelta(minutes=10)))


def test_cleans_what_people_read_and_keeps_identifiers_as_they_are() -> None:
    event = parse(
        message(
            external_id="cafe\u0301",
            sender={"id": "e\u0301", "name": "A\x00na\u202e"},
            content={"text": "Ho\x00la\r\n\u202eadios \ud800 cafe\u0301"},
        )
    )
    assert event.external_id == "cafe\u0301"
    assert event.sender.id == "e\u0301"
    assert event.sender.name == "Ana"
    assert event.content.text == "Hola\nadios \ufffd café"


def test_an_event_that_would_not_fit_on_the_bus_is_refused() -> None:
    links = [{"url": "https://a/" + "😀" * 4000, "name": "ñ" * 500}] * 15
    assert refusal(message(content={"text": "😀" * 150_000, "attachments": links})) == ("event_too_large", "")
    assert parse(message(content={"text": "😀" * 150_000}))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\xff\xfe", "not_utf8"),
        (b"", "not_json"),
        (b'{"a":', "not_json"),
        (b"[" * 200_000, "too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
    ],
)
def test_unreadable_bodies(body: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_json(body)
    assert caught.value.first.code == code


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        (b'{"kind":"message","kind":"status"}', "duplicate_field"),
        (b'{"raw":{"n":' + b"9" * 10_000 + b"}}", "number_out_of_range"),
        (b'{"raw":{"n":NaN}}', "number_out_of_range"),
        (b'{"raw":{"n":1e999}}', "number_out_of_range"),
        (b'{"raw":' + b'{"a":' * 60 + b"1" + b"}" * 60 + b"}", "too_deep"),
    ],
)
def test_a_spoilt_event_does_not_spoil_its_batch(spoilt: bytes, code: str) -> None:
    body = b'{"events":[' + spoilt + b"," + json.dumps(message()).encode() + b"]}"
    first, second = parse_batch(body, 10)
    assert refusal(first)[0] == code
    assert parse(second).external_id == "wamid.1"
    assert shown_id(first) is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "malformed_batch"),
        (b'{"events":{}}', "malformed_batch"),
        (b'{"events":[],"events":[]}', "duplicate_field"),
        (b'{"events":[1,2,3]}', "too_many_events"),
    ],
)
def test_a_batch_as_a_whole(body: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_batch(body, 2)
    assert caught.value.first.code == code


def test_the_subject_must_announce_the_body() -> None:
    body = json.dumps(message()).encode()
    key = sender_key("573001234567")
    good = address(f"inbound.3.acc.box.{key}.message")
    assert read(good, body, now=NOW, limits=LIMITS).external_id == "wamid.1"
    for subject, code in [
        (f"inbound.3.acc.box.{key}.status", "kind_mismatch"),
        (f"inbound.3.acc.box.{sender_key('other')}.message", "sender_key_mismatch"),
        ("inbound.3.acc.box", "subject_invalid"),
        (f"inbound.3.acc.box.{key}.message.more", "subject_invalid"),
    ]:
        with pytest.raises(Refused) as caught:
            read(address(subject), body, now=NOW, limits=LIMITS)
        assert caught.value.first.code == code


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["kind", "external_id", "sender", "id", "content", "text", "attachments", "url", "raw"])
            | st.text(st.characters(), max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
ALMOST = st.builds(
    lambda base, changes: base() | changes,
    st.sampled_from([message, status]),
    st.dictionaries(
        st.sampled_from(["kind", "external_id", "sender", "content", "occurred_at", "raw", "reply_to", "message_id"]),
        ANYTHING
        | st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat())
        | st.builds(lambda name: {"id": name, "name": name}, st.text(st.characters(), min_size=1, max_size=8)),
        max_size=4,
    ),
)


def outcome(parsed: Callable[[], Any]) -> Any:
    """The event, or the refusal itself; any other exception fails the test."""
    try:
        return parsed()
    except Refused as refused:
        return refused


@settings(max_examples=200)
@given(ANYTHING | ALMOST)
def test_whatever_comes_is_taken_safely_or_refused(value: Any) -> None:
    found = outcome(lambda: parse(value))
    if isinstance(found, Refused):
        assert found.faults
        assert all(fault.code and fault.es and fault.en for fault in found.faults)
        shown_id(value)
        return
    assert b"\\u0000" not in found.model_dump_json().encode()
    assert clean(found.sender.name) == found.sender.name
    assert found.occurred_at <= NOW + LIMITS.future
    if found.kind == "message":
        assert clean(found.content.text) == found.content.text


@settings(max_examples=200)
@given(st.binary(max_size=200) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_whatever_bytes_come(body: bytes) -> None:
    found = outcome(lambda: parse(parse_json(body)))
    assert not isinstance(found, Refused) or found.first.code
