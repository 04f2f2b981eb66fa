"""Every report counted once more, from the raw events alone: slow, simple, and with nothing of Relevo in it.

    python recount.py events.jsonl --since 2026-03-28T00:00:00Z --until 2026-04-01T00:00:00Z [--business-hours]

A line is one event as the bus had it: `{"id", "type", "time", "recorded", "actor", "sequence", "data"}`. Times come from
the story of each conversation as it is told (opened, a customer wrote, a person answered, resolved), not from what an event
says of them; business time is counted minute by minute on the clock on the wall. Values are whole microseconds, so that sums
are exact. What each number is made of: docs/metric-definitions.md.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
TIMES = {"first_response", "reply_time", "resolution", "wait_in_queue"}
RATED = "satisfaction"
MEASURED = {*TIMES, RATED, "presence_seconds"}
OFFERS = {"offers_accepted", "offers_declined", "offers_timed_out"}
NOT_BY_LABEL = {"wait_in_queue", "rules_executed", "presence_seconds", "sla_met", "sla_missed", *OFFERS}
DIMENSIONS = ("agent", "team", "inbox", "channel")


@dataclass(frozen=True)
class Event:
    """One event as it was published. `sequence` numbers those of one entity."""

    id: str
    type: str
    time: datetime
    recorded: datetime
    actor: str
    sequence: int
    data: Mapping[str, Any]

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Event":
        return cls(**{**line, "time": moment(line["time"]), "recorded": moment(line["recorded"])})

    @classmethod
    def stored(cls, headers: Mapping[str, str], body: bytes) -> "Event":
        """As it is stored, in a stream or a log."""
        return cls(
            id=headers["ce-id"],
            type=headers["ce-type"].split(".")[-2],
            time=moment(headers["ce-time"]),
            recorded=moment(headers["relevo-recorded"]),
            actor=headers.get("relevo-actor", "system"),
            sequence=int(headers.get("relevo-sequence", 0)),
            data=json.loads(body),
        )


@dataclass(frozen=True)
class Counted:
    """One thing that counts. `value` and `business` in microseconds for times, else 1, or the rating."""

    metric: str
    at: datetime
    value: int
    conversation: str | None = None
    agent: str | None = None
    team: str | None = None
    inbox: str | None = None
    channel: str | None = None
    labels: tuple[str, ...] = ()
    state: str | None = None
    business: int | None = None
    cycle_since: datetime | None = None
    """Of a label that was put on: when the conversation's cycle had begun."""


