"""Assignment as others meet it: events in, decisions out, HTTP; on a real database and broker."""

import asyncio
import json
import re
from datetime import timedelta

import psycopg
from sqlalchemy import text

from relevo.assignment.store import people
from relevo.contracts import assignment
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import (
    ConversationImported,
    ConversationMadePending,
    ConversationOpened,
    ConversationReopened,
    ConversationSnoozed,
    ConversationTakenOver,
    ConversationWoken,
    PriorityChanged,
)
from relevo.contracts.identity import RoleChanged
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import RulesChanged
from relevo.contracts.snapshots import ContactSnapshot


async def told(service, one=None):
    """What assignment published, on one conversation or on all, in order."""
    stored = await service.admin.stored("EVT_ASSIGNMENT")
    return [
        json.loads(body) | {"type": headers["ce-type"].split(".")[-2], "cause": headers.get("relevo-causation-id")}
        for _, headers, body in stored
        if one is None or headers["ce-subject"] == one
    ]


async def assert_consistent(service):
    with psycopg.connect(service.dsn) as connection:
        accounts = [str(row[0]) for row in connection.execute("select account_id from pools")]
    async with service.runtime.database.begin(*accounts) as tx:
        assert await people.wrong_loads(tx) == []
        failed = (await tx.execute(text("select kind, error from journal where error is not null"))).all()
    assert failed == []


async def holder(service, world, one, who):
    answer = await service.http.get(f"/conversations/{one}/assignment", headers=world.as_(who))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_is_imported_is_nobody_s_until_somebody_opens_it_again(service, world, settled):
    ana = await world.hire("Ana")
    await settled()
    one = await world.open(told=ConversationImported, status="resolved", resolved_at=now(), historic=True)
    await settled()
    assert await told(service, one) == []
    await world.change_to(ConversationReopened, one, status="open", resolved_at=None, cycle=2)
    await settled()
    assert [event["assignee_id"] for event in await told(service, one)] == [ana]
    await assert_consistent(service)


async def test_new_conversations_go_round_and_say_why(service, world, settled):
    ana, bea = await world.hire("Ana"), await world.hire("Bea")
    await settled()
    ones = []
    for _ in range(4):
        ones.append(await world.open())
        await settled()
    events = [(await told(service, one))[0] for one in ones]
    assert [event["assignee_id"] for event in events] == [ana, bea, ana, bea]
    assert all(event["type"] == "conversation_assigned" and event["version"] == 1 for event in events)
    assert all(event["cause"] for event in events)
    assert events[0]["reason"]["en"] == "Round robin: Ana was next of 2 available agents."
    measured = (await service.http.get("http://test/metrics")).text
    assert re.search(r'^relevo_assignment_decisions_total\{kind="assigned"\} [1-9]', measured, re.MULTILINE)
    assert "\nrelevo_assignment_run_seconds_bucket" in measured
    assert re.search(r"^relevo_assignment_matching_seconds_count [1-9]", measured, re.MULTILINE)
    shown = await holder(service, world, ones[0], ana)
    assert (shown["state"], shown["assignee_id"]) == ("assigned", ana)
    assert shown["reason"] == {"code": "round_robin", "text": events[0]["reason"]["en"]}
    why = (await service.http.get(f"/conversations/{ones[0]}/decisions", headers=world.as_(ana))).json()["items"]
    assert (why[0]["id"], why[0]["assignee_name"], why[0]["runners_up"]) == (shown["decision_id"], "Ana", ["Bea"])
    await assert_consistent(service)


