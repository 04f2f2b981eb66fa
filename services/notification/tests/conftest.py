"""A running notification service with an organisation in its directory, and a mail server."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from relevo.chassis.testing import Organisation, Running, running
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import AssigneeChanged, ConversationOpened, MessageCreated
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot, MessageSnapshot
from relevo.notification.app import build
from relevo.stack.process import free_port


class Desk(Organisation):
    """An account with its people and conversations: what identity and conversation would publish."""

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

    async def wrote(self, talk: ConversationSnapshot, text: str = "hola", **values: Any) -> None:
        """The customer writes, or an agent does."""
        fields = {"kind": "incoming", "author": f"contact:{talk.contact.id}", "author_name": talk.contact.name} | values
        message = MessageSnapshot(
            id=new_id(),
            conversation_id=talk.id,
            sequence=1,
            text=text,
            occurred_at=now(),
            created_at=now(),
            **fields,
        )
        if self.next(talk.id) == 1:
            await self.tell(ConversationOpened(conversation=talk), talk.id)
        present = talk.model_copy(update={"sequence": self.next(talk.id)})
        await self.tell(
            MessageCreated(conversation=present, before=present.access, message=message),
            talk.id,
            actor=fields["author"],
        )

    async def transfer(self, talk: ConversationSnapshot, agent_id: str | None, **values: Any) -> ConversationSnapshot:
        """A conversation is given to somebody else."""
        present = talk.model_copy(update={"assignee_id": agent_id, "sequence": self.next(talk.id), **values})
        await self.tell(
            AssigneeChanged(conversation=present, before=talk.access, from_assignee_id=talk.assignee_id), talk.id
        )
        return present

    def next(self, entity: str) -> int:
        """The number of the next event of a conversation."""
        return self._numbers["relevo.contracts.conversation", entity] + 1

    async def note_in(self, talk: ConversationSnapshot, author: str, text: str, *mentions: str) -> None:
        """Somebody writes a note that mentions people, into a conversation."""
        await self.wrote(talk, text, kind="note", author=f"agent:{author}", author_name="Eva", mentions=mentions)

    async def note(self, author: str, text: str, *mentions: str, kind: str = "note") -> ConversationSnapshot:
        """Somebody writes a note that mentions people."""
        opened = self.conversation()
        await self.tell(ConversationOpened(conversation=opened), opened.id)
        present = opened.model_copy(update={"sequence": 2})
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
        self.unknown: set[str] = set()
        self.tried = 0

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

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
async def org(notification: Running) -> Desk:
    organisation = Desk(notification.admin)
    await organisation.found()
    return organisation
