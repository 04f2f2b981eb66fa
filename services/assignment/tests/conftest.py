"""A running assignment service, and the world around it: what identity, presence and conversation would publish."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from relevo.assignment.app import build
from relevo.chassis.bus import until
from relevo.chassis.database import Database
from relevo.chassis.database import Pool as ConnectionPool
from relevo.chassis.outbox import ensure_days
from relevo.chassis.testing import Admin, Organisation, Running, running, template_database
from relevo.contracts import conversation, identity, presence
from relevo.contracts.base import new_id, now
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot


class World(Organisation):
    """An account with people, teams and conversations."""

    def __init__(self, admin: Admin) -> None:
        super().__init__(admin)
        self.teams: dict[str, identity.TeamState] = {}
        self.conversations: dict[str, ConversationSnapshot] = {}

    async def hire(self, name: str, role: str = "agent", state: str | None = "available", **more: Any) -> str:
        agent_id = await super().hire(name, role, **more)
        if state:
            await self.status(agent_id, state)
        return agent_id

    async def team(self, name: str, *, auto: bool = True) -> str:
        team = identity.TeamState(id=new_id(), account_id=self.account, name=name, auto_assign=auto)
        self.teams[team.id] = team
        await self.tell(identity.TeamChanged(team=team), team.id)
        return team.id

    async def status(self, agent_id: str, state: str) -> None:
        status = presence.AgentStatus(agent_id=agent_id, state=state, since=now(), cause="manual")
        await self.tell(presence.StatusChanged(status=status, previous="offline", previous_since=now()), agent_id)

    async def open(
        self, *, told: type[conversation.ConversationEvent] = conversation.ConversationOpened, **more
    ) -> str:
        given = {
            "inbox_id": self.inbox,
            "channel": "web",
            "status": "open",
            "opened_at": now(),
            "contact": ContactSnapshot(id=new_id()),
        } | more
        one = ConversationSnapshot(
            id=new_id(),
            account_id=self.account,
            number=len(self.conversations) + 1,
            source_id="x",
            stage="new",
            created_at=now(),
            last_activity_at=now(),
            sequence=1,
            **given,
        )
        self.conversations[one.id] = one
        brought = {"import_id": new_id()} if told is conversation.ConversationImported else {}
        await self.tell(told(conversation=one, **brought), one.id)
        return one.id

    async def change_to(self, event: type[conversation.ConversationEvent], one: str, **changes) -> None:
        """``changes``: of the conversation; or what else the event says."""
        before = self.conversations[one]
        said = {name: changes.pop(name) for name in changes.keys() - ConversationSnapshot.model_fields.keys()}
        after = before.model_copy(update={"sequence": before.sequence + 1} | changes)
        self.conversations[one] = after
        await self.tell(event(conversation=after, before=before.access, **said), one)

    async def resolve(self, one: str) -> None:
        await self.change_to(conversation.ConversationResolved, one, status="resolved", stage="closed")

    async def reopen(self, one: str) -> None:
        await self.change_to(conversation.ConversationReopened, one, status="open", opened_at=now())

    async def join(self, one: str, agent_id: str) -> None:
        await self.change_to(conversation.ParticipantsChanged, one, participant_ids=(agent_id,))


async def decided(service: Running) -> None:
    """Wait until everything published is in the journals, decided on, and its events are out."""
    await service.settle()

    async def nothing_waits() -> bool:
        async with service.runtime.database.begin(door="matcher") as tx:
            left = await tx.execute(text("select 1 from journal where done_at is null and waiting_for is null limit 1"))
            return left.first() is None

    assert await until(nothing_waits, 30)
    await service.settle()


@pytest.fixture
async def service(servers) -> AsyncIterator[Running]:
    async with running(build, servers) as one:
        yield one


@pytest.fixture
async def world(service) -> World:
    one = World(service.admin)
    await one.found()
    return one


@pytest.fixture
def settled(service):
    async def wait() -> None:
        await decided(service)

    return wait


@pytest.fixture
async def database(servers) -> AsyncIterator[Database]:
    """The service's database, without a service."""
    dsn = servers.create_database(template=template_database(servers, "relevo.assignment.migrations"))
    one = Database(ConnectionPool(dsn, service="assignment", size=4, lease_seconds=4), "assignment")
    async with one.begin() as tx:
        await ensure_days(tx)
    yield one
    await one.close()