async def test_who_waits_is_served_the_moment_somebody_can(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana", state="away")
    await settled()
    await service.http.put(f"/routing/agents/{ana}/capacity", json={"capacity": 2}, headers=world.as_(boss))
    await settled()
    ones = [await world.open(priority=priority) for priority in (None, None, "urgent")]
    await settled()
    queue = (await service.http.get("/queue", headers=world.as_(boss))).json()["items"]
    assert queue[0]["conversation_id"] == ones[2]
    assert [one["position"] for one in queue] == [1, 2, 3]
    assert (await told(service, ones[0]))[0]["type"] == "conversation_queued"
    await world.status(ana, "available")
    await settled()
    events = await told(service, ones[2])
    assert [event["type"] for event in events] == ["conversation_queued", "conversation_assigned"]
    assert events[1]["waited_seconds"] > 0
    queue = (await service.http.get("/queue", headers=world.as_(boss))).json()["items"]
    assert len(queue) == 1
    await world.resolve(ones[2])
    await settled()
    assert (await holder(service, world, queue[0]["conversation_id"], boss))["assignee_id"] == ana
    assert (await holder(service, world, ones[2], boss))["assignee_id"] == ana, "a closed one shows its last holder"
    loads = (await service.http.get("/routing/agents", headers=world.as_(boss))).json()["items"]
    assert [(one["name"], one["load"], one["capacity"]) for one in loads] == [("Ana", 2, 2), ("Boss", 0, 10)]
    await assert_consistent(service)


async def test_what_is_put_off_left_to_a_bot_or_made_urgent_in_the_queue(service, world, settled):
    ana = await world.hire("Ana", state="offline")
    await settled()
    plain, asleep, with_bot, urgent = [await world.open() for _ in range(4)]
    await settled()
    await world.change_to(ConversationSnoozed, asleep, status="snoozed")
    await world.change_to(ConversationMadePending, with_bot, status="pending")
    await world.change_to(PriorityChanged, urgent, priority="urgent")
    await settled()
    assert [one["reason"]["code"] for one in await told(service, asleep)] == ["no_agent_available", "snoozed"]
    assert [one["reason"]["code"] for one in await told(service, with_bot)] == ["no_agent_available", "bot"]
    await world.status(ana, "available")
    await settled()
    given = [one["conversation_id"] for one in await told(service) if one["type"] == "conversation_assigned"]
    assert given == [urgent, plain]
    await world.change_to(ConversationSnoozed, plain, status="snoozed")
    await settled()
    await world.status(ana, "offline")
    await settled()
    await world.change_to(ConversationWoken, plain, status="open", cause="time")
    await world.change_to(ConversationTakenOver, with_bot, status="open")
    await settled()
    assert ((await told(service, plain))[-1]["reason"]["code"], (await told(service, plain))[-1]["assignee_id"]) == (
        "woken",
        ana,
    )
    assert (await told(service, with_bot))[-1]["type"] == "conversation_queued"
    await assert_consistent(service)


async def test_the_queue_in_pages_shows_each_once_and_only_what_one_may_see(service, world, settled):
    team = await world.team("Ventas")
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana", state=None)
    await settled()
    ones = [await world.open(team_id=team if n == 3 else None) for n in range(7)]
    await settled()

    async def pages(who):
        found, cursor = [], None
        while True:
            given = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await service.http.get("/queue", params=given, headers=world.as_(who))).json()
            found += [(one["conversation_id"], one["position"]) for one in page["items"]]
            cursor = page["next"]
            if cursor is None:
                return found

    assert await pages(boss) == list(zip(ones, range(1, 8), strict=True))
    assert await pages(ana) == [(one, n) for n, one in enumerate(ones, 1) if n != 4]


async def test_whom_one_can_choose_is_found_by_name_and_is_whom_assigning_accepts(service, world, settled):
    team = await world.team("Ventas")
    boss = await world.hire("Boss", "administrator", None)
    people = {
        name: await world.hire(name, state=None, team_ids=(team,) if name == "Íñigo Peña" else ())
        for name in ("Íñigo Peña", "Ana Pena", "Bea")
    }
    gone = await world.hire("Gone Pena", state=None)
    await world.dismiss(gone)
    await settled()
    one = await world.open(team_id=team)
    await settled()

    async def names(who, **asked):
        found, more = [], {}
        while True:
            path = f"/conversations/{one}/assignment/candidates"
            page = await service.http.get(path, params=asked | {"limit": 1} | more, headers=world.as_(who))
            assert page.status_code == 200, page.text
            found += [(item["name"], item["reaches"]) for item in page.json()["items"]]
            if page.json()["next"] is None:
                return found
            more = {"cursor": page.json()["next"]}

    assert await names(boss, q="PEÑA") == [("Ana Pena", False), ("Íñigo Peña", True)]
    assert await names(boss, q="in") == [("Íñigo Peña", True)]
    assert await names(boss, team_id=team) == [("Íñigo Peña", True)]
    offered = {name for name, _ in await names(boss)}
    for name, agent_id in [*people.items(), ("Boss", boss), ("Gone Pena", gone)]:
        path = f"/conversations/{one}/assignment"
        answer = await service.http.post(path, json={"assignee_id": agent_id}, headers=world.as_(boss))
        assert (answer.status_code == 200) == (name in offered), name
        both = await service.http.post(path, json={"assignee_id": agent_id, "team_id": team}, headers=world.as_(boss))
        assert (both.status_code == 200) == (name == "Íñigo Peña"), name


