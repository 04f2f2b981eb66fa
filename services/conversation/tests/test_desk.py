"""What each agent has of their own: unread, mentions, drafts; and who takes part."""

from sqlalchemy import text

from relevo.chassis.auth import new_key
from relevo.contracts.base import new_id
from relevo.contracts.identity import KeyState, TeamState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.conversation.handlers import on_ingest
from relevo.conversation.store.desk import UNREAD


def ident(path):
    return path.rpartition("/")[2]


async def unread(desk, who, *paths):
    answer = await desk.get("/conversations/unread", who, id=[ident(p) for p in paths])
    return {item["conversation_id"]: item["unread"] for item in answer.json()["items"]}


def test_unread_is_each_agent_s_own(at_desk):
    """Elsewhere one agent who opens a conversation clears it for all, and the count stops at ten."""

    async def body(desk):
        _, eva = await desk.agent()
        _, luis = await desk.agent()
        _, elsewhere = await desk.agent(inboxes=(new_id(),))
        path = await desk.begun(eva)
        for n in range(11):
            await desk.customer_writes(text=f"{n}")
        await desk.post(f"{path}/messages", eva, {"text": "Voy"})
        assert await unread(desk, eva, path) == {ident(path): 12} == await unread(desk, luis, path)
        seen = await desk.post(f"{path}/seen", eva, {})
        assert seen.json()["unread"] == 0
        assert await unread(desk, luis, path) == {ident(path): 12}
        await desk.customer_writes(text="¿Sigue ahí?")
        assert await unread(desk, eva, path) == {ident(path): 1}
        older = await desk.post(f"{path}/seen", eva, {"through": 3})
        assert older.json()["unread"] == 1
        await desk.post(f"{path}/seen", eva, {"through": 10_000})
        await desk.customer_writes(text="Hola?")
        assert await unread(desk, eva, path) == {ident(path): 1}
        await desk.post(f"{path}/seen", eva, {})
        again = await desk.post(f"{path}/unseen", eva)
        assert again.json()["unread"] == 1
        assert await unread(desk, elsewhere, path) == {}
        await desk.refused(await desk.post(f"{path}/seen", elsewhere, {}), 404, "conversation_not_found")
        events = [h["ce-type"] for _, h, _ in await desk.service.admin.stored("EVT_CONVERSATION")]
        assert len(events) == 17, "reading tells nobody"

    at_desk(body)


