"""Business hours in reports: both measures of each time, the switch, the stream, and the same again after a rebuild."""

import json
from datetime import timedelta

import psycopg

from relevo.chassis.log import Log
from relevo.chassis.rebuild import Rebuild
from relevo.chassis.testing import running
from relevo.contracts.assignment import ConversationAssigned, Reason
from relevo.contracts.base import new_id
from relevo.contracts.conversation import ConversationResolved
from relevo.contracts.metrics import BUSINESS_TIMES, METRICS
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import BusinessHours
from relevo.reporting.app import build
from relevo.reporting.domain.facts import facts_of

from .samples import NOON, conversation, envelope, incoming, reply
from .test_service import PERIOD, _dump, _key, _summary, _tell

CALENDAR = new_id()
HOUR = 3600
TABLES = ("facts", "rollup_minute", "rollup_hour", "rollup_day", "rollup_month")


def by(version: int = 1, *, is_open: bool = True) -> BusinessHours:
    return BusinessHours(calendar_id=CALENDAR, calendar_version=version, time_zone="Europe/Madrid", open=is_open)


def measured(hours: int, business: int | None, **more):
    """A reply after so many hours, of which so many were business hours; None: no calendar counted."""
    at = NOON + timedelta(hours=1)
    answered = reply(
        snapshot=conversation(opened_at=NOON - timedelta(hours=hours), first_reply_at=NOON),
        first_reply=True,
        answered_since=NOON - timedelta(hours=hours),
        **(
            {}
            if business is None
            else {
                "business_hours": by(**more),
                "first_reply_business_seconds": float(business * HOUR),
                "answered_business_seconds": float(business * HOUR),
            }
        ),
    )
    return answered, at


def resolved(hours: int, business: int | None):
    state = conversation(status="resolved", stage="closed", opened_at=NOON - timedelta(hours=hours), resolved_at=NOON)
    more = {} if business is None else {"business_hours": by(), "resolution_business_seconds": float(business * HOUR)}
    return ConversationResolved(conversation=state, **more), NOON


def waited(seconds: float, business: float | None) -> ConversationAssigned:
    return ConversationAssigned(
        conversation_id=new_id(),
        version=2,
        reason=Reason(code="round_robin", es="x", en="y"),
        queued_at=NOON,
        waited_seconds=seconds,
        waited_business_seconds=business,
        business_hours=None if business is None else by(7),
    )


def test_a_time_has_both_measures_and_the_version_that_measured_it() -> None:
    for data in (measured(10, 2, version=7)[0], resolved(10, 2)[0], waited(36_000, 2 * HOUR)):
        timed = [fact for fact in facts_of(envelope(data), data) if fact.metric in BUSINESS_TIMES]
        assert timed
        for fact in timed:
            assert fact.business_value == 2 * HOUR < fact.value
            assert (fact.calendar_id, fact.calendar_version is not None) == (CALENDAR, True)
    for data in (measured(10, None)[0], resolved(10, None)[0], waited(36_000, None), incoming()):
        for fact in facts_of(envelope(data), data):
            assert (fact.business_value, fact.calendar_id, fact.calendar_version) == (None, None, None)


def test_what_is_measured_in_business_time_is_a_time() -> None:
    assert all(METRICS[metric].unit == "seconds" for metric in BUSINESS_TIMES)


async def _series(service, headers, metric, **more) -> list[tuple[int, float, float | None]]:
    asked = {**PERIOD, "metric": metric, "bucket": "day", **more}
    answer = await service.http.get("/reports/series", params=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    return [(point["count"], point["sum"], point["mean"]) for point in answer.json()["points"]]


async def test_a_report_counts_business_hours_only_when_told_to(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        # Of three replies one is by an inbox without a calendar: it is not measured, which is not zero.
        await _tell(service, [measured(10, 2), measured(20, 4), measured(30, None), resolved(8, 8), resolved(8, None)])
        clock = await _summary(service, headers)
        hours = await _summary(service, headers, business_hours="true")
        for metric in ("first_response", "reply_time"):
            assert (clock[metric]["count"], clock[metric]["mean"]) == (3, 20 * HOUR)
            told = hours[metric]
            assert (told["count"], told["unmeasured"], told["sum"]) == (2, 1, 6 * HOUR)
            assert (told["mean"], told["median"]) == (3 * HOUR, 3 * HOUR)
            assert told["p95"] < clock[metric]["median"]
            assert await _series(service, headers, metric) == [(3, 60 * HOUR, 20 * HOUR)]
            assert await _series(service, headers, metric, business_hours="true") == [(2, 6 * HOUR, 3 * HOUR)]
        assert (hours["resolution"]["count"], hours["resolution"]["sum"]) == (1, 8 * HOUR)
        # Counts are the same either way; what nobody measured has no mean.
        assert hours["messages_out"] == clock["messages_out"]
        assert clock["first_response"]["unmeasured"] == 0
        bad = await service.http.get("/reports/summary", params={**PERIOD, "business_hours": "maybe"}, headers=headers)
        assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/query/business_hours")
        asked = {**PERIOD, "metric": "reply_time", "business_hours": "true"}
        behind = (await service.http.get("/reports/facts", params=asked, headers=headers)).json()["items"]
        assert sorted(fact["business_value"] for fact in behind) == [2 * HOUR, 4 * HOUR]
        behind = (await service.http.get("/reports/conversations", params=asked, headers=headers)).json()["items"]
        assert sorted((one["count"], one["sum"]) for one in behind) == [(1, 2 * HOUR), (1, 4 * HOUR)]


async def test_what_no_calendar_measured_is_no_data(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        await _tell(service, [measured(30, None)])
        told = (await _summary(service, headers, business_hours="true"))["first_response"]
        assert (told["count"], told["unmeasured"], told["sum"]) == (0, 1, 0)
        assert [told[name] for name in ("mean", "median", "p90", "p95")] == [None] * 4
        assert await _series(service, headers, "first_response", business_hours="true") == [(0, 0, None)]


async def test_the_metrics_stream_carries_both_and_a_rebuild_gives_the_same(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        await _tell(
            service, [measured(10, 2, version=1), measured(20, 4, version=2), measured(30, None), resolved(9, 1)]
        )
        told = await _summary(service, headers, business_hours="true")
        facts, deltas = {}, {}
        for subject, _, body in await service.admin.stored("METRICS"):
            family, metric = subject.split(".")[2:]
            value = json.loads(body)
            if family == "fact" and value["business_value"] is not None:
                count, total = facts.get(metric, (0, 0.0))
                facts[metric] = count + 1, total + value["business_value"]
            elif family == "rollup" and value["business_count"]:
                count, total = deltas.get(metric, (0, 0.0))
                deltas[metric] = count + value["business_count"], total + value["business_sum"]
        reported = {m: (told[m]["count"], told[m]["sum"]) for m in BUSINESS_TIMES if told[m]["count"]}
        assert facts == deltas == reported
        assert set(reported) == {"first_response", "reply_time", "resolution"}

        before = [_dump(service, table) for table in TABLES]
        with psycopg.connect(service.dsn) as connection:
            versions = connection.execute(
                "select distinct calendar_version from facts where business_value is not null order by 1"
            ).fetchall()
            connection.execute("truncate facts, rollup_minute, rollup_hour, rollup_day, rollup_month")
        assert versions == [(1,), (2,)]
        reports, _ = service.runtime.service.projections
        database = service.runtime.database
        await Rebuild(reports, bus=service.runtime.bus, database=database, owned=Log(database, None)).run()
        assert [_dump(service, table) for table in TABLES] == before
        assert await _summary(service, headers, business_hours="true") == told
