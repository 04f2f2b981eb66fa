"""The running service on real servers: rules over HTTP, events in, commands out."""

import json
from collections import Counter
from datetime import timedelta

from relevo.automation.app import build
from relevo.chassis.auth import new_key
from relevo.chassis.testing import running
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import LabelChanged, LabelsChanged, LabelState
from relevo.contracts.identity import AgentChanged, AgentState, KeyChanged, KeyState, TeamChanged, TeamState
from relevo.contracts.permissions import ConversationScope, Permission

from .samples import ACCOUNT, AGENT, TEAM, contains, conversation, said

RULE = {
    "name": "Devoluciones",
    "trigger": "message_received",
    "conditions": contains("message.text", "devolucion"),
    "actions": [
        {"type": "add_labels", "labels": ["devolución"]},
        {"type": "send_message", "text": "Lo miramos."},
        {"type": "assign_team", "team_id": TEAM},
    ],
}


async def _key(
    service, *permissions: Permission, account: str = ACCOUNT, scope: ConversationScope = ConversationScope.ALL
) -> dict[str, str]:
    key = new_key("api")
    state = KeyState(
        id=key.id,
        account_id=account,
        kind="api",
        name="k",
        sha256=key.sha256,
        permissions=frozenset(permissions),
        scope=scope,
    )
    await service.admin.publish(KeyChanged(key=state), account=account, entity=key.id, sequence=1)
    await service.settle()
    return {"Authorization": f"Bearer {key.plain}", "Accept-Language": "en"}


async def _manager(service) -> dict[str, str]:
    team = TeamState(id=TEAM, account_id=ACCOUNT, name="Soporte")
    await service.admin.publish(TeamChanged(team=team), account=ACCOUNT, entity=TEAM, sequence=1)
    agent = AgentState(id=AGENT, account_id=ACCOUNT, name="Eva", email="e@example.com", role_id=new_id())
    await service.admin.publish(AgentChanged(agent=agent), account=ACCOUNT, entity=AGENT, sequence=1)
    return await _key(service, Permission.AUTOMATIONS_MANAGE)


