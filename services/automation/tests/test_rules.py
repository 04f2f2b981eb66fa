import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relevo.automation.domain.rules import RuleSet, compile_rule, evaluate
from relevo.automation.domain.triggers import FIELDS, TRIGGERS_OF, occurrence
from relevo.contracts.assignment import Assign
from relevo.contracts.base import new_id
from relevo.contracts.conversation import (
    AssigneeChanged,
    ChangeLabels,
    ContactUpdated,
    ConversationArchived,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    LabelsChanged,
    Remind,
    ResolveConversation,
    SendMessage,
)
from relevo.contracts.snapshots import ContactSnapshot
from relevo.kernel.conditions import ConditionError

from .samples import AGENT, INBOX, TEAM, contains, conversation, envelope, event, rule, said


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


def test_the_three_examples_of_the_product_page() -> None:
    spanish = rule(
        {"field": "contact.language", "operator": "starts_with", "value": "es"},
        actions=[{"type": "assign_team", "team_id": TEAM}],
    )
    support = rule(contains("message.text", "error"), actions=[{"type": "assign_team", "team_id": "support"}])
    care = rule(
        {
            "all": [
                {"field": "conversation.inbox_id", "operator": "equals", "value": INBOX},
                contains("conversation.subject", "reembolso"),
            ]
        },
        actions=[{"type": "assign_team", "team_id": "care"}],
    )
    rules = [spanish, support, care]
    from_mexico = ContactSnapshot(id="c", language="es-MX")
    assert [e.rule for e in _fired(rules, said("Hola", contact=from_mexico))] == [spanish]
    assert [e.rule for e in _fired(rules, said("Me sale un Error"))] == [support]
    assert [e.rule for e in _fired(rules, said("Buenas", subject="REEMBOLSO de mi pedido"))] == [care]
    assert _fired(rules, said("Buenas")) == []


def test_actions_become_commands_in_order() -> None:
    data = said("hola")
    actions = [
        {"type": "add_labels", "labels": ["ventas"]},
        {"type": "remove_labels", "labels": ["nuevo"]},
        {"type": "assign_agent", "agent_id": AGENT},
        {"type": "assign_team", "team_id": TEAM},
        {"type": "send_message", "text": "Gracias"},
        {"type": "add_note", "text": "mirar"},
        {"type": "remind", "days": 2, "to": "team", "unless": "customer_answers", "text": "¿Sigue interesado?"},
        {"type": "resolve"},
    ]
    (execution,) = _fired([rule(actions=actions)], data)
    of = data.conversation.id
    assert execution.commands == (
        ChangeLabels(conversation_id=of, add=("ventas",)),
        ChangeLabels(conversation_id=of, remove=("nuevo",)),
        Assign(conversation_id=of, assignee_id=AGENT, seen_version=data.conversation.assignment_version),
        Assign(conversation_id=of, team_id=TEAM, seen_version=data.conversation.assignment_version),
        SendMessage(conversation_id=of, text="Gracias"),
        SendMessage(conversation_id=of, text="mirar", private=True),
        Remind(conversation_id=of, days=2, to="team", unless="customer_answers", text="¿Sigue interesado?"),
        ResolveConversation(conversation_id=of),
    )
    assert len({execution.command_id(n) for n in range(8)} | {execution.id}) == 9


@pytest.mark.parametrize(
    ("data", "trigger"),
    [
        (said("x"), "message_received"),
        (said("x", kind="outgoing"), "message_sent"),
        (ConversationOpened(conversation=conversation()), "conversation_opened"),
        (ConversationReopened(conversation=conversation()), "conversation_reopened"),
        (ConversationResolved(conversation=conversation()), "conversation_resolved"),
        (LabelsChanged(conversation=conversation(), added=("a",)), "labels_changed"),
        (AssigneeChanged(conversation=conversation()), "assignee_changed"),
    ],
)
def test_every_trigger_fires_its_rules_only_and_gives_every_field(data, trigger) -> None:
    rules = [rule(trigger=one) for one in FIELDS]
    assert [e.rule.trigger for e in _fired(rules, data)] == [trigger]
    found = event(data)
    assert trigger in TRIGGERS_OF[found.event_type]
    # A field that is missing satisfies "absent" only because nobody filled it in: all are there, if only as None.
    assert set(FIELDS[trigger]) <= set(found.facts._values)


@pytest.mark.parametrize(
    "data",
    [
        said("x", kind="note"),
        said("x", kind="activity"),
        ConversationArchived(conversation=conversation()),
        ContactUpdated(contact=ContactSnapshot(id="c")),
    ],
)
def test_other_events_are_no_triggers(data) -> None:
    assert occurrence(envelope(data), data) is None


def test_what_changed_can_be_asked_for() -> None:
    vip = rule({"field": "labels.added", "operator": "contains_any", "value": ["vip"]}, trigger="labels_changed")
    assert _fired([vip], LabelsChanged(conversation=conversation(), added=("vip",)))
    assert not _fired([vip], LabelsChanged(conversation=conversation(labels=("vip",)), removed=("new",)))


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
    assert bool(execution.commands) is (depth < limit)


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
    assert (first.command_id(0) == second.command_id(0)) is same


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
