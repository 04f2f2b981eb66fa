"""A running presence service with an organisation in its directory."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relevo.chassis.auth import access_token
from relevo.chassis.testing import Admin, Running, running
from relevo.contracts import identity
from relevo.contracts.base import new_id, now
from relevo.contracts.permissions import ROLES
from relevo.presence.app import build


class Organisation:
    """An account with its people: what identity would publish, and their tokens."""

    def __init__(self, admin: Admin) -> None:
        self.admin = admin
        self.account = new_id()
        self.people: dict[str, identity.AgentState] = {}
        self.versions: dict[str, int] = {}
        key = Ed25519PrivateKey.generate()
        self.key_id = new_id()
        self.pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self.public = (
            key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )
        self.roles = {
            name: identity.RoleState(
                id=new_id(),
                account_id=self.account,
                name=name,
                permissions=template.permissions,
                scope=template.scope,
                predefined=True,
            )
            for name, template in ROLES.items()
        }

    async def tell(self, event: identity.Model, entity: str, account: str | None = None) -> None:
        self.versions[entity] = self.versions.get(entity, 0) + 1
        await self.admin.publish(event, account=account or self.account, entity=entity, sequence=self.versions[entity])

    async def found(self) -> None:
        signing = identity.SigningKeyState(id=self.key_id, public_pem=self.public)
        await self.tell(identity.SigningKeyChanged(signing_key=signing), self.key_id, identity.PLATFORM)
        for role in self.roles.values():
            await self.tell(identity.RoleChanged(role=role), role.id)

    async def hire(self, name: str, role: str = "agent") -> str:
        agent = identity.AgentState(
            id=new_id(),
            account_id=self.account,
            name=name,
            email=f"{name}@example.org",
            role_id=self.roles[role].id,
            language="en",
        )
        self.people[agent.id] = agent
        await self.tell(identity.AgentChanged(agent=agent), agent.id)
        return agent.id

    async def dismiss(self, agent_id: str) -> None:
        gone = self.people[agent_id].model_copy(update={"active": False})
        await self.tell(identity.AgentChanged(agent=gone, deleted=True), agent_id)

    def as_(self, agent_id: str) -> dict[str, str]:
        token = access_token(
            self.pem,
            self.key_id,
            agent_id=agent_id,
            account_id=self.account,
            session_id=new_id(),
            issued_at=now(),
            expires_at=now() + timedelta(minutes=5),
        )
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def presence(servers) -> AsyncIterator[Running]:
    async with running(build, servers, RELEVO_PRESENCE_GRACE="1.5", RELEVO_PRESENCE_LEAVE_GRACE="0.3") as service:
        yield service


@pytest.fixture
async def org(presence) -> Organisation:
    organisation = Organisation(presence.admin)
    await organisation.found()
    return organisation