async def _make(service, headers, **more) -> dict:
    answer = await service.http.post("/rules", json={**RULE, **more}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _tell(service, data, **more):
    sent = await service.admin.publish(
        data, account=ACCOUNT, entity=data.conversation.id, **{"actor": "contact:c", **more}
    )
    await service.settle()
    return sent


async def _commands(service) -> list[tuple[str, dict, dict]]:
    """(command, headers, body) of everything ordered, each stream in its order."""
    found = []
    for stream in ("CMD_CONVERSATION", "CMD_ASSIGNMENT"):
        for subject, headers, body in await service.admin.stored(stream):
            assert subject.split(".")[3] == "automation"
            found.append((subject.split(".")[-1], headers, json.loads(body)))
    return found


async def test_a_message_that_matches_orders_the_actions_in_their_order(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        rule = await _make(service, headers)
        data = said("Quiero hacer una DEVOLUCIÓN")
        cause = await _tell(service, data)
        await _tell(service, said("Hola"))

        commands = await _commands(service)
        of = data.conversation.id
        assert [(name, body) for name, _, body in commands] == [
            ("change_labels", {"conversation_id": of, "add": ["devolución"], "remove": []}),
            ("send_message", {"conversation_id": of, "text": "Lo miramos.", "private": False, "mentions": []}),
            ("assign", {"conversation_id": of, "assignee_id": None, "team_id": TEAM, "seen_version": 0}),
        ]
        for _, sent, _ in commands:
            assert sent["relevo-actor"] == f"rule:{rule['id']}"
            assert sent["relevo-causation-id"] == cause.id
            assert sent["relevo-depth"] == "1"
            assert sent["relevo-account"] == ACCOUNT
        ((_, _, executed),) = await service.admin.stored("EVT_AUTOMATION")
        assert json.loads(executed)["actions"] == ["add_labels", "send_message", "assign_team"]

        page = (await service.http.get("/rule-executions", headers=headers)).json()
        (item,) = page["items"]
        assert (item["rule_id"], item["conversation_id"], item["outcome"]) == (rule["id"], of, "ordered")
        at = item["created_at"]
        for asked, count in (
            ({"conversation_id": of, "rule_id": rule["id"], "outcome": "ordered", "since": at}, 1),
            ({"conversation_id": new_id()}, 0),
            ({"rule_id": new_id()}, 0),
            ({"outcome": "depth_limit"}, 0),
            ({"until": at}, 0),
            ({"since": "2100-01-01T00:00:00Z"}, 0),
        ):
            found = await service.http.get("/rule-executions", params=asked, headers=headers)
            assert len(found.json()["items"]) == count, asked


async def test_a_replayed_event_orders_nothing_twice(servers) -> None:
    async with running(build, servers) as service:
        await _make(service, await _manager(service))
        data = said("una devolución")
        envelope = await _tell(service, data)
        before = await _commands(service)

        class Again:
            type = envelope.type

        again = Again()
        again.envelope, again.data = envelope, data
        consumer, *_ = service.runtime.service.consumers
        async with service.runtime.database.begin(envelope.account) as tx:
            await consumer.handler([again, again], tx)
            assert tx.emitted == 0
        assert await _commands(service) == before


async def test_an_edit_counts_at_once_on_every_replica(servers) -> None:
    async with running(build, servers) as one, running(build, servers, bus=one.bus, dsn=one.dsn) as two:
        headers = await _manager(one)
        rule = await _make(one, headers, actions=[{"type": "add_labels", "labels": ["v1"]}])
        path = f"/rules/{rule['id']}"

        async def labels() -> Counter:
            # Enough conversations for both replicas' partitions.
            for _ in range(12):
                data = said("devolucion")
                await one.admin.publish(data, account=ACCOUNT, entity=data.conversation.id, actor="contact:c")
            await one.settle()
            await two.settle()
            return Counter(body["add"][0] for _, _, body in await _commands(one))

        assert await labels() == {"v1": 12}
        change = {"actions": [{"type": "add_labels", "labels": ["v2"]}]}
        changed = await two.http.patch(path, json=change, headers={**headers, "If-Match": '"1"'})
        assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
        assert await labels() == {"v1": 12, "v2": 12}
        off = await one.http.patch(path, json={"enabled": False}, headers={**headers, "If-Match": '"2"'})
        assert off.json()["actions"] == change["actions"]
        assert await labels() == {"v1": 12, "v2": 12}


async def test_loops_end_and_show(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        rule = await _make(service, headers, trigger="labels_changed", conditions={"all": []})
        data = LabelsChanged(conversation=conversation(), added=("a",))
        own = await _tell(service, data, actor=f"rule:{rule['id']}")
        deep = own
        for _ in range(8):
            # What another rule's commands and their events would lead to, step by step.
            deep = await service.admin.publish(
                data, account=ACCOUNT, entity=data.conversation.id, actor=f"rule:{new_id()}", cause=deep
            )
        await service.settle()
        items = (await service.http.get("/rule-executions", headers=headers)).json()["items"]
        assert Counter(item["outcome"] for item in items) == {"ordered": 7, "depth_limit": 1}
        assert len(await _commands(service)) == 7 * 3


async def test_a_rule_fires_so_often_in_a_conversation_within_an_hour_and_says_so(servers) -> None:
    async with running(build, servers, RELEVO_RULE_HOURLY_LIMIT="2") as service:
        headers = await _manager(service)
        await _make(service, headers, actions=[{"type": "add_labels", "labels": ["x"]}])
        talk, other, began = said("devolucion"), said("devolucion"), now() - timedelta(hours=2)
        # All are read now; what counts is when they were said. No rule can have fired too often before the third event.
        for sequence, minutes in enumerate((0, 1, 2, 61, 62, 63), start=1):
            await _tell(service, talk, time=began + timedelta(minutes=minutes), sequence=sequence)
        await _tell(service, other, time=began + timedelta(minutes=2))
        for of, outcomes in ((talk, ["ordered", "ordered", "rate_limit"] * 2), (other, ["ordered"])):
            asked = {"conversation_id": of.conversation.id}
            items = (await service.http.get("/rule-executions", params=asked, headers=headers)).json()["items"]
            assert [item["outcome"] for item in reversed(items)] == outcomes
        assert len(await _commands(service)) == 5
        held = await service.http.get("/rule-executions", params={"outcome": "rate_limit"}, headers=headers)
        assert len(held.json()["items"]) == 2


async def test_rules_are_kept_changed_and_removed(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        late = await _make(service, headers, name="b", position=2)
        early = await _make(service, headers, name="a", position=1)
        first = (await service.http.get("/rules", params={"limit": 1}, headers=headers)).json()
        assert [rule["id"] for rule in first["items"]] == [early["id"]]
        rest = (await service.http.get("/rules", params={"cursor": first["next"]}, headers=headers)).json()
        assert ([rule["id"] for rule in rest["items"]], rest["next"]) == ([late["id"]], None)

        path = f"/rules/{early['id']}"
        read = await service.http.get(path, headers=headers)
        assert (read.json(), read.headers["etag"]) == (early, '"1"')
        assert (await service.http.patch(path, json={"name": "x"}, headers=headers)).status_code == 428
        assert (await service.http.delete(path, headers=headers)).status_code == 428
        stale = await service.http.patch(path, json={"name": "x"}, headers={**headers, "If-Match": '"9"'})
        assert (stale.status_code, stale.json()["current"]["name"]) == (412, "a")
        changed = await service.http.patch(path, json={"name": "x"}, headers={**headers, "If-Match": '"1"'})
        assert (changed.json()["name"], changed.json()["version"]) == ("x", 2)
        # As a proxy that compresses makes it.
        weak = await service.http.patch(
            f"/rules/{late['id']}", json={"name": "y"}, headers={**headers, "If-Match": 'W/"1"'}
        )
        assert (weak.status_code, weak.headers["etag"]) == (200, '"2"')
        gone = await service.http.delete(path, headers={**headers, "If-Match": '"2"'})
        assert gone.status_code == 204
        assert (await service.http.get(path, headers=headers)).status_code == 404

        once = {**headers, "Idempotency-Key": "k1"}
        made = [(await service.http.post("/rules", json=RULE, headers=once)).json()["id"] for _ in range(2)]
        assert made[0] == made[1]


async def test_another_account_sees_no_rule_and_fires_none(servers) -> None:
    async with running(build, servers) as service:
        rule = await _make(service, await _manager(service))
        other = new_id()
        stranger = await _key(service, Permission.AUTOMATIONS_MANAGE, account=other)
        path = f"/rules/{rule['id']}"
        assert (await service.http.get("/rules", headers=stranger)).json()["items"] == []
        assert (await service.http.get(path, headers=stranger)).status_code == 404
        assert (await service.http.delete(path, headers={**stranger, "If-Match": "*"})).status_code == 404
        powerless = await _key(service, Permission.CONVERSATIONS_READ)
        assert (await service.http.get("/rules", headers=powerless)).status_code == 403
        data = said("devolucion", account_id=other)
        await service.admin.publish(data, account=other, entity=data.conversation.id, actor="contact:c")
        await service.settle()
        assert await _commands(service) == []


async def test_what_no_database_takes_is_taken_out_of_what_rules_say(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        actions = [
            {"type": "set_attributes", "attributes": {"pla\0n": "oro\0"}},
            {"type": "send_message", "text": "Lo mira\0mos."},
        ]
        rule = await _make(service, headers, name="Una\0", conditions=contains("message.text", "x\0y"), actions=actions)
        assert (rule["name"], rule["conditions"]["value"]) == ("Una", "xy")
        assert (rule["actions"][0]["attributes"], rule["actions"][1]["text"]) == ({"plan": "oro"}, "Lo miramos.")


async def test_bad_rules_are_told_where_and_how_to_mend_them(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)

        async def faults(language: str = "en", **more) -> dict[str, str]:
            answer = await service.http.post(
                "/rules", json={**RULE, **more}, headers={**headers, "Accept-Language": language}
            )
            assert answer.status_code == 422, answer.text
            return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}

        nested = {"any": [contains("message.text", "x"), {"not": contains("message.colour", "x")}]}
        assert list(await faults(conditions=nested)) == ["/conditions/any/1/not/field"]
        assert "There is no field" in (await faults(conditions=nested))["/conditions/any/1/not/field"]
        assert "no existe el campo" in (await faults("es", conditions=nested))["/conditions/any/1/not/field"]
        unsafe = {"field": "message.text", "operator": "matches", "value": "(a+"}
        assert list(await faults(conditions=unsafe)) == ["/conditions/value"]
        assert list(await faults(conditions=None)) == ["/conditions"]
        assert "/conditions/field" in await faults(trigger="conversation_resolved")
        unknown = [{"type": "assign_team", "team_id": new_id()}, {"type": "assign_agent", "agent_id": new_id()}]
        assert await faults(actions=unknown) == {
            "/actions/0/team_id": "There is no such team.",
            "/actions/1/agent_id": "There is no such agent.",
        }
        assert list(await faults(inbox_ids=[new_id()])) == ["/inbox_ids/0"]
        assert list(await faults(name=" ")) == ["/name"]
        assert list(await faults(actions=[])) == ["/actions"]
        assert list(await faults(colour="red")) == ["/colour"]


async def test_conditions_are_tried_before_they_are_kept(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        body = {
            "trigger": "message_received",
            "conditions": {"all": [RULE["conditions"], {"not": contains("message.text", "urgente")}]},
            "sample": {"message.text": "Devolución urgente"},
        }
        answer = (await service.http.post("/rules/check", json=body, headers=headers)).json()
        assert answer["outcome"] is False
        assert [(leaf["path"], leaf["outcome"]) for leaf in answer["leaves"]] == [
            ("/all/0", True),
            ("/all/1/not", True),
        ]


async def test_rules_keep_the_keys_of_labels_and_follow_a_merge(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        vip, queja = (LabelState(id=new_id(), account_id=ACCOUNT, key=key, name=key) for key in ("vip", "queja"))

        async def tell(label, sequence, *, deleted=False):
            data = LabelChanged(label=label, deleted=deleted)
            await service.admin.publish(data, account=ACCOUNT, entity=label.id, sequence=sequence)
            await service.settle()

        await tell(vip, 1)
        await tell(queja, 1)
        await tell(vip.model_copy(update={"name": "Cuentas clave"}), 2)
        has = {"field": "conversation.labels", "operator": "contains_any", "value": ["CUENTAS clave", "nueva"]}
        actions = [{"type": "add_labels", "labels": ["Cuentas clave", "queja"]}, {"type": "resolve"}]
        rule = await _make(service, headers, trigger="labels_changed", conditions={"all": [has]}, actions=actions)
        assert rule["conditions"]["all"][0]["value"] == ["vip", "nueva"]
        assert rule["actions"][0]["labels"] == ["vip", "queja"]

        await tell(queja.model_copy(update={"into_key": "vip"}), 2)
        after = (await service.http.get(f"/rules/{rule['id']}", headers=headers)).json()
        assert (after["actions"][0]["labels"], after["version"], after["updated_by"]) == (["vip"], 2, "system")
        again = await _make(service, headers, actions=actions)
        assert again["actions"][0]["labels"] == ["vip"], "its name stands for what it became"

        # What happens to a label as a whole sets no rule off; what somebody does to a conversation does.
        data = LabelsChanged(conversation=conversation(labels=("vip",)), added=("vip",), cause="merge")
        await _tell(service, data, actor="agent:a")
        assert await _commands(service) == []
        await _tell(service, data.model_copy(update={"cause": "act"}), actor="agent:a")
        ordered = [(name, body.get("add")) for name, _, body in await _commands(service)]
        assert ordered == [("change_labels", ["vip"]), ("resolve_conversation", None)]


async def test_a_rule_orders_a_reminder_and_needs_one_delay(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        remind = {"type": "remind", "hours": 4, "business_hours": True, "text": "Sin respuesta"}
        await _make(service, headers, actions=[remind])
        for delay in ({}, {"hours": 1, "days": 1}, {"hours": 0}):
            wrong = {**RULE, "actions": [{"type": "remind", **delay}]}
            answer = await service.http.post("/rules", json=wrong, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), delay
        data = said("una devolucion")
        await _tell(service, data)
        ((name, body),) = [(name, body) for name, _, body in await _commands(service)]
        assert name == "remind"
        assert body == {
            "conversation_id": data.conversation.id,
            "hours": 4,
            "days": None,
            "business_hours": True,
            "unless": "agent_answers",
            "to": "assignee",
            "text": "Sin respuesta",
        }