async def test_by_hand_wins_and_answers_the_outcome(service, world, settled):
    ana, bea = await world.hire("Ana"), await world.hire("Bea", state="away")
    await settled()
    one = await world.open()
    await settled()
    path = f"/conversations/{one}/assignment"
    me = world.as_(bea)
    taken = await service.http.post(path, json={"assignee_id": "me"}, headers=me)
    assert taken.status_code == 200, taken.text
    assert (taken.json()["assignee_id"], taken.json()["reason"]["code"]) == (bea, "self")
    again = await service.http.post(path, json={"assignee_id": bea}, headers=me)
    assert again.json()["version"] == taken.json()["version"]
    loser = await service.http.post(path, json={"assignee_id": ana, "version": 1}, headers=me)
    assert (loser.status_code, loser.json()["code"]) == (409, "version_conflict")
    assert loser.json()["current"]["assignee_id"] == bea
    nobody = await service.http.post(path, json={"assignee_id": None}, headers=me)
    assert (nobody.json()["state"], nobody.json()["reason"]["text"]) == ("unassigned", "Bea left it without an agent.")
    await settled()
    events = await told(service, one)
    assert [event["version"] for event in events] == [1, 2, 3]
    assert [event["mode"] for event in events] == ["automatic", "manual", "manual"]
    await assert_consistent(service)


async def test_a_team_by_hand_and_what_cannot_be(service, world, settled):
    team = await world.team("Ventas")
    ana = await world.hire("Ana")
    bea = await world.hire("Bea", team_ids=(team,))
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    one = await world.open()
    await settled()
    path, head = f"/conversations/{one}/assignment", world.as_(boss)
    moved = (await service.http.post(path, json={"team_id": team}, headers=head)).json()
    assert (moved["team_id"], moved["assignee_id"], moved["state"]) == (team, bea, "assigned")
    assert moved["reason"]["text"].startswith("Boss gave it to the team Ventas. Round robin: Bea was next")
    for body, code in (
        ({"assignee_id": new_id()}, "agent_not_found"),
        ({"team_id": new_id()}, "team_not_found"),
        ({"team_id": team, "assignee_id": ana}, "agent_not_in_team"),
        ({}, "nothing_to_change"),
        ({"assignee_id": "you"}, "validation_failed"),
    ):
        refused = await service.http.post(path, json=body, headers=head)
        assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
    missing = await service.http.post(f"/conversations/{new_id()}/assignment", json={"assignee_id": ana}, headers=head)
    assert missing.status_code == 404
    unseen = await service.http.post(path, json={"assignee_id": "me"}, headers=world.as_(ana))
    assert unseen.status_code == 404, "another team's conversation does not exist for an agent"
    await world.join(one, ana)
    await settled()
    assert (await service.http.get(path, headers=world.as_(ana))).status_code == 200, "a participant sees it"


async def test_commands_of_rules_and_one_that_comes_before_its_conversation(service, world, settled):
    ana, bea = await world.hire("Ana"), await world.hire("Bea", state="offline")
    await settled()
    early = new_id()
    wish = assignment.Assign(conversation_id=early, assignee_id=bea)
    await world.admin.publish(wish, account=world.account, entity=early, actor="rule:r1")
    await settled()
    assert await told(service) == []
    await settled()
    one = await world.open()
    snapshot = world.conversations.pop(one).model_copy(update={"id": early})
    world.conversations[early] = snapshot
    await world.tell(ConversationOpened(conversation=snapshot), early)
    await settled()
    events = await told(service, early)
    assert [(event["assignee_id"], event["mode"]) for event in events] == [(ana, "automatic"), (bea, "automation")]
    await assert_consistent(service)


async def test_what_an_agent_s_macro_asks_for_counts_as_by_hand_and_stands_against_rules(service, world, settled):
    ana, bea = await world.hire("Ana"), await world.hire("Bea", state="offline")
    await settled()
    one = await world.open()
    await settled()
    for actor, wish in (
        (f"agent:{ana}", assignment.Assign(conversation_id=one, assignee_id=bea)),
        # A rule that was judged before that.
        ("rule:r1", assignment.Assign(conversation_id=one, assignee_id=ana, seen_version=1)),
    ):
        await world.admin.publish(wish, account=world.account, entity=one, actor=actor)
        await settled()
    events = await told(service, one)
    assert [(event["assignee_id"], event["mode"]) for event in events] == [(ana, "automatic"), (bea, "manual")]
    assert events[-1]["reason"]["en"].startswith("Ana")


async def test_a_removed_agents_conversations_wait_for_another(service, world, settled):
    ana, boss = await world.hire("Ana"), await world.hire("Boss", "administrator", None)
    await settled()
    ones = [await world.open() for _ in range(3)]
    await settled()
    await world.dismiss(ana)
    await settled()
    for one in ones:
        last = (await told(service, one))[-1]
        assert (last["type"], last["from_assignee_id"], last["reason"]["code"]) == (
            "conversation_queued",
            ana,
            "agent_removed",
        )
    await world.hire("Bea")
    await settled()
    assert (await service.http.get("/queue", headers=world.as_(boss))).json()["items"] == []
    await assert_consistent(service)


async def test_reopened_goes_back_to_its_agent_or_to_another(service, world, settled):
    ana = await world.hire("Ana")
    await settled()
    one = await world.open()
    await settled()
    await world.resolve(one)
    await world.reopen(one)
    await settled()
    assert (await told(service, one))[-1]["reason"]["code"] == "same_agent"
    await world.resolve(one)
    await world.status(ana, "away")
    bea = await world.hire("Bea")
    await settled()
    await world.reopen(one)
    await settled()
    last = (await told(service, one))[-1]
    assert (last["assignee_id"], last["from_assignee_id"], last["version"]) == (bea, ana, 3)


async def test_the_policy_is_edited_with_its_etag_and_takes_effect_at_once(service, world, settled):
    await world.hire("Ana", state="busy")
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    one = await world.open()
    await settled()
    head = world.as_(boss)
    answer = await service.http.get("/routing/policy", headers=head)
    etag, body = answer.headers["ETag"], answer.json()
    assert (body["strategy"], body["version"]) == ("round_robin", 1)
    change = {"strategy": "least_loaded", "default_capacity": 5, "busy_as_fallback": True}
    assert (await service.http.put("/routing/policy", json=change, headers=head)).status_code == 428
    done = await service.http.put("/routing/policy", json=change, headers=head | {"If-Match": etag})
    assert (done.status_code, done.json()["version"]) == (200, 2)
    stale = await service.http.put("/routing/policy", json=change, headers=head | {"If-Match": etag})
    assert (stale.status_code, stale.json()["current"]["version"]) == (412, 2)
    # As a proxy that compresses makes it.
    weak = await service.http.put(
        "/routing/policy", json=change, headers=head | {"If-Match": f"W/{done.headers['ETag']}"}
    )
    assert (weak.status_code, weak.json()["version"]) == (200, 3)
    shown = await holder(service, world, one, boss)
    assert (shown["state"], shown["reason"]["code"]) == ("assigned", "least_loaded")


async def test_who_has_been_idle_longest_goes_first_where_the_policy_says_so(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana")
    bea = await world.hire("Bea")
    await settled()
    change = {"strategy": "longest_idle", "default_capacity": 5, "busy_as_fallback": False}
    answer = await service.http.put("/routing/policy", json=change, headers=world.as_(boss) | {"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    got = []
    for _ in range(3):
        one = await world.open()
        await settled()
        last = (await told(service, one))[-1]
        got.append((last["assignee_id"], last["reason"]["code"]))
        await world.resolve(one)
        await settled()
    assert got == [(ana, "longest_idle"), (bea, "longest_idle"), (ana, "longest_idle")]


async def test_a_contact_s_next_conversation_goes_to_whoever_had_their_last_one_where_the_policy_says_so(
    service, world, settled
):
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana")
    await settled()
    contact = ContactSnapshot(id=new_id())
    first = await world.open(contact=contact)
    await settled()
    await world.resolve(first)
    await world.hire("Bea")
    await settled()
    change = {"strategy": "round_robin", "default_capacity": 5, "busy_as_fallback": False, "last_agent_days": 30}
    answer = await service.http.put("/routing/policy", json=change, headers=world.as_(boss) | {"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    one = await world.open(contact=contact)
    await settled()
    last = (await told(service, one))[-1]
    assert (last["assignee_id"], last["reason"]["code"]) == (ana, "last_agent"), "it was bea's turn"


async def test_waiting_weighs_against_priority_where_the_policy_says_so(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana", state="offline")
    await settled()
    change = {
        "strategy": "round_robin",
        "default_capacity": 1,
        "busy_as_fallback": False,
        "priority_worth_seconds": 600,
    }
    answer = await service.http.put("/routing/policy", json=change, headers=world.as_(boss) | {"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    ago = {"low": 31, "urgent": 0, "medium": 19}
    ones = [await world.open(priority=one, opened_at=now() - timedelta(minutes=n)) for one, n in ago.items()]
    await settled()
    head = world.as_(boss)
    first = (await service.http.get("/queue", params={"limit": 2}, headers=head)).json()
    rest = (await service.http.get("/queue", params={"cursor": first["next"]}, headers=head)).json()
    shown = [(one["conversation_id"], one["position"]) for one in first["items"] + rest["items"]]
    low, urgent, medium = ones
    assert shown == [(low, 1), (urgent, 2), (medium, 3)]
    then = await service.http.get("/queue/as-of", params={"at": now().isoformat()}, headers=head)
    assert [(one["conversation_id"], one["position"]) for one in then.json()["items"]] == shown
    assert (await holder(service, world, urgent, boss))["position"] == 2
    wait = await service.http.get(f"/conversations/{medium}/assignment/wait", headers=head)
    assert wait.json()["place"] == 3
    await world.status(ana, "available")
    await settled()
    assert (await holder(service, world, low, boss))["state"] == "assigned", "the highest priority had its turn before"


async def test_a_conversation_goes_to_the_owner_of_its_contact_and_waits_for_them_where_the_account_says_so(
    service, world, settled
):
    boss = await world.hire("Boss", "administrator", None)
    await world.hire("Ana")
    bea = await world.hire("Bea", state="offline")
    await settled()
    policy = await service.http.get("/routing/policy", headers=world.as_(boss))
    wish = policy.json() | {"owner_absent": "wait"}
    del wish["version"]
    given = await service.http.put("/routing/policy", json=wish, headers=world.as_(boss) | {"If-Match": "*"})
    assert given.json()["owner_absent"] == "wait"
    one = await world.open(contact=ContactSnapshot(id=new_id(), owner_id=bea))
    await settled()
    shown = await holder(service, world, one, boss)
    assert (shown["state"], shown["reason"]["code"]) == ("unassigned", "owner_absent")
    assert shown["reason"]["text"] == "Stays in the inbox for Bea, the owner of this contact, who is not there."
    await world.status(bea, "available")
    await settled()
    last = (await told(service, one))[-1]
    assert (last["assignee_id"], last["reason"]["code"]) == (bea, "owner")
    await assert_consistent(service)


async def test_loads_are_told_of_accounts_whose_rules_look_at_them(service, world, settled):
    async def loads():
        stored = [
            json.loads(body) for _, _, body in await service.admin.stored("EVT_ASSIGNMENT") if b"capacity" in body
        ]
        return [(one["agent_id"], one["open"], one["capacity"], one["received"]) for one in stored]

    ana, boss = await world.hire("Ana"), await world.hire("Boss", "administrator", None)
    await settled()
    await world.open()
    await settled()
    assert await loads() == []
    await world.tell(RulesChanged(account_id=world.account, watches_load=True), world.account)
    await settled()
    assert sorted(await loads()) == sorted([(ana, 1, 10, 0), (boss, 0, 10, 0)])
    two = await world.open()
    await settled()
    assert (await loads())[-1] == (ana, 2, 10, 1)
    await world.resolve(two)
    await settled()
    assert (await loads())[-1] == (ana, 1, 10, 0)
    await world.tell(RulesChanged(account_id=world.account, watches_load=False), world.account)
    await settled()
    told = len(await loads())
    await world.open()
    await settled()
    assert len(await loads()) == told


async def test_what_cannot_be_decided_is_put_aside_and_the_rest_goes_on(service, world, settled):
    ana = await world.hire("Ana")
    await settled()
    async with service.runtime.database.begin(world.account) as tx:
        await tx.execute(
            text("insert into journal (account_id, kind, payload) values (cast(:a as uuid), 'opened', '{}')"),
            {"a": world.account},
        )
        await tx.execute(  # readable, and impossible to store
            text(
                "insert into journal (account_id, kind, payload) select cast(:a as uuid), 'opened', jsonb_build_object("
                "'conversation_id', 'x', 'inbox_id', 'y', 'channel', 'web', 'at', now(), 'sequence', 1)"
            ),
            {"a": world.account},
        )
    await settled()
    one = await world.open()
    await settled()
    assert (await holder(service, world, one, ana))["assignee_id"] == ana
    async with service.runtime.database.begin(world.account) as tx:
        errors = (await tx.execute(text("select error from journal where error is not null order by id"))).scalars()
        assert [error.split(":")[0] for error in errors] == ["ValidationError", "InvalidTextRepresentation"]


async def test_accounts_are_apart(service, world, settled):
    other = type(world)(service.admin)
    await other.found()
    await world.hire("Ana", state="offline")
    boss = await other.hire("Boss", "administrator", "available")
    await settled()
    one = await world.open()
    await settled()
    assert (await told(service, one))[-1]["type"] == "conversation_queued"
    assert (await service.http.get(f"/conversations/{one}/assignment", headers=other.as_(boss))).status_code == 404
    assert (await service.http.get("/queue", headers=other.as_(boss))).json()["items"] == []


async def test_hands_and_machine_at_once_leave_one_holder_each(service, world, settled):
    """Many conversations arrive while people take, give and drop them: loads, versions and capacity stay right."""
    people = [await world.hire(f"P{n}") for n in range(5)]
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    for who in people:
        await service.http.put(f"/routing/agents/{who}/capacity", json={"capacity": 3}, headers=world.as_(boss))
    await settled()
    ones = [await world.open() for _ in range(20)]

    async def meddle(n):
        answer = await service.http.post(
            f"/conversations/{ones[n]}/assignment",
            json={"assignee_id": people[n % 5] if n % 3 else None},
            headers=world.as_(boss) | {"Idempotency-Key": f"k{n}"},
        )
        assert answer.status_code == 200, answer.text
        await world.resolve(ones[(n * 7) % 20])

    await asyncio.gather(*(meddle(n) for n in range(20)))
    await settled()
    await assert_consistent(service)
    for one in ones:
        events = await told(service, one)
        assert [event["version"] for event in events] == list(range(1, len(events) + 1))
        chain = [None] + [event["assignee_id"] for event in events]
        assert [event["from_assignee_id"] for event in events] == chain[:-1]


async def test_who_may_only_take_for_themselves_takes_from_nobody(service, world, settled):
    role = world.roles["agent"]
    kept = role.permissions - {Permission.CONVERSATIONS_ASSIGN_OTHERS}
    humble = role.model_copy(update={"id": new_id(), "name": "humble", "permissions": kept, "predefined": False})
    world.roles["humble"] = humble
    await world.tell(RoleChanged(role=humble), humble.id)
    ana, eva = await world.hire("Ana", state="away"), await world.hire("Eva", "humble", "away")
    await settled()
    one = await world.open()
    await settled()
    path, me = f"/conversations/{one}/assignment", world.as_(eva)
    other = await service.http.post(path, json={"assignee_id": ana}, headers=me)
    assert (other.status_code, other.json()["code"]) == (403, "permission_missing")
    assert (await service.http.post(path, json={"team_id": None}, headers=me)).status_code == 403
    assert (await service.http.post(path, json={"assignee_id": "me"}, headers=me)).json()["assignee_id"] == eva
    assert (await service.http.post(path, json={"assignee_id": None}, headers=me)).json()["state"] == "unassigned"
    await service.http.post(path, json={"assignee_id": "me"}, headers=world.as_(ana))
    assert (await service.http.post(path, json={"assignee_id": "me"}, headers=me)).status_code == 403


async def test_what_was_refused_may_be_asked_again_with_its_key(service, world, settled):
    boss, cid = await world.hire("Boss", "administrator", None), await world.hire("Cid", state=None)
    before = world.people[cid]
    await world.dismiss(cid)
    await settled()
    one = await world.open()
    await settled()

    async def give():
        head = world.as_(boss) | {"Idempotency-Key": "once"}
        return await service.http.post(f"/conversations/{one}/assignment", json={"assignee_id": cid}, headers=head)

    refused = await give()
    assert (refused.status_code, refused.json()["code"]) == (422, "agent_not_found")
    await world.change(before)
    await settled()
    given, again = await give(), await give()
    assert given.status_code == 200, given.text
    assert (again.json(), again.headers["idempotency-replayed"]) == (given.json(), "true")
    await assert_consistent(service)
