import json
from collections import defaultdict
from datetime import timedelta
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relevo.automation.domain.actions import PostStep, dumped, loaded
from relevo.automation.domain.rules import RuleSet, command_id, compile_rule, evaluate, ordered, within_rate
from relevo.automation.domain.triggers import FIELDS, TRIGGERS_OF, occurrence
from relevo.contracts.assignment import Assign
from relevo.contracts.automation import SlaBreached, SlaMet, SlaWarned
from relevo.contracts.base import new_id
from relevo.contracts.conversation import (
    AskSurvey,
    AssigneeChanged,
    AttributesChanged,
    ChangeLabels,
    ContactCreated,
    ContactUpdated,
    ConversationArchived,
    ConversationMadePending,
    ConversationMarkedSpam,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    ConversationSnoozed,
    ConversationTakenOver,
    ConversationUnarchived,
    ConversationWoken,
    LabelsChanged,
    OwnerChanged,
    PriorityChanged,
    Remind,
    ResolveConversation,
    SendMessage,
    SetAttributes,
    SetPriority,
    SetStatus,
    SubjectChanged,
    SurveyAnswered,
)
from relevo.contracts.snapshots import ContactSnapshot
from relevo.kernel.conditions import ConditionError

from .samples import AGENT, INBOX, NOON, TEAM, contains, conversation, envelope, event, rule, said


def _fired(rules, data, *, depth_limit=8, **values):
    return evaluate(RuleSet(1, rules), event(data, **values), depth_limit=depth_limit)


@pytest.mark.parametrize(
    ("keyword", "text", "fires"),
    [
        ("devolucion", "Quiero una devolución, gracias", True),
        ("devolución", "quiero una DEVOLUCION", True),
        ("devolucion", "mis devoluciones", False),
        ("ano", "¿De qué año es?", False),
        ("año", "¿De qué AÑO es?", True),
        ("cigüeña", "una cigueña", True),
        ("error", "Hay un error en la web", True),
        ("error", "Un terrorista", False),
        ("cuanto cuesta", "¿Cuánto cuesta?", True),
    ],
)
def test_keywords_as_customers_write_them(keyword: str, text: str, fires: bool) -> None:
    assert bool(_fired([rule(contains("message.text", keyword))], said(text))) is fires


def test_plural_forms_when_the_condition_says_so() -> None:
    plural = rule(contains("message.text", "devolución", plural=True))
    assert _fired([plural], said("dos devoluciones pendientes"))


def test_actions_become_commands_in_order() -> None:
    data = said("hola", contact=ContactSnapshot(id="c", owner_id=AGENT), last_responder_id=AGENT)
    of, seen = data.conversation.id, data.conversation.assignment_version
    expected = [
        ({"type": "add_labels", "labels": ["ventas"]}, ChangeLabels(conversation_id=of, add=("ventas",))),
        ({"type": "remove_labels", "labels": ["nuevo"]}, ChangeLabels(conversation_id=of, remove=("nuevo",))),
        ({"type": "assign_agent", "agent_id": AGENT}, Assign(conversation_id=of, assignee_id=AGENT, seen_version=seen)),
        ({"type": "assign_team", "team_id": TEAM}, Assign(conversation_id=of, team_id=TEAM, seen_version=seen)),
        ({"type": "assign_last_responder"}, Assign(conversation_id=of, assignee_id=AGENT, seen_version=seen)),
        ({"type": "assign_owner"}, Assign(conversation_id=of, assignee_id=AGENT, seen_version=seen)),
        ({"type": "unassign"}, Assign(conversation_id=of, seen_version=seen)),
        ({"type": "set_priority", "priority": "high"}, SetPriority(conversation_id=of, priority="high")),
        (
            {"type": "set_attributes", "attributes": {"plan": "oro", "viejo": None}},
            SetAttributes(conversation_id=of, attributes={"plan": "oro", "viejo": None}),
        ),
        ({"type": "set_status", "status": "open"}, SetStatus(conversation_id=of, to="open")),
        (
            {"type": "snooze", "hours": 4, "business_hours": True},
            SetStatus(conversation_id=of, to="snoozed", hours=4, business_hours=True),
        ),
        ({"type": "send_message", "text": "Gracias"}, SendMessage(conversation_id=of, text="Gracias")),
        (
            {"type": "add_note", "text": "mirar", "mentions": [f"team:{TEAM}"]},
            SendMessage(conversation_id=of, text="mirar", private=True, mentions=(f"team:{TEAM}",)),
        ),
        ({"type": "survey"}, AskSurvey(conversation_id=of)),
        (
            {"type": "remind", "days": 2, "to": "team", "unless": "customer_answers", "text": "¿Sigue interesado?"},
            Remind(conversation_id=of, days=2, to="team", unless="customer_answers", text="¿Sigue interesado?"),
        ),
        ({"type": "resolve"}, ResolveConversation(conversation_id=of)),
    ]
    (execution,) = _fired([rule(actions=[action for action, _ in expected])], data)
    assert [step.command for step in execution.steps] == [command for _, command in expected]
    assert len({command_id(execution.id, n) for n in range(16)} | {execution.id}) == 17


