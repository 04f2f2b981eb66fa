"""Bus: what happens to conversations, agents and teams is noted in the journals; the matcher decides."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from relevo.assignment import loads
from relevo.assignment.domain.inputs import (
    RANK,
    AgentEdited,
    Closed,
    CustomerWaits,
    Described,
    Input,
    Opened,
    Ranked,
    Reopened,
    StatusGiven,
    TeamEdited,
)
from relevo.assignment.domain.inputs import Assign as AssignInput
from relevo.assignment.domain.rules import OPEN_HOURS
from relevo.assignment.store import conversations, journals, pools
from relevo.assignment.store.journals import Note
from relevo.chassis.calendars import calendars
from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.contracts.assignment import Assign
from relevo.contracts.conversation import (
    ConversationAbsorbed,
    ConversationEvent,
    ConversationImported,
    ConversationMadePending,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    ConversationSnoozed,
    ConversationSplit,
    ConversationTakenOver,
    ConversationWoken,
    LabelsChanged,
    MessageCreated,
    OwnerChanged,
    ParticipantsChanged,
    PriorityChanged,
)
from relevo.contracts.identity import AgentChanged, TeamChanged
from relevo.contracts.presence import RulesChanged, StatusChanged
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.kernel.calendars import Calendars

Wake = Callable[[], None]
Handler = Callable[[Sequence[Received], Tx], Awaitable[None]]

# The others change nothing that assignment looks at, so they are not even decoded; least of all assignee_changed,
# which tells what assignment itself decided.
_STORY = (
    ConversationOpened,
    ConversationImported,
    ConversationReopened,
    ConversationTakenOver,
    ConversationResolved,
    ConversationSnoozed,
    ConversationWoken,
    ConversationMadePending,
    PriorityChanged,
    ParticipantsChanged,
    OwnerChanged,
)


# After these a customer may wait, or not, otherwise than before: decoded for the accounts whose policy looks at it.
_WAITS = (MessageCreated, ConversationSnoozed, ConversationWoken, ConversationAbsorbed, ConversationSplit)
# After these what rules look at may be otherwise: decoded for the accounts whose policy has rules.
_DESCRIBES = (LabelsChanged, OwnerChanged)
_OPENINGS = (ConversationOpened, ConversationReopened, ConversationTakenOver, ConversationWoken)


class Handlers:
    """The handlers of one process. `wake` is called after each commit that wrote into a journal."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake

    async def on_conversation(self, batch: Sequence[Received], tx: Tx) -> None:
        """EVT_CONVERSATION: openings, reopenings and closings; and who may see a conversation."""
        await project_facts(batch, tx)
        asked = (*_WAITS, *_DESCRIBES, *_OPENINGS)
        watched = await pools.watched(tx, {r.envelope.account for r in batch if any(r.is_a(model) for model in asked)})
        hours = await calendars(
            tx,
            watched.rules & {r.envelope.account for r in batch if any(r.is_a(model) for model in _OPENINGS)},
        )
        notes = []
        for received in batch:
            # What is said of both stands in the first, and the second, of the same number, changes nothing then.
            if any(received.is_a(model) for model in _STORY):
                event: ConversationEvent = received.data
                given = _of_story(event, received.envelope.time, hours.get(event.conversation.account_id))
                if given is not None:
                    notes.append(Note(event.conversation.account_id, given, received.envelope))
            if received.envelope.account in watched.rules and any(received.is_a(model) for model in _DESCRIBES):
                one: ConversationSnapshot = received.data.conversation
                notes.append(Note(one.account_id, Described(one.id, _described(one), one.sequence), received.envelope))
            if received.envelope.account in watched.answers and any(received.is_a(model) for model in _WAITS):
                waits = _of_waiting(received.data)
                if waits is not None:
                    notes.append(Note(received.envelope.account, waits, received.envelope))
        await self._note(tx, notes)

    async def on_presence(self, batch: Sequence[Received], tx: Tx) -> None:
        """EVT_PRESENCE: who is available, and which accounts want to hear what agents hold."""
        watches = {r.data.account_id: r.data.watches_load for r in batch if r.is_a(RulesChanged)}
        if watches:
            await loads.watch(tx, watches)
        await self._note(tx, list(_of_presence(batch)))

    async def on_directory(self, batch: Sequence[Received], tx: Tx) -> None:
        """EVT_IDENTITY: agents and teams."""
        await self._note(tx, list(_of_directory(batch)))

    async def on_commands(self, batch: Sequence[Received], tx: Tx) -> None:
        """CMD_ASSIGNMENT: what automation asks for."""
        await self._note(tx, list(_of_commands(batch)))

    async def _note(self, tx: Tx, notes: list[Note]) -> None:
        if notes:
            await journals.append(tx, notes)
            tx.after_commit(self._wake)


async def project_facts(batch: Sequence[Received], tx: Tx) -> None:
    """What the access rule needs of conversations; a projection of EVT_CONVERSATION."""
    facts: dict[str, ConversationSnapshot] = {}
    for received in _story(batch):
        event: ConversationEvent = received.data
        facts[event.conversation.id] = event.conversation
    await conversations.save_facts(tx, [_facts(one) for one in facts.values()])


