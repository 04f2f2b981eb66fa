"""What people do to one conversation over HTTP, and the line that each change leaves."""

from datetime import datetime, timedelta

from relevo.chassis.bus import until
from relevo.contracts.assignment import ConversationAssigned, Reason
from relevo.contracts.base import new_id, now
from relevo.contracts.permissions import Permission


def test_a_snoozed_conversation_wakes_on_time_by_itself(at_desk):
    async def body(desk):
        _, who = await desk.agent()
        path = await desk.begun(who)
        wished = now() + timedelta(seconds=1.5)
        snoozed = await desk.post(f"{path}/snooze", who, {"until": wished.isoformat()}, idempotency_key="s1")
        assert (snoozed.json()["status"], snoozed.json()["stage"]) == ("snoozed", "in_progress")
        again = await desk.post(f"{path}/snooze", who, {"until": wished.isoformat()}, idempotency_key="s1")
        assert again.json() == snoozed.json()

        async def open_again():
            return (await desk.get(path, who)).json()["status"] == "open"

        assert await until(open_again, 30)
        await desk.service.settle()
        stored = await desk.service.admin.stored("EVT_CONVERSATION")
        (woken,) = [headers for _, headers, _ in stored if headers["ce-type"].endswith("conversation_woken.v1")]
        late = datetime.fromisoformat(woken["ce-time"]) - wished
        assert timedelta(0) <= late < timedelta(seconds=1.5)
        assert woken["relevo-actor"] == "system"
        english = who | {"accept-language": "en"}
        es, en = await desk.lines(path, who), await desk.lines(path, english)
        assert es[0].startswith("Eva Ruiz pospuso la conversación hasta el ")
        assert es[1:] == ["Relevo reactivó la conversación: llegó su hora."]
        assert en[1:] == ["Relevo woke this up: its time came."]

    at_desk(body)


def test_one_that_came_due_while_nobody_ran_wakes_late(at_desk):
    """Older than any look-back: the timer is a row, and waits as long as it must."""

    async def body(desk):
        _, who = await desk.agent()
        path = await desk.begun(who)
        await desk.post(f"{path}/snooze", who, {"until": (now() + timedelta(days=30)).isoformat()})
        async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
            past = "now() - interval '40 days'"
            await tx.conn.execute(f"update conversations set snoozed_until = {past}")
            await tx.conn.execute(f"update timers set due_at = {past} where kind = 'snooze'")

        async def open_again():
            return (await desk.get(path, who)).json()["status"] == "open"

        assert await until(open_again, 30)

    at_desk(body)


def test_a_customer_wakes_what_was_snoozed_and_the_old_timer_then_does_nothing(at_desk):
    async def body(desk):
        _, who = await desk.agent()
        path = await desk.begun(who)
        await desk.post(f"{path}/snooze", who, {"until": (now() + timedelta(hours=1)).isoformat()})
        await desk.customer_writes(text="¿Y bien?")
        assert (await desk.get(path, who)).json()["status"] == "open"
        forever = await desk.post(f"{path}/snooze", who, {"until": None})
        assert (forever.json()["status"], forever.json()["snoozed_until"]) == ("snoozed", None)
        async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
            await tx.conn.execute("update timers set due_at = now() where kind = 'snooze'")

        async def rung():
            async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
                return (await (await tx.conn.execute("select count(*) from timers")).fetchone())[0] == 0

        assert await until(rung, 30)
        assert (await desk.get(path, who)).json()["status"] == "snoozed"
        woken = await desk.post(f"{path}/wake", who)
        assert woken.json()["status"] == "open"
        await desk.refused(await desk.post(f"{path}/wake", who), 409, "conversation_not_snoozed")
        assert (await desk.lines(path, who))[1:] == [
            "El cliente reactivó la conversación al escribir.",
            "Eva Ruiz pospuso la conversación hasta que escriba el cliente.",
            "Eva Ruiz reactivó la conversación.",
        ]

    at_desk(body)


