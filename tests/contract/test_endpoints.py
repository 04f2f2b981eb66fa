"""Every endpoint of every service, asked by every role: who may is who the generated table says, and nobody else."""

import asyncio
import importlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import iscoroutinefunction, isfunction
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi.routing import APIRoute, iter_route_contexts

from relevo.chassis import directory
from relevo.chassis.auth import access_token, new_key
from relevo.chassis.service import application
from relevo.chassis.testing import Running, running
from relevo.contracts.base import new_id, now
from relevo.contracts.catalogue import SERVICES
from relevo.contracts.identity import PLATFORM, AgentState, KeyState, RoleState, SigningKeyState
from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.contracts.routes import API
from relevo.stack.documents import _placeholders, openapi
from relevo.stack.testing import TestServers

NOWHERE = "0197a3a0-0000-7000-8000-000000000000"
OWN_CREDENTIAL = re.compile(r"/webchat/|/setup$")
"""Paths that take a credential of another kind (a visitor's, the operator's)."""


@dataclass(frozen=True)
class Caller:
    """Somebody who asks, and what they hold; `credential` is made anew for each request, as some requests end it."""

    name: str
    kind: str
    permissions: frozenset[Permission]
    credential: Callable[[], str]


class People:
    """One account with an agent of every predefined role, one of none, and keys, known to one service."""

    def __init__(self, service: Running) -> None:
        self.service = service
        self.account, self.key_id = new_id(), new_id()
        pair = Ed25519PrivateKey.generate()
        self.private = pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.public = pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    async def know(self, kind: str, state: Any, account: str) -> None:
        async with self.service.runtime.database.begin(account) as tx:
            await directory.apply(tx, kind, account, state.id, state, 1)

    async def gathered(self) -> list[Caller]:
        """All of them."""
        await self.know("signing_key", SigningKeyState(id=self.key_id, public_pem=self.public), PLATFORM)
        found = [await self.agent(name, role.permissions, role.scope) for name, role in ROLES.items()]
        found.append(await self.agent("none", frozenset(), ConversationScope.NONE))
        keys: tuple[tuple[Literal["api", "adapter", "bot"], frozenset[Permission]], ...] = (
            ("api", frozenset(Permission)),
            ("adapter", frozenset()),
            ("bot", frozenset()),
        )
        for kind, permissions in keys:
            key = new_key(kind)
            state = KeyState(
                id=key.id,
                account_id=self.account,
                kind=kind,
                name=kind,
                sha256=key.sha256,
                permissions=permissions,
                scope=ConversationScope.ALL,
                inbox_id=None if kind == "api" else new_id(),
            )
            await self.know("key", state, self.account)
            found.append(Caller(f"{kind} key", kind, permissions, lambda plain=key.plain: plain))
        return found

    async def agent(self, name: str, permissions: frozenset[Permission], scope: ConversationScope) -> Caller:
        role = RoleState(id=new_id(), account_id=self.account, name=name, permissions=permissions, scope=scope)
        agent = AgentState(
            id=new_id(), account_id=self.account, name=name, email=f"{name}@example.org", role_id=role.id
        )
        await self.know("role", role, self.account)
        await self.know("agent", agent, self.account)

        def credential() -> str:
            return access_token(
                self.private,
                self.key_id,
                agent_id=agent.id,
                account_id=self.account,
                session_id=new_id(),
                issued_at=now(),
                expires_at=now() + timedelta(minutes=5),
            )

        return Caller(name, "agent", permissions, credential)


def expected(needed: list[str] | None, caller: Caller | None) -> set[str]:
    """What the table says of a caller: the codes of the refusals, of which the answer must be one; none: no refusal."""
    if needed is None:
        return set()
    if caller is None:
        return {"missing_credential"}
    only = next((kind for kind in ("adapter", "bot") if kind in needed), None)
    if only != (caller.kind if caller.kind in ("adapter", "bot") else None):
        return {"wrong_credential"}
    if needed and only is None and not caller.permissions & set(map(Permission, needed)):
        return {"permission_missing"}
    return set()


@asynccontextmanager
async def asked(service: str, servers: TestServers, tmp: str) -> AsyncIterator[tuple[Running, list[Caller]]]:
    build = importlib.import_module(f"relevo.{service}.app").build
    environment = {name: value for name, value in _placeholders().items() if name != "RELEVO_DATABASE_URL"}
    async with running(build, servers, **environment, RELEVO_FILES=tmp) as one:
        yield one, await People(one).gathered()


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_that_an_endpoint_depends_on_is_run_on_a_thread(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The framework runs plain functions, and classes, on a thread each: a request would wait for it several times."""
    for name, value in _placeholders().items():
        monkeypatch.setenv(name, value)
    app = application(importlib.import_module(f"relevo.{service}.app").build())

    def called(dependant: Any) -> Iterator[Any]:
        yield dependant.call
        for one in dependant.dependencies:
            yield from called(one)

    routes = [context for context in iter_route_contexts(app.routes) if isinstance(context.original_route, APIRoute)]
    assert routes
    every = {call for context in routes for call in called(context.dependant)}
    assert not [call for call in every if not iscoroutinefunction(call if isfunction(call) else type(call).__call__)]


REFUSALS = {"missing_credential", "wrong_credential", "permission_missing"}


@pytest.mark.parametrize("service", SERVICES)
async def test_who_may_is_who_the_table_says(
    service: str, servers: TestServers, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _placeholders().items():
        monkeypatch.setenv(name, value)
    document = openapi(service)
    wrong = []
    seen = 0
    async with asked(service, servers, str(tmp_path)) as (one, callers):
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if not isinstance(operation, dict):
                    continue
                needed = operation.get("x-permission")
                address = re.sub(r"\{\w+\}", NOWHERE, path.removeprefix(API))

                async def ask(caller: Any, method: str = method, address: str = address) -> Any:
                    headers = {"authorization": f"Bearer {caller.credential()}"} if caller else {}
                    return await one.http.request(method.upper(), address, headers=headers, json={})

                everybody = (*callers, None)
                answers = await asyncio.gather(
                    *(ask(caller) for caller in everybody)
                )  # some wait for what may come yet
                for caller, answer in zip(everybody, answers, strict=True):
                    problem = "problem" in answer.headers.get("content-type", "")
                    code = answer.json()["code"] if problem else ""
                    told = {code} & REFUSALS
                    if OWN_CREDENTIAL.search(path) and needed is None:
                        told = set()
                    seen += 1
                    if told != expected(needed, caller) or answer.status_code == 500:
                        wrong.append((method, path, caller.name if caller else "nobody", answer.status_code, code))
    assert not wrong
    assert seen >= 8
