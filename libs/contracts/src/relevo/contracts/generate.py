"""Documents derived from the catalogue: AsyncAPI 3, JSON Schemas, the tables of subjects and of permissions.

Pure: answers texts by path below ``docs/``; whoever writes or compares the files does so elsewhere.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pydantic.json_schema import models_json_schema

from relevo.contracts.catalogue import DURABLES, MESSAGES, SERVICES, Message, read_by
from relevo.contracts.grants import adapter_grants, metrics_grants, service_grants
from relevo.contracts.metrics import BUSINESS_TIMES, BY_LABEL, METRICS, RATES, UNLABELLED
from relevo.contracts.permissions import ROLES, Permission
from relevo.contracts.streams import STREAMS

_HEADERS: dict[str, str] = {
    "Nats-Msg-Id": "The event's id (UUIDv7).",
    "ce-specversion": "1.0",
    "ce-id": "The event's id.",
    "ce-type": "The message's name, with its major version.",
    "ce-source": "relevo/<service>",
    "ce-subject": "The entity's id.",
    "ce-time": "When it occurred, RFC 3339, UTC.",
    "relevo-account": "The tenant.",
    "relevo-recorded": "When it was recorded, RFC 3339, UTC.",
    "relevo-actor": "agent:ID, contact:ID, rule:ID, bot:ID, key:ID or system.",
    "relevo-correlation-id": "The id of the event that began the story.",
    "relevo-causation-id": "The id of the event that caused this one.",
    "relevo-sequence": "Number of the event within its entity, from 1 without gaps.",
    "relevo-depth": "How many automatic steps led here.",
    "relevo-ancestors": "What caused the cause, the nearest first, up to three ids with commas between them.",
    "relevo-actor-version": "Of a rule that acts: its version.",
    "traceparent": "W3C trace context.",
}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def schemas() -> dict[str, Any]:
    """One JSON Schema document with every message body and what they share."""
    _, document = models_json_schema(
        [(m.model, "validation") for m in MESSAGES], ref_template="#/components/schemas/{model}"
    )
    found: dict[str, Any] = document.get("$defs", {})
    return found


def asyncapi() -> dict[str, Any]:
    """The bus as AsyncAPI 3.0: a channel for each message's subject, an operation for each side of it."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for message in MESSAGES:
        key = message.name.replace(".", "_")
        address = _address(message)
        messages[key] = {
            "name": message.name,
            "title": message.model.__name__,
            "summary": message.description,
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/Headers"},
            "payload": {"$ref": f"#/components/schemas/{message.model.__name__}"},
        }
        channels[key] = {
            "address": address,
            "description": f"Stream {message.stream.name}. {message.stream.description}",
            "messages": {key: {"$ref": f"#/components/messages/{key}"}},
            "parameters": {name: {} for name in message.stream.fields() if f"{{{name}}}" in address},
        }
        for who in message.publishers:
            operations[f"{_name(who)}_send_{key}"] = {"action": "send", "channel": {"$ref": f"#/channels/{key}"}}
        for who in message.consumers:
            operations[f"{_name(who)}_receive_{key}"] = {"action": "receive", "channel": {"$ref": f"#/channels/{key}"}}
    headers = {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in _HEADERS.items()},
        "required": ["ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "relevo-account"],
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Relevo",
            "version": "1.0.0",
            "description": "Every event, command and metric of the bus. CloudEvents 1.0, NATS binding, binary mode.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": {"Headers": headers} | schemas()},
    }


def _name(who: str) -> str:
    return who.replace(" ", "_")


def _address(message: Message) -> str:
    fields = message.stream.fields()
    last = fields[-1]
    if message.tokens is not None and message.stream.name in {"METRICS", "DEAD"}:
        family = message.token if message.stream.name == "METRICS" else None
        return message.stream.pattern.replace("{family}", family) if family else message.stream.pattern
    return message.stream.pattern.replace(f"{{{last}}}", message.token)


def subject_table() -> str:
    """The catalogue for people: every message with its subject, publishers and consumers."""
    lines = [
        "# The catalogue of messages",
        "",
        "Generated from `libs/contracts`; do not edit. Streams with partitions store the subject with the partition",
        "inserted after the service (INBOUND: after `inbound`); nobody but the broker computes it for adapters.",
        "",
        "| stream | partitions | kept | what |",
        "|---|---|---|---|",
    ]
    lines += [f"| {s.name} | {s.partitions or '–'} | {_kept(s.max_age)} | {s.description} |" for s in STREAMS]
    lines += ["", "| message | subject | published by | consumed by | what |", "|---|---|---|---|---|"]
    lines += [
        f"| `{m.name}` | `{_address(m)}` | {_people(m.publishers)} | {_people(m.consumers)} | {m.description} |"
        for m in MESSAGES
    ]
    return "\n".join(lines) + "\n"


