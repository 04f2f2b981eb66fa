"""Who else is looking and who is typing, over two replicas, and what a webchat's visitor is told of it."""

import asyncio
import json
from contextlib import asynccontextmanager

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from relevo.contracts import live
from relevo.contracts.base import new_id
from relevo.contracts.conversation import ContactErased
from relevo.contracts.live import TeamTyping, VisitorTyping
from relevo.realtime.domain.looking import Look, Other, Rooms, Scene

GONE = text("select 1 from chats where conversation_id = cast(:id as uuid)")


async def look(socket, conversation, typing="", **more):
    said = {"type": "look", "conversation_id": conversation and conversation.id, "typing": typing} | more
    await socket.connection.send(json.dumps(said))


@asynccontextmanager
async def staying(socket, conversation):
    """Say it again and again, as a page does."""

    async def say():
        while True:
            await asyncio.sleep(0.3)
            await look(socket, conversation)

    await look(socket, conversation)
    task = asyncio.create_task(say())
    try:
        yield
    finally:
        task.cancel()


async def scene(socket, conversation, *others, customer=False):
    """Wait until the agent is shown exactly this."""
    while True:
        got = (await socket.until("looking"))[-1]
        shown = [(one["name"], one["typing"]) for one in got["agents"]]
        if shown == list(others) and got["customer_typing"] is customer:
            assert got["conversation_id"] == conversation.id
            return


async def heard(world, one):
    """What is said on a live subject from now on."""
    return await world.run.admin.nats.subscribe(one.subject("*"))


async def test_colleagues_on_any_replica_see_who_looks_and_who_types(worlds):
    first, second = worlds
    org = first.org
    ana, eva = await org.hire("Ana"), await org.hire("Eva")
    await first.run.settle()
    talk, other = await org.open(assignee_id=ana, participant_ids=(eva,)), await org.open(participant_ids=(ana, eva))
    await first.run.settle()
    async with first.socket(ana) as a, staying(a, talk):
        await scene(a, talk)
        async with second.socket(eva) as e:
            await look(e, talk)
            await scene(e, talk, ("Ana", ""))  # Ana had said so before that replica knew of her
            await scene(a, talk, ("Eva", ""))
            await look(e, talk, "note")
            await scene(a, talk, ("Eva", "note"))
            await look(e, talk, "reply")
            await scene(a, talk, ("Eva", "reply"))
            await scene(a, talk, ("Eva", ""))  # not said again
            await look(e, other)
            await scene(a, talk)
            await look(e, talk)
            await scene(a, talk, ("Eva", ""))
        await scene(a, talk)  # her window is closed
        async with second.socket(eva) as e:
            await look(e, talk)
            await scene(a, talk, ("Eva", ""))
            await scene(a, talk)  # a window that says nothing more does not count


async def test_one_person_in_two_windows_is_nobody_else(worlds):
    first, second = worlds
    ana = await first.org.hire("Ana")
    await first.run.settle()
    talk = await first.org.open(assignee_id=ana)
    await first.run.settle()
    async with first.socket(ana) as one, second.socket(ana) as two:
        for window in (one, two):
            await look(window, talk, "reply")
            await scene(window, talk)
        assert [m["type"] for m in await one.quiet()] == []
        (its,) = first.run.runtime.extra["hub"].sockets
        its.look_as(its.viewer)  # what waited is thrown away, and what is shown with it
        await scene(one, talk)


async def test_who_may_not_see_a_conversation_hears_nothing_of_it(worlds):
    first, second = worlds
    org = first.org
    mine, theirs = new_id(), new_id()
    ana = await org.hire("Ana", team_ids=(mine,), inbox_ids=(org.inbox,))
    eva, boss = await org.hire("Eva", "administrator"), await org.hire("Boss", "administrator")
    stranger = type(org)(first.run.admin)
    await stranger.found()
    await first.run.settle()
    talk, foreign = await org.open(team_id=mine), await stranger.open()
    hidden = await org.open(team_id=theirs)
    await first.run.settle()
    async with first.socket(ana) as a, second.socket(eva) as e:
        for wrong in (hidden.id, foreign.id, new_id(), "x"):
            await look(a, talk, conversation_id=wrong)
            assert (await a.until("error"))[-1]["code"] == "conversation_not_found"
        await look(a, talk, "song")
        assert (await a.until("error"))[-1]["code"] == "unknown_typing"
        await look(a, talk)
        await scene(a, talk)
        await look(e, talk)
        await scene(a, talk, ("Eva", ""))
        await org.assign(talk, team_id=theirs)
        await a.until("hidden")
        await first.run.settle()
        async with first.socket(boss) as b:
            await look(b, talk)
            await b.until("looking")
            await look(e, talk, "reply")
            await scene(b, talk, ("Eva", "reply"))
        assert [m for m in await a.quiet() if m["type"] == "looking"] == []