def test_what_snoozing_and_pending_refuse(at_desk):
    async def body(desk):
        _, who = await desk.agent()
        _, reader = await desk.agent(permissions=frozenset({Permission.CONVERSATIONS_READ}))
        path = await desk.begun(who)
        past = {"until": (now() - timedelta(seconds=1)).isoformat()}
        await desk.refused(await desk.post(f"{path}/snooze", who, past), 422, "snooze_in_the_past", "/until")
        naive = await desk.post(f"{path}/snooze", who, {"until": "2030-01-01T00:00:00"})
        assert (naive.status_code, naive.json()["errors"][0]["pointer"]) == (422, "/until")
        assert (await desk.post(f"{path}/pending", who)).json()["status"] == "pending"
        await desk.refused(await desk.post(f"{path}/pending", who), 409, "conversation_already_pending")
        assert (await desk.post(f"{path}/take-over", who)).json()["status"] == "open"
        await desk.refused(await desk.post(f"{path}/take-over", who), 409, "conversation_not_pending")
        await desk.post(f"{path}/resolve", who)
        await desk.refused(await desk.post(f"{path}/snooze", who, {}), 409, "conversation_is_resolved")
        await desk.refused(await desk.post(f"{path}/pending", who), 409, "conversation_is_resolved")
        for act in ("snooze", "wake", "pending", "take-over", "priority", "subject"):
            body = {"priority": "high"} if act == "priority" else {"subject": "x"} if act == "subject" else {}
            await desk.refused(await desk.post(f"{path}/{act}", reader, body), 403, "permission_missing")

    at_desk(body)


def test_priority_and_subject_tell_what_they_were(at_desk):
    async def body(desk):
        eva, who = await desk.agent()
        path = await desk.begun(who)
        assert (await desk.post(f"{path}/priority", who, {"priority": "urgent"})).json()["priority"] == "urgent"
        first = await desk.post(f"{path}/priority", who, {"priority": "low"})
        same = await desk.post(f"{path}/priority", who, {"priority": "low"})
        assert same.json()["sequence"] == first.json()["sequence"]
        assert (await desk.post(f"{path}/subject", who, {"subject": " Pedido \n 7 "})).json()["subject"] == "Pedido 7"
        assigned = ConversationAssigned(
            conversation_id=path.rpartition("/")[2],
            version=1,
            assignee_id=eva,
            reason=Reason(code="self", es="", en=""),
        )
        await desk.service.admin.publish(
            assigned, account=desk.world.account_id, entity=path.rpartition("/")[2], sequence=1
        )
        await desk.service.settle()
        assert await desk.lines(path, who) == [
            "Eva Ruiz cambió la prioridad de ninguna a urgente.",
            "Eva Ruiz cambió la prioridad de urgente a baja.",
            "Eva Ruiz cambió el asunto a «Pedido 7».",
            "Relevo asignó la conversación a Eva Ruiz.",
        ]
        messages = (await desk.get(f"{path}/messages", who)).json()["items"]
        assert messages[2]["activity"] == {"code": "priority", "from": "urgent", "to": "low"}
        assert (await desk.get(path, who)).json()["message_count"] == 1
        await desk.refused(await desk.post(f"{path}/priority", who, {}), 422, "validation_failed", "/priority")
        unknown = await desk.post(f"/conversations/{new_id()}/priority", who, {"priority": None})
        await desk.refused(unknown, 404, "conversation_not_found")

    at_desk(body)


def test_what_was_resolved_long_ago_is_archived_by_itself_unless_it_was_opened_again(at_desk):
    async def body(desk):
        await desk.know("inbox", desk.world.inbox.model_copy(update={"archive_after_days": 7}))
        _, who = await desk.agent()
        old, opened_again, early = [await desk.begun(who, who=f"3460000000{n}") for n in range(3)]
        for path in (old, opened_again, early):
            assert (await desk.post(f"{path}/resolve", who)).status_code == 200
        assert (await desk.post(f"{opened_again}/reopen", who)).status_code == 200
        ids = {path: path.rsplit("/", 1)[1] for path in (old, opened_again, early)}

        async def rows(sql, *ids):
            async with desk.service.runtime.database.begin(desk.world.account_id) as tx:
                found = await tx.conn.execute(sql, (list(ids),))
                return await found.fetchall() if found.description else []

        due = "select key, due_at - now() from timers where kind = 'archive' and key = any(%s)"
        assert {key: round(left / timedelta(days=1)) for key, left in await rows(due, *ids.values())} == dict.fromkeys(
            ids.values(), 7
        )
        # The third was resolved just now: its inbox said a shorter time when the timer was set, and says seven days now.
        await rows(
            "update conversations set resolved_at = now() - interval '8 days' where id = any(%s::uuid[])", ids[old]
        )
        await rows("update timers set due_at = now() where kind = 'archive' and key = any(%s)", *ids.values())

        async def archived():
            return (await desk.get(old, who)).json()["archived"]

        async def put_off():
            found = await rows(due, *ids.values())
            return [key for key, left in found if left > timedelta(days=6)] == [ids[early]] and len(found) == 1

        assert await until(archived, 30)
        assert await until(put_off, 30)
        assert (await desk.lines(old, who | {"accept-language": "en"}))[-1] == "Relevo archived this."
        assert (await desk.get(opened_again, who)).json()["status"] == "open"
        assert not (await desk.get(early, who)).json()["archived"]

    at_desk(body)