@dataclass
class Story:
    """What is known of one conversation so far."""

    cycle_since: datetime | None = None
    people_since: datetime | None = None
    """From when on people could answer in this cycle."""
    answered: bool = False
    waiting: datetime | None = None
    queued: datetime | None = None
    assignee: str | None = None
    team: str | None = None
    ratings: dict[str, tuple[datetime, Counted]] = field(default_factory=dict)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def between(start: datetime, end: datetime) -> int:
    """Microseconds; an end before the start is none."""
    return max(0, (end - start) // MICROSECOND)


def business_time(calendar: Mapping[str, Any], start: datetime, end: datetime) -> int | None:
    """How much of [start, end) the clock on the wall showed an open minute, in microseconds; None: no hours at all."""
    weekly: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for hours in calendar["weekly"]:
        weekly[DAYS.index(hours["day"])].append(_minutes(hours))
    special = {
        date.fromisoformat(day["date"]): [_minutes(hours) for hours in day["hours"]] for day in calendar["special_days"]
    }
    if not weekly and not any(special.values()):
        return None
    zone = ZoneInfo(calendar["time_zone"])

    def beginning(day: date) -> list[tuple[int, int]]:
        return special[day] if day in special else weekly.get(day.weekday(), [])

    def open_at(minute: datetime) -> bool:
        local = minute.astimezone(zone)
        at, day = local.hour * 60 + local.minute, local.date()
        today = any(opens <= at < closes for opens, closes in beginning(day))
        return today or any(opens <= at + 1440 < closes for opens, closes in beginning(day - timedelta(days=1)))

    total = 0
    minute = start.replace(second=0, microsecond=0)
    while minute < end:
        if open_at(minute):
            total += (min(end, minute + MINUTE) - max(start, minute)) // MICROSECOND
        minute += MINUTE
    return total


def _minutes(hours: Mapping[str, str]) -> tuple[int, int]:
    opens, closes = (int(text[:2]) * 60 + int(text[3:]) for text in (hours["opens"], hours["closes"]))
    return opens, closes if closes > opens else closes + 1440


class Recount:
    """Hears an account's events, those of one conversation in their order, and counts."""

    def __init__(self) -> None:
        self._stories: dict[str, Story] = defaultdict(Story)
        self._calendars: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._counted: list[Counted] = []

    def hear(self, events: Iterable[Event]) -> list[Counted]:
        """Everything that counts, the calendars first."""
        known = {event.id: event for event in events}.values()
        for event in known:
            if event.type == "calendar_changed":
                self._calendars[event.data["calendar"]["id"], event.sequence] = event.data["calendar"]
        for event in sorted(known, key=lambda event: (event.sequence, "conversation" not in event.data)):
            told: Callable[[Event], None] | None = getattr(self, f"_{event.type}", None)
            if told is not None:
                told(event)
        ratings = [one for story in self._stories.values() for _, one in story.ratings.values()]
        return [*self._counted, *ratings]

    # -- conversations ------------------------------------------------------------------------------------------------

    def _count(self, event: Event, metric: str, **more: Any) -> None:
        told = event.data["conversation"]
        values = {
            "at": event.time,
            "value": 1,
            "conversation": told["id"],
            "agent": told["assignee_id"],
            "team": told["team_id"],
            "inbox": told["inbox_id"],
            "channel": told["channel"],
            "labels": tuple(told["labels"]),
        }
        self._counted.append(Counted(metric=metric, **{**values, **more}))

    def _time(self, event: Event, metric: str, start: datetime, end: datetime, **more: Any) -> None:
        self._count(event, metric, value=between(start, end), business=self._business(event, start, end), **more)

    def _business(self, event: Event, start: datetime, end: datetime) -> int | None:
        by = event.data.get("business_hours")
        if by is None:
            return None
        return business_time(self._calendars[by["calendar_id"], by["calendar_version"]], start, max(start, end))

    def _story(self, event: Event) -> Story:
        return self._stories[event.data["conversation"]["id"]]

    def _conversation_opened(self, event: Event) -> None:
        self._begins(event)
        story, told = self._story(event), event.data["conversation"]
        story.assignee, story.team = told["assignee_id"], told["team_id"]
        self._count(event, "conversations_opened")

    def _conversation_reopened(self, event: Event) -> None:
        self._begins(event)
        self._count(event, "conversations_reopened")

    def _begins(self, event: Event) -> None:
        story = self._story(event)
        story.cycle_since = story.people_since = event.time
        story.answered = False

    def _conversation_resolved(self, event: Event) -> None:
        story = self._story(event)
        agent = event.data["conversation"]["assignee_id"] or who(event.actor, "agent")
        self._count(event, "conversations_resolved", agent=agent)
        if story.cycle_since is not None:
            self._time(event, "resolution", story.cycle_since, event.time, agent=agent)
        if who(event.actor, "bot"):
            self._count(event, "bot_resolutions", agent=agent)
        story.waiting = None

    def _conversation_archived(self, event: Event) -> None:
        self._count(event, "conversations_archived")

    def _conversation_taken_over(self, event: Event) -> None:
        self._story(event).people_since = event.time
        self._count(event, "bot_takeovers" if event.data["reason"] == "taken" else "bot_handoffs")

    def _message_created(self, event: Event) -> None:
        message, story = event.data["message"], self._story(event)
        at, author = moment(message["occurred_at"]), who(message["author"], "agent")
        if message["kind"] == "incoming":
            self._count(event, "messages_in")
            if event.data["human"] and story.waiting is None and story.cycle_since is not None:
                story.waiting = max(at, story.cycle_since)
        elif message["kind"] == "note":
            self._count(event, "notes", agent=author)
        elif message["kind"] == "outgoing":
            self._count(event, "messages_out", agent=author)
            if author is not None:
                self._answered(event, story, at, author)

    def _answered(self, event: Event, story: Story, at: datetime, author: str) -> None:
        if not story.answered and story.people_since is not None:
            self._time(event, "first_response", story.people_since, at, agent=author)
        if story.waiting is not None:
            self._time(event, "reply_time", story.waiting, at, agent=author)
        story.answered, story.waiting = True, None

    def _message_status_changed(self, event: Event) -> None:
        message = event.data["message"]
        metric = {"delivered": "replies_delivered", "failed": "replies_failed"}.get(message["status"])
        if metric:
            self._count(event, metric, agent=who(message["author"], "agent"))

    def _labels_changed(self, event: Event) -> None:
        if event.data["cause"] == "act":
            for label in event.data["added"]:
                self._count(event, "labels_added", labels=(label,), cycle_since=self._story(event).cycle_since)

    def _assignee_changed(self, event: Event) -> None:
        story, told = self._story(event), event.data["conversation"]
        now = told["assignee_id"], told["team_id"]
        if any(old and new and old != new for old, new in zip((story.assignee, story.team), now, strict=True)):
            self._count(event, "transfers")
        story.assignee, story.team = now

    def _survey_sent(self, event: Event) -> None:
        self._count(event, "surveys_sent", agent=event.data["agent_id"], team=event.data["team_id"])

    def _survey_answered(self, event: Event) -> None:
        told, before = event.data, self._counted
        self._counted = []
        self._count(
            event,
            RATED,
            at=moment(told["answered_at"]),
            value=told["rating"],
            state=str(told["rating"]),
            agent=told["agent_id"],
            team=told["team_id"],
        )
        # The last one in the order of the conversation stands, whatever was said before.
        self._story(event).ratings[told["survey_id"]] = event.time, self._counted[0]
        self._counted = before

    # -- the others ---------------------------------------------------------------------------------------------------

    def _offer_ended(self, event: Event) -> None:
        said = event.data.get("ended_offer")
        if said is not None and (metric := f"offers_{said['outcome']}") in OFFERS:
            self._other(event, metric, agent=said["agent_id"], team=event.data["team_id"], state=said["why"])

    def _conversation_offered(self, event: Event) -> None:
        self._offer_ended(event)

    def _conversation_queued(self, event: Event) -> None:
        self._offer_ended(event)
        story = self._stories[event.data["conversation_id"]]
        if story.queued is None:
            story.queued = moment(event.data["queued_at"])

    def _conversation_unassigned(self, event: Event) -> None:
        self._offer_ended(event)
        self._stories[event.data["conversation_id"]].queued = None

    def _conversation_assigned(self, event: Event) -> None:
        self._offer_ended(event)
        told, story = event.data, self._stories[event.data["conversation_id"]]
        since, story.queued = story.queued, None
        if since is None and told["from_assignee_id"] is None:
            # Somebody was there: that it stood in the queue for a moment is not told apart.
            since = story.people_since
        if since is None:
            return
        self._other(
            event,
            "wait_in_queue",
            value=between(since, event.time),
            business=self._business(event, since, event.time),
            agent=told["assignee_id"],
            team=told["team_id"],
        )

    def _rule_executed(self, event: Event) -> None:
        self._other(event, "rules_executed")

    def _sla_met(self, event: Event) -> None:
        self._other(event, "sla_met", agent=event.data["assignee_id"], team=event.data["team_id"])

    def _sla_breached(self, event: Event) -> None:
        self._other(event, "sla_missed", agent=event.data["assignee_id"], team=event.data["team_id"])

    def _other(self, event: Event, metric: str, **more: Any) -> None:
        told = event.data
        about = {"conversation": told["conversation_id"], "inbox": told["inbox_id"], "channel": told["channel"]}
        self._counted.append(Counted(**{"metric": metric, "at": event.time, "value": 1, **about, **more}))

    def _status_changed(self, event: Event) -> None:
        told = event.data
        at, end = moment(told["previous_since"]), min(moment(told["status"]["since"]), event.recorded)
        while at < end:
            hour = at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            self._counted.append(
                Counted(
                    metric="presence_seconds",
                    at=at,
                    value=between(at, min(hour, end)),
                    agent=told["status"]["agent_id"],
                    state=told["previous"],
                )
            )
            at = hour


def who(actor: str, kind: str) -> str | None:
    found, _, identity = actor.partition(":")
    return identity if found == kind and identity else None


# -- reports ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What a report is asked: a period, dimensions as they were then, business hours only or the clock."""

    since: datetime
    until: datetime
    business_hours: bool = False
    label: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)

    def of(self, counted: Sequence[Counted]) -> list[Counted]:
        """Those that it is about."""
        found = [
            one
            for one in counted
            if self.since <= one.at < self.until
            and all(getattr(one, name) == wanted for name, wanted in self.where.items())
        ]
        if self.label is None:
            return found
        put_on = [one for one in counted if one.metric == "labels_added" and one.labels == (self.label,)]
        return [one for one in found if labelled(one, self.label, put_on)]

    def value(self, one: Counted) -> int | None:
        return one.business if self.business_hours and one.metric in TIMES else one.value


