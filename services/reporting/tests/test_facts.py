from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.assignment import ConversationAssigned, Reason
from relevo.contracts.automation import RuleExecuted
from relevo.contracts.base import new_id
from relevo.contracts.conversation import (
    AssigneeChanged,
    ContactCreated,
    ConversationArchived,
    ConversationImported,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    ConversationTakenOver,
    LabelsChanged,
    MessageCreated,
    MessageStatusChanged,
)
from relevo.contracts.metrics import METRICS, NAMES, Fact, Metric
from relevo.contracts.presence import AgentStatus, StatusChanged
from relevo.contracts.snapshots import ContactSnapshot
from relevo.reporting.domain.facts import fact_id, facts_of, happened_at

from .samples import AGENT, INBOX, NOON, TEAM, conversation, envelope, incoming, message, reply

_WHY = Reason(code="least_loaded", es="", en="")


def _facts(data, **values) -> dict[str, Fact]:
    found = facts_of(envelope(data, **values), data)
    assert len({fact.fact_id for fact in found}) == len(found)
    return {fact.metric: fact for fact in found}


def test_every_metric_is_defined_and_named() -> None:
    assert METRICS.keys() == NAMES.keys() == set(get_args(Metric))


def test_a_customer_message_counts_with_the_dimensions_of_that_moment() -> None:
    fact = _facts(incoming())["messages_in"]
    assert (fact.value, fact.unit, fact.at) == (1, "count", NOON)
    assert fact.dimensions.model_dump() == {
        "agent_id": AGENT,
        "team_id": TEAM,
        "inbox_id": INBOX,
        "channel": "webchat",
        "labels": ("vip",),
        "priority": "high",
        "language": "es",
        "state": None,
        "rule_id": None,
    }


def test_a_reply_belongs_to_its_author_and_not_to_the_assignee() -> None:
    other = new_id()
    facts = _facts(reply(author=other, first_reply=True, answered_since=NOON - timedelta(minutes=4)))
    assert {metric: fact.value for metric, fact in facts.items()} == {
        "messages_out": 1,
        "first_response": 600,
        "reply_time": 240,
    }
    assert {fact.dimensions.agent_id for fact in facts.values()} == {other}
    assert facts["first_response"].start == NOON - timedelta(minutes=10)


def test_who_had_a_bot_first_waited_for_people_only_since_it_left_them() -> None:
    snapshot = conversation(first_reply_at=NOON, people_since=NOON - timedelta(minutes=2))
    facts = _facts(reply(snapshot=snapshot, first_reply=True))
    assert (facts["first_response"].value, facts["first_response"].start) == (120, NOON - timedelta(minutes=2))


@pytest.mark.parametrize(
    ("reason", "counts"),
    [("customer_asked", True), ("cannot_help", True), ("silent", True), ("endless", True), ("taken", False)],
)
def test_what_a_bot_leaves_to_people_counts_and_what_somebody_takes_is_another_count(reason, counts) -> None:
    assert set(_facts(ConversationTakenOver(conversation=conversation(), reason=reason))) == (
        {"bot_handoffs"} if counts else {"bot_takeovers"}
    )


def test_what_a_bot_resolves_is_its_own_count() -> None:
    resolved = ConversationResolved(conversation=conversation(status="resolved", resolved_at=NOON))
    assert "bot_resolutions" in _facts(resolved, actor=f"bot:{new_id()}")
    assert "bot_resolutions" not in _facts(resolved, actor=f"agent:{AGENT}")


def test_a_later_reply_of_the_cycle_is_no_first_response_and_nobody_waited() -> None:
    assert set(_facts(reply())) == {"messages_out"}


def test_an_automatic_message_answers_nobody() -> None:
    snapshot = conversation(first_reply_at=NOON)
    data = MessageCreated(
        conversation=snapshot,
        message=message(snapshot, kind="outgoing", author=f"rule:{new_id()}"),
        human=False,
        first_reply=True,
        answered_since=NOON - timedelta(minutes=1),
    )
    facts = _facts(data)
    assert set(facts) == {"messages_out"}
    assert facts["messages_out"].dimensions.agent_id is None


