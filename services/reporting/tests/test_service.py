"""The running service on real servers: events in, facts, roll-ups, metrics and reports out."""

import asyncio
import json
import random
from datetime import timedelta
from typing import get_args

import psycopg

from relevo.chassis.auth import new_key
from relevo.chassis.log import Log
from relevo.chassis.rebuild import Rebuild
from relevo.chassis.testing import running
from relevo.contracts.base import new_id
from relevo.contracts.conversation import (
    AssigneeChanged,
    ConversationOpened,
    ConversationResolved,
    SurveyAnswered,
    SurveySent,
)
from relevo.contracts.identity import KeyChanged, KeyState
from relevo.contracts.metrics import METRICS, Metric
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import AgentStatus, StatusChanged
from relevo.reporting import store, totals
from relevo.reporting.app import build

from .samples import ACCOUNT, AGENT, INBOX, NOON, TEAM, conversation, envelope, incoming, reply

PERIOD = {"since": "2026-03-02T00:00:00Z", "until": "2026-03-03T00:00:00Z"}


async def _key(service, *permissions: Permission, account: str = ACCOUNT) -> dict[str, str]:
    key = new_key("api")
    state = KeyState(
        id=key.id, account_id=account, kind="api", name="k", sha256=key.sha256, permissions=frozenset(permissions)
    )
    await service.admin.publish(KeyChanged(key=state), account=account, entity=key.id, sequence=1)
    await service.settle()
    return {"Authorization": f"Bearer {key.plain}"}


def _story():
    """A day of one account: (event, time)."""
    status = AgentStatus(agent_id=AGENT, state="busy", since=NOON, cause="manual")
    resolved = conversation(status="resolved", stage="closed", resolved_at=NOON)
    return [
        (ConversationOpened(conversation=conversation()), NOON - timedelta(minutes=10)),
        *((incoming(), NOON + timedelta(minutes=n)) for n in range(5)),
        *(
            (reply(first_reply=n == 1, answered_since=NOON - timedelta(seconds=n)), NOON + timedelta(hours=n))
            for n in range(1, 11)
        ),
        (ConversationResolved(conversation=resolved), NOON),
        (AssigneeChanged(conversation=conversation(), from_assignee_id=new_id()), NOON),
        (StatusChanged(status=status, previous="available", previous_since=NOON - timedelta(hours=1)), NOON),
    ]


async def _tell(service, story) -> list:
    sent = []
    for data, at in story:
        entity = getattr(data, "conversation", None)
        sent.append(await service.admin.publish(data, account=ACCOUNT, entity=entity.id if entity else AGENT, time=at))
    await service.settle()
    return sent