def labelled(one: Counted, label: str, put_on: Sequence[Counted]) -> bool:
    """Whether it counts for a label: the conversation had it, or got it later in the same cycle."""
    if one.metric in NOT_BY_LABEL:
        return False
    if label in one.labels:
        return True
    return one.metric != "labels_added" and any(
        given.conversation == one.conversation and given.cycle_since <= one.at < given.at
        for given in put_on
        if given.cycle_since is not None
    )


@dataclass(frozen=True)
class Number:
    """One metric: how many, and of what is measured its sum, mean, median, 90 % and 95 %, in microseconds or ratings."""

    count: int
    unmeasured: int
    sum: int
    spread: tuple[Fraction, Fraction, Fraction, Fraction] | None

    @classmethod
    def of(cls, values: Sequence[int | None]) -> "Number":
        known = sorted(value for value in values if value is not None)
        spread = None
        if known:
            mean = Fraction(sum(known), len(known))
            spread = (mean, *(at_share(known, Fraction(share)) for share in ("0.5", "0.9", "0.95")))
        return cls(len(known), len(values) - len(known), sum(known), spread)  # type: ignore[arg-type]


def at_share(ordered: Sequence[int], share: Fraction) -> Fraction:
    """Between the two neighbours of that place, in proportion."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def summary(counted: Sequence[Counted], asked: Asked) -> dict[str, Number]:
    """Each metric that there is any of."""
    values: dict[str, list[int | None]] = defaultdict(list)
    for one in asked.of(counted):
        values[one.metric].append(asked.value(one))
    return {metric: Number.of(found) for metric, found in values.items()}


def states(counted: Sequence[Counted], asked: Asked, metric: str) -> dict[str, int]:
    """By state: time in it; of ratings how many gave it."""
    found: dict[str, int] = defaultdict(int)
    for one in asked.of(counted):
        if one.metric == metric and one.state is not None:
            found[one.state] += 1 if metric == RATED else one.value
    return dict(found)


def groups(counted: Sequence[Counted], asked: Asked, by: str) -> dict[str | None, dict[str, Number]]:
    """The summary of each agent, team, inbox, channel or label; of nobody's too, but of no label's."""
    found = asked.of(counted)
    if by == "label":
        keys: set[Any] = {label for one in counted for label in one.labels}
        some = {key: summary(found, Asked(asked.since, asked.until, asked.business_hours, label=key)) for key in keys}
        # What was put on within the period may be of a cycle that began before it, not the other way about.
        return {key: numbers for key, numbers in some.items() if numbers}
    keys = {getattr(one, by) for one in found}
    apart = Asked(asked.since, asked.until, asked.business_hours)
    return {key: summary([one for one in found if getattr(one, by) == key], apart) for key in keys}


def pairs(
    counted: Sequence[Counted], asked: Asked, metric: str, by: str, across: str
) -> dict[tuple[str | None, str | None], Number]:
    """One metric of each two that have any of it; what has several labels is of each."""
    values: dict[tuple[Any, Any], list[int | None]] = defaultdict(list)
    found = asked.of(counted)
    labels = {label for one in counted for label in one.labels} if "label" in {by, across} else {None}
    for label in labels:
        plain = Asked(asked.since, asked.until, asked.business_hours, label=label)
        for one in plain.of(found) if label else found:
            if one.metric == metric:
                key = tuple(label if name == "label" else getattr(one, name) for name in (by, across))
                values[key[0], key[1]].append(asked.value(one))
    return {key: Number.of(some) for key, some in values.items()}


def distribution(
    counted: Sequence[Counted], asked: Asked, metric: str, edges: Sequence[int], by: str | None
) -> dict[str | None, list[int]]:
    """How many lie before the first edge (in microseconds), between each two, and from the last one on."""
    found: dict[str | None, list[int]] = defaultdict(lambda: [0] * (len(edges) + 1))
    for one in asked.of(counted):
        value = asked.value(one)
        if one.metric == metric and value is not None:
            found[getattr(one, by) if by else None][sum(value >= edge for edge in edges)] += 1
    return dict(found)


def bucket_of(at: datetime, bucket: str, zone: ZoneInfo) -> tuple[Any, ...]:
    """Which hour, day, week or month the clock on the wall shows; an hour that comes twice is two, but of the same weekday."""
    local = at.astimezone(zone)
    if bucket == "hour":
        return local.date(), local.hour, local.utcoffset()
    if bucket == "day":
        return (local.date(),)
    if bucket == "week":
        return tuple(local.isocalendar()[:2])
    if bucket == "weekday and hour":
        return local.isoweekday(), local.hour
    return local.year, local.month


def series(
    counted: Sequence[Counted], asked: Asked, metric: str, bucket: str, zone: ZoneInfo
) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Count and sum of each bucket that there is any in."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for one in asked.of(counted):
        value = asked.value(one)
        if one.metric == metric and value is not None:
            total = found[bucket_of(one.at, bucket, zone)]
            total[0] += 1
            total[1] += value
    return {key: (count, total) for key, (count, total) in found.items()}


def behind(counted: Sequence[Counted], asked: Asked, metric: str) -> list[tuple[str, datetime, int, int]]:
    """The conversations that a number is of, each with the last of what counts, count and sum; latest first."""
    found: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
    for one in asked.of(counted):
        value = asked.value(one)
        if one.metric == metric and value is not None and one.conversation is not None:
            found[one.conversation].append((one.at, value))
    each = [(key, max(values)[0], len(values), sum(value for _, value in values)) for key, values in found.items()]
    return sorted(each, key=lambda one: (one[1], one[0]), reverse=True)


def read(lines: Iterable[str]) -> Iterator[Event]:
    """Events as a file has them."""
    return (Event.of(json.loads(line)) for line in lines if line.strip())


def main() -> int:
    """Print every metric of a file of events."""
    parser = argparse.ArgumentParser(description="Count every report once more, from published events alone.")
    parser.add_argument("events", type=Path)
    parser.add_argument("--since", type=moment, required=True)
    parser.add_argument("--until", type=moment, required=True)
    parser.add_argument("--business-hours", action="store_true")
    given = parser.parse_args()
    with given.events.open(encoding="utf-8") as file:
        counted = Recount().hear(read(file))
    for metric, number in sorted(summary(counted, Asked(given.since, given.until, given.business_hours)).items()):
        mean = f"  mean {float(number.spread[0]) / 1e6:.6f}" if number.spread and metric in MEASURED - {RATED} else ""
        sys.stdout.write(f"{metric:24} {number.count}{mean}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
