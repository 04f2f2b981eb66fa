"""The socket as browsers meet it."""

import json
from datetime import timedelta

from websockets.asyncio.client import connect

from relevo.chassis.auth import new_key
from relevo.chassis.bus import until
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ContactDeleted, ContactErased, ConversationImported
from relevo.contracts.envelope import AGAIN, MESSAGE_ID
from relevo.contracts.identity import KeyChanged, KeyState, RoleChanged, RoleState, SessionRevoked
from relevo.contracts.notification import NotificationCreated
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.contracts.presence import AgentStatus, BreakDue, RulesChanged, StatusChanged
from relevo.kernel.access import Viewer
from relevo.realtime import store
from relevo.realtime.hub import Socket
from relevo.realtime.store import Holder


async def test_an_agent_gets_what_they_may_see_in_order(world):
    org = world.org
    mine, other = new_id(), new_id()
    ana = await org.hire("Ana", team_ids=(mine,), inbox_ids=(org.inbox,))
    await world.run.settle()
    async with world.socket(ana) as socket:
        hello = await socket.next()
        assert hello["type"] == "hello"
        await org.open(team_id=other)
        past = org.conversation(team_id=mine, status="resolved", stage="closed", resolved_at=now(), historic=True)
        await org.tell(ConversationImported(conversation=past, import_id=new_id()), past.id)
        talk = await org.open(team_id=mine)
        for number in range(30):
            talk = await org.say(talk, f"n{number}")
        got = [await socket.next() for _ in range(31)]
        assert [one["sequence"] for one in got] == list(range(1, 32))
        assert {one["conversation_id"] for one in got} == {talk.id}
        assert got[0]["type"] == "conversation_opened"
        assert got[1]["type"] == "message_created"
        assert got[1]["data"]["message"]["text"] == "n0"
        assert "before" not in got[1]["data"]
        assert await socket.quiet() == []


async def test_sight_lost_and_gained(world):
    org = world.org
    mine, other = new_id(), new_id()
    ana = await org.hire("Ana", team_ids=(mine,), inbox_ids=(org.inbox,))
    await world.run.settle()
    talk = await org.open(team_id=mine)
    async with world.socket(ana) as socket:
        await socket.next()
        talk = await org.assign(talk, team_id=other)
        hidden = await socket.next()
        assert (hidden["type"], hidden["id"]) == ("hidden", talk.id)
        assert set(hidden) == {"type", "id", "position"}
        talk = await org.say(talk, "secreto")
        talk = await org.assign(talk, assignee_id=ana)
        gained = await socket.next()
        assert (gained["type"], gained["data"]["conversation"]["id"]) == ("assignee_changed", talk.id)


async def test_accounts_are_apart(world):
    org = world.org
    other = type(org)(world.run.admin)
    await other.found()
    boss = await org.hire("Boss", "administrator")
    await world.run.settle()
    async with world.socket(boss) as socket:
        await socket.next()
        await other.open()
        theirs = await org.open()
        assert (await socket.next())["conversation_id"] == theirs.id


async def test_presence_and_notifications(world):
    org = world.org
    ana, eva = await org.hire("Ana"), await org.hire("Eva")
    await world.run.settle()
    status = AgentStatus(agent_id=eva, state="available", since=now(), cause="manual")
    async with world.socket(ana) as socket:
        await socket.next()
        await org.tell(StatusChanged(status=status, previous="offline", previous_since=now()), eva)
        assert (await socket.next())["data"]["status"]["agent_id"] == eva
        for agent in (eva, ana):
            note = NotificationCreated(
                notification_id=new_id(), agent_id=agent, kind="mention", title="t", body="b", created_at=now()
            )
            await org.tell(note, agent)
        got = await socket.next()
        assert (got["type"], got["data"]["agent_id"]) == ("notification_created", ana)
        await org.tell(RulesChanged(account_id=org.account, watches_load=True), org.account)
        for agent in (eva, ana):
            due = BreakDue(agent_id=agent, label_id=new_id(), label="Pausa", begins_at=now(), may_put_off=True)
            await org.tell(due, agent)
        got = await socket.next()
        assert (got["type"], got["data"]["agent_id"]) == ("break_due", ana), "only one's own, and no rules"


async def test_a_ticket_opens_one_socket_once(world):
    ana = await world.org.hire("Ana")
    await world.run.settle()
    ticket = await world.ticket(ana)
    async with connect(world.address(ticket)) as first:
        assert json.loads(await first.recv())["type"] == "hello"
        async with connect(world.address(ticket)) as second:
            await second.wait_closed()
            assert second.close_code == 4401
    async with world.run.runtime.database.begin(world.org.account) as tx:
        old = await store.add_ticket(
            tx, Holder(world.org.account, ana, new_id()), now() - timedelta(seconds=90), timedelta(seconds=60)
        )
    async with connect(world.address(old)) as late:
        await late.wait_closed()
        assert late.close_code == 4401
    refused = await world.run.http.post("/socket/tickets")
    assert refused.status_code == 401