@pytest.mark.parametrize(("kind", "metrics"), [("note", {"notes"}), ("activity", set())])
def test_notes_are_counted_apart_and_activity_not_at_all(kind: str, metrics: set[str]) -> None:
    snapshot = conversation()
    data = MessageCreated(conversation=snapshot, message=message(snapshot, kind=kind, author=f"agent:{AGENT}"))
    assert set(_facts(data)) == metrics


@pytest.mark.parametrize(
    ("status", "metrics"),
    [("delivered", {"replies_delivered"}), ("failed", {"replies_failed"}), ("sent", set()), ("read", set())],
)
def test_delivery(status: str, metrics: set[str]) -> None:
    snapshot = conversation()
    data = MessageStatusChanged(
        conversation=snapshot, message=message(snapshot, kind="outgoing", author=f"agent:{AGENT}", status=status)
    )
    assert set(_facts(data)) == metrics


def test_a_resolution_is_counted_and_timed_from_the_opening_of_the_cycle() -> None:
    data = ConversationResolved(conversation=conversation(status="resolved", stage="closed", resolved_at=NOON))
    facts = _facts(data)
    assert (facts["conversations_resolved"].value, facts["resolution"].value) == (1, 600)


def test_who_resolves_what_nobody_had_gets_the_resolution() -> None:
    data = ConversationResolved(conversation=conversation(assignee_id=None, resolved_at=NOON))
    assert _facts(data, actor=f"agent:{AGENT}")["resolution"].dimensions.agent_id == AGENT
    assert _facts(data, actor="system")["resolution"].dimensions.agent_id is None


@pytest.mark.parametrize(
    ("began", "counted"),
    [
        (NOON - timedelta(days=1500), NOON - timedelta(days=1500)),
        (datetime(1987, 1, 1, tzinfo=UTC), NOON),
    ],
)
def test_what_was_imported_counts_apart_when_it_began_and_in_nothing_else(began: datetime, counted: datetime) -> None:
    past = conversation(
        status="resolved", historic=True, created_at=began, opened_at=began, resolved_at=began, first_reply_at=began
    )
    found = _facts(ConversationImported(conversation=past, import_id=new_id()))
    assert found.keys() == {"conversations_imported"}
    fact = found["conversations_imported"]
    assert (fact.value, fact.unit, fact.at) == (1, "count", counted)


@pytest.mark.parametrize(
    ("model", "metric"),
    [
        (ConversationOpened, "conversations_opened"),
        (ConversationReopened, "conversations_reopened"),
        (ConversationArchived, "conversations_archived"),
    ],
)
def test_counts_of_the_life_of_a_conversation(model, metric: str) -> None:
    assert set(_facts(model(conversation=conversation()))) == {metric}


@pytest.mark.parametrize(
    ("before", "after", "transfers"),
    [
        ((None, None), ("a", None), 0),
        (("a", None), ("b", None), 1),
        (("a", None), (None, None), 0),
        (("a", "t"), ("b", "u"), 1),
        ((None, "t"), (None, "u"), 1),
        ((None, "t"), ("a", "t"), 0),
    ],
)
def test_a_transfer_is_from_somebody_to_somebody_else(before, after, transfers: int) -> None:
    data = AssigneeChanged(
        conversation=conversation(assignee_id=after[0], team_id=after[1]),
        from_assignee_id=before[0],
        from_team_id=before[1],
    )
    assert len(_facts(data)) == transfers


def test_each_label_put_on_is_a_fact_of_its_own() -> None:
    data = LabelsChanged(conversation=conversation(), added=("a", "b"), removed=("c",))
    found = facts_of(envelope(data), data)
    assert [fact.dimensions.labels for fact in found] == [("a",), ("b",)]
    assert len({fact.fact_id for fact in found}) == 2