def test_a_team_is_mailed_and_a_webhook_posted_to() -> None:
    actions = [
        {"type": "email_team", "team_id": TEAM, "text": "Hay que mirarlo"},
        {"type": "webhook", "endpoint_id": "hook"},
    ]
    (execution,) = _fired([rule(actions=actions, name="Aviso")], said("x"))
    mail, post = execution.steps
    assert (mail.command.team_id, mail.command.kind) == (TEAM, "rule_mail")
    assert mail.command.data == {"rule": "Aviso", "words": "Hay que mirarlo", "number": "1"}
    assert post == PostStep(1, "hook")
    contact = rule(actions=actions, trigger="contact_updated")
    (execution,) = _fired([contact], ContactUpdated(contact=ContactSnapshot(id="c"), changed=("email",)))
    assert execution.steps[0].command.conversation_id is None


def test_nobody_to_act_for_is_no_command_and_nothing_waits_for_nothing() -> None:
    actions = [{"type": "assign_owner"}, {"type": "assign_last_responder"}, {"type": "wait", "minutes": 5}]
    (execution,) = _fired([rule(actions=actions)], said("x"))
    assert (execution.steps, execution.outcome) == ((), "ordered")


def test_steps_are_kept_and_read_back() -> None:
    actions = [
        {"type": "wait", "minutes": 5, "unless": "agent_answers"},
        {"type": "send_message", "text": "¿Sigues ahí?"},
        {"type": "webhook", "endpoint_id": "hook"},
        {"type": "email_team", "team_id": TEAM, "text": "t"},
    ]
    (execution,) = _fired([rule(actions=actions)], said("x"))
    assert execution.outcome == "waiting"
    assert loaded(json.loads(json.dumps(dumped(execution.steps)))) == execution.steps


_UPDATES = [
    (ConversationReopened(conversation=conversation()), "conversation_reopened"),
    (ConversationResolved(conversation=conversation()), "conversation_resolved"),
    (ConversationArchived(conversation=conversation()), "conversation_archived"),
    (ConversationSnoozed(conversation=conversation()), "conversation_snoozed"),
    (ConversationWoken(conversation=conversation(), cause="time"), "conversation_woken"),
    (ConversationMadePending(conversation=conversation()), "conversation_given_to_bot"),
    (ConversationTakenOver(conversation=conversation()), "conversation_taken_over"),
    (LabelsChanged(conversation=conversation(), added=("a",)), "labels_changed"),
    (AssigneeChanged(conversation=conversation()), "assignee_changed"),
    (OwnerChanged(conversation=conversation()), "owner_changed"),
    (PriorityChanged(conversation=conversation()), "priority_changed"),
    (SubjectChanged(conversation=conversation()), "subject_changed"),
    (AttributesChanged(conversation=conversation(), changed=("plan",)), "attributes_changed"),
]
_SLA = {
    "conversation_id": "c",
    "number": 7,
    "inbox_id": INBOX,
    "channel": "email",
    "cycle": 1,
    "policy_id": "p",
    "policy_version": 1,
    "measure": "resolution",
    "target_seconds": 60,
    "started_at": NOON,
    "due_at": NOON,
}


