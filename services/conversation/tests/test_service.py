"""The running service: what comes in over the bus, what agents do over HTTP, what leaves again."""

import json

from relevo.contracts.assignment import ConversationAssigned, Reason
from relevo.contracts.base import new_id
from relevo.contracts.identity import TeamState
from relevo.contracts.permissions import ConversationScope, Permission


def test_from_the_customer_s_message_to_the_agent_s_reply_and_back(at_desk):
    async def body(desk):
        eva, who = await desk.agent()
        await desk.customer_writes(text="¿Tienen stock?")
        (conversation,) = (await desk.get("/conversations", who)).json()["items"]
        assert conversation["stage"] == "new"
        path = f"/conversations/{conversation['id']}"
        answer = await desk.post(f"{path}/messages", who, {"text": "Sí, hoy mismo"}, idempotency_key="k1")
        assert answer.status_code == 201, answer.text
        assert answer.headers["Relevo-Sequence"] == "3"
        again = await desk.post(f"{path}/messages", who, {"text": "Sí, hoy mismo"}, idempotency_key="k1")
        assert again.json() == answer.json()
        await desk.service.settle()
        ((subject, headers, sent),) = await desk.service.admin.stored("OUTBOUND")
        assert subject.split(".")[1:3] == [desk.world.account_id, desk.world.inbox.id]
        assert json.loads(sent)["text"] == "Sí, hoy mismo"
        assert json.loads(sent)["recipient_id"] == "34600111222"
        assert headers["relevo-actor"] == f"agent:{eva}"
        messages = (await desk.get(f"{path}/messages", who)).json()["items"]
        assert [(m["kind"], m["text"]) for m in messages] == [
            ("incoming", "¿Tienen stock?"),
            ("outgoing", "Sí, hoy mismo"),
        ]
        state = (await desk.get(path, who)).json()
        assert (state["stage"], state["waiting_since"]) == ("in_progress", None)
        stored = await desk.service.admin.stored("EVT_CONVERSATION")
        story = [int(h["relevo-sequence"]) for _, h, _ in stored if h["ce-subject"] == conversation["id"]]
        assert story == [1, 2, 3]

    at_desk(body)


def test_a_private_note_never_leaves_and_makes_the_mentioned_participants(at_desk):
    async def body(desk):
        _, who = await desk.agent()
        luis, luis_headers = await desk.agent(scope=ConversationScope.OWN)
        marta, _ = await desk.agent()
        team = TeamState(id=new_id(), account_id=desk.world.account_id, name="Devoluciones", member_ids=(marta,))
        await desk.know("team", team)
        await desk.customer_writes()
        (conversation,) = (await desk.get("/conversations", who)).json()["items"]
        path = f"/conversations/{conversation['id']}"
        assert (await desk.get(path, luis_headers)).status_code == 404
        body = {"text": "¿Lo miráis?", "private": True, "mentions": [f"agent:{luis}", f"team:{team.id}"]}
        answer = await desk.post(f"{path}/messages", who, body)
        assert (answer.status_code, answer.json()["kind"]) == (201, "note")
        state = (await desk.get(path, luis_headers)).json()
        assert state["participant_ids"] == [luis, marta]
        assert state["waiting_since"] is not None
        unknown = await desk.post(f"{path}/messages", who, body | {"mentions": [f"agent:{new_id()}"]})
        assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/mentions/0")
        public = await desk.post(f"{path}/messages", who, body | {"private": False})
        assert (public.status_code, public.json()["code"]) == (422, "mentions_need_a_note")
        await desk.service.settle()
        assert await desk.service.admin.stored("OUTBOUND") == []

    at_desk(body)


