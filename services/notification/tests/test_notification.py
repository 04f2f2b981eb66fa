"""Notification as agents meet it: the list, preferences, e-mail."""

import base64
import json
from datetime import timedelta

from sqlalchemy import text

from relevo.chassis.bus import until
from relevo.contracts import identity
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ReminderDue
from relevo.contracts.notification import MailFile, Notify
from relevo.contracts.snapshots import ReminderSnapshot

AT_ONCE = {"RELEVO_MAIL_UNSEEN_SECONDS": "0"}
INVITED = {"account": "Acme", "inviter": "Ana", "name": "Eva", "until": "2026-12-01 10:00 (Europe/Madrid)"}


async def listed(service, org, agent, **query):
    answer = await service.http.get("/notifications", params=query, headers=org.as_(agent))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def created(service):
    return [json.loads(body) for _, _, body in await service.admin.stored("EVT_NOTIFICATION")]


async def test_an_assignment_reaches_whom_it_was_given_to(notification, org):
    ana, eva = await org.hire("Ana"), await org.hire("Eva", language="es")
    await notification.settle()
    talk = await org.assign(ana, number=41)
    await org.assign(eva, number=42)
    await org.assign(ana, actor=f"agent:{ana}")
    await org.assign(None)
    await notification.settle()
    (mine,) = (await listed(notification, org, ana))["items"]
    assert mine["title"] == "Conversation #41 was assigned to you"
    assert (mine["kind"], mine["conversation_id"], mine["read_at"]) == ("assignment", talk.id, None)
    (hers,) = (await listed(notification, org, eva))["items"]
    assert hers["title"] == "Se te ha asignado la conversación #42"
    assert sorted(one["agent_id"] for one in await created(notification)) == sorted([ana, eva])


async def test_a_mention_reaches_people_and_teams_but_not_its_author(notification, org):
    ana, eva, leo = await org.hire("Ana"), await org.hire("Eva"), await org.hire("Leo")
    team = identity.TeamState(id=new_id(), account_id=org.account, name="Ventas", member_ids=(ana, eva, leo))
    await org.tell(identity.TeamChanged(team=team), team.id)
    await notification.settle()
    await org.note(eva, 'mira "mentions":["x"]', f"agent:{ana}", f"team:{team.id}")
    await org.note(eva, 'nadie: "mentions":["agent:x"]')
    await org.note(eva, "to the customer", f"agent:{leo}", kind="outgoing")
    await notification.settle()
    assert len((await listed(notification, org, ana))["items"]) == 1
    (his,) = (await listed(notification, org, leo))["items"]
    assert his["title"] == "Eva mentioned you in conversation #1"
    assert his["body"] == 'mira "mentions":["x"]'
    assert (await listed(notification, org, eva))["items"] == []


async def test_a_reminder_reaches_its_agent_or_its_team_and_whom_it_chose(notification, org):
    ana, eva, leo = await org.hire("Ana"), await org.hire("Eva", language="es"), await org.hire("Leo")
    team = identity.TeamState(id=new_id(), account_id=org.account, name="Ventas", member_ids=(ana, leo))
    await org.tell(identity.TeamChanged(team=team), team.id)
    await notification.settle()
    talk = org.conversation(number=7)
    reminder = ReminderSnapshot(id=new_id(), text="Llamar a Ana", set_by=f"agent:{eva}", set_at=now(), due_at=now())
    for whom in ({"agent_id": eva}, {"team_id": team.id}, {}):
        due = ReminderDue(conversation=talk, before=talk.access, reminder=reminder, **whom)
        await org.tell(due, talk.id)
    await notification.settle()
    (hers,) = (await listed(notification, org, eva))["items"]
    assert (hers["kind"], hers["title"], hers["body"]) == (
        "reminder",
        "Recordatorio: conversación #7 con Ana",
        "Llamar a Ana",
    )
    for one in (ana, leo):
        (found,) = (await listed(notification, org, one))["items"]
        assert found["title"] == "Reminder: conversation #7 with Ana"
    off = {"items": [{"kind": "reminder", "in_app": False, "email": False, "push": False}]}
    answer = await notification.http.put("/notifications/preferences", json=off, headers=org.as_(eva))
    assert answer.status_code == 200, answer.text
    again = ReminderDue(conversation=talk, before=talk.access, reminder=reminder, agent_id=eva)
    await org.tell(again, talk.id)
    await notification.settle()
    assert len((await listed(notification, org, eva))["items"]) == 1


