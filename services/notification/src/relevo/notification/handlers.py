"""Bus: what happens in conversations, and what other services ask to tell somebody."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from relevo.chassis import conversation_facts, directory
from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.contracts.base import now
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import (
    AssigneeChanged,
    ContactErased,
    ConversationEvent,
    MessageCreated,
    ReminderDue,
)
from relevo.contracts.identity import AccountState, TeamState
from relevo.contracts.notification import Notify
from relevo.kernel.access import ConversationFacts
from relevo.notification.domain.deciding import (
    MAILED,
    Choice,
    Notice,
    chosen,
    of_assignment,
    of_message,
    of_reminder,
)
from relevo.notification.settings import Settings
from relevo.notification.store import access, choices, erasures, pushes
from relevo.notification.store.access import Person
from relevo.notification.store.lists import Seen
from relevo.notification.telling import Telling

_SAID = BY_MODEL[MessageCreated].name
"""Changes nothing of who may see its conversation; these are most of the traffic."""
_ERASED = BY_MODEL[ContactErased].name
# Within the bodies of messages that concern somebody; text that people write has its quotes escaped.
_MENTIONING = b'"mentions":["'
_INCOMING = b'"kind":"incoming"'
_HELD = (b'"assignee_id":"', b'"participant_ids":["')
_AGENT = "agent:"


class NoRecipient(ValueError):
    """A command names nobody to tell, or more than one kind of recipient."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A command, and one of those whom it is for."""

    received: Received
    command: Notify
    person: Person
    dedup_key: str


