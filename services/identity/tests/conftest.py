"""The running service on real servers, and an account in it."""

import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from relevo.chassis.testing import Running, running, unique
from relevo.identity.app import build
from relevo.stack.keys import write_secret
from relevo.stack.testing import Bus, TestServers

SETUP_TOKEN = "setup-token-of-the-tests"
PASSWORD = "correct horse battery"


@dataclass
class Account:
    """A fresh account: its ids, and clients that act as its administrator by key, or as anybody."""

    service: Running
    id: str
    admin_id: str
    admin_email: str
    token: str
    password: str = PASSWORD
    setup_token: str = SETUP_TOKEN

    def headers(self, token: str | None = None, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token or self.token}", "Accept-Language": "en", **more}

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        expect: int | None = None,
        **headers: str,
    ) -> httpx.Response:
        answer = await self.service.http.request(
            method, path, json=body, headers=self.headers(token, **{k.replace("_", "-"): v for k, v in headers.items()})
        )
        if expect is not None:
            assert answer.status_code == expect, answer.text
        return answer

    async def role(self, name: str) -> dict[str, Any]:
        items = (await self.call("GET", "/roles", expect=200)).json()["items"]
        return next(item for item in items if item["name"] == name)

    async def new_role(self, permissions: list[str], scope: str = "all") -> dict[str, Any]:
        body = {"name": unique("role"), "permissions": permissions, "scope": scope}
        return dict((await self.call("POST", "/roles", body, expect=201)).json())

    async def new_agent(self, role_id: str, **more: Any) -> dict[str, Any]:
        body = {
            "name": "Ana",
            "email": f"{unique('ana')}@example.com",
            "role_id": role_id,
            "inbox_ids": None,
            "initial_password": PASSWORD,
        } | more
        return dict((await self.call("POST", "/agents", body, expect=201)).json())

    async def mails(self, address: str, template: str | None = None) -> list[dict[str, Any]]:
        """What notification was asked to write to this address, in order."""
        await self.service.settle()
        found = []
        for subject, headers, body in await self.service.admin.stored("CMD_NOTIFICATION"):
            command = json.loads(body)
            if headers["relevo-account"] == self.id and command["address"] == address:
                assert subject.split(".")[3] == "identity"
                if template in {None, command["template"]}:
                    found.append(command)
        return found

    async def link_token(self, address: str, template: str = "invitation") -> str:
        """The token of the last link of the kind that was sent there."""
        link = str((await self.mails(address, template))[-1]["data"]["link"])
        return link.partition("#")[2]

    async def sign_in(self, email: str, password: str = PASSWORD, **more: Any) -> httpx.Response:
        return await self.service.http.post(
            "/sessions", json={"email": email, "password": password, **more}, headers={"Accept-Language": "en"}
        )

    async def signed_in(self, email: str) -> str:
        answer = await self.sign_in(email)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["access_token"])


def environment(servers: TestServers, bus: Bus) -> dict[str, str]:
    system = servers.keys.system_credentials(
        "identity", [f"$SYS.REQ.ACCOUNT.{bus.account}.CLAIMS.UPDATE"], ["_INBOX_identity.>"]
    )
    path = write_secret(Path(servers.folder) / f"{bus.account[:10]}-revocation.creds", system)
    return {
        "RELEVO_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
        "RELEVO_SETUP_TOKEN": SETUP_TOKEN,
        "RELEVO_BUS_ACCOUNT": bus.account,
        "RELEVO_BUS_SIGNING_SEED": bus.signing_seed,
        "RELEVO_BUS_OPERATOR_SEED": servers.keys.operator_signing.seed,
        "RELEVO_BUS_SYSTEM_CREDENTIALS": str(path),
    }


@asynccontextmanager
async def service(servers: TestServers, **more: str) -> AsyncIterator[Running]:
    bus = servers.create_bus()
    async with running(build, servers, bus=bus, **environment(servers, bus), **more) as run:
        yield run


async def new_account(run: Running) -> Account:
    email = f"{unique('admin')}@example.com"
    answer = await run.http.post(
        "/setup",
        json={
            "account_name": unique("Account"),
            "language": "en",
            "time_zone": "Europe/Madrid",
            "admin": {"name": "Root", "email": email, "password": PASSWORD},
        },
        headers={"Authorization": f"Bearer {SETUP_TOKEN}"},
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return Account(run, made["account_id"], made["admin_id"], email, made["api_token"])


@pytest.fixture(scope="module")
def more_settings() -> dict[str, str]:
    """What a module's process is told besides; a module says it by a fixture of this name."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def identity(servers: TestServers, more_settings: dict[str, str]) -> AsyncIterator[Running]:
    """One process for a module: its tests keep apart by account."""
    async with service(servers, **more_settings) as run:
        yield run


@pytest_asyncio.fixture(loop_scope="module")
async def account(identity: Running) -> Account:
    return await new_account(identity)


@pytest_asyncio.fixture(loop_scope="module")
async def other(identity: Running) -> Account:
    """Another tenant of the same service."""
    return await new_account(identity)


@pytest.fixture
def a_service() -> Any:
    """Runs the service, for a test that wants one of its own."""
    return service


@pytest.fixture
def found_account() -> Any:
    """Founds an account in a running service."""
    return new_account
