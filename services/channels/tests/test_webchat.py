"""The webchat as a page's visitors meet it."""

import asyncio
import json

from websockets.asyncio.client import connect

from relevo.chassis import topology
from relevo.chassis.bus import until
from relevo.contracts import live
from relevo.contracts.base import new_id
from relevo.contracts.live import TeamTyping, VisitorTyping


async def begin(world, inbox, name="Ana"):
    answer = await world.run.http.post(f"/webchat/{inbox.id}/sessions", json={"name": name})
    assert answer.status_code == 201, answer.text
    session = answer.json()
    return session, {"Authorization": f"Bearer {session['token']}"}


async def say(world, inbox, headers, words, id_=None):
    return await world.run.http.post(
        f"/webchat/{inbox.id}/messages", json={"id": id_ or new_id(), "text": words}, headers=headers
    )


async def test_a_visitor_writes_and_reads_the_answers(world):
    inbox = await world.inbox("webchat")
    session, ana = await begin(world, inbox)
    _, eva = await begin(world, inbox, "Eva")
    said = await say(world, inbox, ana, "  hola \x00 ", "m1")
    assert said.status_code == 202, said.text
    again = await say(world, inbox, ana, "hola", "m1")
    assert (again.json()["id"], again.json()["status"]) == (said.json()["id"], "sent")
    (event,) = await world.inbound_reaches(1)
    assert (event["kind"], event["content"]["text"], event["sender"]["name"]) == ("message", "hola", "Ana")
    assert event["sender"]["id"] == session["visitor_id"]
    assert event["external_id"] == said.json()["id"]
    reply = await world.send(inbox, session["visitor_id"], "¿en qué ayudo?")
    sent = (await world.inbound_reaches(2))[1]
    assert (sent["status"], sent["message_id"]) == ("sent", reply.message_id)
    path = f"/webchat/{inbox.id}/messages"
    seen = (await world.run.http.get(path, headers=ana)).json()["items"]
    assert [(one["author"], one["text"]) for one in seen] == [("visitor", "hola"), ("team", "¿en qué ayudo?")]
    rest = await world.run.http.get(path, headers=ana, params={"after": seen[0]["position"]})
    assert [one["id"] for one in rest.json()["items"]] == [reply.message_id]
    assert (await world.run.http.get(path, headers=eva)).json()["items"] == []