def test_the_stages_and_what_they_do_not_allow(at_desk):
    async def body(desk):
        _, who = await desk.agent()
        await desk.customer_writes()
        (conversation,) = (await desk.get("/conversations", who)).json()["items"]
        path = f"/conversations/{conversation['id']}"

        async def refused(act, code, body=None):
            answer = await desk.post(f"{path}/{act}", who, body)
            assert (answer.status_code, answer.json()["code"]) == (409, code)

        await refused("reopen", "conversation_not_resolved")
        await refused("unarchive", "conversation_not_archived")
        assert (await desk.post(f"{path}/resolve", who)).json()["stage"] == "closed"
        await refused("resolve", "conversation_already_resolved")
        late = await desk.post(f"{path}/messages", who, {"text": "Una cosa más"})
        assert late.status_code == 201
        assert (await desk.get(path, who)).json()["stage"] == "closed"
        assert (await desk.post(f"{path}/reopen", who)).json()["cycle"] == 2
        archived = await desk.post(f"{path}/archive", who)
        assert archived.json()["stage"] == "archived"
        await refused("messages", "conversation_archived", {"text": "¿Sigue ahí?"})
        await refused("archive", "conversation_already_archived")
        assert (await desk.get("/conversations", who)).json()["items"] == []
        assert len((await desk.get("/conversations", who, archived="true")).json()["items"]) == 1
        assert len((await desk.get("/conversations", who, stage="archived")).json()["items"]) == 1
        assert (await desk.post(f"{path}/unarchive", who)).json()["status"] == "resolved"
        empty = await desk.post(f"{path}/messages", who, {"text": "\u200e \n"})
        assert (empty.status_code, empty.json()["errors"][0]["pointer"]) == (422, "/text")

    at_desk(body)


def test_reopening_beside_another_open_conversation_of_the_same_person_is_refused(at_desk):
    async def body(desk):
        _, who = await desk.agent()
        inbox = desk.world.inbox
        await desk.customer_writes()
        (first,) = (await desk.get("/conversations", who)).json()["items"]
        await desk.post(f"/conversations/{first['id']}/resolve", who)
        # The inbox opened a second one under another policy, and then went back to one at a time.
        await desk.customer_writes(inbox=inbox.model_copy(update={"reopen": "new_after_resolved"}))
        second = (await desk.get("/conversations", who, status="open")).json()["items"][0]
        await desk.post(f"/conversations/{second['id']}/resolve", who)
        async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
            await tx.conn.execute("update conversations set exclusive = true")
        await desk.post(f"/conversations/{second['id']}/reopen", who)
        answer = await desk.post(f"/conversations/{first['id']}/reopen", who)
        assert (answer.status_code, answer.json()["code"]) == (409, "another_conversation_is_open")

    at_desk(body)


def test_labels_filters_and_counts(at_desk):
    async def body(desk):
        eva, who = await desk.agent()
        email = desk.world.make_inbox("email")
        for n in range(5):
            await desk.customer_writes(f"w{n}")
        await desk.customer_writes("e", inbox=email, email="Luz@Example.com")
        items = (await desk.get("/conversations", who)).json()["items"]
        assert [c["source_id"] for c in items] == ["e", "w4", "w3", "w2", "w1", "w0"]
        target = items[3]["id"]
        changed = await desk.post(f"/conversations/{target}/labels", who, {"add": [" Reclamación  grave ", "vip"]})
        assert changed.json()["labels"] == ["Reclamación grave", "vip"]
        await desk.post(f"/conversations/{target}/labels", who, {"remove": ["vip"]})
        known = (await desk.get("/labels", who, counts=True)).json()["items"]
        assert [(one["name"], one["conversations"]["count"]) for one in known] == [("Reclamación grave", 1), ("vip", 0)]
        assigned = ConversationAssigned(
            conversation_id=target, version=1, assignee_id=eva, reason=Reason(code="self", es="", en="")
        )
        await desk.service.admin.publish(assigned, account=desk.world.account_id, entity=target, sequence=1)
        await desk.service.settle()

        async def found(**params):
            return [c["id"] for c in (await desk.get("/conversations", who, **params)).json()["items"]]

        assert await found(label="Reclamación grave") == [target]
        assert await found(assignee="me") == [target]
        assert await found(assignee=eva) == [target]
        assert len(await found(assignee="none")) == 5
        assert await found(channel="email") == [items[0]["id"]] == await found(inbox=email.id)
        assert await found(contact=items[1]["contact"]["id"]) == [items[1]["id"]]
        assert len(await found(status="open", stage="new")) == 6
        assert await found(team=new_id()) == []
        counts = (await desk.get("/conversations/counts", who)).json()
        shown = {"open": 6, "unassigned": 5, "mine": 1, "unattended": 6, "mentions": 0, "participating": 0}
        assert {name: count["count"] for name, count in counts.items()} == shown
        first = (await desk.get("/conversations", who, limit=4)).json()
        rest = (await desk.get("/conversations", who, limit=4, cursor=first["next"])).json()
        assert [c["id"] for c in first["items"] + rest["items"]] == [c["id"] for c in items]
        assert rest["next"] is None
        (luz,) = (await desk.get("/contacts", who, email="luz@example.com")).json()["items"]
        detail = (await desk.get(f"/contacts/{luz['id']}", who)).json()
        assert detail["channels"] == [{"inbox_id": email.id, "source_id": "e"}]
        broken = await desk.get("/conversations", who, cursor="cualquier-cosa")
        assert (broken.status_code, broken.json()["code"]) == (422, "invalid_cursor")

    at_desk(body)


