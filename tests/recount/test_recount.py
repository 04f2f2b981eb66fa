"""Reporting says what an independent recount of the raw events says, and goes on saying it."""

import json
import os
import random
from collections import defaultdict, deque
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import planting
import psycopg
import pytest
from recount.comparing import reports_agree, whole
from recount.narrator import ZONES, Account, Narrator
from recount.recount import Asked, Event, Recount, business_time, summary

from relevo.chassis.auth import new_key
from relevo.chassis.log import Log
from relevo.chassis.rebuild import Rebuild
from relevo.chassis.testing import running
from relevo.contracts.catalogue import decode
from relevo.contracts.envelope import Envelope
from relevo.contracts.identity import KeyChanged, KeyState
from relevo.contracts.permissions import Permission
from relevo.reporting.app import build
from relevo.stack.replay.source import read

SAMPLE = Path(str(files("relevo.stack") / "samples" / "conversations.jsonl"))
STREAMS = ("EVT_IDENTITY", "EVT_CONVERSATION", "EVT_ASSIGNMENT", "EVT_AUTOMATION", "EVT_PRESENCE")
SPRING = datetime(2026, 3, 29, tzinfo=UTC)
"""The day that has 23 hours in Madrid, and 24 in Bogota and Kolkata."""
AUTUMN = datetime(2025, 10, 26, tzinfo=UTC)
"""The one that has 25; 02:00 to 03:00 comes twice."""


def recorded():
    """What is told: the shared conversations where there are any, else the sample, several times."""
    shared = Path(os.environ.get("RELEVO_SHARED", "")) / "data" / "conversations.jsonl"
    return read(shared, 80) if os.environ.get("RELEVO_SHARED") and shared.exists() else read(SAMPLE) * 5


class _Again:
    """A message as a handler gets it."""

    def __init__(self, envelope, data):
        self.envelope, self.type, self.data = envelope, envelope.type, data


async def _key(service, account):
    key = new_key("api")
    permissions = frozenset({Permission.REPORTS_ALL})
    state = KeyState(id=key.id, account_id=account.id, kind="api", name="k", sha256=key.sha256, permissions=permissions)
    await service.admin.publish(KeyChanged(key=state), account=account.id, entity=key.id, sequence=1)
    await service.settle()
    return {"Authorization": f"Bearer {key.plain}"}


class _Asking:
    """Asks the reports and remembers what was answered, to the byte."""

    def __init__(self, service, headers):
        self._service, self._headers = service, headers
        self.answers = {}

    async def __call__(self, path, query):
        answer = await self._service.http.get(f"/reports/{path}", params=query, headers=self._headers)
        assert answer.status_code == 200, answer.text
        self.answers[path, tuple((name, str(value)) for name, value in query.items())] = answer.content, query
        return answer.json()

    async def differing(self, service, headers):
        """What is answered otherwise now, or there."""
        return [
            asked
            for asked, (before, query) in self.answers.items()
            if (await service.http.get(f"/reports/{asked[0]}", params=query, headers=headers)).content != before
        ]


async def _stored(service):
    """Every event that the bus holds, in the order of its stream."""
    return [message for stream in STREAMS for message in await service.admin.stored(stream)]


def _shuffled(messages, chance):
    """In any order, but those of one entity in theirs: what the bus gives however its partitions are read."""
    waiting = defaultdict(deque)
    for message in messages:
        waiting[message.envelope.entity].append(message)
    turns = [message.envelope.entity for message in messages]
    chance.shuffle(turns)
    return [waiting[entity].popleft() for entity in turns]


async def _tell(service, account, midnight):
    for told in Narrator(account, midnight, seed=7).tell(recorded()):
        await service.admin.publish(
            told.data,
            account=account.id,
            entity=told.entity,
            time=told.time,
            sequence=told.sequence,
            actor=told.actor,
        )
    await service.settle(60)


async def _consumed(service, business_hours):
    """What a consumer that only adds up the metrics stream has: by facts, and by deltas."""
    facts, deltas = {}, defaultdict(lambda: [0, 0])
    for subject, _, body in await service.admin.stored("METRICS"):
        family, metric = subject.split(".")[2:]
        value = json.loads(body)
        prefix = (
            "business_" if business_hours and value["business_value" if family == "fact" else "business_count"] else ""
        )
        if family == "fact":
            facts.pop(value["replaces"], None)
            facts[value["fact_id"]] = metric, whole(metric, value[f"{prefix}value"])
        else:
            deltas[metric][0] += value[f"{prefix}count"]
            deltas[metric][1] += whole(metric, value[f"{prefix}sum"])
    added = defaultdict(lambda: [0, 0])
    for metric, value in facts.values():
        added[metric][0] += 1
        added[metric][1] += value
    return dict(added), dict(deltas)