def test_participants_by_hand_see_the_conversation_and_then_no_more(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        luis, theirs = await desk.agent(scope=ConversationScope.OWN)
        path = await desk.begun(eva)
        assert (await desk.get(path, theirs)).status_code == 404
        added = await desk.post(f"{path}/participants", eva, {"add": [luis]}, idempotency_key="p")
        assert added.json()["participant_ids"] == [luis]
        assert (
            await desk.post(f"{path}/participants", eva, {"add": [luis]}, idempotency_key="p")
        ).json() == added.json()
        assert (await desk.get(path, theirs)).status_code == 200
        unknown = await desk.post(f"{path}/participants", eva, {"add": [luis, new_id()]})
        await desk.refused(unknown, 422, "unknown_agent", "/add/1")
        await desk.post(f"{path}/participants", eva, {"remove": [luis]})
        assert (await desk.get(path, theirs)).status_code == 404
        assert await desk.lines(path, eva) == ["Eva Ruiz añadió a Eva Ruiz.", "Eva Ruiz quitó a Eva Ruiz."]
        await desk.service.settle()
        told = await desk.service.admin.stored("EVT_CONVERSATION")
        assert len([h for _, h, _ in told if "participants_changed" in h["ce-type"]]) == 2

    at_desk(body)


def test_mentions_are_listed_for_whom_they_name_while_they_see_the_conversation(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        luis, his = await desk.agent(scope=ConversationScope.OWN)
        marta, hers = await desk.agent(scope=ConversationScope.OWN)
        team = TeamState(id=new_id(), account_id=desk.world.account_id, name="Devoluciones", member_ids=(luis, marta))
        await desk.know("team", team)
        path = await desk.begun(eva)
        for n in range(3):
            mentions = [f"agent:{luis}", f"team:{team.id}"] if n else [f"agent:{luis}"]
            note = {"text": f"nota {n}", "private": True, "mentions": mentions}
            assert (await desk.post(f"{path}/messages", eva, note)).status_code == 201

        async def texts(who):
            first = (await desk.get("/mentions", who, limit=2)).json()
            rest = (await desk.get("/mentions", who, limit=2, cursor=first["next"])).json() if first["next"] else first
            items = first["items"] + (rest["items"] if first["next"] else [])
            return [item["message"]["text"] for item in items]

        assert await texts(his) == ["nota 2", "nota 1", "nota 0"]
        assert await texts(hers) == ["nota 2", "nota 1"]
        assert await texts(eva) == []
        await desk.post(f"{path}/participants", eva, {"remove": [luis]})
        assert await texts(his) == []
        candidates = (await desk.get("/mentionable", eva, q="dévo")).json()["items"]
        assert candidates == [{"mention": f"team:{team.id}", "kind": "team", "id": team.id, "name": "Devoluciones"}]
        assert len((await desk.get("/mentionable", eva, q="RUIZ")).json()["items"]) == 3
        # Whom a mention would show nothing is offered to nobody, and refused.
        blind, _ = await desk.agent("marketing")
        assert len((await desk.get("/mentionable", eva, q="UÍZ")).json()["items"]) == 3
        note = {"text": "nota", "private": True, "mentions": [f"agent:{blind}"]}
        await desk.refused(await desk.post(f"{path}/messages", eva, note), 422, "unknown_mention", "/mentions/0")

    at_desk(body)


def test_a_draft_is_its_writer_s_and_ends_when_it_is_sent(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        _, luis = await desk.agent()
        path = await desk.begun(eva)
        await desk.refused(await desk.get(f"{path}/draft", eva), 404, "draft_not_found")
        for typed in ("Bue", "Buenos d\0ías "):
            kept = await desk.send("PUT", f"{path}/draft", eva, {"text": typed})
        assert kept.json()["text"] == "Buenos días "
        assert (await desk.get(f"{path}/draft", eva)).json() == kept.json()
        await desk.refused(await desk.get(f"{path}/draft", luis), 404, "draft_not_found")
        assert (await desk.get("/drafts", eva)).json()["items"] == [kept.json()]
        await desk.post(f"{path}/messages", eva, {"text": "nota", "private": True})
        assert (await desk.get(f"{path}/draft", eva)).status_code == 200
        await desk.post(f"{path}/messages", eva, {"text": "Buenos días"})
        assert (await desk.get(f"{path}/draft", eva)).status_code == 404
        await desk.send("PUT", f"{path}/draft", eva, {"text": "otra", "private": True})
        for _ in range(2):
            assert (await desk.send("DELETE", f"{path}/draft", eva)).status_code == 204
        assert (await desk.get("/drafts", eva)).json()["items"] == []

    at_desk(body)


def test_counting_unread_reads_by_the_index_what_came_since_and_not_the_whole_conversation(run, world):
    async def body(service):
        await service.handle(on_ingest, *(world.message("ana", str(n)) for n in range(300)))
        (conversation,) = service.rows("select id from conversations")
        asked = {"account": world.account_id, "agent": new_id(), "ids": [str(conversation["id"])]}
        async with service.database.begin() as tx:
            rows = await tx.execute(text(f"explain {UNREAD.text}"), asked)
            plan = "\n".join(row[0] for row in rows)
        assert any("Index Cond" in line and "sequence >" in line for line in plan.splitlines()), plan

    run(body)


def test_a_key_has_nothing_of_its_own(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        plain = new_key("api")
        state = KeyState(
            id=plain.id,
            account_id=desk.world.account_id,
            kind="api",
            name="k",
            sha256=plain.sha256,
            permissions=frozenset(Permission),
            scope=ConversationScope.ALL,
        )
        await desk.know("key", state)
        key = {"authorization": f"Bearer {plain.plain}"}
        counts, hers = (await desk.get("/conversations/counts", key)).json(), (await desk.get("/drafts", eva)).json()
        assert (counts["open"]["count"], counts["mine"], counts["mentions"], hers["items"]) == (1, None, None, [])
        for method, where, given in (
            ("GET", "/drafts", None),
            ("GET", "/mentions", None),
            ("GET", "/conversations/unread?id=" + path.rpartition("/")[2], None),
            ("PUT", f"{path}/draft", {"text": "x"}),
            ("GET", "/signature", None),
        ):
            await desk.refused(await desk.send(method, where, key, given), 403, "not_an_agent")

    at_desk(body)
