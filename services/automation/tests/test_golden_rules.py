"""The three examples of the product page, and what rules elsewhere are known to get wrong, on the running service."""

import json

import pytest

from relevo.automation.app import build
from relevo.chassis.testing import admin_of, running
from relevo.contracts.base import new_id
from relevo.contracts.conversation import (
    AssigneeChanged,
    ConversationOpened,
    ConversationResolved,
    LabelsChanged,
    PriorityChanged,
)
from relevo.contracts.identity import TeamChanged, TeamState
from relevo.contracts.ingest import InboxChanged, InboxState
from relevo.contracts.permissions import Permission

from .samples import ACCOUNT, INBOX, contains, conversation, event, rule, said
from .test_service import _key

SPANISH, SUPPORT, CARE = (new_id() for _ in range(3))
NAMES = {SPANISH: "Equipo español", SUPPORT: "Soporte", CARE: "Atención al cliente"}


async def _teams(service) -> dict[str, str]:
    for id_, name in NAMES.items():
        team = TeamState(id=id_, account_id=ACCOUNT, name=name)
        await service.admin.publish(TeamChanged(team=team), account=ACCOUNT, entity=id_, sequence=1)
    inbox = InboxState(id=INBOX, account_id=ACCOUNT, name="Correo", channel="email")
    await service.admin.publish(InboxChanged(inbox=inbox), account=ACCOUNT, entity=INBOX, sequence=1)
    return await _key(service, Permission.AUTOMATIONS_MANAGE)


