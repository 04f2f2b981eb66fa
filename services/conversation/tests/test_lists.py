"""Lists, their orders and pages, and counts: all of them show exactly what the access rule lets one see."""

import asyncio
import itertools
import random
from datetime import timedelta
from typing import Any

import pytest

from relevo.contracts.base import new_id, now
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.conversation import lists
from relevo.conversation.filters import UNRESOLVED_STATUSES, Filters, within_channels
from relevo.conversation.handlers import on_ingest
from relevo.conversation.store import counts
from relevo.kernel.access import ConversationFacts, Viewer, may_see

TEAMS, AGENTS, INBOXES = ([new_id() for _ in range(2)] for _ in range(3))
PEOPLE = """
    update conversations set
        team_id = %(team)s, assignee_id = %(assignee)s, participant_ids = cast(%(people)s as uuid[]),
        owner_id = %(owner)s, status = %(status)s, stage = %(stage)s, archived = %(archived)s,
        resolved_at = case when %(status)s = 'resolved' then now() end, priority = %(priority)s,
        waiting_since = %(waiting)s, first_reply_at = %(replied)s, labels = %(labels)s,
        last_activity_at = %(active)s
    where id = %(id)s
"""


def shuffle(service, seed, share=1.0) -> None:
    """Give some conversations other people, states and times, as any door could."""
    choice = random.Random(seed)
    some = lambda items: choice.choice([None, *items])  # noqa: E731
    import psycopg

    with psycopg.connect(service.dsn) as connection:
        for (id_,) in connection.execute("select id from conversations order by number").fetchall():
            if choice.random() > share:
                continue
            status = choice.choice(["open", "pending", "snoozed", "resolved"])
            archived = status == "resolved" and choice.random() < 0.3
            # Few moments, so that many are equal.
            moment = lambda: now() - timedelta(hours=choice.randrange(4))  # noqa: E731
            connection.execute(
                PEOPLE,
                {
                    "id": id_,
                    "team": some(TEAMS),
                    "assignee": some(AGENTS),
                    "people": choice.choice([[], AGENTS[:1], AGENTS]),
                    "owner": some([*AGENTS, *TEAMS]),
                    "status": status,
                    "stage": "archived" if archived else "closed" if status == "resolved" else "new",
                    "archived": archived,
                    "priority": some(["low", "medium", "high", "urgent"]),
                    "waiting": None if status == "resolved" else some([moment()]),
                    "replied": some([moment()]),
                    "labels": choice.choice([[], ["vip"], ["vip", "envío"]]),
                    "active": moment(),
                },
            )


@pytest.fixture
def filled(run, world):
    """Run an async test body with 60 conversations of two inboxes."""

    def runner(body):
        async def with_rows(service):
            two = [world.inbox.model_copy(update={"id": i}) for i in INBOXES]
            await service.handle(on_ingest, *(world.message(f"c{n}", inbox=two[n % 2]) for n in range(60)))
            await body(service)

        run(with_rows)

    return runner


def every_viewer(account):
    for scope in ConversationScope:
        for agent in (AGENTS[0], None):
            for inboxes in (None, frozenset(INBOXES[:1]), frozenset(INBOXES), frozenset()):
                yield Viewer(account, agent, frozenset(Permission), scope, frozenset(TEAMS[:1]), inboxes)


def seen_by(service, viewer):
    """The rows that the rule shows, by the rule itself."""
    return [
        row
        for row in service.rows("select * from conversations")
        if may_see(
            viewer,
            ConversationFacts(
                account_id=str(row["account_id"]),
                inbox_id=str(row["inbox_id"]),
                team_id=row["team_id"] and str(row["team_id"]),
                assignee_id=row["assignee_id"] and str(row["assignee_id"]),
                participant_ids=frozenset(map(str, row["participant_ids"])),
                owner_id=row["owner_id"] and str(row["owner_id"]),
            ),
        )
    ]


async def paged(service, viewer, filters, sort, limit=7):
    found, place = [], None
    while True:
        async with service.database.begin() as tx:
            rows = await lists.conversations_page(tx, viewer, filters, limit, after=place, sort=sort)
        found += [row for row, _ in rows[:limit]]
        if len(rows) <= limit:
            return found
        place = rows[limit - 1][1]


def test_no_index_has_what_every_message_changes(filled):
    """Rows are changed in place then (HOT); an index of one of these would have a new entry for each message, as all others."""

    async def body(service):
        rows = service.rows("""
            select a.attname as column, d.objid::regclass::text as index from pg_depend d
            join pg_index i on i.indexrelid = d.objid and d.classid = 'pg_class'::regclass
            join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
            where i.indrelid = 'conversations'::regclass
        """)
        found = {(row["index"], row["column"]) for row in rows}
        assert ("conversations_newest", "active_minute") in found
        assert [one for one in found if one[1] in ("last_activity_at", "message_count", "sequence")] == []

    filled(body)


