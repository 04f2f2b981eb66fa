"""Rules tried on what really happened, and why one did or did not fire."""

from datetime import timedelta

import nats
import psycopg
from hypothesis import given

from relevo.automation import trying
from relevo.automation.app import build
from relevo.automation.domain.rules import RuleSet, evaluate
from relevo.automation.domain.why import judged, verdict
from relevo.chassis.bus import until
from relevo.chassis.testing import running
from relevo.contracts.base import new_id, now
from relevo.contracts.catalogue import published_by
from relevo.contracts.conversation import LabelsChanged
from relevo.contracts.grants import Grants, service_grants
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.kernel.conditions import Facts, compile_condition, parse

from .samples import ACCOUNT, INBOX, contains, conversation, event, rule, said
from .test_index import _FACTS, _TREES, SCHEMA
from .test_service import _key, _make, _manager

WRITTEN = ("outbox", "executions", "rule_waits", "timers")
DRAFT = {
    "name": "Errores",
    "trigger": "message_received",
    "conditions": contains("message.text", "error"),
    "actions": [
        {"type": "add_labels", "labels": ["fallo"]},
        {"type": "wait", "minutes": 5, "unless": "agent_answers"},
        {"type": "resolve"},
    ],
}


async def _try(service, headers, **body) -> dict:
    answer = await service.http.post("/rules/dry-run", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _happened(service, *words: str, account: str = ACCOUNT, ago: timedelta = timedelta(0), **more) -> list:
    told = [said(text, account_id=account, **more) for text in words]
    for data in told:
        await service.admin.publish(
            data, account=account, entity=data.conversation.id, actor="contact:c", time=now() - ago
        )
    await service.settle()
    return told


async def test_a_draft_is_tried_on_what_happened_and_orders_nothing(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.AUTOMATIONS_MANAGE, Permission.CONVERSATIONS_READ)
        told = await _happened(service, "Un error", "Hola", "Otro ERROR", "El error de siempre")
        await _happened(service, "Error ajeno", account=new_id())
        await _happened(service, "Error viejo", ago=timedelta(days=3))
        tried = await _try(service, headers, draft=DRAFT, days=1)
        assert (tried["matched"], tried["next"]) == (3, None)
        of = {one["conversation_id"]: one for one in tried["items"]}
        assert set(of) == {data.conversation.id for data in told if "error" in data.message.text.lower()}
        found = of[told[0].conversation.id]
        assert (found["outcome"], [one["does"] for one in found["would"]]) == (
            "waiting",
            ["relevo.conversation.change_labels.v1", "wait", "relevo.conversation.resolve_conversation.v1"],
        )
        assert found["would"][0]["data"]["add"] == ["fallo"]
        # In pages it is the same, and nothing of it is ordered or on record.
        cursor, paged = None, []
        while True:
            page = await _try(service, headers, draft=DRAFT, days=1, limit=1, cursor=cursor)
            paged += [one["conversation_id"] for one in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert sorted(paged) == sorted(of)
        assert (await _try(service, headers, draft=DRAFT, days=7))["matched"] == 4
        for stream in ("CMD_CONVERSATION", "CMD_ASSIGNMENT", "EVT_AUTOMATION"):
            assert await service.admin.stored(stream) == []
        assert (await service.http.get("/rule-executions", headers=headers)).json()["items"] == []


async def test_a_dry_run_needs_no_leave_to_order_anything_and_writes_nothing(servers, monkeypatch) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.AUTOMATIONS_MANAGE, Permission.CONVERSATIONS_READ)
        await _happened(service, "Un error", "Hola", "Otro error")
        told = await _try(service, headers, draft=DRAFT, days=1)
    grants, ordering = service_grants("automation"), published_by("automation").values()
    mute = Grants(tuple(one for one in grants.publish if one not in ordering), grants.subscribe)
    assert len(mute.publish) == len(grants.publish) - len(ordering)
    monkeypatch.setattr("relevo.chassis.testing.service_grants", lambda _: mute)
    with psycopg.connect(service.dsn) as before:
        kept = [before.execute(f"select count(*) from {table}").fetchone() for table in WRITTEN]
    refused: list[str] = []

    async def hear(error: Exception) -> None:
        refused.append(str(error))

    async with running(build, servers, bus=service.bus, dsn=service.dsn) as silent:
        assert (await _try(silent, headers, draft=DRAFT, days=1))["items"] == told["items"] != []
        user = str(service.bus.user("automation", publish=mute.publish, subscribe=mute.subscribe))
        client = await nats.connect(service.bus.nats_url, user_credentials=user, error_cb=hear)
        for pattern in ordering:
            await client.publish(pattern.replace("*", "x"))

        async def all_refused() -> bool:
            return len(refused) == len(ordering)

        assert await until(all_refused, 30), refused
        await client.close()
    assert all("permissions violation" in one for one in refused)
    with psycopg.connect(service.dsn) as after:
        assert [after.execute(f"select count(*) from {table}").fetchone() for table in WRITTEN] == kept


async def test_a_rule_that_ran_is_tried_as_it_ran(servers) -> None:
    async with running(build, servers) as service:
        manager = await _manager(service)
        seer = await _key(service, Permission.AUTOMATIONS_MANAGE, Permission.CONVERSATIONS_READ)
        made = await _make(service, manager)
        await _happened(service, "una devolución", "hola", "mi devolucion")
        ran = (await service.http.get("/rule-executions", headers=seer)).json()["items"]
        tried = await _try(service, seer, rule_id=made["id"])
        assert {one["event_id"] for one in tried["items"]} == {one["event_id"] for one in ran}
        assert tried["matched"] == 2
        # Who may not see conversations learns how many, not which.
        blind = await _try(service, manager, rule_id=made["id"])
        assert (blind["matched"], blind["items"]) == (2, [])
        for body, pointer in (
            ({}, "/rule_id"),
            ({"rule_id": made["id"], "draft": DRAFT}, "/rule_id"),
            ({"draft": {**DRAFT, "trigger": "sla_breached", "conditions": {"all": []}}}, "/draft/trigger"),
            ({"draft": {**DRAFT, "conditions": contains("message.colour", "x")}}, "/draft/conditions/field"),
        ):
            refused = await service.http.post("/rules/dry-run", json=body, headers=seer)
            assert [error["pointer"] for error in refused.json()["errors"]] == [pointer], body
        assert (await service.http.post("/rules/dry-run", json={"rule_id": new_id()}, headers=seer)).status_code == 404


async def test_a_trial_stops_where_it_has_read_enough_and_goes_on_from_there(servers, monkeypatch) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.AUTOMATIONS_MANAGE, Permission.CONVERSATIONS_READ)
        await _happened(service, *["un error"] * 30)
        monkeypatch.setattr(trying, "MOST_READ", 7)
        cursor, pages, matched = None, 0, 0
        while pages == 0 or cursor:
            page = await _try(service, headers, draft=DRAFT, cursor=cursor)
            assert page["read"] <= 7
            cursor, pages, matched = page["next"], pages + 1, matched + page["matched"]
        assert (matched, pages) == (30, 5)