async def _rule(service, headers, trigger, conditions, actions, **more) -> dict:
    body = {"name": "r", "trigger": trigger, "conditions": conditions, "actions": actions, **more}
    answer = await service.http.post("/rules", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _given(service) -> dict[str, str]:
    """The team that each conversation was given to."""
    found = await service.admin.stored("CMD_ASSIGNMENT")
    bodies = [json.loads(body) for _, _, body in found]
    return {body["conversation_id"]: NAMES[body["team_id"]] for body in bodies}


async def test_the_three_examples_of_the_product_page(servers) -> None:
    async with running(build, servers) as service:
        headers = await _teams(service)

        def to(team: str) -> list:
            return [{"type": "assign_team", "team_id": team}]

        language = {"field": "conversation.language", "operator": "starts_with", "value": "es"}
        await _rule(service, headers, "conversation_opened", language, to(SPANISH))
        await _rule(service, headers, "message_received", contains("message.text", "error"), to(SUPPORT))
        refund = {
            "all": [
                {"field": "conversation.inbox_id", "operator": "equals", "value": INBOX},
                {"field": "conversation.channel", "operator": "equals", "value": "email"},
                contains("conversation.subject", "reembolso"),
            ]
        }
        await _rule(service, headers, "conversation_updated", refund, to(CARE))

        told = {
            "desde México": ConversationOpened(conversation=conversation(language="es-MX")),
            "in English": ConversationOpened(conversation=conversation(language="en-GB")),
            "nobody knows": ConversationOpened(conversation=conversation()),
            "broken": said("Me sale un «Error» al pagar", language="en"),
            "no error": said("Un terrorista errorista"),
            "refund": PriorityChanged(conversation=conversation(channel="email", subject="REEMBOLSO del pedido 12")),
            "chat": PriorityChanged(conversation=conversation(subject="Reembolso")),
            "elsewhere": PriorityChanged(conversation=conversation(channel="email", subject="Reembolso", inbox_id="x")),
            "other": LabelsChanged(conversation=conversation(channel="email", subject="Factura"), added=("a",)),
        }
        for data in told.values():
            await service.admin.publish(data, account=ACCOUNT, entity=data.conversation.id, actor="contact:c")
        await service.settle()
        given = await _given(service)
        assert {name: given.get(data.conversation.id) for name, data in told.items()} == {
            "desde México": "Equipo español",
            "in English": None,
            "nobody knows": None,
            "broken": "Soporte",
            "no error": None,
            "refund": "Atención al cliente",
            "chat": None,
            "elsewhere": None,
            "other": None,
        }


async def test_rules_see_what_was_then_however_late_they_are_judged(servers) -> None:
    async with running(build, servers) as first:
        headers = await _teams(first)
        then = {
            "all": [
                {"field": "conversation.status", "operator": "equals", "value": "open"},
                {"field": "conversation.labels", "operator": "contains_none", "value": ["vip"]},
                {"field": "conversation.assignee_id", "operator": "absent"},
            ]
        }
        await _rule(first, headers, "message_received", then, [{"type": "assign_team", "team_id": SUPPORT}])
    early, late = said("hola"), said("hola", status="resolved", labels=("vip",), assignee_id="a")
    # The service is down while the conversation goes on: labelled, taken, resolved. Then it reads all of it.
    async with admin_of(first.bus) as admin:
        one = early.conversation
        after = one.model_copy(update={"labels": ("vip",), "assignee_id": "a", "sequence": 3})
        await admin.publish(early, account=ACCOUNT, entity=one.id, actor="contact:c")
        for data in (
            LabelsChanged(conversation=after, added=("vip",)),
            AssigneeChanged(conversation=after),
            ConversationResolved(conversation=after.model_copy(update={"status": "resolved"})),
        ):
            await admin.publish(data, account=ACCOUNT, entity=one.id, actor="agent:a")
        await admin.publish(late, account=ACCOUNT, entity=late.conversation.id, actor="contact:c")
    async with running(build, servers, bus=first.bus, dsn=first.dsn) as service:
        await service.settle()
        assert await _given(service) == {early.conversation.id: "Soporte"}


def _leaf(field: str, operator: str, value: object = None) -> dict:
    return {"field": field, "operator": operator} | ({} if value is None else {"value": value})


TAGS = "conversation.labels"


@pytest.mark.parametrize(
    ("conditions", "facts", "holds"),
    [
        # Only the first of several labels counted: "equals A" held on {A, B}, and [A, B] asked for A alone.
        (_leaf(TAGS, "equals", ["a"]), {"labels": ("a", "b")}, False),
        (_leaf(TAGS, "equals", ["b", "a"]), {"labels": ("a", "b")}, True),
        (_leaf(TAGS, "contains_any", ["x", "b"]), {"labels": ("a", "b")}, True),
        # "label A and label B" never held.
        ({"all": [_leaf(TAGS, "contains_any", ["a"]), _leaf(TAGS, "contains_any", ["b"])]}, {"labels": ("a", "b")}, True),
        (_leaf(TAGS, "contains_all", ["a", "b"]), {"labels": ("b", "a")}, True),
        (_leaf(TAGS, "contains_all", ["a", "b"]), {"labels": ("a",)}, False),
        # "label is not A" held on {A, B} and missed who has no labels.
        (_leaf(TAGS, "contains_none", ["a"]), {"labels": ("a", "b")}, False),
        (_leaf(TAGS, "contains_none", ["a"]), {"labels": ()}, True),
        # "priority is none" never held.
        (_leaf("conversation.priority", "absent"), {"priority": None}, True),
        (_leaf("conversation.priority", "absent"), {"priority": "low"}, False),
        (_leaf("conversation.priority", "not_equals", "low"), {"priority": None}, True),
        # Of several values of a custom attribute only the first was used.
        (_leaf("conversation.attributes.plan", "in", ["oro", "plata"]), {"attributes": {"plan": "plata"}}, True),
        (_leaf("conversation.attributes.plan", "in", ["oro", "plata"]), {"attributes": {"plan": "cobre"}}, False),
        # "a or b and c" was taken without parentheses: and bound tighter.
        (
            {"all": [{"any": [_leaf(TAGS, "contains_any", ["a"]), _leaf(TAGS, "contains_any", ["b"])]}, _leaf("conversation.status", "equals", "pending")]},
            {"labels": ("a",), "status": "open"},
            False,
        ),
    ],
)  # fmt: skip
def test_what_others_get_wrong_about_several_values(conditions, facts, holds) -> None:
    asked = rule(conditions)
    assert asked.holds(event(said("x", **facts)).facts) is holds


async def test_a_rule_that_fails_to_assign_leaves_the_rest_of_its_actions(servers) -> None:
    """Elsewhere a failing action is swallowed: here each action is a command of its own, which its owner answers for."""
    async with running(build, servers) as service:
        headers = await _teams(service)
        actions = [{"type": "assign_owner"}, {"type": "add_labels", "labels": ["a"]}, {"type": "resolve"}]
        await _rule(service, headers, "message_received", {"all": []}, actions)
        data = said("x")
        await service.admin.publish(data, account=ACCOUNT, entity=data.conversation.id, actor="contact:c")
        await service.settle()
        ordered = [subject.rpartition(".")[2] for subject, _, _ in await service.admin.stored("CMD_CONVERSATION")]
        assert ordered == ["change_labels", "resolve_conversation"]
        (log,) = (await service.http.get("/rule-executions", headers=headers)).json()["items"]
        assert log["actions"] == ["assign_owner", "add_labels", "resolve"]


async def test_rules_set_each_other_off_and_do_not_fire_on_conversations_that_the_team_began(servers) -> None:
    """Elsewhere nothing that a rule did sets another one off, and rules of customers' messages fire on agents' ones."""
    async with running(build, servers) as service:
        headers = await _teams(service)
        await _rule(service, headers, "labels_changed", {"all": []}, [{"type": "resolve"}])
        await _rule(service, headers, "message_received", {"all": []}, [{"type": "survey"}])
        labelled = LabelsChanged(conversation=conversation(), added=("a",))
        await service.admin.publish(
            labelled, account=ACCOUNT, entity=labelled.conversation.id, actor=f"rule:{new_id()}"
        )
        begun = said("Buenos días, le llamamos ayer", kind="outgoing")
        await service.admin.publish(begun, account=ACCOUNT, entity=begun.conversation.id, actor="agent:a")
        await service.settle()
        ordered = [json.loads(body)["conversation_id"] for _, _, body in await service.admin.stored("CMD_CONVERSATION")]
        assert ordered == [labelled.conversation.id]