@pytest.mark.parametrize(
    ("data", "triggers"),
    [
        (said("x"), ["message_received"]),
        (said("x", kind="outgoing"), ["message_sent"]),
        (ConversationOpened(conversation=conversation()), ["conversation_opened"]),
        *((data, [trigger, "conversation_updated"]) for data, trigger in _UPDATES),
        (ConversationUnarchived(conversation=conversation()), ["conversation_updated"]),
        (ContactUpdated(contact=ContactSnapshot(id="c")), ["contact_updated"]),
        (
            SurveyAnswered(conversation=conversation(), survey_id="s", version=1, rating=2, answered_at=NOON),
            ["survey_answered"],
        ),
        (SlaWarned(**_SLA), ["sla_warned"]),
        (SlaBreached(**_SLA), ["sla_breached"]),
    ],
)
def test_every_trigger_fires_its_rules_only_and_gives_every_field(data, triggers) -> None:
    rules = [rule(trigger=one) for one in FIELDS]
    assert sorted(e.rule.trigger for e in _fired(rules, data)) == sorted(triggers)
    found = event(data)
    assert set(triggers) <= TRIGGERS_OF[found.event_type]
    # A field that is missing satisfies "absent" only because nobody filled it in: all are there, if only as None.
    for trigger in triggers:
        assert set(FIELDS[trigger]) <= set(found.facts._values), trigger


@pytest.mark.parametrize(
    "data",
    [
        said("x", kind="note"),
        said("x", kind="activity"),
        ConversationMarkedSpam(conversation=conversation()),
        SlaMet(**_SLA, done_at=NOON),
        ContactCreated(contact=ContactSnapshot(id="c")),
    ],
)
def test_other_events_are_no_triggers(data) -> None:
    assert occurrence(envelope(data), data) is None


def test_rules_of_two_triggers_of_one_event_keep_their_order() -> None:
    first = rule(trigger="conversation_updated")
    second = rule(trigger="priority_changed")
    third = rule(trigger="conversation_updated")
    data = PriorityChanged(conversation=conversation(priority="high"), from_priority="low")
    assert [e.rule for e in _fired([first, second, third], data)] == [first, second, third]


def test_what_changed_can_be_asked_for() -> None:
    vip = rule({"field": "labels.added", "operator": "contains_any", "value": ["vip"]}, trigger="labels_changed")
    assert _fired([vip], LabelsChanged(conversation=conversation(), added=("vip",)))
    assert not _fired([vip], LabelsChanged(conversation=conversation(labels=("vip",)), removed=("new",)))