def _story(batch: Sequence[Received]) -> Iterator[Received]:
    return (received for received in batch if any(received.is_a(model) for model in _STORY))


def _described(one: ConversationSnapshot) -> dict[str, Any]:
    """What rules look at, by the names of their fields; what is not so is left out."""
    contact = one.contact
    facts = {
        "conversation.labels": list(one.labels),
        "conversation.language": one.language,
        "contact.labels": list(contact.labels),
        "contact.language": contact.language,
        "contact.owner_id": contact.owner_id,
        "contact.owner_team_id": contact.owner_team_id,
    }
    return {name: value for name, value in facts.items() if value}


def _of_story(event: ConversationEvent, at: datetime, hours: Calendars | None = None) -> Input | None:
    """`hours`: the calendars of an account whose policy has rules."""
    one = event.conversation
    if isinstance(event, ConversationResolved):
        return Closed(one.id, one.sequence)
    if isinstance(event, ConversationSnoozed):
        return Closed(one.id, one.sequence, "snoozed")
    if isinstance(event, ConversationMadePending):
        return Closed(one.id, one.sequence, "bot")
    if isinstance(event, PriorityChanged):
        return Ranked(one.id, RANK[one.priority], one.sequence)
    if one.status == "pending":
        return None  # a bot has it: it comes when people are to have it
    if isinstance(event, ConversationOpened | ConversationReopened | ConversationTakenOver | ConversationWoken):
        kind = Reopened if isinstance(event, ConversationReopened | ConversationWoken) else Opened
        facts = _described(one)
        counting = hours and hours.of(inbox_id=one.inbox_id, team_id=one.team_id)
        if counting and (was := counting.at(at)) is not None:
            facts[OPEN_HOURS] = was.open
        woken = isinstance(event, ConversationWoken)
        given = kind(
            one.id,
            one.inbox_id,
            one.channel,
            at if woken else one.answerable_since,
            one.sequence,
            one.team_id,
            RANK[one.priority],
            one.contact.owner_id,
            one.contact.owner_team_id,
            one.waiting_since,
            facts=facts,
            contact_id=one.contact.id,
        )
        return replace(given, kept=True) if woken and isinstance(given, Reopened) else given
    return None


def _of_waiting(event: ConversationEvent) -> CustomerWaits | None:
    """Since when a customer waits for an answer, where that is otherwise than before."""
    one = event.conversation
    waits = CustomerWaits(one.id, one.waiting_since, one.sequence)
    if isinstance(event, ConversationSnoozed):
        return replace(waits, since=None)
    if isinstance(event, MessageCreated):
        said, since = event.message, one.waiting_since
        answered = since is None and event.answered_since is not None
        began = since is not None and said.kind == "incoming" and said.occurred_at <= since
        return waits if answered or began else None
    return waits


def _facts(one: ConversationSnapshot) -> dict[str, Any]:
    return {
        "conversation_id": one.id,
        "account_id": one.account_id,
        "inbox_id": one.inbox_id,
        "number": one.number,
        "participant_ids": sorted(one.participant_ids),
        "owner_id": one.owner_id,
        "sequence": one.sequence,
    }


def _of_presence(batch: Sequence[Received]) -> Iterator[Note]:
    for received in batch:
        if received.is_a(StatusChanged):
            status, envelope = received.data.status, received.envelope
            given = StatusGiven(status.agent_id, status.state, status.since, envelope.sequence, status.in_shift)
            yield Note(envelope.account, given, envelope)


def _of_directory(batch: Sequence[Received]) -> Iterator[Note]:
    for received in batch:
        if received.is_a(AgentChanged):
            agent, gone = received.data.agent, received.data.deleted
            edited = AgentEdited(
                agent.id,
                agent.name,
                agent.active and not gone,
                agent.team_ids,
                agent.inbox_ids,
                received.envelope.sequence,
            )
            yield Note(agent.account_id, edited, received.envelope)
        elif received.is_a(TeamChanged):
            team, gone = received.data.team, received.data.deleted
            changed = TeamEdited(team.id, team.name, team.auto_assign, gone, received.envelope.sequence)
            yield Note(team.account_id, changed, received.envelope)


def _of_commands(batch: Sequence[Received]) -> Iterator[Note]:
    for received in batch:
        if received.is_a(Assign):
            wish: Assign = received.data
            nobody = wish.assignee_id is None and wish.team_id is None
            given = AssignInput(
                wish.conversation_id,
                received.envelope.actor,
                "manual" if received.envelope.actor.startswith("agent:") else "automation",
                set_assignee=nobody or wish.assignee_id is not None,
                assignee_id=wish.assignee_id,
                set_team=nobody or wish.team_id is not None,
                team_id=wish.team_id,
                seen_version=wish.seen_version,
            )
            yield Note(received.envelope.account, given, received.envelope)