async def test_reading(notification, org):
    ana, eva = await org.hire("Ana"), await org.hire("Eva")
    await notification.settle()
    for number in range(5):
        await org.assign(ana, number=number)
        await notification.settle()
    mine = (await listed(notification, org, ana))["items"]
    assert [one["title"][14] for one in mine] == list("43210")
    path = f"/notifications/{mine[0]['id']}/read"
    assert (await notification.http.post(path, headers=org.as_(eva))).status_code == 404
    first = (await notification.http.post(path, headers=org.as_(ana))).json()
    assert first["read_at"]
    assert (await notification.http.post(path, headers=org.as_(ana))).json() == first
    count = await notification.http.get("/notifications/unread", headers=org.as_(ana))
    assert count.json() == {"unread": 4}
    found, cursor = [], None
    while True:
        page = await listed(notification, org, ana, limit=2, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next"]
        if not cursor:
            break
    assert [one["title"][14] for one in found] == list("32104")
    done = await notification.http.post("/notifications/read-all", headers=org.as_(ana))
    assert done.json() == {"unread": 0}


async def test_preferences(notification, org):
    ana = await org.hire("Ana")
    await notification.settle()
    me = org.as_(ana)
    before = (await notification.http.get("/notifications/preferences", headers=me)).json()["items"]
    usual = {"in_app": True, "email": False, "push": True, "own": False}
    assert before == [{"kind": kind, **usual} for kind in ("assignment", "mention", "message", "reminder", "alert")]
    quiet = {"items": [{"kind": "assignment", "in_app": False, "email": False, "push": False}]}
    after = await notification.http.put("/notifications/preferences", json=quiet, headers=me)
    assert after.json()["items"] == [{**quiet["items"][0], "own": True}, *before[1:]]
    await org.assign(ana)
    await notification.settle()
    assert (await listed(notification, org, ana))["items"] == []
    bad = {"items": [{"kind": "weather", "in_app": True, "email": True}]}
    assert (await notification.http.put("/notifications/preferences", json=bad, headers=me)).status_code == 422


async def test_a_command_tells_once_and_only_while_it_is_of_use(notification, org):
    ana = await org.hire("Ana")
    await notification.settle()

    async def notify(key, **more):
        wanted = Notify(
            dedup_key=key, kind="alert", agent_id=ana, template="alert", data={"title": key, "text": "x"}, **more
        )
        await notification.admin.publish(wanted, account=org.account, entity=ana)

    await notify("one")
    await notify("one")
    await notify("late", useless_after=now() - timedelta(seconds=1))
    await notify("two", useless_after=now() + timedelta(minutes=1))
    await notification.settle()
    assert [one["title"] for one in (await listed(notification, org, ana))["items"]] == ["two", "one"]
    assert len(await created(notification)) == 2


async def test_a_text_that_does_not_exist_becomes_a_dead_letter(notification, org):
    ana = await org.hire("Ana")
    await notification.settle()
    for template, data in (("nope", {}), ("alert", {"title": "t", "text": "x"})):
        wanted = Notify(dedup_key=template, kind="alert", agent_id=ana, template=template, data=data)
        await notification.admin.publish(wanted, account=org.account, entity=ana)
    await notification.settle()
    assert len((await listed(notification, org, ana))["items"]) == 1
    (dead,) = await notification.admin.stored("DEAD")
    assert "UnknownTemplate" in json.loads(dead[2])["error"]


async def mails(service):
    async with service.runtime.database.begin(door="mails") as tx:
        rows = await tx.execute(text("select recipient, state, attempts, error, file from mails order by id"))
        return rows.mappings().all()


async def hired(service, org_type, **more):
    org = org_type(service.admin)
    await org.found()
    ana = await org.hire("Ana", **more)
    await service.settle()
    both = {"items": [{"kind": "assignment", "in_app": True, "email": True}]}
    answer = await service.http.put("/notifications/preferences", json=both, headers=org.as_(ana))
    assert answer.status_code == 200
    return org, ana


async def test_mail_in_two_parts_and_the_readers_language(start, mail, org):
    server, url = mail
    async with start(RELEVO_SMTP_URL=url, RELEVO_PUBLIC_URL="https://relevo.example/", **AT_ONCE) as service:
        theirs, ana = await hired(service, type(org), language="es")
        talk = await theirs.assign(ana, number=9)

        async def arrived():
            return len(server.got) == 1

        assert await until(arrived, 30)
        (message,) = server.got
        assert message["Subject"] == "Se te ha asignado la conversación #9"
        assert message["To"] == "Ana@example.org"
        plain, rich = message.get_body(("plain",)), message.get_body(("html",))
        link = f"https://relevo.example/conversations/{talk.id}"
        assert link in plain.get_content()
        assert link in rich.get_content()
        assert 'lang="es"' in rich.get_content()
        assert len((await listed(service, theirs, ana))["items"]) == 1


async def test_a_transcript_arrives_whole_at_an_address_of_nobody_of_the_team(start, mail, org):
    server, url = mail
    async with start(RELEVO_SMTP_URL=url, RELEVO_PUBLIC_URL="https://relevo.example/", **AT_ONCE) as service:
        said = "\n".join(f"{n}: <b>¿Qué tal?</b> 😀" for n in range(500))
        data = {"account": "Tienda Sol", "number": 7, "comment": "Mira:\n\n", "transcript": said}
        wanted = Notify(
            dedup_key="t",
            kind="transcript",
            address="luz@example.com",
            template="transcript",
            data=data,
            conversation_id=new_id(),
            file=MailFile(name="conversation-7.pdf", content=base64.b64encode(b"%PDF-1.3 \xff").decode()),
        )
        await service.admin.publish(wanted, account=org.account, entity=wanted.conversation_id)

        async def arrived():
            return len(server.got) == 1

        assert await until(arrived, 30)
        (message,) = server.got
        assert (message["Subject"], message["To"]) == ("Conversación #7 con Tienda Sol", "luz@example.com")
        plain, rich = message.get_body(("plain",)).get_content(), message.get_body(("html",)).get_content()
        assert plain.split("\r\n") == ["Mira:", "", *said.split("\n"), ""]
        assert "<b>¿" not in rich
        # Whoever reads it has no business in the console.
        assert "relevo.example" not in plain + rich
        (file,) = message.iter_attachments()
        assert (file.get_filename(), file.get_content_type()) == ("conversation-7.pdf", "application/pdf")
        assert file.get_content() == b"%PDF-1.3 \xff"

        async def forgotten():
            return [(one["state"], one["file"]) for one in await mails(service)] == [("sent", None)]

        assert await until(forgotten, 30)


async def test_mail_is_tried_again_and_given_up_when_refused_for_good(start, mail, org):
    server, url = mail
    server.answers = ["451 busy", "451 busy"]
    async with start(RELEVO_SMTP_URL=url, RELEVO_MAIL_BACKOFF="0.05", **AT_ONCE) as service:
        theirs, ana = await hired(service, type(org))
        await theirs.assign(ana)

        async def state():
            return [one["state"] for one in await mails(service)]

        async def sent():
            return await state() == ["sent"]

        assert await until(sent, 30)
        assert (server.tried, (await mails(service))[0]["attempts"]) == (3, 3)
        server.answers = ["550 no such person"]
        await theirs.assign(ana)

        async def failed():
            return await state() == ["sent", "failed"]

        assert await until(failed, 30)
        assert "550" in (await mails(service))[1]["error"]


async def test_an_address_gets_its_mail_once(start, mail, org):
    server, url = mail
    async with start(RELEVO_SMTP_URL=url) as service:
        for _ in range(2):
            wanted = Notify(
                dedup_key="i1",
                kind="invitation",
                address="new@example.org",
                language="en",
                template="invitation",
                data=INVITED | {"link": "https://relevo.example/join/" + "t" * 400},
            )
            await service.admin.publish(wanted, account=org.account, entity=new_id())
        await service.settle()

        async def sent():
            return [one["state"] for one in await mails(service)] == ["sent"]

        assert await until(sent, 30)
        assert server.tried == 1
        assert "t" * 400 in server.got[0].get_body(("plain",)).get_content()


async def test_without_a_mail_server_nothing_is_sent_but_it_can_be_seen(notification, org):
    theirs, ana = await hired(notification, type(org))
    await theirs.assign(ana)
    wanted = Notify(
        dedup_key="i1",
        kind="invitation",
        address="new@example.org",
        template="invitation",
        data=INVITED | {"link": "l"},
    )
    await notification.admin.publish(wanted, account=theirs.account, entity=new_id())
    await notification.settle()
    assert len((await listed(notification, theirs, ana))["items"]) == 1
    (only,) = await mails(notification)
    assert (only["recipient"], only["state"]) == ("new@example.org", "dropped")
    assert "RELEVO_SMTP_URL" in only["error"]
