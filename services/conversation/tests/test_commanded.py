"""What rules ask of conversations over the bus."""

import json
from datetime import timedelta

from relevo.chassis.bus import until
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import (
    AskSurvey,
    ResolveConversation,
    SendMessage,
    SetAttributes,
    SetPriority,
    SetStatus,
)
from relevo.contracts.identity import TeamState
from relevo.conversation.handlers import on_commands, on_ingest


async def _told(desk, conversation: str) -> list[tuple[str, dict]]:
    """What came of the commands: (name, state) of each event that a rule is the actor of."""
    found = []
    for subject, headers, body in await desk.service.admin.stored("EVT_CONVERSATION"):
        if headers["relevo-actor"] == "rule:r1" and headers["ce-subject"] == conversation:
            found.append((subject.rpartition(".")[2], json.loads(body)))
    return found


async def _order(desk, conversation: str, *commands) -> None:
    for data in commands:
        await desk.service.admin.publish(
            data(conversation_id=conversation) if isinstance(data, type) else data,
            account=desk.world.account_id,
            entity=conversation,
            actor="rule:r1",
        )
    await desk.service.settle()


def test_a_status_is_reached_by_whatever_act_leads_there(run, world):
    async def body(service):
        await service.handle(on_ingest, world.message("a"))
        (row,) = service.rows("select id from conversations")
        id_ = str(row["id"])

        async def bring(to, **more):
            data = SetStatus(conversation_id=id_, to=to, **more)
            await service.handle(on_commands, world.command(data, id_))
            (row,) = service.rows("select status, archived, cycle, snoozed_until from conversations")
            return row

        assert (await bring("pending"))["status"] == "pending"
        assert (await bring("open"))["status"] == "open"
        snoozed = await bring("snoozed", hours=2)
        assert snoozed["status"] == "snoozed"
        assert timedelta(hours=1, minutes=59) < snoozed["snoozed_until"] - now() <= timedelta(hours=2)
        assert (await bring("open"))["status"] == "open"
        assert (await bring("snoozed"))["snoozed_until"] is None
        assert (await bring("resolved"))["status"] == "resolved"
        again = await bring("open")
        assert (again["status"], again["cycle"]) == ("open", 2)
        assert (await bring("archived"))["archived"] is True
        assert (await bring("archived"))["archived"] is True, "what is so already changes nothing"
        names = [name for name, _, _ in service.events(id_)]
        assert names[2:] == [
            "conversation_made_pending",
            "conversation_taken_over",
            "conversation_snoozed",
            "conversation_woken",
            "conversation_snoozed",
            "conversation_resolved",
            "conversation_reopened",
            "conversation_resolved",
            "conversation_archived",
        ]
        (reopened,) = [data for name, data, _ in service.events(id_) if name == "conversation_reopened"]
        assert reopened["cause"] == "automation"

    run(body)


def test_priority_and_attributes_that_fit_are_set_and_tell_what_they_were(at_desk):
    async def body(desk):
        _, admin = await desk.agent("administrator")
        for key, kind in (("plan", "text"), ("total", "number")):
            definition = {"entity": "conversation", "key": key, "name": key, "kind": kind}
            made = await desk.post("/attributes", admin, definition)
            assert made.status_code == 201, made.text
        path = await desk.begun(admin)
        id_ = path.rpartition("/")[2]
        await _order(
            desk,
            id_,
            SetPriority(conversation_id=id_, priority="high"),
            SetAttributes(conversation_id=id_, attributes={"plan": "oro", "total": "mucho", "nada": 1}),
            SetAttributes(conversation_id=id_, attributes={"plan": "plata", "total": 12.5}),
            SetAttributes(conversation_id=id_, attributes={"total": "mucho"}),
        )
        told = await _told(desk, id_)
        assert [name for name, _ in told] == ["priority_changed", "attributes_changed", "attributes_changed"]
        assert told[1][1]["conversation"]["attributes"] == {"plan": "oro"}
        assert (told[2][1]["from_attributes"], told[2][1]["changed"]) == ({"plan": "oro"}, ["plan", "total"])
        assert (await desk.get(path, admin)).json()["attributes"] == {"plan": "plata", "total": 12.5}

    at_desk(body)