async def test_the_language_of_the_browser_comes_along(world):
    inbox = await world.inbox("webchat")
    path = f"/webchat/{inbox.id}/sessions"
    prefers = {"Accept-Language": "es-CO,es;q=0.9,en;q=0.8"}
    for count, (given, language) in enumerate((({}, "es-CO"), ({"language": "pt-BR"}, "pt-BR")), start=1):
        opened = await world.run.http.post(path, json=given, headers=prefers)
        await say(world, inbox, {"Authorization": f"Bearer {opened.json()['token']}"}, "hola")
        assert (await world.inbound_reaches(count))[-1]["sender"]["language"] == language
    refused = await world.run.http.post(path, json={"language": "klingon!"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/language")


async def test_replies_are_pushed_delivered_and_read(world, port):
    inbox = await world.inbox("webchat")
    session, _ = await begin(world, inbox)
    url = f"ws://127.0.0.1:{port}/api/v1/webchat/{inbox.id}/socket?token={session['token']}"
    first = await world.send(inbox, session["visitor_id"], "uno")
    await world.inbound_reaches(1)
    async with connect(url) as socket:
        waited = json.loads(await asyncio.wait_for(socket.recv(), 10))
        assert (waited["type"], waited["data"]["id"]) == ("message", first.message_id)
        second = await world.send(inbox, session["visitor_id"], "dos")
        pushed = json.loads(await asyncio.wait_for(socket.recv(), 30))
        assert pushed["data"]["text"] == "dos"
        await world.inbound_reaches(4)
        await socket.send(json.dumps({"type": "read", "position": pushed["data"]["position"]}))
        reports = await world.inbound_reaches(6)
        for message in (first, second):
            mine = [one["status"] for one in reports if one["message_id"] == message.message_id]
            assert mine == ["sent", "delivered", "read"]
        await socket.send("nonsense")
        assert json.loads(await asyncio.wait_for(socket.recv(), 30))["code"] == "unknown_message"
    async with connect(f"{url}&after={pushed['data']['position']}") as socket:
        await socket.send('{"type": "ping"}')
        assert json.loads(await asyncio.wait_for(socket.recv(), 30)) == {"type": "pong"}


async def test_a_reply_that_is_edited_or_taken_back_changes_in_open_pages_and_for_who_comes_later(world, port):
    inbox = await world.inbox("webchat")
    session, ana = await begin(world, inbox)
    url = f"ws://127.0.0.1:{port}/api/v1/webchat/{inbox.id}/socket?token={session['token']}"
    async with connect(url) as socket:

        async def told(kind):
            return_ = json.loads(await asyncio.wait_for(socket.recv(), 10))
            assert return_["type"] == kind, return_
            return return_["data"]

        first = await world.send(inbox, session["visitor_id"], "son 10")
        position = (await told("message"))["position"]
        await world.update(first, new_text="son 12")
        news = await told("changed")
        assert (news["id"], news["text"], news["position"]) == (first.message_id, "son 12", position)
        assert (news["edited_at"] is not None, news["deleted_at"]) == (True, None)
        await world.update(first, update="delete")
        gone = await told("changed")
        assert (gone["text"], gone["deleted_at"] is not None) == ("", True)
        second = await world.send(inbox, session["visitor_id"], "adiós")
        assert (await told("message"))["id"] == second.message_id
    path = f"/webchat/{inbox.id}/messages"
    seen = (await world.run.http.get(path, headers=ana)).json()["items"]
    assert [(one["text"], one["deleted_at"] is not None) for one in seen] == [("", True), ("adiós", False)]
    # A page that was closed meanwhile hears of it when it comes back; one that begins anew has it as it is.
    async with connect(f"{url}&after={seen[-1]['position']}") as socket:
        back = json.loads(await asyncio.wait_for(socket.recv(), 10))
        assert (back["type"], back["data"]["id"]) == ("changed", first.message_id)
    async with connect(url) as socket:
        fresh = [json.loads(await asyncio.wait_for(socket.recv(), 10)) for _ in range(2)]
        assert [(one["type"], one["data"]["text"]) for one in fresh] == [("message", ""), ("message", "adiós")]


async def test_strangers_get_nothing(world, port):
    inbox, other = await world.inbox("webchat"), await world.inbox("webchat")
    closed = await world.inbox("webchat", enabled=False)
    api = await world.inbox("api")
    _, ana = await begin(world, inbox)
    assert (await say(world, other, ana, "x")).status_code == 401
    assert (await say(world, inbox, {"Authorization": "Bearer x.y"}, "x")).status_code == 401
    for wrong in (closed, api):
        answer = await world.run.http.post(f"/webchat/{wrong.id}/sessions", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "webchat_not_found")
    async with connect(f"ws://127.0.0.1:{port}/api/v1/webchat/{inbox.id}/socket?token=x.y") as socket:
        await socket.wait_closed()
        assert socket.close_code == 4401
    assert await world.inbound() == []


async def test_pages_of_any_origin_may_call_the_chat_and_nothing_else(world):
    inbox = await world.inbox("webchat")
    path = f"/webchat/{inbox.id}/sessions"
    asked = await world.run.http.options(path, headers={"Origin": "https://shop.example"})
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "*"
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    for answer in (
        await world.run.http.post(path, json={}),
        await world.run.http.post(path, json={"name": 7}),
        await world.run.http.post(f"/webchat/{new_id()}/sessions", json={}),
    ):
        assert answer.headers["access-control-allow-origin"] == "*", answer.text
    other = await world.run.http.get(f"/channels/{inbox.id}")
    assert "access-control-allow-origin" not in other.headers


async def test_rate_limits_and_refusals_say_what_to_do(start):
    async with start(RELEVO_WEBCHAT_BURST="2", RELEVO_WEBCHAT_MESSAGES_PER_MINUTE="1") as world:
        inbox = await world.inbox("webchat")
        _, ana = await begin(world, inbox)
        blank = await say(world, inbox, {**ana, "Accept-Language": "es"}, " \x00 ")
        assert (blank.status_code, blank.json()["errors"]) == (422, [{"pointer": "/text", "detail": "Está vacío."}])
        assert (await say(world, inbox, ana, "x")).status_code == 202
        much = await say(world, inbox, ana, "x")
        assert (much.status_code, much.json()["code"]) == (429, "rate_limited")
        assert 1 <= int(much.headers["retry-after"]) <= 61


async def test_a_message_that_the_bus_does_not_take_can_be_sent_again(world):
    inbox = await world.inbox("webchat")
    _, ana = await begin(world, inbox)
    await world.admin.request("$JS.API.STREAM.DELETE.INBOUND", {})
    lost = await say(world, inbox, ana, "x", "m1")
    assert (lost.status_code, lost.json()["code"]) == (503, "not_ready")
    await topology.apply(world.admin)
    assert (await say(world, inbox, ana, "x", "m1")).status_code == 202
    (event,) = await world.inbound_reaches(1)
    assert event["content"]["text"] == "x"


async def test_only_so_many_sockets_a_visitor(world, port):
    inbox = await world.inbox("webchat")
    session, _ = await begin(world, inbox)
    url = f"ws://127.0.0.1:{port}/api/v1/webchat/{inbox.id}/socket?token={session['token']}"
    visitors = world.run.runtime.extra["visitors"]
    opened = [await connect(url) for _ in range(5)]

    async def all_there():
        return len(visitors._open.get(session["visitor_id"], ())) == 5

    assert await until(all_there, 30)
    async with connect(url) as sixth:
        await sixth.wait_closed()
        assert sixth.close_code == 4429
    for socket in opened:
        await socket.close()

    async def all_gone():
        return not visitors._open

    assert await until(all_gone, 30)


async def test_visitors_and_the_team_see_each_other_typing(world, port):
    inbox = await world.inbox("webchat")
    session, _ = await begin(world, inbox)
    other, _ = await begin(world, inbox, "Eva")
    heard = await world.admin.nats.subscribe(live.VISITOR.subject("*"))
    address = f"ws://127.0.0.1:{port}/api/v1/webchat/{inbox.id}/socket?token="

    async def team(typing=True, account=None, **values):
        told = TeamTyping(**{"inbox_id": inbox.id, "visitor_id": session["visitor_id"], "typing": typing} | values)
        subject = live.TEAM.subject(account or world.account)
        await world.admin.nats.publish(subject, told.model_dump_json().encode())
        await world.admin.nats.flush()

    async def quiet(socket):
        """What has come until the answer to a ping sent now."""
        await socket.send('{"type": "ping"}')
        found = []
        while (got := json.loads(await asyncio.wait_for(socket.recv(), 10)))["type"] != "pong":
            found.append(got)
        return found

    async def next_of(socket):
        return json.loads(await asyncio.wait_for(socket.recv(), 10))

    async with connect(address + session["token"]) as socket, connect(address + other["token"]) as theirs:
        await quiet(socket)
        await world.admin.nats.publish(live.TEAM.subject(world.account), b"nonsense")
        await team(account=new_id())
        await team(inbox_id=new_id())
        await team()
        assert await next_of(socket) == {"type": "typing", "typing": True}
        await team(typing=False)
        assert await next_of(socket) == {"type": "typing", "typing": False}
        await team()
        assert await next_of(socket) == {"type": "typing", "typing": True}
        await world.send(inbox, session["visitor_id"], "ya está")
        assert [(await next_of(socket))["type"] for _ in range(2)] == ["message", "typing"]
        assert await quiet(theirs) == []
        for typing in (True, True, True, False, False):
            await socket.send(json.dumps({"type": "typing", "typing": typing}))
        await theirs.send(json.dumps({"type": "typing", "typing": True}))
    said = [VisitorTyping.model_validate_json((await heard.next_msg(timeout=30)).data) for _ in range(4)]
    of = {
        who["visitor_id"]: [one.typing for one in said if one.visitor_id == who["visitor_id"]]
        for who in (session, other)
    }
    # Said once however often the page repeats it; one who goes away types no more.
    assert list(of.values()) == [[True, False], [True, False]]


async def test_an_inbox_that_does_not_show_typing_keeps_it_from_its_visitors(world, port):
    inbox = await world.inbox("webchat", show_typing=False)
    session, _ = await begin(world, inbox)
    url = f"ws://127.0.0.1:{port}/api/v1/webchat/{inbox.id}/socket?token={session['token']}"
    async with connect(url) as socket:
        told = TeamTyping(inbox_id=inbox.id, visitor_id=session["visitor_id"], typing=True)
        await world.admin.nats.publish(live.TEAM.subject(world.account), told.model_dump_json().encode())
        # What follows on the same connection was handled after it.
        await world.send(inbox, session["visitor_id"], "hola")
        assert json.loads(await asyncio.wait_for(socket.recv(), 10))["type"] == "message"
        await socket.send('{"type": "ping"}')
        assert json.loads(await asyncio.wait_for(socket.recv(), 10)) == {"type": "pong"}
