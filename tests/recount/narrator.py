"""Recorded conversations told as events of an account that works in three time zones, over a night on which clocks change.

It says what the services say, with the flags and business times that they put on; who recounts believes none of those.
"""

import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from relevo.contracts.assignment import (
    ConversationAssigned,
    ConversationOffered,
    ConversationQueued,
    EndedOffer,
    Reason,
)
from relevo.contracts.automation import RuleExecuted, SlaBreached, SlaMet
from relevo.contracts.base import Model, new_id
from relevo.contracts.conversation import (
    AssigneeChanged,
    ConversationArchived,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    ConversationTakenOver,
    LabelsChanged,
    MessageCreated,
    MessageStatusChanged,
    SurveyAnswered,
    SurveySent,
)
from relevo.contracts.identity import CalendarChanged, CalendarState, SpecialDay, WeekdayHours
from relevo.contracts.presence import AgentStatus, StatusChanged
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot, MessageSnapshot
from relevo.kernel.business_time import WEEKDAYS
from relevo.kernel.calendars import Counting, counting
from relevo.stack.replay.source import Recorded

ZONES: Final = ("Europe/Madrid", "America/Bogota", "Asia/Kolkata")
CHANNELS: Final = ("whatsapp", "email", "webchat", "api")
LABELS: Final = ("factura", "queja", "vip", "envío")
NIGHT_SHIFT: Final = ("22:00", "06:00")
"""It is open while clocks change, so that the night of 23 or 25 hours counts."""


@dataclass(frozen=True)
class Told:
    """An event, and how it is published."""

    data: Model
    entity: str
    time: datetime
    sequence: int = 0
    actor: str = "system"


@dataclass
class Account:
    """Who works there. The last inbox has no calendar: nothing is measured in it."""

    id: str = field(default_factory=new_id)
    agents: list[str] = field(default_factory=lambda: [new_id() for _ in range(4)])
    teams: list[str] = field(default_factory=lambda: [new_id() for _ in range(2)])
    inboxes: list[str] = field(default_factory=lambda: [new_id() for _ in range(4)])

    def calendars(self, holiday: datetime) -> list[CalendarState]:
        """One for each zone: by day, by night, and with a break."""
        hours = ((("09:00", "18:00"), NIGHT_SHIFT), (("08:00", "12:00"), ("13:00", "17:30")), (("00:00", "24:00"),))
        return [
            CalendarState(
                id=new_id(),
                account_id=self.id,
                name=zone,
                time_zone=zone,
                weekly=tuple(
                    WeekdayHours(day=day, opens=opens, closes=closes)  # type: ignore[arg-type]
                    for day in WEEKDAYS
                    for opens, closes in spans
                ),
                special_days=(SpecialDay(date=holiday.date().isoformat(), name="Fiesta"),),
                inbox_ids=(inbox,),
            )
            for zone, inbox, spans in zip(ZONES, self.inboxes, hours, strict=False)
        ]


class Narrator:
    """Tells conversations, each from some hour around `midnight` on. The same seed gives the same days."""

    def __init__(self, account: Account, midnight: datetime, seed: int) -> None:
        self.account = account
        self._random = random.Random(seed)
        self._midnight = midnight
        states = account.calendars(midnight + timedelta(days=2))
        self._calendars = states
        self._counting = {state.inbox_ids[0]: counting(state, 1) for state in states}

    def tell(self, conversations: Sequence[Recorded]) -> Iterator[Told]:
        """Everything, the calendars first; the events of one conversation in their order."""
        for state in self._calendars:
            yield Told(CalendarChanged(calendar=state), state.id, self._midnight - timedelta(days=30), sequence=1)
        for recorded in conversations:
            yield from _Story(self.account, self._counting, self._random, self._somewhen()).tell(recorded)
        for agent in self.account.agents:
            yield from self._day_of(agent)

    def _somewhen(self) -> datetime:
        return self._midnight + timedelta(microseconds=self._random.randrange(-30 * 3600 * 10**6, 30 * 3600 * 10**6))

    def _day_of(self, agent: str) -> Iterator[Told]:
        at, state = self._midnight - timedelta(hours=20), "offline"
        while at < self._midnight + timedelta(days=1):
            since, at = at, at + timedelta(seconds=self._random.randrange(60, 6 * 3600))
            before, state = state, self._random.choice(("available", "busy", "away", "offline"))
            status = AgentStatus(agent_id=agent, state=state, since=at, cause="manual")  # type: ignore[arg-type]
            yield Told(StatusChanged(status=status, previous=before, previous_since=since), agent, at)  # type: ignore[arg-type]


