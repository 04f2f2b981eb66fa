"""Whom news reach, when and how often: folding, seeing, snoozing, access, e-mail that waits, bounces."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import text

from relevo.chassis import eraser
from relevo.chassis.auth import new_key
from relevo.chassis.bus import until
from relevo.contracts import identity
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ContactErased, MessageCreated
from relevo.contracts.erasure import ErasePerson
from relevo.contracts.notification import Notify
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.contracts.snapshots import MessageSnapshot
from relevo.notification.store import lists
from relevo.notification.store.lists import Seen

UNSEEN = {"RELEVO_MAIL_UNSEEN_SECONDS": "3600"}


async def listed(service, org, agent, **query):
    answer = await service.http.get("/notifications", params=query, headers=org.as_(agent))
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def unread(service, org, agent):
    return (await service.http.get("/notifications/unread", headers=org.as_(agent))).json()["unread"]


async def events(service, kind):
    stored = await service.admin.stored("EVT_NOTIFICATION")
    return [json.loads(body) for _, headers, body in stored if headers["ce-type"] == f"relevo.notification.{kind}.v1"]


async def told(service):
    return await events(service, "notification_created")


async def read(service, count):
    """What open lists hear of, once there is so much."""

    async def there():
        return len(await events(service, "notifications_read")) >= count

    assert await until(there, 30)
    return await events(service, "notifications_read")


async def mails(service):
    async with service.runtime.database.begin(door="mails") as tx:
        rows = await tx.execute(text("select recipient, subject, state, error from mails order by created_at, id"))
        return rows.mappings().all()


async def time_passes(service):
    """The minutes that an e-mail waits are over."""
    async with service.runtime.database.begin(door="mails") as tx:
        await tx.execute(text("update mails set next_at = now() where state = 'waiting'"))


async def settled(service, *states):
    """All e-mails came to this."""

    async def there():
        return [one["state"] for one in await mails(service)] == list(states)

    assert await until(there, 30), await mails(service)


async def wants_mail(service, org, agent, *kinds):
    items = [{"kind": kind, "in_app": True, "email": True} for kind in kinds]
    answer = await service.http.put("/notifications/preferences", json={"items": items}, headers=org.as_(agent))
    assert answer.status_code == 200, answer.text


async def founded(service, org_type):
    org = org_type(service.admin)
    await org.found()
    account = identity.AccountState(id=org.account, name="Tienda Sol", time_zone="America/Bogota")
    await org.tell(identity.AccountChanged(account=account), org.account)
    return org


async def test_what_a_customer_writes_reaches_who_works_on_it_and_folds(notification, org):
    ana, eva, leo = await org.hire("Ana"), await org.hire("Eva", language="es"), await org.hire("Leo")
    await notification.settle()
    talk = org.conversation(assignee_id=ana, participant_ids=(eva,), number=7)
    await org.wrote(talk, "first")
    await org.wrote(talk, "second")
    await org.wrote(talk, "an answer", kind="outgoing", author=f"agent:{leo}")
    await notification.settle()
    (mine,) = await listed(notification, org, ana)
    assert (mine["kind"], mine["title"], mine["body"]) == ("message", "Ana wrote in conversation #7", "second")
    assert mine["folds"] == 2
    (hers,) = await listed(notification, org, eva)
    assert hers["title"] == "Ana escribe en la conversación #7"
    assert await listed(notification, org, leo) == []

    # Of another kind, and one that is read is folded no more.
    await org.note_in(talk, leo, "look", f"agent:{ana}")
    await notification.settle()
    (mine,) = await listed(notification, org, ana)
    assert (mine["kind"], mine["folds"]) == ("mention", 3)
    await notification.http.post(f"/notifications/{mine['id']}/read", headers=org.as_(ana))
    await org.wrote(talk, "third")
    await notification.settle()
    assert [(one["kind"], one["folds"]) for one in await listed(notification, org, ana)] == [
        ("message", 1),
        ("mention", 3),
    ]
    assert await unread(notification, org, ana) == 1


async def test_what_a_customer_writes_is_told_once_until_it_is_read(notification, org):
    ana = await org.hire("Ana")
    await notification.settle()
    talk, other = org.conversation(assignee_id=ana, number=1), org.conversation(assignee_id=ana, number=2)
    begun = now()
    for number in range(3):
        await org.wrote(talk, f"line {number}")
        await org.wrote(talk, f"and {number}")
        await notification.settle()
    await org.wrote(other, "hello")
    await notification.settle()
    assert [one["title"] for one in await told(notification)] == [
        f"Ana wrote in conversation #{number}" for number in (1, 2)
    ]
    _, mine = await listed(notification, org, ana)
    assert (mine["body"], mine["folds"]) == ("and 2", 6)
    # Whoever saw it before the newest came has not read that.
    assert await unread(notification, org, ana) == 2
    async with notification.runtime.database.begin(org.account) as tx:
        assert not await lists.see(tx, [Seen(org.account, ana, talk.id, begun)])
        (read_now,) = await lists.see(tx, [Seen(org.account, ana, talk.id, now())])
    assert read_now.id == mine["id"]
    # Read, or put away, the next is news.
    await org.wrote(talk, "news")
    await notification.settle()
    assert len(await told(notification)) == 3
    (mine, *_) = await listed(notification, org, ana)
    soon = {"until": (now() + timedelta(hours=1)).isoformat()}
    put_away = await notification.http.post(f"/notifications/{mine['id']}/snooze", json=soon, headers=org.as_(ana))
    assert put_away.status_code == 200
    await org.wrote(talk, "urgent")
    await notification.settle()
    (mine, *_) = await listed(notification, org, ana)
    assert (mine["body"], mine["folds"], len(await told(notification))) == ("urgent", 2, 4)


async def test_a_role_that_changes_counts_from_the_next_message_on(notification, org):
    ana = await org.hire("Ana")
    await notification.settle()
    talk = org.conversation(assignee_id=ana)
    await org.wrote(talk)
    await notification.settle()
    assert len(await told(notification)) == 1
    role = org.roles["agent"].model_copy(update={"scope": ConversationScope.NONE})
    await org.tell(identity.RoleChanged(role=role), role.id)
    await notification.settle()
    await org.wrote(org.conversation(assignee_id=ana))
    await notification.settle()
    assert len(await told(notification)) == 1


async def test_opening_a_conversation_or_acting_in_it_reads_what_was_told_of_it(notification, org):
    ana = await org.hire("Ana")
    await notification.settle()
    one, other = org.conversation(assignee_id=ana), org.conversation(assignee_id=ana)
    await org.wrote(one)
    await org.wrote(other)
    await notification.settle()
    assert await unread(notification, org, ana) == 2
    opened = await notification.http.post(f"/notifications/conversations/{one.id}/read", headers=org.as_(ana))
    assert opened.json() == {"unread": 1}
    (heard,) = await read(notification, 1)
    assert (heard["agent_id"], heard["conversation_id"], len(heard["notification_ids"])) == (ana, one.id, 1)
    again = await notification.http.post(f"/notifications/conversations/{one.id}/read", headers=org.as_(ana))
    assert again.json() == {"unread": 1}
    await org.wrote(other, "my answer", kind="outgoing", author=f"agent:{ana}")
    await notification.settle()
    assert await unread(notification, org, ana) == 0
    assert [one["conversation_id"] for one in await read(notification, 2)] == [one.id, other.id]
    # What comes after it is news again.
    await org.wrote(other, "and now?")
    await notification.settle()
    assert await unread(notification, org, ana) == 1
    (mine, *_) = await listed(notification, org, ana)
    await notification.http.post("/notifications/read-all", headers=org.as_(ana))
    assert (await read(notification, 3))[-1]["notification_ids"] == []
    # Taken back, it is told again.
    before = len(await told(notification))
    back = await notification.http.post(f"/notifications/{mine['id']}/unread", headers=org.as_(ana))
    assert back.json()["read_at"] is None
    assert await unread(notification, org, ana) == 1

    async def told_again():
        return [one["notification_id"] for one in (await told(notification))[before:]] == [mine["id"]]

    assert await until(told_again, 30)


async def test_snoozed_it_is_away_and_comes_back(notification, org):
    ana, eva = await org.hire("Ana"), await org.hire("Eva")
    await notification.settle()
    await org.assign(ana)
    await notification.settle()
    (mine,) = await listed(notification, org, ana)
    path = f"/notifications/{mine['id']}/snooze"
    for moment in (now() - timedelta(seconds=1), now() + timedelta(days=91)):
        refused = await notification.http.post(path, json={"until": moment.isoformat()}, headers=org.as_(ana))
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_snooze")
    soon = {"until": (now() + timedelta(seconds=1.5)).isoformat()}
    assert (await notification.http.post(path, json=soon, headers=org.as_(eva))).status_code == 404
    assert (await notification.http.post(path, json=soon, headers=org.as_(ana))).status_code == 200
    assert await listed(notification, org, ana) == []
    assert await unread(notification, org, ana) == 0
    assert [one["id"] for one in await listed(notification, org, ana, state="snoozed")] == [mine["id"]]

    async def said_again():
        return [one["notification_id"] for one in await told(notification)] == [mine["id"]] * 2

    assert await until(said_again, 30)
    (back,) = await listed(notification, org, ana)
    assert (back["id"], back["snoozed_until"], back["read_at"]) == (mine["id"], None, None)


async def test_nobody_hears_of_what_they_may_not_see(start, mail, org):
    server, url = mail
    async with start(RELEVO_SMTP_URL=url, **UNSEEN) as service:
        theirs = await founded(service, type(org))
        sales, care = new_id(), new_id()
        role = theirs.roles["agent"].model_copy(
            update={"id": new_id(), "name": "narrow", "predefined": False, "scope": ConversationScope.OWN}
        )
        await theirs.tell(identity.RoleChanged(role=role), role.id)
        ana = await theirs.hire("Ana", role_id=role.id, team_ids=(sales,))
        leo = await theirs.hire("Leo", team_ids=(care,))
        await service.settle()
        await wants_mail(service, theirs, ana, "assignment", "mention")
        # Named in a note of a conversation that is none of hers, and told of by another service.
        foreign = theirs.conversation(assignee_id=leo, team_id=care)
        await theirs.note_in(foreign, leo, "psst", f"agent:{ana}")
        asked = Notify(
            dedup_key="k",
            kind="alert",
            agent_id=ana,
            template="alert",
            data={"title": "t", "text": "x"},
            conversation_id=foreign.id,
        )
        await service.admin.publish(asked, account=theirs.account, entity=ana)
        await service.settle()
        assert await listed(service, theirs, ana) == []
        assert await mails(service) == []
        # Hers at first; before the e-mail goes out it is given to somebody else.
        talk = await theirs.assign(ana)
        await service.settle()
        (given,) = await listed(service, theirs, ana)
        await theirs.transfer(talk, leo, team_id=care)
        await service.settle()
        assert await listed(service, theirs, ana) == []
        until = (now() + timedelta(hours=1)).isoformat()
        for act, body in (("read", None), ("unread", None), ("snooze", {"until": until})):
            answer = await service.http.post(f"/notifications/{given['id']}/{act}", json=body, headers=theirs.as_(ana))
            assert (answer.status_code, answer.json()["code"]) == (404, "notification_not_found"), act
        assert await unread(service, theirs, ana) == 0
        await time_passes(service)
        await settled(service, "dropped")
        assert "may not see" in (await mails(service))[0]["error"]
        assert server.tried == 0


async def test_an_email_is_left_out_when_it_was_read_meanwhile_and_a_burst_is_one(start, mail, org):
    server, url = mail
    async with start(RELEVO_SMTP_URL=url, **UNSEEN) as service:
        theirs = await founded(service, type(org))
        ana, leo = await theirs.hire("Ana"), await theirs.hire("Leo")
        await service.settle()
        await wants_mail(service, theirs, ana, "message")
        seen, burst = theirs.conversation(assignee_id=ana), theirs.conversation(assignee_id=ana, number=2)
        await theirs.wrote(seen, "seen")
        await service.settle()  # conversations are in no order among each other
        for number in range(4):
            await theirs.wrote(burst, f"line {number}")
            await service.settle()
        await service.http.post(f"/notifications/conversations/{seen.id}/read", headers=theirs.as_(ana))
        await time_passes(service)
        await settled(service, "dropped", "sent")
        assert (await mails(service))[0]["error"] == "read meanwhile"
        (message,) = server.got
        plain = message.get_body(("plain",)).get_content()
        assert plain.startswith("line 3")
        # The reader's zone.
        assert "(America/Bogota)" in plain
        assert "Tienda Sol · " in plain
        # Somebody who left the team meanwhile gets nothing.
        await theirs.wrote(burst, "later")
        await service.settle()
        await theirs.dismiss(ana)
        await service.settle()
        await time_passes(service)
        await settled(service, "dropped", "sent", "dropped")
        assert len(server.got) == 1
        assert leo


async def test_the_accounts_default_holds_until_somebody_chooses(notification, org):
    boss, ana = await org.hire("Boss", "administrator"), await org.hire("Ana")
    await notification.settle()
    http = notification.http
    quiet = {"items": [{"kind": "assignment", "in_app": False, "email": False, "push": False}]}
    refused = await http.put("/notifications/defaults", json=quiet, headers=org.as_(ana))
    assert (refused.status_code, refused.json()["permissions"]) == (403, ["settings.manage"])
    assert (await http.put("/notifications/defaults", json=quiet, headers=org.as_(boss))).status_code == 200
    await org.assign(ana)
    await notification.settle()
    assert await listed(notification, org, ana) == []
    loud = {"items": [{"kind": "assignment", "in_app": True, "email": False}]}
    await http.put("/notifications/preferences", json=loud, headers=org.as_(ana))
    await org.assign(ana)
    await notification.settle()
    assert len(await listed(notification, org, ana)) == 1
    again = await http.delete("/notifications/preferences/assignment", headers=org.as_(ana))
    assert again.json()["items"][0] == {**quiet["items"][0], "own": False}
    other = type(org)(notification.admin)
    await other.found()
    lea = await other.hire("Lea")
    await notification.settle()
    await other.assign(lea)
    await notification.settle()
    assert len(await listed(notification, other, lea)) == 1, "another account's default is its own"


async def test_a_command_for_a_team_or_a_role_reaches_all_but_who_caused_it(notification, org):
    team = new_id()
    ana, eva = await org.hire("Ana", team_ids=(team,)), await org.hire("Eva", team_ids=(team,))
    boss, leo = await org.hire("Boss", "supervisor"), await org.hire("Leo")
    state = identity.TeamState(id=team, account_id=org.account, name="Ventas", member_ids=(ana, eva))
    await org.tell(identity.TeamChanged(team=state), team)
    await notification.settle()

    async def notify(actor="system", **to):
        command = Notify(dedup_key=str(to), kind="alert", template="alert", data={"title": str(to), "text": "x"}, **to)
        await notification.admin.publish(command, account=org.account, entity=new_id(), actor=actor)

    for _ in range(2):
        await notify(f"agent:{eva}", team_id=team)
    await notify(role_id=org.roles["supervisor"].id)
    await notify()
    await notify(agent_id=leo, team_id=team)
    await notification.settle()
    assert [len(await listed(notification, org, agent)) for agent in (ana, eva, boss, leo)] == [1, 0, 1, 0]
    dead = [json.loads(body)["error"] for _, _, body in await notification.admin.stored("DEAD")]
    assert len(dead) == 2
    assert all("exactly one of agent_id, team_id, role_id, address" in error for error in dead)


async def test_an_address_that_bounces_is_recorded_and_left_alone_until_it_changes(start, mail, org):
    server, url = mail
    server.unknown.add("Ana@example.org")
    async with start(RELEVO_SMTP_URL=url, RELEVO_MAIL_UNSEEN_SECONDS="0") as service:
        theirs = await founded(service, type(org))
        ana, boss = await theirs.hire("Ana"), await theirs.hire("Boss", "administrator")
        await service.settle()
        await wants_mail(service, theirs, ana, "assignment")
        await theirs.assign(ana)
        await settled(service, "failed")
        await theirs.assign(ana)
        await settled(service, "failed", "dropped")
        assert "refused before" in (await mails(service))[1]["error"]
        mine = (await service.http.get("/notifications/preferences", headers=theirs.as_(ana))).json()
        assert "5.1.1 no such mailbox" in mine["email_problem"]
        answer = await service.http.get("/notifications/bounces", headers=theirs.as_(ana))
        assert answer.status_code == 403
        (known,) = (await service.http.get("/notifications/bounces", headers=theirs.as_(boss))).json()["items"]
        assert (known["agent_id"], known["address"]) == (ana, "Ana@example.org")
        # An invitation, a reset: these are tried all the same.
        essential = Notify(
            dedup_key="r",
            kind="security",
            agent_id=ana,
            template="alert",
            data={"title": "t", "text": "x"},
        )
        await service.admin.publish(essential, account=theirs.account, entity=ana)
        await settled(service, "failed", "dropped", "failed")
        # Her address is mended: what was waiting for nobody goes out.
        await theirs.change(theirs.people[ana].model_copy(update={"email": "ana@new.example"}))
        await theirs.assign(ana)
        await settled(service, "failed", "dropped", "failed", "sent")
        assert server.got[0]["To"] == "ana@new.example"
        assert (await service.http.get("/notifications/bounces", headers=theirs.as_(boss))).json()["items"] == []


@pytest.mark.parametrize("state", ["all", "unread", "snoozed"])
async def test_a_key_has_no_notifications_and_lists_are_ones_own(notification, org, state):
    ana, eva = await org.hire("Ana"), await org.hire("Eva")
    await notification.settle()
    await org.assign(eva)
    await notification.settle()
    assert await listed(notification, org, ana, state=state) == []
    plain = new_key("api")
    given = {"sha256": plain.sha256, "permissions": frozenset(Permission), "scope": ConversationScope.ALL}
    key = identity.KeyState(id=plain.id, account_id=org.account, kind="api", name="k", **given)
    await org.tell(identity.KeyChanged(key=key), key.id)
    await notification.settle()
    refused = await notification.http.get("/notifications", headers={"Authorization": f"Bearer {plain.plain}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_an_agent")


async def test_of_a_person_who_was_erased_nothing_stays_and_nothing_comes_late(start, mail, org, monkeypatch):
    monkeypatch.setattr(eraser, "PAGE", 1)
    _, url = mail
    async with start(RELEVO_SMTP_URL=url, RELEVO_ERASURE_SETTLE_SECONDS="0", **UNSEEN) as service:
        theirs = await founded(service, type(org))
        ana = await theirs.hire("Ana")
        await service.settle()
        await wants_mail(service, theirs, ana, "message")
        gone, other = (theirs.conversation(assignee_id=ana, number=number) for number in (1, 2))
        for talk in (gone, other):
            await theirs.wrote(talk, "marker-4711")
        await service.settle()
        before = now()
        erased = ContactErased(contact_id=gone.contact.id, conversation_ids=(gone.id,))
        await theirs.tell(erased, gone.contact.id)
        await service.settle()
        assert [one["conversation_id"] for one in await listed(service, theirs, ana)] == [other.id]
        assert len(await mails(service)) == 1

        # The log keeps its rows, without the words.
        asked = ErasePerson(
            erasure_id=new_id(), contact_id=gone.contact.id, conversation_ids=(gone.id,), asked_at=before
        )
        await service.admin.publish(asked, account=theirs.account, entity=gone.contact.id)

        async def only_the_others():
            async with service.runtime.database.begin() as tx:
                rows = (
                    await tx.execute(text("select body from outbox where stream = 'EVT_NOTIFICATION' order by id"))
                ).scalars()
            bodies = [json.loads(bytes(body)) for body in rows]
            told = [one["conversation_id"] for one in bodies if one.get("body") == "marker-4711"]
            return told == [other.id] and len([one for one in bodies if "title" in one]) == 2

        assert await until(only_the_others, 30)

        async def none_on_the_bus():
            stored = await service.admin.stored("EVT_NOTIFICATION")
            return [json.loads(body)["conversation_id"] for _, _, body in stored] == [other.id]

        assert await until(none_on_the_bus, 30)
        # What was said before and is read after it: of another partition, or after a stop.
        late = gone.model_copy(update={"sequence": theirs.next(gone.id)})
        said = MessageSnapshot(
            id=new_id(),
            conversation_id=gone.id,
            kind="incoming",
            sequence=2,
            text="marker-4711 again",
            author="contact:x",
            occurred_at=before,
            created_at=before,
        )
        await service.admin.publish(
            MessageCreated(conversation=late, before=late.access, message=said),
            account=theirs.account,
            entity=gone.id,
            sequence=late.sequence,
            time=before,
        )
        await service.settle()
        assert len(await listed(service, theirs, ana)) == 1
        # They may write again.
        theirs._numbers["relevo.contracts.conversation", gone.id] += 1
        await theirs.wrote(gone, "hello again")
        await service.settle()
        assert sorted(one["body"] for one in await listed(service, theirs, ana)) == ["hello again", "marker-4711"]