@pytest.mark.parametrize(
    ("data", "field", "operator", "value"),
    [
        (PriorityChanged(conversation=conversation(), from_priority="low"), "previous.priority", "equals", "low"),
        (PriorityChanged(conversation=conversation(priority="high")), "previous.priority", "absent", None),
        (SubjectChanged(conversation=conversation(), from_subject="Pedido"), "previous.subject", "contains", "pedido"),
        (AssigneeChanged(conversation=conversation(), from_team_id=TEAM), "previous.team_id", "equals", TEAM),
        (AssigneeChanged(conversation=conversation(), from_team_id=TEAM), "changed", "equals", ["team"]),
        (
            LabelsChanged(conversation=conversation(labels=("a", "b")), added=("b",), removed=("c",)),
            "previous.labels",
            "equals",
            ["a", "c"],
        ),
        (
            AttributesChanged(conversation=conversation(), changed=("plan",), from_attributes={"plan": "oro"}),
            "previous.attributes.plan",
            "equals",
            "ORO",
        ),
        (
            AttributesChanged(conversation=conversation(attributes={"total": 12.5}), changed=("total",)),
            "conversation.attributes.total",
            "greater",
            12,
        ),
        (ConversationReopened(conversation=conversation(), cause="agent"), "reopened.cause", "equals", "agent"),
        (ConversationResolved(conversation=conversation()), "changed", "contains_any", ["status"]),
    ],
)
def test_what_a_change_was_of_and_from_can_be_asked_for(data, field, operator, value) -> None:
    given = {"field": field, "operator": operator} | ({} if value is None else {"value": value})
    asked = rule(given, trigger="conversation_updated" if "cause" not in field else "conversation_reopened")
    assert _fired([asked], data)
    assert not _fired([rule({"not": given}, trigger=asked.trigger)], data)


@pytest.mark.parametrize(
    ("operator", "value", "fires"),
    [
        ("equals", "madrid", True),
        ("contains", "mad", False),
        ("in", ["Barcelona", "Madrid"], True),
        ("starts_with", "mad", True),
        ("greater", 3, False),
        ("present", None, True),
        ("equals", True, False),
    ],
)
def test_custom_attributes_are_compared_as_what_they_are_compared_with(operator, value, fires) -> None:
    given = {"field": "contact.attributes.ciudad", "operator": operator} | ({} if value is None else {"value": value})
    who = ContactSnapshot(id="c", attributes={"ciudad": "Madrid", "alta": "2026-01-15", "puntos": 7, "vip": True})
    assert bool(_fired([rule(given)], said("x", contact=who))) is fires
    assert not _fired([rule({"field": "contact.attributes.otro", "operator": "present"})], said("x", contact=who))
    assert _fired(
        [rule({"field": "contact.attributes.alta", "operator": "days_before", "value": 40})], said("x", contact=who)
    )
    assert _fired(
        [rule({"field": "contact.attributes.alta", "operator": "less", "value": "2026-02-01"})], said("x", contact=who)
    )
    assert _fired(
        [rule({"field": "contact.attributes.puntos", "operator": "at_least", "value": 7})], said("x", contact=who)
    )
    assert _fired(
        [rule({"field": "contact.attributes.vip", "operator": "equals", "value": True})], said("x", contact=who)
    )


def test_who_writes_and_from_where() -> None:
    who = ContactSnapshot(id="c", phone="+573001234567", country="CO", company="Peñón S.A.", owner_id=AGENT)
    data = said("x", contact=who, source_id="573001234567", channel="whatsapp")
    for field, operator, value in (
        ("contact.phone", "starts_with", "+57"),
        ("contact.country", "in", ["CO", "MX"]),
        ("contact.company", "contains", "PEÑÓN"),
        ("contact.owner_id", "present", None),
        ("sender.id", "starts_with", "57300"),
    ):
        given = {"field": field, "operator": operator} | ({} if value is None else {"value": value})
        assert _fired([rule(given)], data), field
    assert not _fired([rule({"field": "contact.company", "operator": "contains", "value": "penon"})], data)
    folded = {"field": "contact.company", "operator": "contains", "value": "penon", "fold_n": True}
    assert _fired([rule(folded)], data)


def test_scope_order_and_disabled_by_other_inbox() -> None:
    first, second, elsewhere = rule(), rule(inbox_ids=[INBOX]), rule(inbox_ids=[new_id()])
    assert [e.rule for e in _fired([first, elsewhere, second], said("x"))] == [first, second]


def test_a_rule_does_not_fire_on_its_own_effect_but_on_anothers() -> None:
    labelled = LabelsChanged(conversation=conversation(), added=("a",))
    mine, other = rule(trigger="labels_changed"), rule(trigger="labels_changed")
    assert [e.rule for e in _fired([mine, other], labelled, actor=mine.actor)] == [other]


