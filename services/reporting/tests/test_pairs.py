"""One metric by two things at once, and how many of a time took how long."""

from datetime import timedelta

import pytest

from relevo.chassis.testing import running
from relevo.contracts.base import new_id
from relevo.contracts.permissions import Permission
from relevo.reporting import pairs
from relevo.reporting.app import build

from .samples import AGENT, NOON, TEAM, conversation, incoming, reply
from .test_labels import _label
from .test_service import PERIOD, _key, _story, _summary, _tell


async def _pairs(service, headers, **asked):
    answer = await service.http.get("/reports/pairs", params={**PERIOD, **asked}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_metric_by_two_things_at_once(servers, monkeypatch) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL) | {"Accept-Language": "en"}
        other = new_id()
        both = conversation(inbox_id=other, labels=("queja", "vip"), team_id=None)
        await _tell(service, [*_story(), (incoming(both), NOON), (incoming(both), NOON)])
        for label in ("vip", "queja"):
            await _label(service, label)
        found = await _pairs(service, headers, metric="messages_in", by="label", across="inbox")
        cells = {(one["by_name"], one["across_key"]): one["count"] for one in found["pairs"]}
        assert cells[("queja", other)] == cells[("vip", other)] == 2, "what has several labels counts for each"
        turned = await _pairs(service, headers, metric="messages_in", by="inbox", across="label")
        assert {(one["across_name"], one["by_key"]): one["count"] for one in turned["pairs"]} == cells

        found = await _pairs(service, headers, metric="messages_in", by="inbox", across="team")
        assert [
            (one["by_key"], one["across_key"], one["count"]) for one in found["pairs"] if one["by_key"] == other
        ] == [(other, None, 2)]
        assert (found["unit"], found["more"]) == ("count", False)
        whole = (await _summary(service, headers))["messages_in"]["count"]
        assert sum(one["count"] for one in found["pairs"]) == whole

        (replies,) = (await _pairs(service, headers, metric="reply_time", by="agent", across="team"))["pairs"]
        assert (replies["by_key"], replies["across_key"], replies["count"], replies["mean"]) == (AGENT, TEAM, 10, 5.5)
        assert (await _pairs(service, headers, metric="reply_time", by="agent", across="team", channel="email"))[
            "pairs"
        ] == []
        own = await _key(service, Permission.REPORTS_OWN)
        assert (await _pairs(service, own, metric="messages_in", by="inbox", across="team"))["pairs"] == []
        monkeypatch.setattr(pairs, "MAX_PAIRS", 1)
        most = await _pairs(service, headers, metric="messages_in", by="inbox", across="team")
        assert (most["more"], [one["count"] for one in most["pairs"]]) == (True, [whole - 2])


async def test_how_many_took_how_long(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        mail = conversation(channel="email")

        def answered(seconds, snapshot=None):
            return reply(snapshot=snapshot, answered_since=NOON - timedelta(seconds=seconds)), NOON

        story = [answered(second) for second in (1, 59, 60, 3599, 3600, 90_000)]
        await _tell(service, [*story, answered(10, mail), answered(100_000, mail)])

        async def spread(**more):
            answer = await service.http.get(
                "/reports/distribution", params={**PERIOD, "metric": "reply_time", **more}, headers=headers
            )
            assert answer.status_code == 200, answer.text
            return answer.json()

        found = await spread()
        assert found["edges"] == [3600, 14_400, 28_800, 86_400]
        assert [(one["key"], one["count"], one["counts"]) for one in found["groups"]] == [(None, 8, [5, 1, 0, 0, 2])]
        by_channel = await spread(by="channel", edges=[60, 3600])
        assert {one["key"]: one["counts"] for one in by_channel["groups"]} == {
            "webchat": [2, 2, 2],
            "email": [1, 0, 1],
        }
        nothing = await spread(channel="voice")
        assert [one["counts"] for one in nothing["groups"]] == [[0] * 5]
        # What no calendar measured is in no span.
        assert [one["count"] for one in (await spread(business_hours="true"))["groups"]] == [0]


@pytest.mark.parametrize(
    ("path", "asked", "pointer"),
    [
        ("pairs", {"metric": "messages_in", "by": "inbox", "across": "inbox"}, "/query/across"),
        ("pairs", {"metric": "wait_in_queue", "by": "label", "across": "inbox"}, "/query/metric"),
        ("pairs", {"metric": "messages_in", "by": "inbox", "across": "mood"}, "/query/across"),
        ("distribution", {"metric": "messages_in"}, "/query/metric"),
        ("distribution", {"metric": "reply_time", "edges": [60, 60]}, "/query/edges"),
        ("distribution", {"metric": "reply_time", "edges": [0]}, "/query/edges"),
        ("distribution", {"metric": "wait_in_queue", "label": "vip"}, "/query/metric"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_the_mend(servers, path, asked, pointer) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        answer = await service.http.get(f"/reports/{path}", params={**PERIOD, **asked}, headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer
