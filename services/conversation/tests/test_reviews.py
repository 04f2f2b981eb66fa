"""A rule's schedule comes: each conversation that it is about is told of once, as it is then, and no other."""

from datetime import timedelta

import psycopg
from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.timers import run_due
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ReviewConversations
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot
from relevo.conversation import reviews
from relevo.conversation.domain.reviews import concerns
from relevo.conversation.due import TIMERS
from relevo.conversation.store import reviews as store

from .test_reminders import told


async def review(desk, **asked):
    """The ids that are told of, sorted."""
    rule = new_id()
    command = ReviewConversations(rule_id=rule, due_at=now(), **asked)
    sent = await desk.service.admin.publish(command, account=desk.world.account_id, entity=rule, actor=f"rule:{rule}")
    await desk.service.settle()
    await ring(desk)
    ids = [one["conversation"]["id"] for one in await told_of(desk, rule)]
    async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
        assert await store.found(tx, desk.world.account_id, command) == ids, "nothing is found in vain"
    return sent, ids


async def ring(desk):
    with psycopg.connect(desk.service.dsn) as connection:
        connection.execute("update timers set due_at = now() - interval '1 minute' where kind = 'review'")
    while await run_due(desk.service.runtime.database, TIMERS):
        pass
    await desk.service.settle()


async def told_of(desk, rule):
    return [one for one in await told(desk, "conversation_reviewed") if one["rule_id"] == rule]


async def talk(desk, who, **changes):
    """A conversation of that customer, brought to that state behind the service's back."""
    _, hers = await desk.agent("administrator")
    path = await desk.begun(hers, who=who)
    id_ = path.rpartition("/")[2]
    with psycopg.connect(desk.service.dsn) as connection:
        told = ", ".join(f"{name} = %s" for name in {"id": id_} | changes)
        connection.execute(f"update conversations set {told} where id = %s", (id_, *changes.values(), id_))
    return id_


def ago(minutes):
    return now() - timedelta(minutes=minutes)


def test_those_that_are_asked_for_are_told_of_once(at_desk):
    async def body(desk):
        quiet = await talk(desk, "1", last_activity_at=ago(90), waiting_since=None)
        waiting = await talk(desk, "2", last_activity_at=ago(60), waiting_since=ago(60))
        fresh = await talk(desk, "3")
        pending = await talk(desk, "4", status="pending", last_activity_at=ago(61))
        team = new_id()
        theirs = await talk(desk, "6", team_id=team, last_activity_at=ago(30))
        await talk(desk, "5", status="resolved", resolved_at=now(), waiting_since=None, last_activity_at=ago(61))

        sent, told = await review(desk)
        assert sorted(told) == sorted([quiet, waiting, fresh, pending, theirs])
        assert told[0] == quiet, "the longest quiet first"
        for asked, wanted in (
            ({"idle_minutes": 60}, {quiet, waiting, pending}),
            ({"idle_minutes": 61}, {quiet, pending}),
            ({"waiting_minutes": 60}, {waiting}),
            ({"statuses": ["pending"]}, {pending}),
            ({"team_id": team}, {theirs}),
            ({"team_id": team, "idle_minutes": 31}, set()),
            ({"statuses": ["open"], "idle_minutes": 60}, {quiet, waiting}),
            ({"inbox_ids": [new_id()]}, set()),
            ({"inbox_ids": [desk.world.inbox.id], "statuses": ["snoozed"]}, set()),
        ):
            assert set((await review(desk, **asked))[1]) == wanted, asked

        # The same command again, and its timers' time again: nothing.
        rule = sent.entity
        before = len(await told_of(desk, rule))
        again = ReviewConversations(rule_id=rule, due_at=now())
        await desk.service.admin.publish(again, account=desk.world.account_id, entity=rule, id=sent.id)
        await desk.service.settle()
        await ring(desk)
        assert len(await told_of(desk, rule)) == before == 5

    at_desk(body)


def test_it_is_no_part_of_the_story(at_desk):
    async def body(desk):
        _, hers = await desk.agent("administrator")
        path = await desk.begun(hers)

        async def shown():
            now_ = {"at": now().isoformat()}
            asked = ((path, {}), (f"{path}/timeline", {}), (f"{path}/as-of", now_))
            answers = [(await desk.get(where, hers, **params)).json() for where, params in asked]
            return answers[:2], answers[2]["conversation"], answers[2]["event_id"]

        before = await shown()
        _, told = await review(desk)
        assert told == [path.rpartition("/")[2]]
        assert await shown() == before
        stored = await desk.service.admin.stored("EVT_CONVERSATION")
        (sent,) = [headers for _, headers, _ in stored if headers["ce-type"].endswith(".conversation_reviewed.v1")]
        assert sent.get("relevo-sequence", "0") == "0"

    at_desk(body)


def test_what_has_changed_since_it_was_found_is_left_out(at_desk, monkeypatch):
    monkeypatch.setattr(reviews, "PIECE", 1)
    monkeypatch.setattr(reviews, "_APART", timedelta(hours=1))

    async def body(desk):
        ids = [await talk(desk, str(n), last_activity_at=ago(90 - n)) for n in range(7)]
        rule = new_id()
        asked = ReviewConversations(rule_id=rule, due_at=now(), idle_minutes=60)
        await desk.service.admin.publish(asked, account=desk.world.account_id, entity=rule)
        await desk.service.settle()
        await desk.customer_writes("3", "sigo aquí")
        await ring(desk)
        assert [one["conversation"]["id"] for one in await told_of(desk, rule)] == [*ids[:3], *ids[4:]]

    at_desk(body)


@given(
    status=st.sampled_from(["open", "pending", "snoozed", "resolved"]),
    quiet=st.integers(0, 100),
    waits=st.none() | st.integers(0, 100),
    asked=st.builds(
        ReviewConversations,
        rule_id=st.just(new_id()),
        due_at=st.just(now()),
        statuses=st.lists(st.sampled_from(["open", "pending", "snoozed"]), unique=True, max_size=2),
        idle_minutes=st.integers(0, 100),
        waiting_minutes=st.integers(0, 100),
    ),
)
def test_each_condition_is_heeded(status, quiet, waits, asked):
    at = asked.due_at
    state = ConversationSnapshot(
        id=new_id(),
        account_id=new_id(),
        number=1,
        inbox_id=new_id(),
        channel="webchat",
        contact=ContactSnapshot(id=new_id(), name="Ana"),
        source_id="s",
        status=status,
        stage="new",
        created_at=at,
        opened_at=at,
        sequence=1,
        last_activity_at=at - timedelta(minutes=quiet),
        waiting_since=None if waits is None else at - timedelta(minutes=waits),
    )
    assert concerns(asked, state) == (
        status in (asked.statuses or ("open", "pending", "snoozed"))
        and quiet >= asked.idle_minutes
        and (asked.waiting_minutes == 0 or (waits is not None and waits >= asked.waiting_minutes))
    )
