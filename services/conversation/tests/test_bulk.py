"""One act on many conversations: a job that goes on where it was, and refuses one by one."""

import contextlib
from datetime import timedelta

from relevo.chassis import directory, timers
from relevo.chassis.bus import until
from relevo.chassis.timers import run_due
from relevo.contracts.base import new_id, now
from relevo.contracts.identity import KeyState
from relevo.contracts.permissions import Permission
from relevo.conversation import bulk
from relevo.conversation.due import TIMERS
from relevo.conversation.store import bulk as store


async def finished(desk, who, job):
    async def over():
        return (await desk.get(f"/conversations/bulk/{job['id']}", who)).json()["state"] != "running"

    assert await until(over, 30)
    return (await desk.get(f"/conversations/bulk/{job['id']}", who)).json()


async def start(desk, who, act, **more):
    answer = await desk.post("/conversations/bulk", who, {"act": act} | more)
    assert answer.status_code == 202, answer.text
    return await finished(desk, who, answer.json())


def test_by_ids_each_is_done_or_refused_with_its_reason(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        _, luis = await desk.agent()
        for n in range(5):
            await desk.customer_writes(f"c{n}")
        ids = [c["id"] for c in (await desk.get("/conversations", eva)).json()["items"]]
        await desk.post(f"/conversations/{ids[0]}/resolve", eva)
        missing = new_id()
        job = await start(desk, eva, {"do": "resolve"}, ids=[*ids, missing])
        assert (job["state"], job["total"], job["done"], job["changed"], job["refused"]) == ("done", 6, 6, 4, 2)
        assert {(r["conversation_id"], r["code"]) for r in job["refusals"]} == {
            (ids[0], "conversation_already_resolved"),
            (missing, "conversation_not_found"),
        }
        assert (await desk.get("/conversations", eva, status="open")).json()["items"] == []
        assert await desk.lines(f"/conversations/{ids[3]}", eva) == ["Eva Ruiz resolvió la conversación."]
        await desk.refused(await desk.get(f"/conversations/bulk/{job['id']}", luis), 404, "job_not_found")
        label = {"do": "labels", "add": ["vip"]}
        assert (await start(desk, eva, label, ids=ids))["changed"] == 5
        assert (await start(desk, eva, label, ids=ids))["changed"] == 0

    at_desk(body)


def test_by_filter_it_does_what_the_list_shows_and_nothing_that_one_does_not_see(at_desk):
    async def body(desk):
        _, admin = await desk.agent("administrator")
        email = desk.world.make_inbox("email")
        _, eva = await desk.agent(inboxes=(email.id,))
        for n in range(3):
            await desk.customer_writes(f"w{n}")
            await desk.customer_writes(f"e{n}", inbox=email)
        job = await start(desk, eva, {"do": "priority", "priority": "high"}, filter={"status": ["open"]})
        assert (job["total"], job["changed"]) == (3, 3)
        high = (await desk.get("/conversations", admin, priority="high")).json()["items"]
        assert {c["inbox_id"] for c in high} == {email.id}
        ids = [c["id"] for c in (await desk.get("/conversations", admin)).json()["items"]]
        named = await start(desk, eva, {"do": "snooze"}, ids=ids)
        assert (named["changed"], named["refused"]) == (3, 3)
        assert (await start(desk, eva, {"do": "wake"}, filter={"label": ["nadie"]}))["total"] == 0

    at_desk(body)


def test_what_cannot_be_asked(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        _, labels = await desk.agent(
            permissions=frozenset({Permission.CONVERSATIONS_READ, Permission.CONVERSATIONS_LABEL})
        )
        ids = [new_id()]
        for wrong, code, pointer in (
            ({"act": {"do": "resolve"}}, "invalid_choice", "/ids"),
            ({"act": {"do": "resolve"}, "ids": ids, "filter": {}}, "invalid_choice", "/ids"),
            ({"act": {"do": "explode"}, "ids": ids}, "validation_failed", "/act"),
            ({"act": {"do": "resolve"}, "filter": {"colour": "red"}}, "validation_failed", "/filter/colour"),
        ):
            await desk.refused(await desk.post("/conversations/bulk", eva, wrong), 422, code, pointer)
        refused = await desk.post("/conversations/bulk", labels, {"act": {"do": "resolve"}, "ids": ids})
        await desk.refused(refused, 403, "permission_missing")
        assert (
            await desk.post("/conversations/bulk", labels, {"act": {"do": "labels"}, "ids": ids})
        ).status_code == 202

    at_desk(body)


def test_a_job_goes_on_where_a_crash_left_it_and_stops_when_it_is_cancelled(at_desk, monkeypatch):
    async def body(desk):
        _, eva = await desk.agent()
        for n in range(7):
            await desk.customer_writes(f"c{n}")
        monkeypatch.setattr(bulk, "BATCH", 2)
        database = desk.service.runtime.database
        ids = [c["id"] for c in (await desk.get("/conversations", eva)).json()["items"]]

        crashes = iter([True, True])

        async def crashing(due, tx):
            await bulk.on_bulk(due, tx)
            if next(crashes, False):
                raise ConnectionError

        # The service's own worker takes it between our crashes; whoever does a batch, each is done once.
        job = (await desk.post("/conversations/bulk", eva, {"act": {"do": "resolve"}, "ids": ids})).json()
        for _ in range(2):
            with contextlib.suppress(Exception):
                await run_due(database, {**TIMERS, bulk.BULK: crashing})
        done = await finished(desk, eva, job)
        assert (done["done"], done["changed"], done["refused"]) == (7, 7, 0)
        await desk.service.settle()
        stored = await desk.service.admin.stored("EVT_CONVERSATION")
        resolved = [h["ce-subject"] for _, h, _ in stored if h["ce-type"].endswith("conversation_resolved.v1")]
        assert sorted(resolved) == sorted(ids)
        cancelled = await desk.post(f"/conversations/bulk/{job['id']}/cancel", eva)
        assert cancelled.json()["state"] == "done"

    at_desk(body)


def test_a_job_uses_the_rights_that_there_are_by_then_and_ends_with_who_asked(at_desk):
    async def body(desk):
        account, database = desk.world.account_id, desk.service.runtime.database
        id_, eva = await desk.agent()
        ids = [(await desk.begun(eva, who=f"c{n}")).rpartition("/")[2] for n in range(3)]
        async with database.begin(account) as tx:
            (agent,), (role,) = await directory.agents(tx, account), await directory.roles(tx, account)
        key = KeyState(
            id=new_id(),
            account_id=account,
            kind="api",
            name="Ventas",
            sha256="0" * 64,
            permissions=role.permissions,
            scope=role.scope,
            agent_id=id_,
        )

        async def did(actor):
            """What becomes of a job of this author, who had started it when they still had their rights."""
            async with database.begin(account) as tx:
                job = await store.add(tx, account, new_id(), actor, {"do": "labels", "add": [new_id()[-12:]]}, ids)
                await timers.schedule(tx, bulk.BULK, job["id"], now(), account_id=account)

            async def over():
                async with database.begin(account) as tx:
                    return await store.read(tx, account, actor, job["id"])

            async def ended():
                return (await over())["state"] != "running"

            assert await until(ended, 30)
            job = await over()
            return job["state"], job["changed"], job["refused"]

        async def with_entry(kind, state, *, deleted=False):
            async with database.begin(account) as tx:
                await directory.apply(tx, kind, account, state.id, state, 2, deleted=deleted)

        everything, nothing = ("done", 3, 0), ("cancelled", 0, 0)
        await with_entry("key", key)
        assert [await did(f"agent:{id_}"), await did(f"key:{key.id}")] == [everything, everything]
        # Other inboxes from now on: the agent's own, and what they lend their key.
        await with_entry("agent", agent.model_copy(update={"inbox_ids": (new_id(),)}))
        assert [await did(f"agent:{id_}"), await did(f"key:{key.id}")] == [("done", 0, 3)] * 2
        await with_entry("agent", agent)
        await with_entry("role", role.model_copy(update={"permissions": frozenset({Permission.CONVERSATIONS_READ})}))
        assert [await did(f"agent:{id_}"), await did(f"key:{key.id}")] == [("done", 0, 3), everything]
        await with_entry("role", role)
        await with_entry("key", key.model_copy(update={"expires_at": now() - timedelta(minutes=1)}))
        assert await did(f"key:{key.id}") == nothing
        await with_entry("key", key, deleted=True)
        assert [await did(f"agent:{id_}"), await did(f"key:{key.id}")] == [everything, nothing]
        await with_entry("key", key)
        await with_entry("agent", agent.model_copy(update={"active": False}))
        assert [await did(f"agent:{id_}"), await did(f"key:{key.id}")] == [nothing, nothing]
        await with_entry("agent", agent, deleted=True)
        assert [await did(f"agent:{id_}"), await did(f"key:{key.id}")] == [nothing, nothing]

    at_desk(body)