async def _summary(service, headers, **more) -> dict:
    answer = await service.http.get("/reports/summary", params={**PERIOD, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return {metric["metric"]: metric for metric in answer.json()["metrics"]}


async def test_every_number_says_what_it_is_in_the_readers_language(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        told = {language: await _summary(service, headers | {"Accept-Language": language}) for language in ("es", "en")}
    assert told["es"].keys() == told["en"].keys() == set(get_args(Metric))
    for metric, (unit, es, en) in METRICS.items():
        assert told["es"][metric]["definition"] == es != en == told["en"][metric]["definition"]
        assert told["en"][metric]["unit"] == unit


async def test_a_day_in_numbers(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        empty = await _summary(service, headers)
        assert all(m["count"] == 0 and m["sum"] == 0 and m["mean"] is None for m in empty.values())
        await _tell(service, _story())

        found = await _summary(service, headers)
        assert found["messages_in"]["count"] == 5
        assert found["messages_in"]["mean"] is None
        replies = found["reply_time"]
        assert (replies["count"], replies["sum"], replies["mean"]) == (10, 55, 5.5)
        assert (replies["median"], replies["p90"], replies["p95"]) == (5.5, 9.1, 9.55)
        assert found["first_response"]["sum"] == 600
        assert found["resolution"]["median"] == 600
        assert found["transfers"]["count"] == 1
        assert found["presence_seconds"]["states"] == {"available": 3600}
        assert found["notes"] == {**empty["notes"]}

        assert (await _summary(service, headers, agent_id=AGENT))["messages_out"]["count"] == 10
        assert (await _summary(service, headers, agent_id=new_id()))["messages_out"]["count"] == 0
        assert (await _summary(service, headers, team_id=TEAM, inbox_id=INBOX, channel="webchat"))["messages_in"][
            "count"
        ] == 5
        assert (await _summary(service, headers, channel="email"))["messages_in"]["count"] == 0
        exclusive = {"since": NOON.isoformat(), "until": (NOON + timedelta(minutes=4)).isoformat()}
        assert (await _summary(service, headers, **exclusive))["messages_in"]["count"] == 4


async def test_percentiles_of_very_many_are_told_from_some_and_said_to_be(servers, monkeypatch) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        handler = service.runtime.service.consumers[0].handler
        events = [
            _Replayed(envelope(data, at=at), data)
            for n in range(2000)
            for data, at in [(reply(answered_since=NOON - timedelta(seconds=n)), NOON + timedelta(seconds=n))]
        ]
        async with service.runtime.database.begin(ACCOUNT) as tx:
            await handler(events, tx)
        exact = await _summary(service, headers)
        monkeypatch.setattr(totals, "EXACT_UP_TO", 500)
        told = await _summary(service, headers)
        assert not exact["reply_time"]["estimated"]
        assert told["reply_time"]["estimated"]
        assert not told["messages_out"]["estimated"], "counts are counted"
        for name in ("count", "sum", "mean"):
            assert told["reply_time"][name] == exact["reply_time"][name]
        for name in ("median", "p90", "p95"):
            # Of about 500 a median errs by 2.2 percentiles (of 2,000 s, 45 s); five times that is no accident.
            assert 0 < abs(told["reply_time"][name] - exact["reply_time"][name]) < 225
        assert await _summary(service, headers) == told, "the same ones each time"
        asked = {**PERIOD, "by": "agent"}
        groups = (await service.http.get("/reports/groups", params=asked, headers=headers)).json()["groups"]
        (of_agent,) = [one for one in groups[0]["metrics"] if one["metric"] == "reply_time"]
        assert {**of_agent, "states": None} == told["reply_time"]


async def test_what_a_metrics_consumer_sums_is_what_the_report_says(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        await _tell(service, _story())
        found = await _summary(service, headers)
        facts, deltas = {}, {}
        seen = set()
        for subject, sent, body in await service.admin.stored("METRICS"):
            _, account, family, metric = subject.split(".")
            assert account == ACCOUNT
            value = json.loads(body)
            if family == "fact":
                assert value["fact_id"] == sent["Nats-Msg-Id"]
                assert value["fact_id"] not in seen
                seen.add(value["fact_id"])
                count, total = facts.get(metric, (0, 0.0))
                facts[metric] = count + 1, total + value["value"]
            else:
                count, total = deltas.get(metric, (0, 0.0))
                deltas[metric] = count + value["count"], total + value["sum"]
        reported = {metric: (m["count"], m["sum"]) for metric, m in found.items() if m["count"]}
        assert facts == deltas == reported


async def test_a_rating_that_is_changed_counts_once_and_as_the_last(servers) -> None:
    survey, of = new_id(), conversation(status="resolved", stage="closed", resolved_at=NOON)
    eva, later = new_id(), NOON + timedelta(days=2)

    def rated(version: int, rating: int, before: int | None) -> SurveyAnswered:
        return SurveyAnswered(
            conversation=of,
            survey_id=survey,
            version=version,
            rating=rating,
            previous_rating=before,
            answered_at=NOON,
            agent_id=eva,
        )

    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        await _tell(service, [(SurveySent(conversation=of, survey_id=survey, way="link", agent_id=eva), NOON)])
        await _tell(service, [(rated(1, 2, None), NOON)])
        # The change, and a change of that, in one batch.
        await _tell(service, [(rated(2, 3, 2), later), (rated(3, 5, 3), later)])
        found = await _summary(service, headers, agent_id=eva)
        assert found["surveys_sent"]["count"] == 1
        told = found["satisfaction"]
        assert (told["unit"], told["count"], told["sum"], told["mean"]) == ("rating", 1, 5, 5)
        assert told["states"] == {"5": 1}
        params = {**PERIOD, "metric": "satisfaction", "bucket": "day"}
        (point,) = (await service.http.get("/reports/series", params=params, headers=headers)).json()["points"]
        assert (point["count"], point["sum"]) == (1, 5)
        listed = await service.http.get("/reports/facts", params={**PERIOD, "metric": "satisfaction"}, headers=headers)
        assert [one["value"] for one in listed.json()["items"]] == [5]
        facts, count, total = {}, 0, 0.0
        for subject, _, body in await service.admin.stored("METRICS"):
            value = json.loads(body)
            if subject.endswith(".fact.satisfaction"):
                facts.pop(value["replaces"], None)
                facts[value["fact_id"]] = value["value"]
            elif subject.endswith(".rollup.satisfaction"):
                count, total = count + value["count"], total + value["sum"]
        assert (list(facts.values()), count, total) == ([5], 1, 5)


async def test_events_seen_again_in_another_order_give_the_same_numbers(servers) -> None:
    story = _story()
    numbers = []
    for seed in (None, 1):
        async with running(build, servers) as service:
            headers = await _key(service, Permission.REPORTS_ALL)
            told = story[:]
            if seed is not None:
                random.Random(seed).shuffle(told)
            sent = await _tell(service, told)
            before = await _summary(service, headers), _rollups(service.dsn)
            published = len(await service.admin.stored("METRICS"))
            # The same events once more, as a rebuild reads them: same ids, other places in the stream.
            async with service.runtime.database.begin(ACCOUNT) as tx:
                (handler,) = {consumer.handler for consumer in service.runtime.service.consumers}
                again = [_Replayed(envelope, data) for envelope, (data, _) in zip(sent, told, strict=True)]
                await handler(random.Random(seed).sample(again, len(again)), tx)
            await service.settle()
            assert (await _summary(service, headers), _rollups(service.dsn)) == before
            assert len(await service.admin.stored("METRICS")) == published
            numbers.append(before)
    assert numbers[0] == numbers[1]


class _Replayed:
    def __init__(self, envelope, data) -> None:
        self.envelope, self.type, self.data = envelope, envelope.type, data


def _rollups(dsn: str) -> dict:
    with psycopg.connect(dsn) as connection:
        found = {
            name: connection.execute(
                f"select metric, bucket, agent_id, state, count, sum from rollup_{name} order by 1, 2, 3, 4"
            ).fetchall()
            for name in ("minute", "hour", "day", "month")
        }
        totals = {
            name: connection.execute(
                f"select metric, sum(count), sum(sum) from rollup_{name} group by 1 order by 1"
            ).fetchall()
            for name in found
        }
        raw = connection.execute("select metric, count(*), sum(value) from facts group by 1 order by 1").fetchall()
    assert totals["minute"] == totals["hour"] == totals["day"] == totals["month"] == raw
    return found


async def test_series_cut_at_local_days(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        await _tell(service, _story())
        asked = {**PERIOD, "metric": "messages_out", "bucket": "day", "tz": "Asia/Kathmandu"}
        answer = (await service.http.get("/reports/series", params=asked, headers=headers)).json()
        # Local midnight is 18:15 UTC: replies from 13:00 to 18:00 are of the first day, 19:00 to 22:00 of the second.
        assert [(p["start"], p["count"]) for p in answer["points"]] == [
            ("2026-03-02T00:00:00Z", 6),
            ("2026-03-02T18:15:00Z", 4),
        ]
        hours = {**PERIOD, "metric": "reply_time", "bucket": "hour"}
        points = (await service.http.get("/reports/series", params=hours, headers=headers)).json()["points"]
        assert len(points) == 24
        assert [p["sum"] for p in points] == [0] * 13 + list(range(1, 11)) + [0]
        assert points[0]["mean"] is None


async def test_the_facts_behind_a_number_page_by_page(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        await _tell(service, _story())
        asked, seen = {**PERIOD, "metric": "messages_out", "limit": 4}, []
        while True:
            answer = (await service.http.get("/reports/facts", params=asked, headers=headers)).json()
            seen += answer["items"]
            if answer["next"] is None:
                break
            asked["cursor"] = answer["next"]
        assert [fact["at"] for fact in seen] == [f"2026-03-02T{hour}:00:00Z" for hour in range(13, 23)]
        assert {fact["dimensions"]["agent_id"] for fact in seen} == {AGENT}
        bad = await service.http.get(
            "/reports/facts", params={**PERIOD, "metric": "notes", "cursor": "WyJ4IiwieSJd"}, headers=headers
        )
        assert bad.status_code == 422


async def test_questions_that_cannot_be_answered_say_why(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        for asked, pointer in [
            ({"since": PERIOD["since"]}, "/query/until"),
            ({**PERIOD, "until": PERIOD["since"]}, "/query/until"),
            ({**PERIOD, "since": "2026-03-02T00:00:00"}, "/query/since"),
            ({**PERIOD, "since": "0001-01-01T00:00:00+14:00"}, "/query/since"),
            ({**PERIOD, "until": "9999-12-31T23:59:59-14:00"}, "/query/until"),
            ({**PERIOD, "compare": "true", "tz": "Mars/Base"}, "/query/tz"),
            ({**PERIOD, "agent_id": "me"}, "/query/agent_id"),
        ]:
            answer = await service.http.get("/reports/summary", params=asked, headers=headers)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        for more, pointer in [
            ({"tz": "Mars/Base"}, "/query/tz"),
            ({"until": "2026-03-02T01:00:30Z"}, "/query/until"),
            ({"since": "2000-01-01T00:00:00Z", "bucket": "hour"}, "/query/bucket"),
            ({"metric": "love"}, "/query/metric"),
        ]:
            asked = {**PERIOD, "metric": "notes", "bucket": "day", **more}
            answer = await service.http.get("/reports/series", params=asked, headers=headers)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_reports_reach_as_far_as_the_permission_and_never_another_account(servers) -> None:
    async with running(build, servers) as service:
        await _tell(service, _story())
        nothing = await _key(service, Permission.CONVERSATIONS_READ)
        refused = await service.http.get("/reports/summary", params=PERIOD, headers=nothing)
        assert refused.status_code == 403
        own = await _key(service, Permission.REPORTS_OWN)  # a key is no agent: nothing is its own
        assert (await _summary(service, own))["messages_in"]["count"] == 0
        everything = await _key(service, Permission.REPORTS_ALL)
        assert (await _summary(service, everything))["messages_in"]["count"] > 0
        stranger = await _key(service, Permission.REPORTS_ALL, account=new_id())
        assert (await _summary(service, stranger))["messages_in"]["count"] == 0


async def test_batches_at_the_same_time_wait_for_each_other_and_lose_nothing(servers) -> None:
    async with running(build, servers) as service:
        handler = service.runtime.service.consumers[0].handler
        inboxes = [new_id() for _ in range(30)]

        async def batches(seed: int) -> None:
            order = random.Random(seed)
            for month in range(3):
                # Each batch touches the same roll-up rows, and new months, in an order of its own.
                at = NOON + timedelta(days=31 * month)
                events = [incoming(conversation(inbox_id=inbox)) for inbox in order.sample(inboxes, len(inboxes))]
                async with service.runtime.database.begin(ACCOUNT) as tx:
                    await handler([_Replayed(envelope(data, at=at), data) for data in events], tx)

        await asyncio.gather(*(batches(seed) for seed in range(4)))
        counted = [row[-2] for row in _rollups(service.dsn)["day"]]
        assert counted == [4] * 30 * 3


async def test_a_supervisor_sees_the_teams_facts_and_an_agent_the_own(servers) -> None:
    async with running(build, servers) as service:
        await _tell(service, [(incoming(), NOON), (incoming(conversation(team_id=new_id(), assignee_id=None)), NOON)])
        chosen = {"account_id": ACCOUNT, "since": NOON, "until": NOON + timedelta(days=1)}
        seen = {}
        async with service.runtime.database.begin(ACCOUNT) as tx:
            for name, reach in {
                "all": store.Reach(everything=True),
                "team": store.Reach(team_ids=frozenset({TEAM}), agent_id=new_id()),
                "own": store.Reach(agent_id=AGENT),
                "nothing": store.Reach(),
            }.items():
                rows = await totals.read(tx, store.Selection(**chosen, reach=reach))
                seen[name] = sum(row.count for row in rows)
        assert seen == {"all": 2, "team": 1, "own": 1, "nothing": 0}


async def test_facts_of_any_month_find_their_partition(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        days = [NOON + timedelta(days=31 * n) for n in range(-12, 1)]
        await _tell(service, [(incoming(), at) for at in days])
        found = await _summary(service, headers, since="2025-01-01T00:00:00Z", until="2026-12-31T00:00:00Z")
        assert found["messages_in"]["count"] == len(days)


async def test_the_reports_read_again_are_the_same_and_publish_nothing(servers) -> None:
    tables = ("facts", "rollup_minute", "rollup_hour", "rollup_day", "rollup_month")
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        await _tell(service, _story())
        await _tell(service, [(data, at + timedelta(days=40)) for data, at in _story()])
        before = [_dump(service, table) for table in tables]
        shape = _shape(service, tables)
        told = await _summary(service, headers)
        published = await service.admin.stored("METRICS")
        assert all(before)
        with psycopg.connect(service.dsn) as connection:
            connection.execute("truncate facts, rollup_minute, rollup_hour, rollup_day, rollup_month")
        reports, _ = service.runtime.service.projections
        rebuild = Rebuild(
            reports,
            bus=service.runtime.bus,
            database=service.runtime.database,
            owned=Log(service.runtime.database, None),
        )
        done = await rebuild.run()
        assert done.phase == "done"
        assert [_dump(service, table) for table in tables] == before
        assert _shape(service, tables) == shape
        assert await _summary(service, headers) == told
        await _tell(service, [(incoming(), NOON + timedelta(days=80))])  # a month that the new tables lack as yet
        assert len(await service.admin.stored("METRICS")) == len(published) + 2


def _dump(service, table: str) -> list:
    with psycopg.connect(service.dsn) as connection:
        return connection.execute(f"select t::text from {table} t order by 1").fetchall()


def _shape(service, tables) -> list:
    with psycopg.connect(service.dsn) as connection:
        return connection.execute(
            "select tablename, indexname, indexdef from pg_indexes where tablename = any(%s)"
            " union select c.relname, o.conname, pg_get_constraintdef(o.oid) from pg_constraint o"
            " join pg_class c on c.oid = o.conrelid where c.relname = any(%s)"
            " union select c.relname, obj_description(c.oid), pg_get_partkeydef(c.oid) from pg_class c"
            " where c.relname = any(%s) order by 1, 2, 3",
            [list(tables)] * 3,
        ).fetchall()
