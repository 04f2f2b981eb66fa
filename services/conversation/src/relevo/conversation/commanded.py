"""What a command of a rule asks of one conversation, as the change that it is."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from relevo.chassis import directory, timers
from relevo.chassis.database import Tx
from relevo.contracts.base import new_id
from relevo.contracts.conversation import AskSurvey, SendMessage, SetStatus
from relevo.contracts.snapshots import AttributeValue
from relevo.conversation import mentions as mentionable
from relevo.conversation.domain import life, properties, snooze, surveys, writing
from relevo.conversation.domain.attributes import Definition, Unfit, fitting
from relevo.conversation.domain.state import Change, Conversation, Refused, Writing
from relevo.conversation.reminders import due_at
from relevo.conversation.resolutions import SURVEY
from relevo.conversation.store import attributes, desk


class Known:
    """What acts name and accounts have, each looked up when it is first asked for, once in a transaction."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self._attributes: dict[str, Mapping[str, Definition]] = {}
        self._agents: dict[str, frozenset[str]] = {}
        self._teams: dict[str, Mapping[str, Sequence[str]]] = {}

    async def attributes(self, account_id: str) -> Mapping[str, Definition]:
        """How the account's conversations may be described, by key."""
        if account_id not in self._attributes:
            self._attributes[account_id] = await attributes.definitions(self.tx, account_id, "conversation")
        return self._attributes[account_id]

    async def people(self, account_id: str) -> tuple[frozenset[str], Mapping[str, Sequence[str]]]:
        """The agents who can be mentioned, and who is in which team."""
        if account_id not in self._agents:
            self._agents[account_id] = frozenset(one.id for one in await mentionable.agents(self.tx, account_id))
            self._teams[account_id] = {team.id: team.member_ids for team in await directory.teams(self.tx, account_id)}
        return self._agents[account_id], self._teams[account_id]


async def say(known: Known, conversation: Conversation, command: SendMessage, actor: str, moment: datetime) -> Change:
    """A message of a rule's to the customer, or a private note with whom it mentions. Raises Refused."""
    said = Writing(new_id(), command.text, actor, human=False)
    return await write(known, conversation, said, moment, mentions=command.mentions if command.private else None)


async def write(
    known: Known, conversation: Conversation, said: Writing, moment: datetime, *, mentions: Sequence[str] | None
) -> Change:
    """A message to the customer; with ``mentions``, also none, a private note. Raises Refused."""
    if mentions is None:
        return writing.reply(conversation, said, moment)
    account_id = conversation.state.account_id
    named, people = await _mentioned(known, account_id, mentions) if mentions else ([], [])
    change = writing.note(conversation, said, moment, mentions=named, mentioned_agents=people)
    if people and change.message:
        await desk.mention(known.tx, account_id, change.message, people)
    return change


async def _mentioned(known: Known, account_id: str, given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the mentions that stand for somebody, and the agents they stand for: who left since is left out."""
    agents, teams = await known.people(account_id)
    named: list[str] = []
    people: list[str] = []
    for mention in given:
        kind, _, id_ = mention.partition(":")
        found = [id_] if kind == "agent" and id_ in agents else [m for m in teams.get(id_, ()) if m in agents]
        if found:
            named.append(mention)
            people += found
    return named, people


async def attribute(
    known: Known, conversation: Conversation, given: Mapping[str, AttributeValue | None], moment: datetime
) -> Change:
    """Values of custom attributes, those that fit. Raises Refused when none does."""
    definitions = await known.attributes(conversation.state.account_id)
    values: dict[str, AttributeValue | None] = {}
    for key, value in given.items():
        try:
            if value is None:
                values[key] = None
            elif key in definitions:
                values[key] = fitting(definitions[key], value)
        except Unfit:
            continue
    if not values:
        raise Refused(
            "no_attribute_fits",
            es="Ninguno de los atributos existe con ese tipo: revisa su definición.",
            en="None of the attributes exists with that type: look at how they are defined.",
        )
    return properties.set_attributes(conversation, values, moment)


async def bring(tx: Tx, conversation: Conversation, command: SetStatus, started: datetime, moment: datetime) -> Change:
    """The act that leads to a status from where the conversation is. ``started``: what delays count from. Raises Refused."""
    match command.to:
        case "pending":
            return snooze.make_pending(conversation, moment)
        case "resolved":
            return life.resolve(conversation, moment)
        case "archived":
            return life.archive(conversation, moment)
        case "snoozed":
            return snooze.snooze(conversation, await _until(tx, conversation, command, started), moment)
    match conversation.state.status:
        case "resolved":
            return life.reopen(conversation, moment, "automation")
        case "snoozed":
            return snooze.wake(conversation, moment, "automation")
        case _:
            return snooze.take_over(conversation, moment)


async def _until(tx: Tx, conversation: Conversation, command: SetStatus, started: datetime) -> datetime | None:
    if command.hours is None and command.days is None:
        return None
    given = {"hours": command.hours, "days": None if command.hours else command.days}
    due = await due_at(tx, conversation, started, **given, business_hours=command.business_hours)
    return due or await due_at(tx, conversation, started, **given, business_hours=False)


async def survey(tx: Tx, conversation: Conversation, command: AskSurvey, actor: str, moment: datetime) -> None:
    """Have the customer asked at once; whether they may be asked at all is judged then. Raises Refused."""
    state = conversation.state
    if conversation.unresolved:
        raise Refused(
            "conversation_not_resolved",
            es="La conversación no está resuelta: se pregunta cuando ha terminado.",
            en="The conversation is not resolved: customers are asked when it is over.",
        )
    payload = {
        "cycle": state.cycle,
        "agent_id": surveys.credited(actor, state.last_responder_id or state.assignee_id),
        "team_id": state.team_id,
        "ordered": True,
    }
    await timers.schedule(tx, SURVEY, command.conversation_id, moment, payload, account_id=state.account_id)
