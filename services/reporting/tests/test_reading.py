"""Reports read in other ways: beside the period before, by weekday and hour, and the conversations behind a bar."""

from datetime import UTC, datetime, timedelta

from relevo.chassis.testing import running
from relevo.contracts.base import new_id
from relevo.contracts.permissions import Permission
from relevo.reporting import store
from relevo.reporting.app import build

from .samples import ACCOUNT, AGENT, NOON, conversation, incoming, reply
from .test_service import PERIOD, _key, _story, _summary, _tell


async def test_a_month_beside_the_month_before(servers) -> None:
    """March of Madrid beside its February: from the last hour of January (UTC) on, 28 days, not 31."""
    asked = {"since": "2026-02-28T23:00:00Z", "until": "2026-03-31T22:00:00Z", "tz": "Europe/Madrid"}
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        february, january = NOON.replace(month=2, day=28, hour=22), NOON.replace(month=1, day=31, hour=22)
        other = conversation(team_id=new_id(), channel="email", labels=())
        await _tell(
            service,
            [
                *_story(),
                *((incoming(), at) for at in (january, january + timedelta(hours=1), february, february)),
                (incoming(other), february),
                (incoming(), february + timedelta(hours=1)),  # March, in Madrid
                (reply(answered_since=NOON - timedelta(seconds=11)), february),
            ],
        )

        async def compared(**more) -> tuple:
            answer = await service.http.get(
                "/reports/summary", params={**asked, "compare": "true", **more}, headers=headers
            )
            assert answer.status_code == 200, answer.text
            now, then = answer.json(), answer.json()["previous"]
            assert [one["metric"] for one in now["metrics"]] == [one["metric"] for one in then["metrics"]]
            return then, {one["metric"]: one for one in then["metrics"]}

        then, earlier = await compared()
        assert (then["since"], then["until"]) == ("2026-01-31T23:00:00Z", "2026-02-28T23:00:00Z")
        # What the summary of that period says, of every metric.
        alone = await _summary(service, headers, since=then["since"], until=then["until"])
        assert {name: {k: v for k, v in one.items() if k != "change"} for name, one in earlier.items()} == alone
        assert (earlier["messages_in"]["count"], earlier["messages_in"]["change"]["count"]) == (4, 0.5)
        replies = earlier["reply_time"]
        assert (replies["count"], replies["mean"]) == (1, 11)
        assert replies["change"] == {
            "count": 9,
            "sum": 4,
            "mean": -0.5,
            "median": -0.5,
            "p90": round(-1.9 / 11, 6),
            "p95": round(-1.45 / 11, 6),
        }
        # Nothing before: no change that could be told, and no number that is none.
        assert (earlier["transfers"]["count"], earlier["transfers"]["change"]["count"]) == (0, None)
        assert set(earlier["notes"]["change"].values()) == {None}
        assert (await compared(channel="email"))[1]["messages_in"]["change"]["count"] == -1
        of_label = (await compared(label="vip"))[1]
        assert of_label["messages_in"]["count"] == 3
        assert "wait_in_queue" not in of_label
        own = await _key(service, Permission.REPORTS_OWN)
        answer = await service.http.get("/reports/summary", params={**asked, "compare": "true"}, headers=own)
        assert not any(one["count"] for one in answer.json()["previous"]["metrics"])
        answer = await service.http.get("/reports/summary", params=asked, headers=headers)
        assert answer.json()["previous"] is None


