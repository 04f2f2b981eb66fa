"""From bytes to an inbound event: one parser for both doors.

Whatever comes in, the only exception is Refused. What can be made safe is cleaned (texts that people read); what would
change its identity by cleaning (identifiers) is refused instead.
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from relevo.contracts.inbound import InboundEvent, InboundMessage, InboundStatus
from relevo.ingest.domain.refusal import (
    DUPLICATE_FIELD,
    FIELD_NAME,
    NOT_BATCH,
    NOT_JSON,
    NOT_OBJECT,
    NOT_UTF8,
    NUMBER_RANGE,
    TOO_DEEP,
    Fault,
    Refused,
    bad_identifier,
    bad_url,
    in_future,
    not_a_time,
    pointer,
    schema_fault,
    too_large,
    too_many_events,
)
from relevo.kernel.text import clean

Event = InboundMessage | InboundStatus

_EVENT: Final[TypeAdapter[Event]] = TypeAdapter(InboundEvent)
_KINDS: Final = ("message", "status")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_WEB: Final = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_IDENTIFIERS: Final = (("external_id",), ("message_id",), ("reply_to",), ("sender", "id"))
MAX_FAULTS: Final = 20
MAX_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one event may be at most.

    ``event_bytes`` counts the JSON of the event without ``raw``: what is accepted must fit on the bus again.
    """

    depth: int = 32
    event_bytes: int = 800_000
    future: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Spoilt:
    """Stands in the JSON tree where a value could not be read: only the event that holds it is refused."""

    fault: Fault


def parse_json(body: bytes) -> Any:
    """The JSON value of a body.

    Raises Refused when the whole of it cannot be read: not UTF-8, not JSON, nested without end. What spoils one event
    only (a field twice in an object, a number without bounds) is refused when that event is parsed.
    """
    try:
        source = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(NOT_UTF8) from None
    try:
        return json.loads(source, object_pairs_hook=_object, parse_int=_int)
    except RecursionError:
        raise Refused(TOO_DEEP) from None
    except json.JSONDecodeError as bad:
        where = f"línea {bad.lineno}, columna {bad.colno}", f"line {bad.lineno}, column {bad.colno}"
        raise Refused(
            Fault(NOT_JSON.code, f"{NOT_JSON.es[:-1]} ({where[0]}).", f"{NOT_JSON.en[:-1]} ({where[1]}).")
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Spoilt:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Spoilt(DUPLICATE_FIELD)


def _int(digits: str) -> int | _Spoilt:
    return int(digits) if len(digits) <= MAX_DIGITS else _Spoilt(NUMBER_RANGE)


def parse_batch(body: bytes, max_events: int) -> list[Any]:
    """The events of a request to the HTTP door, each still to be parsed.

    Raises Refused when the request as a whole cannot be read, or has more than ``max_events``.
    """
    value = parse_json(body)
    if isinstance(value, _Spoilt):
        raise Refused(value.fault)
    if not isinstance(value, dict) or not isinstance(events := value.get("events"), list):
        raise Refused(NOT_BATCH)
    if len(events) > max_events:
        raise Refused(too_many_events(len(events), max_events))
    return events


def shown_id(value: Any) -> str | None:
    """The external id of a value that may be no event, safe to send back; None when it has none."""
    external_id = value.get("external_id") if isinstance(value, dict) else None
    return clean(external_id)[:512] if isinstance(external_id, str) else None


def parse_event(value: Any, *, now: datetime, limits: Limits) -> Event:
    """The event in a JSON value. Raises Refused with every fault that was found (at most MAX_FAULTS)."""
    if isinstance(value, _Spoilt):
        raise Refused(value.fault)
    if not isinstance(value, dict):
        raise Refused(NOT_OBJECT)
    safe = _clean(value, limits.depth)
    faults = [*_check_identifiers(value, safe), *_check_time(safe)]
    event = _validate(safe, faults)
    faults += _check_links(event)
    if event.occurred_at > now + limits.future:
        faults.append(in_future(limits.future.total_seconds()))
    if len(event.model_dump_json(exclude={"raw"}).encode()) > limits.event_bytes:
        faults.append(too_large(limits.event_bytes))
    if faults:
        raise Refused(*faults[:MAX_FAULTS])
    return event


def _validate(safe: Mapping[str, Any], found: list[Fault]) -> Event:
    try:
        event = _EVENT.validate_python(safe)
    except ValidationError as invalid:
        schema = [_fault(error) for error in invalid.errors(include_url=False, include_input=False)]
        places = {fault.pointer for fault in found}
        faults = found + [fault for fault in schema if fault.pointer not in places]
        raise Refused(*faults[:MAX_FAULTS]) from None
    except OverflowError:
        # A time in year 1 or 9999 that its offset pushes over the edge of the calendar.
        raise Refused(not_a_time("/occurred_at")) from None
    return event


def _fault(error: Any) -> Fault:
    place = error["loc"]
    if place[:1] and place[0] in _KINDS:
        place = place[1:]
    kind: str = error["type"]
    if kind.startswith("union_tag"):
        place = ("kind",)
    return schema_fault(kind, pointer(*place), error.get("ctx", {}))


def _clean(value: Any, depth: int) -> Any:
    match value:
        case str():
            return clean(value)
        case _Spoilt():
            raise Refused(value.fault)
        case float() if not math.isfinite(value):
            raise Refused(NUMBER_RANGE)
        case dict() | list() if depth <= 0:
            raise Refused(TOO_DEEP)
        case dict():
            for key in value:
                if clean(key) != key:
                    raise Refused(FIELD_NAME)
            return {key: _clean(item, depth - 1) for key, item in value.items()}
        case list():
            return [_clean(item, depth - 1) for item in value]
        case _:
            return value


def _check_identifiers(given: Any, safe: Any) -> list[Fault]:
    """Identifiers keep their exact form: put the given one back, or say that it cannot be taken."""
    faults = []
    for path in _IDENTIFIERS:
        source, target = given, safe
        for part in path[:-1]:
            source, target = source.get(part), target.get(part)
            if not isinstance(source, dict):
                break
        else:
            value = source.get(path[-1])
            if not isinstance(value, str):
                continue
            if not value.strip() or clean(value) != unicodedata.normalize("NFC", value):
                faults.append(bad_identifier(pointer(*path)))
            else:
                target[path[-1]] = value
    return faults


def _check_time(safe: Mapping[str, Any]) -> list[Fault]:
    """Only RFC 3339: a bare number could be seconds or milliseconds."""
    value = safe.get("occurred_at")
    if value is None or (isinstance(value, str) and _TIME.fullmatch(value)):
        return []
    if isinstance(value, str) and _TIME.fullmatch(value + "Z"):
        return []  # the schema says that the offset is missing
    return [not_a_time("/occurred_at")]


def _check_links(event: Event) -> list[Fault]:
    if not isinstance(event, InboundMessage):
        return []
    return [
        bad_url(pointer("content", "attachments", index, "url"))
        for index, attachment in enumerate(event.content.attachments)
        if not _WEB.match(attachment.url)
    ]