class Handlers:
    """The handlers, with the settings that they need."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: access.Known = {}

    async def on_conversation(self, batch: Sequence[Received], tx: Tx) -> None:
        """Tell people what was given to them, where they are mentioned, and what customers write to them.

        Whoever acts in a conversation has seen it: what they were told of it is read.
        """
        seen = [
            Seen(r.envelope.account, r.envelope.actor.removeprefix(_AGENT), r.envelope.entity, r.envelope.time)
            for r in batch
            if r.envelope.actor.startswith(_AGENT)
        ]
        # Most of what passes concerns nobody here: it is left undecoded.
        concerned = [r for r in batch if r.type != _SAID or _concerns(r.body)]
        erasing = [r for r in batch if r.type == _ERASED]
        events = [(r, r.data) for r in concerned if isinstance(r.data, ConversationEvent)]
        await conversation_facts.project(tx, [e.conversation for r, e in events if r.type != _SAID])
        notices = await self._notices(tx, events)
        telling = Telling(self._settings, moment=now())
        if notices:
            accounts = {r.envelope.account for r, _, _ in notices}
            people = await access.people(tx, accounts, {notice.agent_id for _, _, notice in notices}, known=self._known)
            wants = await choices.of(tx, accounts, people)
            telling.accounts = await self._named(tx, accounts)
            telling.devices = await self._devices(tx, accounts, people)
            over = await erasures.erased(tx, accounts, {event.conversation.id for _, event, _ in notices})
            for received, event, notice in notices:
                account = received.envelope.account
                if (at := over.get(event.conversation.id)) is not None and received.envelope.time <= at:
                    continue
                person = people.get(notice.agent_id)
                if person is None or person.agent.account_id != account:
                    continue
                if not person.sees(ConversationFacts.of(account, event.conversation.access)):
                    continue
                telling.tell(
                    received.envelope,
                    person.agent,
                    notice,
                    chosen(wants, account, notice.agent_id, notice.kind),
                    at=received.envelope.time,
                )
        await telling.write(tx, seen)
        for received in erasing:
            account, gone = received.envelope.account, list(received.data.conversation_ids)
            await erasures.erase(tx, account, gone, received.envelope.time)

    async def _notices(
        self, tx: Tx, events: Sequence[tuple[Received, ConversationEvent]]
    ) -> list[tuple[Received, ConversationEvent, Notice]]:
        found: list[tuple[Received, ConversationEvent, Notice]] = []
        members: dict[str, dict[str, tuple[str, ...]]] = {}
        for received, event in events:
            if isinstance(event, AssigneeChanged):
                notices = of_assignment(received.envelope.id, event, received.envelope.actor)
            elif isinstance(event, MessageCreated | ReminderDue):
                account = received.envelope.account
                if account not in members and _of_team(event):
                    members[account] = {team.id: team.member_ids for team in await directory.teams(tx, account)}
                id_, teams = received.envelope.id, members.get(account, {})
                if isinstance(event, ReminderDue):
                    notices = of_reminder(id_, event, teams)
                else:
                    notices = of_message(id_, event, teams)
            else:
                continue
            found += [(received, event, notice) for notice in notices]
        return found

    async def on_commands(self, batch: Sequence[Received], tx: Tx) -> None:
        """Tell people what other services ask for, once per dedup key, unless it is too late to be of use."""
        moment = now()
        wanted = [
            (r, r.data)
            for r in batch
            if r.is_a(Notify) and (r.data.useless_after is None or r.data.useless_after > moment)
        ]
        if not wanted:
            return
        accounts = {r.envelope.account for r, _ in wanted}
        telling = Telling(self._settings, moment=moment)
        telling.accounts = await self._named(tx, accounts)
        asked = await self._asked(tx, wanted, accounts)
        agents = {one.person.agent.id for one in asked}
        wants = await choices.of(tx, accounts, agents)
        telling.devices = await self._devices(tx, accounts, agents)
        talks = {command.conversation_id for _, command in wanted if command.conversation_id}
        facts = await conversation_facts.find(tx, accounts, talks)
        for one in asked:
            command, agent, account = one.command, one.person.agent, one.received.envelope.account
            about = None if command.vouched else command.conversation_id
            if about is not None and not one.person.sees(facts.get(about)):
                continue
            notice = Notice(
                agent.id, command.kind, command.template, one.dedup_key, command.data, command.conversation_id
            )
            choice = chosen(wants, account, agent.id, command.kind)
            if command.kind in MAILED:
                choice = Choice(in_app=False, email=True, push=False)
            telling.tell(one.received.envelope, agent, notice, choice, at=moment, useless_after=command.useless_after)
        for received, command in wanted:
            if command.address is not None:
                telling.write_to(received.envelope, command, command.address)
        await telling.write(tx, ())

    async def _named(self, tx: Tx, accounts: Collection[str]) -> dict[str, AccountState]:
        """What e-mails say of their accounts."""
        return await directory.accounts(tx, accounts) if self._settings.smtp_url is not None else {}

    async def _devices(self, tx: Tx, accounts: Collection[str], agents: Collection[str]) -> set[str]:
        return await pushes.owners(tx, accounts, agents) if self._settings.vapid_seed is not None else set()

    async def _asked(
        self, tx: Tx, wanted: Sequence[tuple[Received, Notify]], accounts: Collection[str]
    ) -> list[_Asked]:
        """The commands with each of those whom they are for; people who are gone meanwhile are left out."""
        teams: dict[str, TeamState] = {}
        if any(command.team_id for _, command in wanted):
            teams = {team.id: team for account in accounts for team in await directory.teams(tx, account)}
        named = {command.agent_id for _, command in wanted if command.agent_id}
        for _, command in wanted:
            if command.team_id in teams:
                named.update(teams[command.team_id].member_ids)
        roles = [command.role_id for _, command in wanted if command.role_id]
        people = await access.people(tx, accounts, named, roles, known=self._known)
        asked = []
        for received, command in wanted:
            account = received.envelope.account
            for person in _recipients(command, people, teams, account):
                if person.agent.account_id != account:
                    continue
                if command.agent_id is not None:
                    asked.append(_Asked(received, command, person, command.dedup_key))
                elif received.envelope.actor != f"{_AGENT}{person.agent.id}":
                    asked.append(_Asked(received, command, person, f"{command.dedup_key}:{person.agent.id}"))
        return asked


def _recipients(
    command: Notify, people: Mapping[str, Person], teams: Mapping[str, TeamState], account: str
) -> list[Person]:
    given = [command.agent_id, command.team_id, command.role_id, command.address]
    if sum(one is not None for one in given) != 1:
        raise NoRecipient("give exactly one of agent_id, team_id, role_id, address")
    if command.agent_id is not None:
        ids: Sequence[str] = (command.agent_id,)
    elif command.team_id is not None:
        team = teams.get(command.team_id)
        ids = team.member_ids if team is not None and team.account_id == account else ()
    elif command.role_id is not None:
        ids = [id_ for id_, person in sorted(people.items()) if person.agent.role_id == command.role_id]
    else:
        ids = ()
    return [people[id_] for id_ in ids if id_ in people]


def _of_team(event: MessageCreated | ReminderDue) -> bool:
    if isinstance(event, ReminderDue):
        return event.team_id is not None
    return any(one.startswith("team:") for one in event.message.mentions)


def _concerns(body: bytes) -> bool:
    return _MENTIONING in body or (_INCOMING in body and any(held in body for held in _HELD))
