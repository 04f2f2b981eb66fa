"""Asks every operation of the HTTP interface, by its own document: with given ids wherever one is wanted."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import Any, Final

import httpx

from relevo.contracts.base import new_id, now

_OF: Final = {
    "ids": "conversation_id",
    "add": "agent_id",
    "remove": "agent_id",
    "member_ids": "agent_id",
    "team_ids": "team_id",
    "inbox_ids": "inbox_id",
    "assignee_id": "agent_id",
    "assignee": "agent_id",
    "participant": "agent_id",
    "conversation": "conversation_id",
    "contact": "contact_id",
    "team": "team_id",
    "other_id": "contact_id",
    "attachments": "file_id",
    "reply_to": "message_id",
    "entity_id": "conversation_id",
    "entity": "conversation_id",
}
"""What a name that is no id's own name stands for."""
_PATTERNED: Final = ("x", "EUR", "ES", "webchat", "a" * 20, "0" * 64, "agent:0197a3a0-0000-7000-8000-000000000000")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    entry: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.entry["operationId"])

    @property
    def needed(self) -> list[str] | None:
        """The permissions of which one is enough; None: no credential of ours."""
        return self.entry.get("x-permission")


class Walker:
    """Knows the document, and how to ask what it says. ``ids`` by the names of path parameters."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        text = resources.files("relevo.stack").joinpath("pages/openapi.json").read_text(encoding="utf-8")
        self._document: dict[str, Any] = json.loads(text)
        self._ids = ids

    def operations(self) -> list[Operation]:
        return [
            Operation(method.upper(), path, entry)
            for path, entries in self._document["paths"].items()
            for method, entry in entries.items()
            if isinstance(entry, dict)
        ]

    def unknown(self) -> set[str]:
        """Parameters of paths for which there is no id."""
        return {name for one in self.operations() for name, _ in _parameters(one, "path") if name not in self._ids}

    def requests(self, one: Operation) -> Iterator[httpx.Request]:
        """The operation asked in a few ways: plainly, and with each filter that takes an id."""
        path = one.path
        for name, _ in _parameters(one, "path"):
            path = path.replace("{" + name + "}", self._ids[name])
        query = {
            p["name"]: self._value(p["schema"], p["name"]) for _, p in _parameters(one, "query") if p.get("required")
        }
        headers = {p["name"]: '"1"' for _, p in _parameters(one, "header") if p["name"].lower() == "if-match"}
        body = self._body(one)
        filters = [
            {name: self._value(p["schema"], name)}
            for name, p in _parameters(one, "query")
            if name not in query and self._id_of(name) and name not in ("cursor", "limit")
        ]
        for more in [{}, *(filters if one.method == "GET" else [])]:
            yield httpx.Request(one.method, path, params={**query, **more}, headers=headers | body[1], content=body[0])

    def _body(self, one: Operation) -> tuple[bytes | None, dict[str, str]]:
        wanted = one.entry.get("requestBody", {}).get("content", {})
        if not wanted:
            return None, {}
        kind = "application/json" if "application/json" in wanted else next(iter(wanted))
        if kind != "application/json":
            return b"name\nEva\n", {"content-type": "text/csv" if "text/csv" in wanted else "text/plain"}
        return json.dumps(self._value(wanted[kind].get("schema", {}), "")).encode(), {"content-type": kind}

    def _value(self, schema: Mapping[str, Any], name: str) -> Any:
        """Something that the schema takes, with our ids for whatever is one."""
        if "$ref" in schema:
            return self._value(self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], name)
        for either in ("anyOf", "oneOf", "allOf"):
            if either in schema:
                return self._value(next(s for s in schema[either] if s.get("type") != "null"), name)
        if "const" in schema or "enum" in schema:
            return schema.get("const", (schema.get("enum") or [None])[0])
        match schema.get("type"):
            case "object":
                required = set(schema.get("required", ()))
                fields = schema.get("properties", {})
                return {k: self._value(v, k) for k, v in fields.items() if k in required or self._id_of(k)}
            case "array":
                items = schema.get("items", {})
                return [self._value(items, name)] if self._id_of(name) or schema.get("minItems") else []
            case "boolean":
                return False
            case "integer" | "number":
                return schema.get("minimum", 1)
            case _:
                return self._text(schema, name)

    def _text(self, schema: Mapping[str, Any], name: str) -> str:
        if schema.get("format") == "date-time":
            return (now() + timedelta(days=1)).isoformat()
        if "agent|team" in schema.get("pattern", ""):
            return f"agent:{self._ids['agent_id']}"
        if (known := self._id_of(name)) is not None:
            return self._ids[known]
        if schema.get("format") == "uuid":
            return self._ids["conversation_id"]
        if "pattern" in schema:
            return next((text for text in _PATTERNED if re.search(schema["pattern"], text)), "x")
        return "hola".ljust(schema.get("minLength", 0), "a")

    def _id_of(self, name: str) -> str | None:
        known = _OF.get(name, name)
        return known if known in self._ids else None


def _parameters(one: Operation, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for parameter in one.entry.get("parameters", ()):
        if parameter["in"] == where:
            yield parameter["name"], parameter


async def ask(client: httpx.AsyncClient, request: httpx.Request, token: str | None) -> httpx.Response:
    """Send it as whoever holds the token; a POST once."""
    headers = dict(request.headers)
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    if request.method == "POST":
        headers["idempotency-key"] = new_id()
    return await client.request(request.method, str(request.url), headers=headers, content=request.content)
