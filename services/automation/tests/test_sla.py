"""Service levels as the bus and people meet them: policies, timers, breaches told once."""

import json
from datetime import datetime, timedelta

import psycopg

from relevo.automation.app import build
from relevo.automation.caught_up import believed
from relevo.automation.sla import CLOCK
from relevo.chassis import timers
from relevo.chassis.bus import until
from relevo.chassis.testing import running
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import (
    ConversationDeleted,
    ConversationOpened,
    ConversationResolved,
    MessageCreated,
    PriorityChanged,
)
from relevo.contracts.identity import CalendarChanged, CalendarState, Hours, SpecialDay, TeamChanged, TeamState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.contracts.streams import EVT_CONVERSATION

from .samples import ACCOUNT, AGENT, TEAM, conversation, said
from .test_service import _key

MINUTE = timedelta(minutes=1)
POLICY = {
    "name": "Oro",
    "business_hours": False,
    "warn_percent": 50,
    "targets": {
        "default": {"first_response": 600, "next_response": 300, "resolution": 6000},
        "urgent": {"first_response": 60},
    },
}


class Talk:
    """A conversation that was opened so many minutes ago, and goes on by its events."""

    def __init__(self, service, ago: int, **more) -> None:
        self.service = service
        self.start = now() - ago * MINUTE
        self.facts = {"id": new_id(), "opened_at": self.start, "waiting_since": self.start, "assignee_id": AGENT} | more
        self.sequence = 0

    @property
    def id(self) -> str:
        return self.facts["id"]

    async def tell(self, model, after: float = 0, **facts) -> None:
        self.sequence += 1
        self.facts |= facts
        snapshot = conversation(**self.facts, sequence=self.sequence)
        more = {"message": said("x").message, "human": True} if model is MessageCreated else {}
        more |= {"reason": "x"} if model is ConversationDeleted else {}
        await self.service.admin.publish(
            model(conversation=snapshot, **more), account=ACCOUNT, entity=self.id, time=self.start + after * MINUTE
        )
        await self.service.settle()

    async def reply(self, after: float) -> None:
        at = self.start + after * MINUTE
        await self.tell(
            MessageCreated, after, waiting_since=None, first_reply_at=self.facts.get("first_reply_at") or at
        )

    async def sla(self, who) -> dict:
        answer = await self.service.http.get(f"/conversations/{self.id}/sla", headers=who)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def _who(service) -> dict[str, str]:
    return await _key(service, Permission.SLA_MANAGE, Permission.CONVERSATIONS_READ, Permission.WEBHOOKS_MANAGE)


async def _policy(service, who, **more) -> dict:
    answer = await service.http.post("/sla/policies", json=POLICY | more, headers=who)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _told(service, count: int) -> list[tuple[str, str]]:
    """(kind, measure) of everything that was told of clocks, once there is so much, and nothing waits any more."""

    async def all_of_it() -> list[tuple[str, str]]:
        await service.settle()
        found = await service.admin.stored("EVT_AUTOMATION")
        return [(subject.rpartition(".")[2], json.loads(body)["measure"]) for subject, _, body in found]

    async def there() -> bool:
        return len(await all_of_it()) >= count

    assert await until(there, 30), await all_of_it()
    found = await all_of_it()
    assert len(found) == count, found
    return found


async def test_a_clock_that_is_overdue_is_told_of_once_whatever_restarts(servers, receiver) -> None:
    async with running(build, servers) as service:
        who = await _who(service)
        policy = await _policy(service, who)
        hook = {"url": receiver.url, "types": ["relevo.automation.sla_breached.v1"]}
        assert (await service.http.post("/webhooks", json=hook, headers=who)).status_code == 201
        talk = Talk(service, 11)
        await talk.tell(ConversationOpened)
        assert await _told(service, 1) == [("sla_breached", "first_response")]
        ((_, headers, raw),) = await service.admin.stored("EVT_AUTOMATION")
        event = json.loads(raw)
        assert (event["policy_id"], event["policy_version"], event["target_seconds"]) == (policy["id"], 1, 600)
        assert event["due_at"][:19] == (talk.start + 10 * MINUTE).isoformat()[:19] == headers["ce-time"][:19]
        ((_, _, command),) = await service.admin.stored("CMD_NOTIFICATION")
        told = json.loads(command)
        assert (told["agent_id"], told["template"], told["conversation_id"]) == (
            AGENT,
            "sla_breached_first_response",
            talk.id,
        )
        (posted,) = await receiver.has(1)
        assert posted["data"]["conversation_id"] == talk.id
        shown = await talk.sla(who)
        assert [(one["measure"], one["state"], one["overdue"]) for one in shown["clocks"]] == [
            ("first_response", "running", True),
            ("resolution", "running", False),
        ]
        bus, dsn = service.bus, service.runtime.settings.database_url
        await talk.tell(PriorityChanged)  # its clock goes on as it was
        await talk.reply(12)
        assert await _told(service, 1)
    async with running(build, servers, bus=bus, dsn=dsn) as service:
        assert await _told(service, 1) == [("sla_breached", "first_response")]