async def test_an_auditor_looks_but_types_to_nobody(worlds):
    first, _ = worlds
    eve = await first.org.hire("Eve", "auditor")
    await first.run.settle()
    talk = await first.org.open()
    await first.run.settle()
    async with first.socket(eve) as e:
        await look(e, talk, "reply")
        assert (await e.until("error"))[-1]["code"] == "permission_missing"
        await look(e, talk, "note")
        await scene(e, talk)


async def test_a_visitor_is_told_of_replies_and_never_of_notes(worlds):
    first, _ = worlds
    org = first.org
    ana = await org.hire("Ana")
    await first.run.settle()
    talk = await org.open(assignee_id=ana, source_id="visitor-1")
    mail = await org.open(assignee_id=ana, source_id="a@b.example", channel="email")
    await first.run.settle()
    told = await heard(first, live.TEAM)
    async with first.socket(ana) as a:
        for typing in ("", "note", "reply", "reply", "note", "reply"):
            await look(a, talk, typing)
        await look(a, mail, "reply")
        await look(a, mail, "note")
        await a.quiet()
    said = []
    while told.pending_msgs or len(said) < 4:
        message = await told.next_msg(timeout=30)
        assert message.subject == f"live.team.{org.account}"
        said.append(TeamTyping.model_validate_json(message.data))
    assert [one.typing for one in said] == [True, False, True, False]
    assert {(one.inbox_id, one.visitor_id) for one in said} == {(org.inbox, "visitor-1")}
    assert set(said[0].model_dump()) == {"inbox_id", "visitor_id", "typing"}


async def test_whoever_has_the_conversation_open_sees_that_its_visitor_types(worlds):
    first, second = worlds
    org = first.org
    ana, eva = await org.hire("Ana"), await org.hire("Eva")
    await first.run.settle()
    await org.open(assignee_id=ana, source_id="v", number=1)
    talk = await org.open(assignee_id=ana, source_id="v", number=2)
    other = await org.open(assignee_id=eva, source_id="w", number=3)
    await first.run.settle()
    subject = live.VISITOR.subject(org.account)

    async def types(typing=True, **values):
        told = VisitorTyping(**{"inbox_id": org.inbox, "visitor_id": "v", "typing": typing} | values)
        await first.run.admin.nats.publish(subject, told.model_dump_json().encode())

    async with second.socket(ana) as a, first.socket(eva) as e:
        await look(a, talk)
        await look(e, other)
        await scene(a, talk)
        await scene(e, other)
        await first.run.admin.nats.publish(subject, b"nonsense")
        await types(inbox_id=new_id())
        await types()
        await scene(a, talk, customer=True)
        await types(typing=False)
        await scene(a, talk)
        await types()
        await scene(a, talk, customer=True)
        await scene(a, talk)  # it was not said again
        assert await e.quiet() == []
        erased = ContactErased(contact_id=talk.contact.id, conversation_ids=(talk.id,))
        await org.tell(erased, talk.contact.id)
        await first.run.settle()
        async with first.run.runtime.database.begin(org.account) as tx:
            assert not (await tx.execute(GONE, {"id": talk.id})).all()


async def test_what_goes_on_is_in_no_stream(worlds):
    first, _ = worlds
    ana = await first.org.hire("Ana")
    await first.run.settle()
    talk = await first.org.open(assignee_id=ana)
    await first.run.settle()
    before = await streams(first)
    told = await heard(first, live.DESK)
    async with first.socket(ana) as a:
        await look(a, talk, "reply")
        await scene(a, talk)
        await told.next_msg(timeout=30)
        await look(a, None)
        assert json.loads((await told.next_msg(timeout=30)).data)["gone"]
    assert await streams(first) == before


async def streams(world):
    """How many messages each stream has; of presence nobody asks."""
    info = await world.run.admin.nats.jetstream().streams_info()
    return {one.config.name: one.state.messages for one in info if not one.config.name.startswith("CMD_PRESENCE")}


ACTS = st.lists(
    st.tuples(
        st.sampled_from(("look", "leave", "wait")),
        st.sampled_from("abcd"),
        st.sampled_from("xy"),
        st.sampled_from(("", "reply", "note")),
        st.floats(0, 8),
    )
)


@given(ACTS)
def test_rooms_show_the_last_word_of_every_window_while_it_is_fresh(acts):
    rooms, at = Rooms(stay=10, typing=3), 0.0
    said: dict[str, tuple[str, str, float]] = {}
    for act, socket, conversation, typing, while_ in acts:
        if act == "look":
            news = rooms.look(conversation, Look(socket, f"agent {socket}", socket, typing), at)
            assert news is (said.get(socket, ("",))[0] != conversation)
            said[socket] = (conversation, typing, at)
        elif act == "leave":
            rooms.leave(socket)
            said.pop(socket, None)
        else:
            at += while_
            gone = {one for one, (_, _, when) in said.items() if when + 10 <= at}
            assert rooms.expire(at) == gone
            said = {one: last for one, last in said.items() if one not in gone}
        for room in "xy":
            others = tuple(
                Other(f"agent {one}", one, typing if when + 3 > at else "")
                for one, (where, typing, when) in sorted(said.items())
                if where == room and one != "a"
            )
            assert rooms.scene(room, "agent a", at) == Scene(others)
