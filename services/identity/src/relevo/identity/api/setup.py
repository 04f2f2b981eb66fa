"""First run: an account with its administrator, for whoever bears the setup token."""

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

from relevo.chassis.auth import new_key
from relevo.chassis.http import Db
from relevo.chassis.problems import Problem
from relevo.contracts.base import Id, new_id, now
from relevo.contracts.identity import AgentChanged, AgentState, KeyChanged, KeyState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.identity import administration, problems
from relevo.identity.administration import shown
from relevo.identity.api.common import AnyText, Body, Called, Caller, Email, Language, Name, TimeZone
from relevo.identity.domain.sign_in import password_fault
from relevo.identity.publish import Change, publish
from relevo.identity.store import audit, directory, keys, sign_in
from relevo.identity.store.audit import By, Record
from relevo.identity.store.directory import Stored

router = APIRouter(tags=["setup"])
_bearer = HTTPBearer(auto_error=False, scheme_name="SetupToken", description="The operator's setup token.")
Operator = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class NewAdministrator(Body):
    name: Name
    email: Email
    password: AnyText = Field(repr=False)


class NewAccount(Body):
    account_name: Name
    language: Language = "es"
    time_zone: TimeZone = "Europe/Madrid"
    admin: NewAdministrator


class SetUp(BaseModel):
    """What was made. The token is an API key of the administrator, with every permission; it is shown this once."""

    account_id: Id
    admin_id: Id
    api_token: str


@router.post("/setup", status_code=201)
async def set_up_account(
    body: NewAccount,
    db: Db,
    caller: Called,
    operator: Operator,
) -> SetUp:
    """Make an account and its first administrator. 409 when an account of that name, or the address, is there."""
    check_token(caller, operator)
    if fault := password_fault(body.admin.password, email=body.admin.email):
        raise problems.weak_password(fault, "/admin/password")
    hashed = await caller.passwords.hash(body.admin.password)
    by = By("system", "setup", caller.ip, caller.user_agent)
    async with db.begin(door="setup") as tx:
        await directory.lock_setup(tx)
        if await directory.setup_taken(tx, body.account_name, body.admin.email):
            raise Problem(
                409,
                "already_set_up",
                es="Ya existe una cuenta con ese nombre o un agente con esa dirección: inicia sesión con ella.",
                en="There is an account of that name, or an agent with that address: sign in with it.",
            )
        account, role = await administration.create_account(
            tx, name=body.account_name, language=body.language, time_zone=body.time_zone, by=by
        )
        agent = AgentState(
            id=new_id(),
            account_id=account.state.id,
            name=body.admin.name,
            email=body.admin.email,
            role_id=role.state.id,
            language=body.language,
        )
        await directory.save_agent(tx, Stored(agent, 1))
        await sign_in.set_password(tx, agent.account_id, agent.id, hashed)
        secret = new_key("api")
        key = KeyState(
            id=secret.id,
            account_id=agent.account_id,
            kind="api",
            name="setup",
            sha256=secret.sha256,
            permissions=frozenset(Permission),
            scope=ConversationScope.ALL,
            agent_id=agent.id,
        )
        await keys.add_api_key(tx, key)
        changes = [
            Change(AgentChanged(agent=agent), agent.account_id, agent.id, 1),
            Change(KeyChanged(key=key), agent.account_id, key.id, 1),
        ]
        await publish(tx, changes, actor=by.actor)
        records = [
            Record("agent.created", "agent", agent.id, None, shown(agent)),
            Record("api_key.created", "api_key", key.id, None, shown(key)),
        ]
        await audit.append(tx, agent.account_id, by, records, at=now())
    return SetUp(account_id=agent.account_id, admin_id=agent.id, api_token=secret.plain)


def check_token(caller: Caller, operator: HTTPAuthorizationCredentials | None) -> None:
    """Without a token configured nobody passes; comparing takes the same time however much is right. Raises Problem 401."""
    token = caller.settings.setup_token.get_secret_value() if caller.settings.setup_token else None
    given = operator.credentials if operator else ""
    if not token or not hmac.compare_digest(token.encode(), given.encode()):
        raise Problem(
            401,
            "wrong_setup_token",
            es="Hace falta el token de instalación (RELEVO_SETUP_TOKEN del servicio identity).",
            en="The setup token is needed (RELEVO_SETUP_TOKEN of the identity service).",
            headers={"WWW-Authenticate": "Bearer"},
        )
