"""A running notification service with an organisation in its directory, and a mail server."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relevo.chassis.auth import access_token
from relevo.chassis.testing import Admin, Running, running
from relevo.contracts import identity
from relevo.contracts.base import Model, new_id, now
from relevo.contracts.conversation import AssigneeChanged, MessageCreated
from relevo.contracts.permissions import ROLES
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot, MessageSnapshot
from relevo.notification.app import build
from relevo.stack.process import free_port


class Organisation:
    """An account with its people and conversations: what identity and conversation would publish."""

    def __init__(self, admin: Admin) -> None:
        self.admin = admin
        self.account = new_id()
        self.inbox = new_id()
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

    async def tell(self, event: Model, entity: str, account: str | None = None, **more: Any) -> None:
        self.versions[entity] = self.versions.get(entity, 0) + 1
        await self.admin.publish(
            event, account=account or self.account, entity=entity, sequence=self.versions[entity], **more
        )

    async def found(self) -> None:
        signing = identity.SigningKeyState(id=self.key_id, public_pem=self.public)
        await self.tell(identity.SigningKeyChanged(signing_key=signing), self.key_id, identity.PLATFORM)
        for role in self.roles.values():
            await self.tell(identity.RoleChanged(role=role), role.id)

    async def hire(self, name: str, role: str = "agent", **more: Any) -> str:
        agent = identity.AgentState(
            id=new_id(),
            account_id=self.account,
            name=name,
            email=f"{name}@example.org",
            role_id=self.roles[role].id,
            **{"language": "en", **more},
        )
        await self.change(agent)
        return agent.id

    async def change(self, agent: identity.AgentState, *, deleted: bool = False) -> None:
        self.people[agent.id] = agent
        await self.tell(identity.AgentChanged(agent=agent, deleted=deleted), agent.id)

    def as_(self, agent_id: str, session_id: str | None = None) -> dict[str, str]:
        token = access_token(
            self.pem,
            self.key_id,
            agent_id=agent_id,
            account_id=self.account,
            session_id=session_id or new_id(),
            issued_at=now(),
            expires_at=now() + timedelta(minutes=5),
        )
        return {"Authorization": f"Bearer {token}"}

    def conversation(self, **values: Any) -> ConversationSnapshot:
        fields: dict[str, Any] = {
            "id": new_id(),
            "account_id": self.account,
            "number": 1,
            "inbox_id": self.inbox,
            "channel": "webchat",
            "contact": ContactSnapshot(id=new_id(), name="Ana"),
            "source_id": "s",
            "status": "open",
            "stage": "new",
            "created_at": now(),
            "opened_at": now(),
            "last_activity_at": now(),
            "sequence": 1,
        }
        return ConversationSnapshot(**{**fields, **values})

    async def assign(self, agent_id: str | None, *, actor: str = "system", **values: Any) -> ConversationSnapshot:
        """A conversation is given to an agent."""
        opened = self.conversation(assignee_id=agent_id, **values)
        await self.tell(AssigneeChanged(conversation=opened, before=opened.access), opened.id, actor=actor)
        return opened

    async def note(self, author: str, text: str, *mentions: str, kind: str = "note") -> ConversationSnapshot:
        """Somebody writes a note that mentions people."""
        present = self.conversation()
        message = MessageSnapshot(
            id=new_id(),
            conversation_id=present.id,
            kind=kind,
            sequence=1,
            text=text,
            author=f"agent:{author}",
            author_name="Eva",
            mentions=mentions,
            occurred_at=now(),
            created_at=now(),
        )
        await self.tell(MessageCreated(conversation=present, before=present.access, message=message), present.id)
        return present


class MailServer:
    """Takes mail, or answers what a test tells it to."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.answers: list[str] = []
        self.tried = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.tried += 1
        if self.answers:
            return self.answers.pop(0)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.got.append(message)
        return "250 OK"


@pytest.fixture
def mail() -> Iterator[tuple[MailServer, str]]:
    server = MailServer()
    controller = Controller(server, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield server, f"smtp://127.0.0.1:{controller.port}"
    controller.stop()


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(servers: Any) -> Start:
    def run(**environment: str) -> AbstractAsyncContextManager[Running]:
        return running(build, servers, **environment)

    return run


@pytest.fixture
async def notification(start: Start) -> AsyncIterator[Running]:
    async with start() as service:
        yield service


@pytest.fixture
async def org(notification: Running) -> Organisation:
    organisation = Organisation(notification.admin)
    await organisation.found()
    return organisation