def test_lists_in_every_order_are_what_the_access_rule_lets_one_see(filled, world):
    rank = {"urgent": 4, "high": 3, "medium": 2, "low": 1, None: 0}
    by = {
        "activity": lambda r: (-r["last_activity_at"].timestamp(),),
        "created": lambda r: (-r["number"],),
        "waiting": lambda r: (
            (0, r["waiting_since"].timestamp()) if r["waiting_since"] else (1, -r["last_activity_at"].timestamp())
        ),
        "priority": lambda r: (-rank[r["priority"]], -r["last_activity_at"].timestamp()),
    }

    async def body(service):
        shuffle(service, 1)
        for viewer in every_viewer(world.account_id):
            expected = {str(r["id"]) for r in seen_by(service, viewer) if not r["archived"]}
            for sort, key in by.items():
                rows = await paged(service, viewer, Filters(), sort)
                assert len(rows) == len(expected)
                assert {row["id"] for row in rows} == expected
                assert [key(row) for row in rows] == sorted(map(key, rows)), sort

    filled(body)


def test_counts_stay_right_while_things_move(filled, world):
    async def body(service):
        for seed in range(6):
            shuffle(service, seed, 0.4)
            if seed == 3:
                with_psycopg(service, "delete from messages", "delete from conversations where number % 7 = 0")
            if seed == 4:
                with_psycopg(service, f"select fold_conversation_counts('{world.account_id}')")
                assert not service.rows("select 1 from conversation_count_changes")
            for viewer in every_viewer(world.account_id):
                rows = [r for r in seen_by(service, viewer) if r["status"] != "resolved"]
                async with service.database.begin() as tx:
                    found = await counts.standing(tx, viewer)
                    listed = await lists.count(tx, viewer, Filters(status=UNRESOLVED_STATUSES))
                    unattended = await lists.count(tx, viewer, Filters(unattended=True))
                assert found["open"] == listed == len(rows)
                assert found["unassigned"] == sum(r["assignee_id"] is None for r in rows)
                assert found.get("mine", 0) == sum(str(r["assignee_id"]) == viewer.agent_id for r in rows)
                assert found["unattended"] == unattended

    filled(body)