async def test_why_a_rule_fired_or_not_is_told_in_words_for_every_condition(servers) -> None:
    async with running(build, servers) as service:
        manager = await _manager(service)
        seer = await _key(service, Permission.AUTOMATIONS_MANAGE, Permission.CONVERSATIONS_READ)
        conditions = {
            "all": [
                contains("message.text", "error"),
                {"not": {"field": "conversation.labels", "operator": "contains_any", "value": ["vip"]}},
            ]
        }
        made = await _make(service, manager, conditions=conditions)
        talk = conversation()
        first = said("Me sale un error", id=talk.id)
        second = said("error otra vez", id=talk.id, labels=("vip",))
        robot = said("error", id=talk.id, human=False)
        labelled = LabelsChanged(conversation=talk, added=("vip",))
        for data in (first, second, robot, labelled):
            await service.admin.publish(data, account=ACCOUNT, entity=talk.id, actor="contact:c")
        await service.settle()
        path, about = f"/rules/{made['id']}/why", {"conversation_id": talk.id}
        told = (await service.http.get(path, params=about, headers=seer)).json()["items"]
        assert [one["why"] for one in told] == ["other_trigger", "automated", "conditions", "fired"]
        refused = told[2]
        assert refused["es"] == "No se aplica: sus condiciones no se cumplen."
        text, negation = refused["conditions"]["children"]
        assert (refused["conditions"]["es"], refused["conditions"]["en"]) == (
            "De 2 no se cumplen 1.",
            "1 of 2 do not hold.",
        )
        assert (text["outcome"], text["es"]) == (
            True,
            "message.text contiene «error»: sí; era «error otra vez».",
        )
        assert (negation["outcome"], negation["en"]) == (False, "It does not hold, since what is negated does.")
        (leaf,) = negation["children"]
        assert (leaf["path"], leaf["en"]) == (
            "/all/1/not",
            "conversation.labels has any of «vip»: yes; it was «vip».",
        )
        assert told[3]["conditions"]["outcome"] is True
        # Nobody is told of what they do not see, nor of what is not there.
        own = await _key(
            service, Permission.AUTOMATIONS_MANAGE, Permission.CONVERSATIONS_READ, scope=ConversationScope.OWN
        )
        for who, of in ((manager, talk.id), (own, talk.id), (seer, new_id())):
            answer = await service.http.get(path, params={"conversation_id": of}, headers=who)
            assert (answer.status_code, answer.json()["code"]) == (404, "nothing_to_explain")
        gone = await service.http.get(f"/rules/{new_id()}/why", params=about, headers=seer)
        assert gone.json()["code"] == "rule_not_found"


@given(_TREES, _FACTS)
def test_the_words_say_what_the_judgement_says_at_every_node(tree, values) -> None:
    condition, facts = parse(tree, SCHEMA), Facts(values)
    told = judged(condition, facts)
    assert told.outcome is compile_condition(condition)(facts)
    waiting = [told]
    while waiting:
        node = waiting.pop()
        outcomes = [child.outcome for child in node.children]
        expected = {"all": all(outcomes), "any": any(outcomes), "not": not all(outcomes)}
        assert node.kind == "leaf" or node.outcome is expected[node.kind]
        assert node.es
        assert node.en
        waiting += node.children


@given(_TREES)
def test_a_verdict_says_fired_exactly_where_the_rule_fires(tree) -> None:
    asked, elsewhere = (
        rule(tree, trigger="message_received") if "labels" not in str(tree) else rule(),
        rule(inbox_ids=[new_id()]),
    )
    for data in (said("año error dos"), said("x", human=False), said("x", inbox_id=INBOX)):
        happened = event(data)
        for one in (asked, elsewhere):
            fires = bool(evaluate(RuleSet(1, [one]), happened, depth_limit=8))
            assert (verdict(one, happened, depth_limit=8).why == "fired") is fires