async def test_what_is_answered_in_time_is_met_and_what_is_answered_late_is_seen_though_no_timer_rang(servers) -> None:
    async with running(build, servers) as service:
        who = await _who(service)
        await _policy(service, who)
        talk = Talk(service, 40)
        talk.sequence = 0
        # All of it is there before any of it is kept: no timer rings in between.
        with psycopg.connect(service.dsn) as held:
            held.execute("lock table sla_clocks in share row exclusive mode")
            for model, after, facts in (
                (ConversationOpened, 0, {}),
                (MessageCreated, 9, {"waiting_since": None, "first_reply_at": talk.start + 9 * MINUTE}),
                (MessageCreated, 10, {"waiting_since": talk.start + 10 * MINUTE}),
                (MessageCreated, 17, {"waiting_since": None}),
                (ConversationResolved, 30, {"status": "resolved", "resolved_at": talk.start + 30 * MINUTE}),
            ):
                talk.sequence += 1
                talk.facts |= facts
                more = {"message": said("x").message} if model is MessageCreated else {}
                snapshot = conversation(**talk.facts, sequence=talk.sequence)
                await service.admin.publish(
                    model(conversation=snapshot, **more),
                    account=ACCOUNT,
                    entity=talk.id,
                    time=talk.start + after * MINUTE,
                )
        found = await _told(service, 3)
        assert sorted(found) == [
            ("sla_breached", "next_response"),
            ("sla_met", "first_response"),
            ("sla_met", "resolution"),
        ]
        assert {one["state"] for one in (await talk.sla(who))["clocks"]} == {"met", "missed"}
        assert (await talk.sla(who))["next_due_at"] is None
        await talk.tell(ConversationDeleted)
        gone = await service.http.get(f"/conversations/{talk.id}/sla", headers=who)
        assert gone.status_code == 404


async def test_a_warning_comes_before_and_a_timer_waits_for_what_is_on_its_way(servers) -> None:
    async with running(build, servers) as service:
        who = await _who(service)
        await _policy(service, who)
        talk = Talk(service, 6)
        await talk.tell(ConversationOpened)
        assert await _told(service, 1) == [("sla_warned", "first_response")]
        # A reply in time that is still to be read when the timer rings.
        sla = service.runtime.service.timers[CLOCK].__self__
        due = talk.start + 10 * MINUTE
        payload = {"conversation": talk.id, "measure": "first_response", "kind": "breached", "at": due.isoformat()}
        timer = timers.DueTimer(CLOCK, f"{talk.id}:first_response:breached", ACCOUNT, due, payload, 0)
        snapshot = conversation(
            **talk.facts | {"waiting_since": None, "first_reply_at": talk.start + 9 * MINUTE}, sequence=2
        )
        reply = MessageCreated(conversation=snapshot, message=said("x").message)
        service.runtime.reader.stop()
        await service.admin.publish(reply, account=ACCOUNT, entity=talk.id, time=talk.start + 9 * MINUTE)
        async with service.runtime.database.begin(ACCOUNT) as tx:
            assert await believed(tx, service.runtime, CLOCK, EVT_CONVERSATION, [timer]) == []
            await sla.on_clock([timer], tx)
        assert [subject.rpartition(".")[2] for subject, _, _ in await service.admin.stored("EVT_AUTOMATION")] == [
            "sla_warned"
        ]


async def test_priority_policy_and_calendar_move_what_is_due(servers) -> None:
    async with running(build, servers) as service:
        who = await _who(service)
        policy = await _policy(service, who, warn_percent=99, business_hours=True)
        talk = Talk(service, 2)
        await talk.tell(ConversationOpened)

        async def due(measure: str) -> float | None:
            clocks = {one["measure"]: one for one in (await talk.sla(who))["clocks"]}
            at = clocks[measure]["due_at"]
            return None if at is None else round((datetime.fromisoformat(at) - talk.start) / MINUTE)

        assert await due("first_response") == 10
        await talk.tell(PriorityChanged, 1, priority="urgent")
        assert await _told(service, 1) == [("sla_breached", "first_response")]
        await talk.tell(PriorityChanged, 1.5, priority=None)
        assert await due("first_response") == 10
        longer = POLICY | {"targets": {"default": {"first_response": 1200}}, "business_hours": True}
        path = f"/sla/policies/{policy['id']}"
        assert (await service.http.put(path, json=longer, headers=who | {"If-Match": '"1"'})).status_code == 200

        async def moved() -> bool:
            return await due("first_response") == 20

        assert await until(moved, 30)
        assert (await talk.sla(who))["policy_version"] == 2
        # A calendar that opens on one day only, in two days.
        day = SpecialDay(date=f"{now() + timedelta(days=2):%Y-%m-%d}", hours=(Hours(opens="08:00", closes="20:00"),))
        state = CalendarState(
            id=new_id(), account_id=ACCOUNT, name="c", time_zone="UTC", special_days=(day,), is_default=True
        )
        await service.admin.publish(CalendarChanged(calendar=state), account=ACCOUNT, entity=state.id, sequence=1)

        async def later() -> bool:
            found = await due("first_response")
            return found is not None and found > 60

        assert await until(later, 30)
        assert (await talk.sla(who))["calendar_id"] == state.id
        assert len(await _told(service, 1)) == 1
        assert (await service.http.delete(path, headers=who | {"If-Match": '"2"'})).status_code == 204

        async def none() -> bool:
            return (await talk.sla(who))["clocks"] == []

        assert await until(none, 30)