def test_the_wait_in_the_queue_is_counted_when_there_was_one() -> None:
    data = ConversationAssigned(
        conversation_id=new_id(), version=2, assignee_id=AGENT, reason=_WHY, waited_seconds=12.5, inbox_id=INBOX
    )
    fact = _facts(data)["wait_in_queue"]
    assert (fact.value, fact.dimensions.agent_id, fact.dimensions.inbox_id) == (12.5, AGENT, INBOX)
    assert _facts(data.model_copy(update={"waited_seconds": None})) == {}


def test_rules() -> None:
    rule = new_id()
    executed = RuleExecuted(
        rule_id=rule,
        rule_version=1,
        rule_name="r",
        event_id=new_id(),
        event_type="t",
        conversation_id=new_id(),
        actions=("resolve",),
    )
    assert _facts(executed)["rules_executed"].dimensions.rule_id == rule


def _presence(since: datetime, until: datetime) -> list[Fact]:
    status = AgentStatus(agent_id=AGENT, state="busy", since=until, cause="manual")
    data = StatusChanged(status=status, previous="available", previous_since=since)
    return facts_of(envelope(data, at=until), data)


def test_presence_is_counted_in_the_hours_in_which_it_was() -> None:
    facts = _presence(NOON - timedelta(minutes=90), NOON + timedelta(minutes=15))
    assert [(fact.at.hour, fact.value) for fact in facts] == [(10, 1800), (11, 3600), (12, 900)]
    assert {(fact.dimensions.state, fact.dimensions.agent_id) for fact in facts} == {("available", AGENT)}


@given(st.timedeltas(timedelta(days=-1), timedelta(days=20)))
def test_the_parts_of_a_presence_are_the_whole(long: timedelta) -> None:
    facts = _presence(NOON - long, NOON)
    assert sum(round(fact.value * 1e6) for fact in facts) == max(timedelta(), long) // timedelta(microseconds=1)
    assert all(fact.value > 0 for fact in facts)
    assert len({fact.fact_id for fact in facts}) == len(facts)
    assert [fact.at for fact in facts] == sorted(fact.at for fact in facts)


def test_a_presence_without_beginning_is_cut() -> None:
    facts = _presence(datetime(1970, 1, 1, tzinfo=UTC), NOON)
    assert facts[0].at == NOON - timedelta(days=400)


def test_other_events_make_no_facts() -> None:
    assert _facts(ContactCreated(contact=ContactSnapshot(id=new_id()))) == {}


@given(st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_times_are_never_negative(apart: timedelta) -> None:
    snapshot = conversation(opened_at=NOON, first_reply_at=NOON + apart)
    data = reply(snapshot=snapshot, first_reply=True, answered_since=NOON - apart)
    facts = _facts(data)
    seconds = max(0.0, apart.total_seconds())
    assert (facts["first_response"].value, facts["reply_time"].value) == (seconds, seconds)


@given(st.uuids(), st.uuids(), st.sampled_from(["a", "b"]), st.sampled_from(["a", "b"]), st.integers(0, 3))
def test_fact_ids_are_the_same_for_the_same_and_different_for_others(
    one: UUID, two: UUID, m: str, n: str, part
) -> None:
    first, second = fact_id(str(one), m, part), fact_id(str(two), n, part)
    assert (first == second) == ((one, m) == (two, n))
    assert UUID(first).version == 8
    assert fact_id(str(one), m, part + 1) != first


def test_a_fact_id_needs_no_uuid_and_starts_with_the_time_of_one() -> None:
    assert fact_id("wamid-1", "messages_in") != fact_id("wamid-2", "messages_in")
    event = new_id()
    assert fact_id(event, "notes")[:13] == event[:13]


@pytest.mark.parametrize("wrong", [datetime(1970, 1, 1, tzinfo=UTC), NOON + timedelta(days=40)])
def test_a_clock_that_is_plainly_wrong_gives_way_to_when_it_was_recorded(wrong: datetime) -> None:
    sent = envelope(incoming(), at=wrong, recorded=NOON)
    assert happened_at(sent) == NOON