class _Story:
    def __init__(self, account: Account, calendars: dict[str, Counting], chance: random.Random, at: datetime) -> None:
        self._account, self._chance, self._at = account, chance, at
        inbox = chance.randrange(len(account.inboxes))
        self._calendar = calendars.get(account.inboxes[inbox])
        self._assignment = 0
        self._queued: datetime | None = None
        self._state: dict[str, Any] = {
            "id": new_id(),
            "account_id": account.id,
            "number": 1,
            "inbox_id": account.inboxes[inbox],
            "channel": CHANNELS[inbox],
            "contact": ContactSnapshot(id=new_id(), name="Ana"),
            "source_id": "s",
            "status": "open",
            "stage": "in_progress",
            "labels": (),
            "team_id": chance.choice([None, *account.teams]),
            "created_at": at,
            "opened_at": at,
            "last_activity_at": at,
            "sequence": 0,
        }

    def _later(self, seconds: float) -> None:
        # Mostly soon, now and then over a night; never a whole second, as clocks go.
        long = 40 if self._chance.random() < 0.1 else 1
        self._at += timedelta(microseconds=round(self._chance.uniform(0.05, 2) * seconds * long * 10**6) + 1)

    def _told(self, kind: type[Model], *, actor: str = "system", **more: Any) -> Told:
        self._state["sequence"] += 1
        snapshot = ConversationSnapshot(**self._state)
        by = self._calendar.at(self._at) if self._calendar else None
        data = kind(conversation=snapshot, business_hours=by, **more)
        return Told(data, snapshot.id, self._at, self._state["sequence"], actor)

    def _seconds(self, start: datetime, end: datetime) -> float | None:
        return self._calendar.seconds(start, end) if self._calendar else None

    def tell(self, recorded: Recorded) -> Iterator[Told]:
        with_bot = self._chance.random() < 0.2
        yield self._told(ConversationOpened)
        if not with_bot:
            yield from self._queue()
        half = len(recorded.turns) // 2
        for number, turn in enumerate(recorded.turns):
            if number and number == half and self._chance.random() < 0.5:
                yield from self._resolve()
                self._later(7200)
                self._state |= {"status": "open", "opened_at": self._at, "first_reply_at": None, "resolved_at": None}
                self._state |= {"people_since": None, "cycle": 2}
                yield self._told(ConversationReopened)
            if turn.role == "customer":
                yield self._incoming(turn.text)
            else:
                if with_bot:
                    with_bot = False
                    self._later(30)
                    self._state["people_since"] = self._at
                    reason = self._chance.choice(("customer_asked", "cannot_help", "taken"))
                    yield self._told(ConversationTakenOver, reason=reason)
                    yield from self._queue()
                yield from self._assign()
                yield from self._reply(turn.text)
            yield from self._aside()
        yield from self._resolve()
        yield from self._rated()

    def _message(self, kind: str, text: str, author: str, **more: Any) -> MessageSnapshot:
        return MessageSnapshot(
            id=new_id(),
            conversation_id=self._state["id"],
            kind=kind,  # type: ignore[arg-type]
            sequence=self._state["sequence"] + 1,
            text=text,
            author=author,
            occurred_at=self._at,
            created_at=self._at,
            **more,
        )

    def _incoming(self, text: str) -> Told:
        self._later(60)
        self._state["waiting_since"] = self._state.get("waiting_since") or self._at
        return self._told(MessageCreated, message=self._message("incoming", text, "contact:c"))

    def _reply(self, text: str) -> Iterator[Told]:
        self._later(300)
        # Now and then a colleague answers instead of whoever has it.
        agent = self._state["assignee_id"] if self._chance.random() < 0.8 else self._chance.choice(self._account.agents)
        waiting = self._state.pop("waiting_since", None)
        first = self._state.get("first_reply_at") is None
        self._state["waiting_since"] = None
        if first:
            self._state["first_reply_at"] = self._at
        since = self._state.get("people_since") or self._state["opened_at"]
        message = self._message("outgoing", text, f"agent:{agent}", status="queued")
        yield self._told(
            MessageCreated,
            message=message,
            first_reply=first,
            answered_since=waiting,
            first_reply_business_seconds=self._seconds(since, self._at) if first else None,
            answered_business_seconds=self._seconds(waiting, self._at) if waiting else None,
            actor=f"agent:{agent}",
        )
        self._later(2)
        status = "delivered" if self._chance.random() < 0.9 else "failed"
        yield self._told(MessageStatusChanged, message=message.model_copy(update={"status": status}))

    def _aside(self) -> Iterator[Told]:
        if self._chance.random() < 0.25:
            self._later(20)
            label = self._chance.choice(LABELS)
            if label not in self._state["labels"]:
                self._state["labels"] = (*self._state["labels"], label)
                yield self._told(LabelsChanged, added=(label,))
        elif self._chance.random() < 0.1 and self._state["labels"]:
            self._later(20)
            *kept, gone = self._state["labels"]
            self._state["labels"] = tuple(kept)
            yield self._told(LabelsChanged, removed=(gone,))
        if self._chance.random() < 0.15:
            self._later(20)
            agent = self._chance.choice(self._account.agents)
            yield self._told(MessageCreated, message=self._message("note", "¿?", f"agent:{agent}"))
        if self._chance.random() < 0.15:
            self._later(1)
            yield self._told(
                MessageCreated, message=self._message("outgoing", "Un momento", f"rule:{new_id()}"), human=False
            )
            yield self._about(
                RuleExecuted,
                rule_id=new_id(),
                rule_version=1,
                rule_name="r",
                event_id=new_id(),
                event_type="x",
                actions=(),
            )

    def _about(self, kind: type[Model], **more: Any) -> Told:
        about = {"conversation_id": self._state["id"], "inbox_id": self._state["inbox_id"]}
        return Told(kind(**about, channel=self._state["channel"], **more), self._state["id"], self._at)

    def _assignment_told(self, kind: type[Model], **more: Any) -> Told:
        self._assignment += 1
        told = self._about(
            kind,
            version=self._assignment,
            team_id=self._state["team_id"],
            reason=Reason(code="round_robin", es="x", en="y"),
            queued_at=self._queued,
            **more,
        )
        return Told(told.data, told.entity, told.time, self._assignment)

    def _queue(self) -> Iterator[Told]:
        self._queued = self._at
        yield self._assignment_told(ConversationQueued)

    def _assign(self) -> Iterator[Told]:
        mine = self._state.get("assignee_id")
        if self._queued is None and self._chance.random() < 0.85 and mine:
            return
        self._later(45)
        agent = self._chance.choice(self._account.agents)
        accepted = None
        if self._queued is not None and self._chance.random() < 0.5:
            accepted = yield from self._offers(agent)
        if self._queued is not None:
            waited, by = self._queued, self._calendar.at(self._at) if self._calendar else None
            yield self._assignment_told(
                ConversationAssigned,
                assignee_id=agent,
                waited_seconds=(self._at - waited).total_seconds(),
                waited_business_seconds=self._seconds(waited, self._at),
                business_hours=by,
                ended_offer=accepted,
            )
            self._queued = None
        team = self._state["team_id"]
        self._state["assignee_id"] = agent
        if self._chance.random() < 0.2:
            self._state["team_id"] = self._chance.choice(self._account.teams)
        yield self._told(AssigneeChanged, from_assignee_id=mine, from_team_id=team)

    def _offers(self, last: str) -> Generator[Told, None, EndedOffer]:
        """It is offered to some, who do not want it, and to the last one, who does, or has it all the same."""
        ended = None
        for agent in (*self._chance.sample(self._account.agents, self._chance.randrange(3)), last):
            yield self._assignment_told(
                ConversationOffered, agent_id=agent, until=self._at + timedelta(seconds=30), ended_offer=ended
            )
            offer = {"agent_id": agent, "offered_at": self._at}
            self._later(20)
            outcome = self._chance.choice(["declined", "timed_out", "withdrawn"])
            why = self._chance.choice([None, "no_time", "other"]) if outcome == "declined" else None
            ended = EndedOffer(**offer, outcome=outcome, why=why)
            if agent != last and self._chance.random() < 0.5:
                yield self._assignment_told(ConversationQueued, ended_offer=ended)
                ended = None
        outcome = "accepted" if self._chance.random() < 0.7 else "withdrawn"
        return EndedOffer(**offer, outcome=outcome)

    def _resolve(self) -> Iterator[Told]:
        if self._queued is not None:
            yield from self._assign()
        self._later(600)
        since = self._state["opened_at"]
        self._state |= {"status": "resolved", "resolved_at": self._at, "waiting_since": None}
        actor = (
            f"bot:{new_id()}" if self._chance.random() < 0.1 else f"agent:{self._chance.choice(self._account.agents)}"
        )
        yield self._told(ConversationResolved, resolution_business_seconds=self._seconds(since, self._at), actor=actor)
        sla = {
            "number": 1,
            "assignee_id": self._state.get("assignee_id"),
            "team_id": self._state["team_id"],
            "cycle": self._state.get("cycle", 1),
            "policy_id": new_id(),
            "policy_version": 1,
            "measure": "resolution",
            "target_seconds": 60,
            "started_at": since,
            "due_at": self._at,
        }
        if self._chance.random() < 0.7:
            yield self._about(SlaMet, done_at=self._at, **sla)
        else:
            yield self._about(SlaBreached, **sla)

    def _rated(self) -> Iterator[Told]:
        if self._chance.random() < 0.5:
            return
        survey, credit = new_id(), {"agent_id": self._state.get("assignee_id"), "team_id": self._state["team_id"]}
        self._later(5)
        yield self._told(SurveySent, survey_id=survey, way="link", **credit)
        before, answered = None, None
        for version in range(1, self._chance.randrange(1, 4)):
            self._later(1800)
            answered = answered or self._at
            rating = self._chance.randrange(1, 6)
            yield self._told(
                SurveyAnswered,
                survey_id=survey,
                version=version,
                rating=rating,
                previous_rating=before,
                answered_at=answered,
                **credit,
            )
            before = rating
        if self._chance.random() < 0.3:
            self._later(60)
            yield self._told(ConversationArchived)