def _kept(age: timedelta) -> str:
    return f"{age.days} days" if age.days else f"{age.seconds // 3600} h"


def _people(names: tuple[str, ...]) -> str:
    return "every service" if len(names) >= len(SERVICES) - 1 else ", ".join(names)


def permission_table() -> str:
    """Who may do what: NATS users and their subjects, roles and their permissions."""
    lines = [
        "# Permissions",
        "",
        "Generated from `libs/contracts`; do not edit.",
        "",
        "## Users of the bus",
        "",
        "Each may listen on its own reply prefix, and nothing else but what is listed.",
        "",
    ]
    for service in SERVICES:
        grants = service_grants(service)
        reads = ", ".join(stream.name for stream in read_by(service)) or "–"
        unordered = ", ".join(f"{d.stream.name}/{d.name}" for d in DURABLES if d.service == service)
        lines += [f"### {service}", "", f"Reads {reads}{'; durable ' + unordered if unordered else ''}.", "", "```"]
        lines += [f"pub {subject}" for subject in grants.publish]
        lines += [f"sub {subject}" for subject in grants.subscribe]
        lines += ["```", ""]
    for title, grants in (
        ("an adapter", adapter_grants("<account>", "<inbox>", "<credential>")),
        ("a metrics consumer", metrics_grants("<account>", "<credential>")),
    ):
        lines += [f"### {title}", "", "```"]
        lines += [f"pub {subject}" for subject in grants.publish]
        lines += [f"sub {subject}" for subject in grants.subscribe]
        lines += ["```", ""]
    lines += ["## Roles", "", "| permission | " + " | ".join(ROLES) + " |", "|---" * (len(ROLES) + 1) + "|"]
    lines += [
        f"| `{permission}` | "
        + " | ".join("●" if permission in role.permissions else "" for role in ROLES.values())
        + " |"
        for permission in Permission
    ]
    lines += ["| *sees conversations* | " + " | ".join(str(role.scope) for role in ROLES.values()) + " |"]
    return "\n".join(lines) + "\n"


def metric_table() -> str:
    """Every metric with its unit and definition, as Markdown."""
    lines = [
        "# Metrics and their definitions",
        "",
        "Generated; do not edit. Each fact is 1 for counts and seconds of clock time for times. `GET /api/v1/reports/summary` says the",
        "same beside each number, in Spanish or English; `GET /api/v1/reports/facts?metric=…` lists what a number is made of, each fact with",
        "its conversation (`conversation_id`) and the event that caused it (`cause_event_id`, the `id` of an event on the bus).",
        "",
        "`business_hours=true` counts business hours only of "
        + ", ".join(f"`{metric}`" for metric in METRICS if metric in BUSINESS_TIMES)
        + ":",
        "of those facts that a calendar measured when they happened (`business_value`); how many it did not is told (`unmeasured`).",
        "",
        "| metric | unit | there is one when, or its seconds are | en español |",
        "|---|---|---|---|",
        *(f"| `{metric}` | {unit} | {en} | {es} |" for metric, (unit, es, en) in METRICS.items()),
        "",
        "## Rates",
        "",
        "Divided from the numbers of facts in the same period, whatever their values; reports show them beside the metrics (`rates`).",
        "",
        "| rate | part | of | what it is | en español |",
        "|---|---|---|---|---|",
        *(
            f"| `{name}` | `{rate.part}` | {', '.join(f'`{metric}`' for metric in rate.whole)} | {rate.en} | {rate.es} |"
            for name, rate in RATES.items()
        ),
        "",
        "## By label",
        "",
        BY_LABEL["en"],
        f"Not told by label: {', '.join(f'`{metric}`' for metric in METRICS if metric in UNLABELLED)}.",
        "",
        f"*En español:* {BY_LABEL['es']}",
    ]
    return "\n".join(lines) + "\n"


def documents() -> Iterator[tuple[str, str]]:
    """Every generated document: its path below ``docs/`` and its text."""
    yield "asyncapi.json", _json(asyncapi())
    yield "schemas.json", _json({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": schemas()})
    yield "catalogue.md", subject_table()
    yield "permissions.md", permission_table()
    yield "metric-definitions.md", metric_table()
