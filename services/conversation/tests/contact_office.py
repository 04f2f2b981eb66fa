"""The running service with an account's people, for the tests of contacts."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row

from relevo.chassis.testing import Organisation, Running, running, stepwise
from relevo.conversation.app import build


class Office:
    """The running service, and an account that uses it over HTTP."""

    def __init__(self, service: Running) -> None:
        self.service = service
        self.people = Organisation(service.admin)

    @property
    def account(self) -> str:
        return self.people.account

    async def open(self) -> "Office":
        await self.people.found()
        return self

    async def who(self, role: str = "agent", language: str = "es", **more: Any) -> dict[str, str]:
        """The headers of a new agent."""
        agent = await self.people.hire("eva", role, language=language, **more)
        await self.service.settle()
        return self.people.as_(agent) | {"accept-language": language}

    async def call(self, method: str, path: str, who: dict[str, str], **more: Any) -> Any:
        headers = who | more.pop("headers", {})
        return await self.service.http.request(method, path, headers=headers, **more)

    async def get(self, path: str, who: dict[str, str], **params: Any) -> Any:
        return await self.call("GET", path, who, params=params)

    async def post(self, path: str, who: dict[str, str], body: Any = None, **headers: str) -> Any:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", path, who, json=body, headers=more)

    async def patch(self, path: str, who: dict[str, str], body: Any, match: str | None = "*") -> Any:
        return await self.call("PATCH", path, who, json=body, headers={"if-match": match} if match else {})

    async def delete(self, path: str, who: dict[str, str], match: str | None = "*") -> Any:
        return await self.call("DELETE", path, who, headers={"if-match": match} if match else {})

    async def contact(self, who: dict[str, str], **fields: Any) -> dict[str, Any]:
        """A new contact."""
        answer = await self.post("/contacts", who, fields)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.service.dsn, row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def events(self, entity: str | None = None) -> list[tuple[str, int, dict[str, Any]]]:
        """What was emitted of the account: last token of the type, sequence, body, in order."""
        found = []
        for row in self.rows("select headers, body from outbox where subject like %s order by id", f"%{self.account}%"):
            headers = json.loads(row["headers"])
            if entity is None or headers["ce-subject"] == entity:
                name = headers["ce-type"].split(".")[-2]
                found.append((name, int(headers.get("relevo-sequence", 0)), json.loads(row["body"])))
        return found


def run_module(servers: Any, **environment: str) -> Iterator[tuple[Running, Callable[[Any], Any]]]:
    """A running service for many tests, and what runs their coroutines beside it."""
    with stepwise(running(build, servers, RELEVO_LOOP_STALL_SECONDS="3600", **environment)) as given:
        yield given