def test_messages_page_in_both_directions(at_desk):
    async def body(desk):
        _, who = await desk.agent()
        await desk.customer_writes(text="0")
        (conversation,) = (await desk.get("/conversations", who)).json()["items"]
        path = f"/conversations/{conversation['id']}/messages"
        for n in range(1, 5):
            await desk.post(path, who, {"text": str(n)})
        for order, expected in (("oldest", list("01234")), ("newest", list("43210"))):
            seen, cursor = [], None
            while True:
                params = {"order": order, "limit": 2} | ({"cursor": cursor} if cursor else {})
                page = (await desk.get(path, who, **params)).json()
                seen += [m["text"] for m in page["items"]]
                cursor = page["next"]
                if cursor is None:
                    break
            assert seen == expected

    at_desk(body)


def test_who_may_not_see_finds_nothing_and_who_may_not_act_is_refused(at_desk, world):
    async def body(desk):
        _, elsewhere = await desk.agent(inboxes=(new_id(),))
        _, reader = await desk.agent(permissions=frozenset({Permission.CONVERSATIONS_READ}))
        await desk.customer_writes()
        (conversation,) = (await desk.get("/conversations", reader)).json()["items"]
        path = f"/conversations/{conversation['id']}"
        assert (await desk.get("/conversations", elsewhere)).json()["items"] == []
        for answer in (
            await desk.get(path, elsewhere),
            await desk.get(f"{path}/messages", elsewhere),
            await desk.post(f"{path}/messages", elsewhere, {"text": "x"}),
            await desk.post(f"{path}/resolve", elsewhere),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "conversation_not_found")
            assert answer.json()["detail"] == "No existe esa conversación."
        for act in ("messages", "resolve", "reopen", "archive", "labels"):
            answer = await desk.post(f"{path}/{act}", reader, {"text": "x"} if act == "messages" else {})
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_missing")
        _, notes_only = await desk.agent(
            permissions=frozenset({Permission.CONVERSATIONS_READ, Permission.CONVERSATIONS_NOTE})
        )
        assert (await desk.post(f"{path}/messages", notes_only, {"text": "x"})).status_code == 403
        assert (await desk.post(f"{path}/messages", notes_only, {"text": "x", "private": True})).status_code == 201
        stranger = type(desk)(desk.service, type(world)())
        _, other_account = await stranger.agent("administrator")
        assert (await desk.get(path, other_account)).status_code == 404
        assert (await desk.get(f"/contacts/{conversation['contact']['id']}", other_account)).status_code == 404

    at_desk(body)


def test_blocking_a_contact_is_an_event_of_theirs_and_keeps_their_messages_out(at_desk):
    async def body(desk):
        _, who = await desk.agent()
        await desk.customer_writes()
        (conversation,) = (await desk.get("/conversations", who)).json()["items"]
        contact = conversation["contact"]["id"]
        blocked = await desk.post(f"/contacts/{contact}/block", who)
        assert (blocked.json()["blocked"], blocked.headers["Relevo-Sequence"]) == (True, "2")
        await desk.post(f"/contacts/{contact}/block", who)
        await desk.customer_writes(text="insulto")
        assert (await desk.get(f"/conversations/{conversation['id']}", who)).json()["message_count"] == 1
        await desk.post(f"/contacts/{contact}/unblock", who)
        await desk.customer_writes(text="perdón")
        assert (await desk.get(f"/conversations/{conversation['id']}", who)).json()["message_count"] == 2
        stored = await desk.service.admin.stored("EVT_CONVERSATION")
        mine = [(h["ce-type"], h["relevo-sequence"]) for _, h, _ in stored if h["ce-subject"] == contact]
        assert [sequence for _, sequence in mine] == ["1", "2", "3"]

    at_desk(body)