async def test_the_first_policy_that_fits_applies_and_only_who_sees_a_conversation_sees_its_clocks(servers) -> None:
    async with running(build, servers) as service:
        who = await _who(service)
        mail = {"field": "conversation.channel", "operator": "equals", "value": "email"}
        first = await _policy(service, who, conditions=mail, position=1, name="mail")
        second = await _policy(service, who, position=2, name="rest")
        await _policy(service, who, position=0, name="off", enabled=False)
        listed = (await service.http.get("/sla/policies?limit=2", headers=who)).json()
        assert [one["name"] for one in listed["items"]] == ["off", "mail"]
        rest = await service.http.get("/sla/policies", params={"cursor": listed["next"]}, headers=who)
        assert [one["name"] for one in rest.json()["items"]] == ["rest"]
        mails, chats = Talk(service, 1, channel="email"), Talk(service, 1)
        for talk, wanted in ((mails, first), (chats, second)):
            await talk.tell(ConversationOpened)
            assert (await talk.sla(who))["policy_id"] == wanted["id"]
        blind = await _key(service, Permission.CONVERSATIONS_READ, scope=ConversationScope.OWN)
        assert (await service.http.get(f"/conversations/{chats.id}/sla", headers=blind)).status_code == 404
        bad = POLICY | {"conditions": {"field": "nope", "operator": "equals", "value": "x"}}
        answer = await service.http.post("/sla/policies", json=bad, headers=who)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/conditions/field")
        assert (await service.http.post("/sla/policies", json=POLICY | {"targets": {}}, headers=who)).status_code == 422
        assert (await service.http.get("/sla/policies", headers=blind)).status_code == 403


async def test_a_breach_sets_rules_off_that_mail_a_team_and_post_to_a_webhook(servers, receiver) -> None:
    async with running(build, servers) as service:
        who = await _key(service, Permission.SLA_MANAGE, Permission.WEBHOOKS_MANAGE, Permission.AUTOMATIONS_MANAGE)
        team = TeamState(id=TEAM, account_id=ACCOUNT, name="Soporte")
        await service.admin.publish(TeamChanged(team=team), account=ACCOUNT, entity=TEAM, sequence=1)
        await service.settle()
        await _policy(service, who)
        hook = {"url": receiver.url, "types": ["relevo.automation.alert_raised.v1"]}
        endpoint = (await service.http.post("/webhooks", json=hook, headers=who)).json()["id"]
        rule = {
            "name": "Tarde",
            "trigger": "sla_breached",
            "conditions": {"field": "sla.measure", "operator": "equals", "value": "first_response"},
            "actions": [
                {"type": "set_priority", "priority": "urgent"},
                {"type": "email_team", "team_id": TEAM, "text": "Se nos ha pasado"},
                {"type": "webhook", "endpoint_id": endpoint},
            ],
        }
        made = await service.http.post("/rules", json=rule, headers=who)
        assert made.status_code == 201, made.text
        wrong = {**rule, "actions": [{"type": "webhook", "endpoint_id": new_id()}]}
        refused = await service.http.post("/rules", json=wrong, headers=who)
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/actions/0/endpoint_id"]

        talk = Talk(service, 11)
        await talk.tell(ConversationOpened)
        (posted,) = await receiver.has(1)
        assert (posted["type"], posted["actor"]) == ("relevo.automation.rule_executed.v1", f"rule:{made.json()['id']}")
        assert posted["data"]["actions"] == ["set_priority", "email_team", "webhook"]
        assert (posted["data"]["event"]["measure"], posted["data"]["conversation_id"]) == ("first_response", talk.id)
        await service.settle()
        ((_, _, body),) = await service.admin.stored("CMD_CONVERSATION")
        assert json.loads(body) == {"conversation_id": talk.id, "priority": "urgent"}
        told = [json.loads(body) for _, _, body in await service.admin.stored("CMD_NOTIFICATION")]
        (mail,) = [one for one in told if one["kind"] == "rule_mail"]
        assert (mail["team_id"], mail["conversation_id"]) == (TEAM, talk.id)
        assert mail["data"] == {"rule": "Tarde", "words": "Se nos ha pasado", "number": "1"}