async def test_only_people_open_sockets(world):
    ana = await world.org.hire("Ana")
    plain = new_key("api")
    key = KeyState(
        id=plain.id,
        account_id=world.org.account,
        kind="api",
        name="k",
        sha256=plain.sha256,
        permissions=frozenset(Permission),
        scope=ConversationScope.ALL,
    )
    await world.org.tell(KeyChanged(key=key), key.id)
    await world.run.settle()
    assert await world.ticket(ana)
    refused = await world.run.http.post("/socket/tickets", headers={"Authorization": f"Bearer {plain.plain}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_an_agent")


async def test_resuming_brings_what_was_missed(world):
    org = world.org
    ana = await org.hire("Ana")
    await world.run.settle()
    async with world.socket(ana) as socket:
        await socket.next()
        talk = await org.open(assignee_id=ana)
        position = (await socket.next())["position"]
    stranger = type(org)(world.run.admin)
    await stranger.open()
    talk = await org.say(talk, "uno")
    talk = await org.say(talk, "dos")
    async with world.socket(ana, position=position) as socket:
        assert (await socket.next())["type"] == "hello"
        await org.say(talk, "tres")
        got = [await socket.next() for _ in range(3)]
        assert [one["data"]["message"]["text"] for one in got] == ["uno", "dos", "tres"]
    async with world.socket(ana, position=got[1]["position"]) as socket:
        await socket.next()
        assert (await socket.next())["data"]["message"]["text"] == "tres"
        assert await socket.quiet() == []


async def test_positions_that_cannot_be_resumed(world):
    ana = await world.org.hire("Ana")
    await world.run.settle()
    for position in ("nonsense", "v1-99999-0-0", "v2-99999-0-0-0123456789ab"):
        async with world.socket(ana, position=position) as socket:
            assert [one["type"] for one in await socket.quiet()] == ["hello", "resync"]


async def test_a_reader_that_does_not_keep_up_is_told_to_start_over(world):
    hub = world.run.runtime.extra["hub"]
    ana = await world.org.hire("Ana")
    await world.run.settle()
    async with world.socket(ana) as socket:
        await socket.next()
        (open_one,) = hub.sockets
        open_one.capacity = 3
        for number in range(5):
            open_one.send(json.dumps({"type": "x", "n": number}))
        got = await socket.until("resync")
        assert got[-1]["reason"] == "overflow"
        assert (await socket.next())["n"] == 4


async def test_access_changes_reach_open_sockets(world):
    org = world.org
    mine = new_id()
    ana = await org.hire("Ana", team_ids=(mine,), inbox_ids=(org.inbox,))
    talk = await org.open(team_id=mine)
    kept = await org.open()
    await world.run.settle()
    async with world.socket(ana) as socket:
        await socket.next()
        await org.change(org.people[ana].model_copy(update={"team_ids": ()}))
        got = await socket.until("resync")
        assert [one["id"] for one in got[:-1]] == [talk.id]
        assert got[-1]["reason"] == "access_changed"
        await org.say(talk, "ya no")
        await org.say(kept, "sí")
        assert (await socket.next())["conversation_id"] == kept.id
        await org.change(org.people[ana].model_copy(update={"active": False}), deleted=True)
        assert await socket.closed() == 4401


async def test_who_comes_back_with_other_rights_takes_a_new_snapshot(world):
    """No event tells what the change of rights hid or showed while nobody listened."""
    org = world.org
    mine = new_id()
    ana = await org.hire("Ana", team_ids=(mine,), inbox_ids=(org.inbox,))
    await world.run.settle()
    async with world.socket(ana) as socket:
        await socket.next()
        await org.open(team_id=mine)
        position = (await socket.next())["position"]
    await org.change(org.people[ana].model_copy(update={"team_ids": ()}))
    await world.run.settle()
    async with world.socket(ana, position=position) as socket:
        await socket.next()
        assert await socket.next() == {"type": "resync", "reason": "access_changed"}
        assert await socket.quiet() == []


def test_what_a_slow_reader_was_not_sent_yet_is_not_sent_when_rights_change():
    before = Viewer("a", "ana", frozenset(), ConversationScope.ALL)
    socket = Socket(Holder("a", "ana", "s"), before, capacity=10)
    socket.send("secreto")
    view = socket.view
    socket.look_as(Viewer("a", "ana", frozenset(), ConversationScope.OWN))
    assert list(socket.waiting) == []
    assert socket.view != view


async def test_contacts_that_go_are_told_to_who_may_read_contacts(world):
    org = world.org
    ana, leo = await org.hire("Ana", "marketing"), await org.hire("Leo", "agent")
    blind = RoleState(id=new_id(), account_id=org.account, name="blind", scope=ConversationScope.ALL)
    org.roles["blind"] = blind
    await org.tell(RoleChanged(role=blind), blind.id)
    eva = await org.hire("Eva", "blind")
    await world.run.settle()
    async with world.socket(ana) as reader, world.socket(leo) as other, world.socket(eva) as none:
        for socket in (reader, other, none):
            await socket.next()
        contact = new_id()
        await org.tell(ContactDeleted(contact_id=contact), contact)
        await org.tell(ContactErased(contact_id=contact, conversation_ids=(new_id(),)), contact)
        for socket in (reader, other):
            gone, erased = await socket.next(), await socket.next()
            assert [one["type"] for one in (gone, erased)] == ["contact_deleted", "contact_erased"]
            assert erased["data"] == {"contact_id": contact, "merged_ids": []}
        assert await none.quiet() == []


async def test_an_ended_session_closes_its_socket(world):
    org = world.org
    ana, session = await org.hire("Ana"), new_id()
    await world.run.settle()
    async with world.socket(ana, session) as ended, world.socket(ana) as other:
        await ended.next()
        await other.next()
        revoked = SessionRevoked(
            session_id=session, agent_id=ana, account_id=org.account, until=now() + timedelta(minutes=10)
        )
        await org.tell(revoked, session)
        assert await ended.closed() == 4401
        assert await other.quiet() == []


async def test_only_so_many_sockets_and_nothing_is_followed_without(world):
    hub = world.run.runtime.extra["hub"]
    ana = await world.org.hire("Ana")
    await world.run.settle()
    assert not hub.following
    async with world.socket(ana) as one, world.socket(ana) as two:
        await one.next()
        await two.next()
        async with world.socket(ana) as three:
            assert await three.closed() == 4429
        assert hub.following

    async def let_go():
        return not hub.following

    assert await until(let_go, 30)


async def test_presence_hears_of_open_sockets(world):
    ana = await world.org.hire("Ana")
    await world.run.settle()

    async def beats():
        stored = await world.run.admin.stored("CMD_PRESENCE")
        return [json.loads(body) for _, headers, body in stored if headers["relevo-account"] == world.org.account]

    async def several():
        return len(await beats()) >= 2

    async def over():
        return not (await beats())[-1]["connected"]

    async with world.socket(ana) as socket:
        await socket.next()
        assert await until(several, 30)
        found = await beats()
        assert all(one["connected"] and one["agent_id"] == ana for one in found)
        assert len({one["device_id"] for one in found}) == 1
    assert await until(over, 30)
    assert (await beats())[-1]["signed_out"] is False
    async with world.socket(ana) as socket:
        await socket.connection.send('{"type": "active"}')

        async def active():
            return (await beats())[-1]["acted_at"] is not None

        assert await until(active, 30)
        await socket.connection.send('{"type": "sign_out"}')
        await socket.closed()
    assert await until(over, 30)
    assert (await beats())[-1]["signed_out"] is True


async def test_followers_go_on_after_their_consumers_vanish(world):
    hub = world.run.runtime.extra["hub"]
    org = world.org
    ana = await org.hire("Ana", "administrator")
    await world.run.settle()
    async with world.socket(ana) as socket:
        await socket.next()
        talk = await org.open()
        await socket.next()
        names = await world.run.admin.request("$JS.API.CONSUMER.NAMES.EVT_CONVERSATION", {})
        for name in (name for name in names["consumers"] if "-live-" in name):
            await world.run.admin.request(f"$JS.API.CONSUMER.DELETE.EVT_CONVERSATION.{name}", {})
        for number in range(5):
            talk = await org.say(talk, f"n{number}")
        got = [await socket.next() for _ in range(5)]
        assert [one["data"]["message"]["text"] for one in got] == [f"n{number}" for number in range(5)]
        assert hub.following


async def test_a_stream_that_is_filled_again_tells_nothing_twice(world):
    """Browsers read anew instead: they would take what is old for news."""
    org, admin = world.org, world.run.admin
    ana = await org.hire("Ana", "administrator")
    await world.run.settle()
    async with world.socket(ana) as socket:
        await socket.next()
        talk = await org.open()
        await org.say(talk, "old")
        assert [(await socket.next())["type"] for _ in range(2)] == ["conversation_opened", "message_created"]
        stored = await admin.stored("EVT_CONVERSATION")
        await admin.request("$JS.API.STREAM.PURGE.EVT_CONVERSATION", {})
        for subject, headers, body in stored:
            tokens = subject.split(".")
            del tokens[2]
            again = {key: value for key, value in headers.items() if key != MESSAGE_ID} | {AGAIN: "1"}
            await admin.nats.jetstream().publish(".".join(tokens), body, headers=again)
        assert (await socket.next())["type"] == "resync"
        await org.say(talk, "new")
        assert (await socket.next())["data"]["message"]["text"] == "new"