@pytest.mark.timeout(300)
async def test_every_report_is_what_a_recount_of_the_events_says(servers):
    await _agree(servers, SPRING)


@pytest.mark.deep
@pytest.mark.timeout(300)
async def test_so_it_is_where_an_hour_comes_twice(servers):
    await _agree(servers, AUTUMN)


async def _agree(servers, midnight):
    account = Account()
    asked = Asked(midnight - timedelta(days=2, hours=5), midnight + timedelta(days=3, minutes=30))
    async with running(build, servers, RELEVO_LOOP_STALL_SECONDS="3600") as service:
        headers = await _key(service, account)
        await _tell(service, account, midnight)
        raw = [Event.stored(told, body) for subject, told, body in await _stored(service) if account.id in subject]
        counted = Recount().hear(raw)
        asking = _Asking(service, headers)
        compared = await reports_agree(asking, counted, asked, ZONES)
        told = summary(counted, asked)
        assert compared > 10_000
        assert len(told) >= 20, "every kind of thing happened"
        assert {"first_response", "reply_time", "resolution", "wait_in_queue"} <= told.keys()

        # A consumer of the stream gets the same; whatever lies outside of the period is outside for both.
        everything = summary(counted, Asked(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)))
        by_facts, by_deltas = await _consumed(service, business_hours=False)
        assert by_facts == by_deltas == {name: [one.count, one.sum] for name, one in everything.items()}

        # Each event twice, those of different conversations in any order: another service says the same to the byte.
        messages = [
            _Again(Envelope.from_headers(told), decode(told["ce-type"], body))
            for subject, told, body in await _stored(service)
            if account.id in subject and not subject.startswith("evt.identity")
        ]
        async with running(build, servers, RELEVO_LOOP_STALL_SECONDS="3600") as other:
            there = await _key(other, account)
            chance = random.Random(3)
            shuffled = _shuffled(messages * 2, chance)
            (handler,) = {consumer.handler for consumer in other.runtime.service.consumers}
            while shuffled:
                size = chance.randrange(1, 200)
                batch, shuffled = shuffled[:size], shuffled[size:]
                async with other.runtime.database.begin(account.id) as tx:
                    await handler(batch, tx)
            assert await asking.differing(other, there) == []

        # And so does the same one after everything that it had made of the log is gone.
        with psycopg.connect(service.dsn) as connection:
            connection.execute("truncate facts, rollup_minute, rollup_hour, rollup_day, rollup_month")
        assert await asking.differing(service, headers) != []
        reports, _ = service.runtime.service.projections
        database = service.runtime.database
        done = await Rebuild(reports, bus=service.runtime.bus, database=database, owned=Log(database, None)).run()
        assert done.phase == "done"
        assert await asking.differing(service, headers) == []


CALENDAR = {
    "time_zone": "Europe/Madrid",
    "weekly": [
        {"day": "saturday", "opens": "22:00", "closes": "06:00"},
        {"day": "monday", "opens": "09:00", "closes": "14:00"},
    ],
    "special_days": [{"date": "2026-03-30", "hours": [{"opens": "10:00", "closes": "11:00"}]}],
}


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        ("2026-03-28T12:00:00+00:00", "2026-03-29T12:00:00+00:00", 7),  # the night of 23 hours
        ("2025-10-25T12:00:00+00:00", "2025-10-26T12:00:00+00:00", 9),  # the one of 25
        ("2026-03-30T00:00:00+00:00", "2026-03-31T00:00:00+00:00", 1),  # a day of hours of its own
        ("2026-04-06T07:30:15+00:00", "2026-04-06T08:30:15+00:00", 1),
        ("2026-04-07T07:00:00+00:00", "2026-04-07T08:00:00+00:00", 0),
    ],
)
def test_business_time_counted_minute_by_minute(start, end, hours):
    assert business_time(CALENDAR, datetime.fromisoformat(start), datetime.fromisoformat(end)) == hours * 3600 * 10**6
    assert business_time({**CALENDAR, "weekly": [], "special_days": []}, SPRING, AUTUMN) is None


SPRING_TEST = "test_every_report_is_what_a_recount_of_the_events_says"
# What the report of the failure tells.
DEFECTS = {
    "bots_time_counts": "first_response",
    "credit_to_the_assignee": "messages_out",
    "days_of_24_hours": "by day, Europe/Madrid",
    "label_of_every_cycle": "'label': '",
    "offers_of_the_assignee": "offers_declined",
    "rates_forget_takeovers": "bot_resolution_rate",
    "clock_in_business_sums": "'business_hours': 'true'} first_response",
}


def test_every_planted_defect_is_tried_and_still_fits_the_sources():
    planting.all_fit("reporting", DEFECTS)


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name, tmp_path):
    told = planting.told(f"reporting/{name}", tmp_path, f"{__file__}::{SPRING_TEST}")
    assert DEFECTS[name] in told, told[-3000:]