async def test_a_metric_by_weekday_and_hour_of_a_zone(servers) -> None:
    """Over the night on which the clocks of Madrid are set back: 25 October 2026, 3:00 is 2:00 again."""
    changed = datetime(2026, 10, 25, 1, tzinfo=UTC)
    period = {"since": "2026-10-18T22:00:00Z", "until": "2026-10-26T23:00:00Z"}  # a Monday, to the next one's end
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        bare = conversation(labels=(), channel="email")
        at = [changed + timedelta(minutes=minutes) for minutes in (-90, -30, -1, 0, 59, 60, 24 * 60 - 75, 24 * 60)]
        await _tell(service, [*((incoming(), when) for when in at), (incoming(bare), changed)])
        waited = [(reply(answered_since=NOON - timedelta(seconds=n)), changed + timedelta(minutes=n)) for n in (10, 30)]
        await _tell(service, waited)

        async def heat(tz="Europe/Madrid", headers=headers, **more) -> dict:
            asked = {**period, "metric": "messages_in", "tz": tz, **more}
            answer = await service.http.get("/reports/heatmap", params=asked, headers=headers)
            assert answer.status_code == 200, answer.text
            cells = answer.json()["cells"]
            assert [(one["weekday"], one["hour"]) for one in cells] == [
                (day, hour) for day in range(1, 8) for hour in range(24)
            ]
            assert all((one["mean"] is None) is (one["count"] == 0) for one in cells)
            assert all(one["sum"] == 0 for one in cells if not one["count"])
            return {(one["weekday"], one["hour"]): one for one in cells}

        def counts(cells) -> dict:
            return {cell: one["count"] for cell, one in cells.items() if one["count"]}

        found = await heat()
        # The hour that came twice has both; the hours after it are an hour of the winter.
        assert counts(found) == {(7, 1): 1, (7, 2): 5, (7, 3): 1, (1, 0): 1, (1, 2): 1}
        assert [found[cell]["hours"] for cell in ((7, 2), (7, 3), (1, 0), (2, 0))] == [2, 1, 2, 1]
        assert sum(one["hours"] for one in found.values()) == 8 * 24 + 1
        # Nepal is 5:45 ahead: its hours are not those of UTC.
        assert counts(await heat("Asia/Kathmandu")) == {(7, 5): 1, (7, 6): 4, (7, 7): 2, (1, 5): 1, (1, 6): 1}
        # By label the facts are read; they say the same.
        assert counts(await heat(label="vip")) == {**counts(found), (7, 2): 4}
        assert counts(await heat(channel="email")) == {(7, 2): 1}
        times = (await heat(metric="reply_time"))[7, 2]
        assert (times["count"], times["sum"], times["mean"]) == (2, 40, 20)
        nothing = await heat(metric="reply_time", business_hours="true")
        assert counts(nothing) == {}, "no calendar measured it: no data"
        # Of a morning the other days are none of the period, which is not nothing happened.
        morning = await heat(since="2026-10-25T06:30:00Z", until="2026-10-25T08:00:00Z")
        assert {cell: one["hours"] for cell, one in morning.items() if one["hours"]} == {(7, 7): 0.5, (7, 8): 1}
        assert counts(await heat(headers=await _key(service, Permission.REPORTS_OWN))) == {}
        for more, pointer in [
            ({"tz": "Mars/Base"}, "/query/tz"),
            ({"since": "2026-10-18T22:00:01Z"}, "/query/since"),
            ({"since": "2010-10-18T22:00:00Z"}, "/query/until"),
            ({"metric": "wait_in_queue", "label": "vip"}, "/query/metric"),
        ]:
            asked = {**period, "metric": "notes", **more}
            answer = await service.http.get("/reports/heatmap", params=asked, headers=headers)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_the_conversations_behind_a_bar_each_once_and_the_last_first(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        often, twice, team = conversation(), conversation(), new_id()
        elsewhere = conversation(team_id=team, channel="email", assignee_id=None)
        written = [(often, 0), (twice, 1), (often, 2), (elsewhere, 3), (twice, 5), (often, 4), (often, 61)]
        await _tell(service, [(incoming(of), NOON + timedelta(minutes=minute)) for of, minute in written])
        same_time = [conversation() for _ in range(3)]
        await _tell(service, [(incoming(of), NOON - timedelta(minutes=1)) for of in same_time])
        await _tell(service, _story()[-1:])

        async def behind(headers=headers, **more) -> list:
            asked, seen = {**PERIOD, "metric": "messages_in", "limit": 2, **more}, []
            while True:
                answer = await service.http.get("/reports/conversations", params=asked, headers=headers)
                assert answer.status_code == 200, answer.text
                seen += answer.json()["items"]
                if answer.json()["next"] is None:
                    return [(one["conversation_id"], one["last_at"][11:16], one["count"]) for one in seen]
                asked["cursor"] = answer.json()["next"]

        listed = await behind()
        assert listed == [
            (often.id, "13:01", 4),
            (twice.id, "12:05", 2),
            (elsewhere.id, "12:03", 1),
            *((of, "11:59", 1) for of in sorted((of.id for of in same_time), reverse=True)),
        ]
        assert sum(count for *_, count in listed) == (await _summary(service, headers))["messages_in"]["count"]
        # The bar of an hour: what happened outside does not count, nor say when the last was.
        hour = {"since": NOON.isoformat(), "until": (NOON + timedelta(hours=1)).isoformat()}
        assert await behind(**hour) == [(twice.id, "12:05", 2), (often.id, "12:04", 3), (elsewhere.id, "12:03", 1)]
        assert await behind(team_id=team) == await behind(channel="email") == [(elsewhere.id, "12:03", 1)]
        assert await behind(metric="notes") == []
        nobody_s: list[int] = []
        # What stands beside "nobody" in groups is asked for as it is of anybody.
        for by, name in (("agent", "agent_id"), ("team", "team_id"), ("inbox", "inbox_id"), ("channel", "channel")):
            groups = (await service.http.get("/reports/groups", params={**PERIOD, "by": by}, headers=headers)).json()
            numbers = {one["key"]: {m["metric"]: m["count"] for m in one["metrics"]} for one in groups["groups"]}
            of_none = numbers.get(None, {}).get("messages_in", 0)
            assert sum(count for *_, count in await behind(**{name: "none"})) == of_none, by
            series = {**PERIOD, "metric": "messages_in", "bucket": "hour", "tz": "UTC", name: "none"}
            points = (await service.http.get("/reports/series", params=series, headers=headers)).json()["points"]
            assert sum(point["count"] for point in points) == of_none, by
            nobody_s.append(of_none)
        assert nobody_s[0] > 0
        assert len(await behind(label="vip")) == 6
        assert await behind(await _key(service, Permission.REPORTS_OWN)) == []
        assert await behind(await _key(service, Permission.REPORTS_ALL, account=new_id())) == []
        for more, pointer in [
            ({"metric": "presence_seconds"}, "/query/metric"),
            ({"metric": "wait_in_queue", "label": "vip"}, "/query/metric"),
            ({"metric": "notes", "cursor": "WyJ4IiwieSJd"}, "/query/cursor"),
            ({"metric": "notes", "agent_id": "nobody"}, "/query/agent_id"),
        ]:
            answer = await service.http.get("/reports/conversations", params={**PERIOD, **more}, headers=headers)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        chosen = {"account_id": ACCOUNT, "since": NOON, "until": NOON + timedelta(days=1)}
        async with service.runtime.database.begin(ACCOUNT) as tx:
            for reach, seen in [
                (store.Reach(team_ids=frozenset({team}), agent_id=new_id()), {elsewhere.id}),
                (store.Reach(agent_id=AGENT), {often.id, twice.id}),
                (store.Reach(), set()),
            ]:
                chosen_by = store.Selection(**chosen, reach=reach)
                rows = await store.conversations(tx, chosen_by, "messages_in", before=None, limit=10)
                assert {row.conversation_id for row in rows} == seen