def test_automatic_messages_are_left_alone_unless_told_otherwise() -> None:
    normal, told = rule(), rule(on_automated=True)
    assert [e.rule for e in _fired([normal, told], said("Fuera de la oficina", human=False))] == [told]


@given(st.integers(0, 20), st.integers(1, 20))
def test_rules_that_feed_each_other_end_at_the_limit(depth: int, limit: int) -> None:
    (execution,) = _fired([rule()], said("x"), depth=depth, depth_limit=limit)
    assert execution.outcome == ("ordered" if depth < limit else "depth_limit")
    assert bool(execution.steps) is (depth < limit)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9_000)), max_size=40), st.integers(1, 4), st.integers(0, 40)
)
def test_no_rule_fires_more_often_in_an_hour_than_it_may_and_none_is_held_back_before(said_at, limit, stored) -> None:
    asked, talks = rule(), (new_id(), new_id())
    wanted = [
        ordered(asked, event(said("x", id=talks[of]), time=NOON + timedelta(seconds=at)))
        for of, at in sorted(said_at, key=itemgetter(1))
    ]
    # The first so many were judged in an earlier batch.
    first = within_rate(wanted[:stored], {}, hourly_limit=limit)
    kept = defaultdict(list)
    for one in first:
        if one.outcome == "ordered":
            kept[one.rule.id, one.event.subject.conversation_id].append(one.event.at)
    found = [*first, *within_rate(wanted[stored:], kept, hourly_limit=limit)]
    assert [one.event for one in found] == [one.event for one in wanted]
    for place, one in enumerate(found):
        mine = [
            before
            for before in found[:place]
            if before.outcome == "ordered"
            and before.event.subject.conversation_id == one.event.subject.conversation_id
            and before.event.at > one.event.at - timedelta(hours=1)
        ]
        assert one.outcome == ("rate_limit" if len(mine) >= limit else "ordered")
        assert bool(one.steps) is (one.outcome == "ordered")


@given(
    st.lists(st.sampled_from(["uno", "dos", "tres"]), min_size=1, max_size=6), st.permutations(["uno", "dos", "tres"])
)
def test_what_fires_is_what_matches_alone_whatever_stands_around_it(heard, order) -> None:
    rules = [rule(contains("message.text", word), name=word) for word in order]
    data = said(" ".join(heard))
    fired = [e.rule.name for e in _fired(rules, data)]
    assert fired == [word for word in order if word in heard]
    assert fired == [r.name for r in rules if _fired([r], data)]


@given(st.uuids().map(str), st.uuids().map(str), st.integers(1, 3), st.integers(1, 3))
def test_ids_of_commands_are_the_same_on_replay_and_differ_between_versions_and_events(one, two, v, w) -> None:
    data, who = said("x"), new_id()
    (first,) = _fired([rule(id=who, version=v)], data, id=one)
    (second,) = _fired([rule(id=who, version=w)], data, id=two)
    same = (one, v) == (two, w)
    assert (first.id == second.id) is same
    assert (command_id(first.id, 0) == command_id(second.id, 0)) is same


@pytest.mark.parametrize(
    "actions",
    [
        [],
        [{"type": "explode"}],
        [{"type": "add_labels", "labels": []}],
        [{"type": "send_message", "text": "   "}],
        [{"type": "resolve", "text": "?"}],
        [{"type": "resolve"}] * 21,
    ],
)
def test_actions_that_cannot_be_done_are_refused(actions) -> None:
    with pytest.raises(ValidationError):
        compile_rule(id="r", version=1, name="r", trigger="message_sent", conditions={"all": []}, actions=actions)


def test_a_message_cannot_be_asked_for_where_there_is_none() -> None:
    with pytest.raises(ConditionError) as refused:
        rule(contains("message.text", "x"), trigger="conversation_resolved")
    assert refused.value.problems[0].code == "unknown_field"