def test_a_note_of_a_rule_mentions_who_is_there_and_they_find_it_in_their_list(at_desk):
    async def body(desk):
        eva, hers = await desk.agent()
        luis, his = await desk.agent()
        team = TeamState(id=new_id(), account_id=desk.world.account_id, name="Ventas", member_ids=(luis,))
        await desk.know("team", team)
        path = await desk.begun(hers)
        id_ = path.rpartition("/")[2]
        mentions = (f"agent:{eva}", f"team:{team.id}", f"agent:{new_id()}")
        await _order(desk, id_, SendMessage(conversation_id=id_, text="Mirad esto", private=True, mentions=mentions))
        joined, note = await _told(desk, id_)
        assert (joined[0], set(joined[1]["added"])) == ("participants_changed", {eva, luis})
        assert (note[1]["message"]["kind"], note[1]["message"]["mentions"]) == ("note", list(mentions[:2]))
        for who in (hers, his):
            (found,) = (await desk.get("/mentions", who)).json()["items"]
            assert found["message"]["text"] == "Mirad esto"

    at_desk(body)


def test_the_last_agent_who_wrote_is_told_and_a_bot_or_a_note_is_none(at_desk):
    async def body(desk):
        eva, hers = await desk.agent()
        _, his = await desk.agent()
        path = await desk.begun(hers)
        assert (await desk.get(path, hers)).json()["last_responder_id"] is None
        await desk.post(f"{path}/messages", hers, {"text": "Voy"})
        await desk.post(f"{path}/messages", his, {"text": "Lo dudo", "private": True})
        id_ = path.rpartition("/")[2]
        await _order(desk, id_, SendMessage(conversation_id=id_, text="Seguimos"), ResolveConversation)
        assert (await desk.get(path, hers)).json()["last_responder_id"] == eva

    at_desk(body)


def test_a_customer_is_asked_where_the_inbox_does_not_by_itself_and_only_when_it_is_over(at_desk):
    async def body(desk):
        inbox = desk.world.inbox
        await desk.know("inbox", inbox)
        _, who = await desk.agent()
        path = await desk.begun(who)
        id_ = path.rpartition("/")[2]
        await desk.post(f"{path}/messages", who, {"text": "Listo"})
        await _order(desk, id_, AskSurvey)
        assert await _told(desk, id_) == []
        await desk.post(f"{path}/resolve", who)
        await _order(desk, id_, AskSurvey)

        async def asked() -> bool:
            rows = await desk.service.admin.stored("EVT_CONVERSATION")
            return any(subject.endswith("survey_sent") for subject, _, _ in rows)

        assert await until(asked, 30)

    at_desk(body)


def test_events_carry_the_language_of_the_browser_and_what_is_known_of_the_contact(at_desk):
    async def body(desk):
        _, who = await desk.agent("administrator")
        path = await desk.begun(who, language="es-CO")
        seen = (await desk.get(path, who)).json()
        assert seen["language"] == "es-CO"
        contact = f"/contacts/{seen['contact']['id']}"
        tag = (await desk.get(contact, who)).headers["etag"]
        edited = await desk.service.http.patch(
            contact, headers=who | {"if-match": tag}, json={"country": "CO", "company": "Peñón", "city": "Bogotá"}
        )
        assert edited.status_code == 200, edited.text
        await desk.customer_writes(text="¿Hola?")
        *_, (_, _, body) = await desk.service.admin.stored("EVT_CONVERSATION")
        told = json.loads(body)["conversation"]["contact"]
        assert (told["country"], told["company"], told["city"]) == ("CO", "Peñón", "Bogotá")

    at_desk(body)