def with_psycopg(service, *statements):
    import psycopg

    with psycopg.connect(service.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def test_counts_are_folded_by_themselves_and_by_several_at_once(filled, world):
    async def body(service):
        async def resolve(n):
            async with service.database.begin() as tx:
                for again in range(6):
                    status, at = ("resolved", "now()") if again % 2 else ("open", "null")
                    await tx.conn.execute(
                        f"update conversations set status = '{status}', stage = 'new', resolved_at = {at} "
                        f"where number % 60 = {n}"
                    )

        await asyncio.gather(*(resolve(n) for n in range(60)))
        assert len(service.rows("select 1 from conversation_count_changes")) < 250
        (total,) = service.rows(
            "select (select coalesce(sum(n), 0) from conversation_counts)"
            " + (select coalesce(sum(n), 0) from conversation_count_changes) as n,"
            " (select count(*) from conversations where status <> 'resolved') as expected"
        )
        assert total["n"] == total["expected"] == 0

    filled(body)


def test_filters_narrow_to_exactly_what_they_say(filled, world):
    async def body(service):
        shuffle(service, 2)
        admin = Viewer(world.account_id, AGENTS[0], frozenset(Permission), ConversationScope.ALL)
        rows = [r for r in service.rows("select * from conversations") if not r["archived"]]
        hour = now() - timedelta(minutes=90)
        filters = {
            "status": (Filters(status=("open", "pending")), lambda r: r["status"] in ("open", "pending")),
            "inbox": (Filters(inbox_ids=(INBOXES[0],)), lambda r: str(r["inbox_id"]) == INBOXES[0]),
            "inboxes": (Filters(inbox_ids=tuple(INBOXES)), lambda r: True),
            "assignee": (Filters(assignee_id=AGENTS[1]), lambda r: str(r["assignee_id"]) == AGENTS[1]),
            "nobody": (Filters(unassigned=True), lambda r: r["assignee_id"] is None),
            "team": (Filters(team_id=TEAMS[0]), lambda r: str(r["team_id"]) == TEAMS[0]),
            "no team": (Filters(no_team=True), lambda r: r["team_id"] is None),
            "labels": (Filters(labels=("vip", "envío")), lambda r: {"vip", "envío"} <= set(r["labels"])),
            "priority": (Filters(priority=("high", "urgent")), lambda r: r["priority"] in ("high", "urgent")),
            "participant": (Filters(participant_id=AGENTS[0]), lambda r: AGENTS[0] in map(str, r["participant_ids"])),
            "active": (Filters(active=(hour, None)), lambda r: r["last_activity_at"] >= hour),
            "before": (Filters(active=(None, hour)), lambda r: r["last_activity_at"] < hour),
            "created": (Filters(created=(hour, now())), lambda r: True),
            "among": (Filters(among=(str(rows[0]["id"]),)), lambda r: r["id"] == rows[0]["id"]),
            "none": (Filters(among=()), lambda r: False),
            "unattended": (
                Filters(unattended=True),
                lambda r: r["status"] in ("open", "pending") and (r["waiting_since"] or not r["first_reply_at"]),
            ),
        }
        for name, (wanted, holds) in filters.items():
            expected = {str(r["id"]) for r in rows if holds(r)}
            assert {r["id"] for r in await paged(service, admin, wanted, "activity", 25)} == expected, name
            async with service.database.begin() as tx:
                assert await lists.count(tx, admin, wanted) == len(expected), name
        archived = {str(r["id"]) for r in service.rows("select id from conversations where archived")}
        assert {r["id"] for r in await paged(service, admin, Filters(archived=True), "activity")} == archived

    filled(body)


def test_whatever_is_asked_for_nobody_sees_more_or_less_of_it(filled, world):
    """What filters say of conversations is taken out of the access rule: it must not be taken for more than it says."""
    inboxes = ((), INBOXES[:1], INBOXES[1:], INBOXES)
    people: Any = ({}, {"assignee_id": AGENTS[0]}, {"assignee_id": AGENTS[1]}, {"unassigned": True})
    teams: Any = ({}, {"team_id": TEAMS[0]}, {"team_id": TEAMS[1]}, {"no_team": True})
    stages = ((), ("archived",), ("closed",), ("closed", "archived"))

    def holds(row, asked):
        return (
            (not asked.inbox_ids or str(row["inbox_id"]) in asked.inbox_ids)
            and (not asked.assignee_id or str(row["assignee_id"]) == asked.assignee_id)
            and (not asked.unassigned or row["assignee_id"] is None)
            and (not asked.team_id or str(row["team_id"]) == asked.team_id)
            and (not asked.no_team or row["team_id"] is None)
            and (row["stage"] in asked.stage if asked.stage else not row["archived"])
        )

    async def body(service):
        shuffle(service, 5)
        cases = [
            (viewer, Filters(inbox_ids=tuple(of), **assigned, **team, stage=stage))
            for viewer in every_viewer(world.account_id)
            for of, assigned, team, stage in itertools.product(inboxes, people, teams, stages)
        ]
        left = 0
        async with service.database.begin(world.account_id) as tx:
            for viewer, asked in random.Random(7).sample(cases, 600):
                expected = {str(row["id"]) for row in seen_by(service, viewer) if holds(row, asked)}
                rows = await lists.conversations_page(tx, viewer, asked, 100)
                assert {row["id"] for row, _ in rows} == expected, (viewer, asked)
                left += len(expected)
        assert left > 600

    filled(body)


def test_a_channel_is_its_inboxes():
    channels = {"a": "email", "b": "email", "c": "webchat"}
    of = lambda *inboxes: within_channels(Filters(channel=("email",), inbox_ids=inboxes), channels)  # noqa: E731
    assert of() == Filters(inbox_ids=("a", "b"))
    assert of("b", "c").inbox_ids == ("b",)
    assert of("unknown").inbox_ids == ("unknown",)
    assert of("c").among == ()
    assert within_channels(Filters(inbox_ids=("c",)), channels).inbox_ids == ("c",)
    assert within_channels(Filters(channel=("api",)), channels) == Filters(channel=("api",))


def test_views_are_saved_for_oneself_or_for_all(at_desk):
    async def body(desk):
        _, of_ana = await desk.agent()
        _, of_eva = await desk.agent("supervisor")
        await desk.customer_writes("c1")
        await desk.customer_writes("c2")
        mine = {"name": " Mis  urgentes ", "filters": {"view": "mine", "priority": ["urgent"], "sort": "waiting"}}
        made = await desk.post("/views", of_ana, mine, idempotency_key="v1")
        assert made.status_code == 201, made.text
        assert (made.json()["name"], made.headers["etag"]) == ("Mis urgentes", '"1"')
        assert (await desk.post("/views", of_ana, mine, idempotency_key="v1")).json() == made.json()
        refused = await desk.post("/views", of_ana, {**mine, "shared": True})
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")
        shared = await desk.post(
            "/views", of_eva, {"name": "Sin dueño", "shared": True, "filters": {"view": "unassigned"}}
        )
        names = lambda answer: [view["name"] for view in answer.json()["items"]]  # noqa: E731
        assert names(await desk.get("/views", of_ana)) == ["Mis urgentes", "Sin dueño"]
        assert names(await desk.get("/views", of_eva)) == ["Sin dueño"]
        counted = (await desk.get("/views/counts", of_ana)).json()["items"]
        assert [(one["count"], one["more"]) for one in counted] == [(0, False), (2, False)]
        listed = await desk.get("/conversations", of_ana, saved=shared.json()["id"])
        assert len(listed.json()["items"]) == 2
        path = f"/views/{made.json()['id']}"
        assert (await desk.get(path, of_eva)).status_code == 404
        assert (await desk.get("/conversations", of_eva, saved=made.json()["id"])).status_code == 404
        http = desk.service.http
        assert (await http.put(path, headers=of_ana, json=mine)).status_code == 428
        edited = await http.put(path, headers=of_ana | {"if-match": '"1"'}, json={**mine, "name": "Otra"})
        assert (edited.status_code, edited.json()["version"]) == (200, 2)
        stale = await http.put(path, headers=of_ana | {"if-match": '"1"'}, json=mine)
        assert (stale.status_code, stale.json()["present"]["name"]) == (412, "Otra")
        theirs = f"/views/{shared.json()['id']}"
        assert (await http.delete(theirs, headers=of_ana | {"if-match": "*"})).status_code == 403
        assert (await http.delete(path, headers=of_ana | {"if-match": "*"})).status_code == 204
        assert names(await desk.get("/views", of_ana)) == ["Sin dueño"]
        bad = await desk.post("/views", of_ana, {"name": " ", "filters": {"status": ["abierta"]}})
        assert {error["pointer"] for error in bad.json()["errors"]} == {"/name", "/filters/status/0"}

    at_desk(body)


def test_standing_views_over_http(at_desk):
    async def body(desk):
        _, who = await desk.agent("supervisor")
        team = new_id()
        luis, of_luis = await desk.agent(teams=(team,))
        from relevo.contracts.identity import TeamState

        await desk.know("team", TeamState(id=team, account_id=desk.world.account_id, name="Ventas", member_ids=(luis,)))
        for n in range(4):
            await desk.customer_writes(f"c{n}")
        ids = [c["id"] for c in (await desk.get("/conversations", who, sort="created")).json()["items"]]
        note = {"text": "mira esto", "private": True}
        await desk.post(f"/conversations/{ids[0]}/messages", who, note | {"mentions": [f"agent:{luis}"]})
        await desk.post(f"/conversations/{ids[1]}/messages", who, note | {"mentions": [f"team:{team}"]})
        await desk.post(f"/conversations/{ids[2]}/messages", who, {"text": "respondido"})

        async def found(headers, **params):
            answer = await desk.get("/conversations", headers, sort="created", **params)
            assert answer.status_code == 200, answer.text
            return [c["id"] for c in answer.json()["items"]]

        assert await found(of_luis, view="mentions") == ids[:2]
        assert await found(of_luis, view="participating") == ids[:2]
        assert await found(who, view="mentions") == []
        assert await found(who, view="unattended") == [ids[0], ids[1], ids[3]]
        assert await found(who, view="mine") == []
        assert await found(who, view="unassigned") == await found(who, view="all") == ids
        await desk.post(f"/conversations/{ids[0]}/resolve", who)
        assert await found(of_luis, view="mentions") == ids[1:2]
        assert await found(of_luis, view="mentions", status="resolved") == ids[:1]
        counted = (await desk.get("/conversations/counts", of_luis)).json()
        assert {name: one["count"] for name, one in counted.items()} == {
            "open": 3, "unassigned": 3, "mine": 0, "unattended": 2, "mentions": 1, "participating": 1,
        }  # fmt: skip
        assert (await desk.get("/conversations/count", who, view="unattended")).json() == {"count": 2, "more": False}
        page = (await desk.get("/conversations", who, sort="waiting", limit=1)).json()
        other = await desk.get("/conversations", who, sort="priority", cursor=page["next"])
        assert (other.status_code, other.json()["code"]) == (422, "invalid_cursor")

    at_desk(body)
