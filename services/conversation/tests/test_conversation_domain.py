"""The life of a conversation, whatever happens to it in whatever order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from relevo.contracts.base import new_id
from relevo.contracts.conversation import (
    ConversationEvent,
    ConversationOpened,
    MessageCreated,
    MessageDeleted,
    MessageEdited,
    MessageReacted,
    MessageStatusChanged,
)
from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ContactSnapshot, MessageSnapshot, Reaction
from relevo.conversation.domain import (
    activity,
    amending,
    assignee,
    life,
    participants,
    properties,
    removal,
    snooze,
    writing,
)
from relevo.conversation.domain.merge import hand_over
from relevo.conversation.domain.state import Change, Conversation, Incoming, Refused, Writing, stage_of

from .stories import folds

START = datetime(2025, 3, 1, 9, tzinfo=UTC)
INBOX = InboxState(id=new_id(), account_id=new_id(), name="WhatsApp", channel="whatsapp")
CONTACT = ContactSnapshot(id=new_id(), name="Ana")
AGENTS = [new_id() for _ in range(3)]


def begun(at: datetime = START, inbox: InboxState = INBOX) -> Conversation:
    return life.begin(
        id=new_id(),
        number=1,
        inbox=inbox,
        contact=CONTACT,
        source_id="34600111222",
        recipient_key="abc",
        occurred_at=at,
        now=at,
    ).conversation


def incoming(at: datetime = START, text: str = "Hola") -> Incoming:
    return Incoming(id=new_id(), text=text, external_id=new_id(), occurred_at=at)


def said(*, human: bool = True) -> Writing:
    return Writing(new_id(), "Buenos días", f"agent:{AGENTS[0]}" if human else "rule:r1", human=human)


def kinds(change: Change) -> list[str]:
    return [type(event).__name__ for event in change.events]


_SHOWN_AS_ITSELF = (
    MessageCreated | MessageStatusChanged | MessageEdited | MessageDeleted | MessageReacted | ConversationOpened
)


class Life(RuleBasedStateMachine):
    """Every act in any order; the invariants hold after each, and the events alone tell the whole story."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        opened = life.begin(
            id=new_id(),
            number=7,
            inbox=INBOX,
            contact=CONTACT,
            source_id="x",
            recipient_key="abc",
            occurred_at=START,
            now=START,
        )
        self.conversation = opened.conversation
        self.events: list[ConversationEvent] = list(opened.events)
        self.sent: list[MessageSnapshot] = []
        self.left: list[str] = []
        self.said: dict[str, MessageSnapshot] = {}
        self.folded = 0

    def take(self, change: Change) -> None:
        if not change.events:
            assert change.conversation.state.sequence == self.conversation.state.sequence
        self.conversation = change.conversation
        self.events.extend(change.events)
        if change.message:
            self.said[change.message.id] = change.message
        if change.outbound:
            self.left.append(change.outbound.message_id)

    def attempt(self, act: object, *, allowed: bool) -> None:
        assert callable(act)
        if allowed:
            self.take(act())
        else:
            with pytest.raises(Refused) as refused:
                act()
            assert refused.value.es
            assert refused.value.en

    @rule(late=st.integers(-100, 10_000), passed=st.integers(0, 10_000))
    def customer_writes(self, late: int, passed: int) -> None:
        self.now += timedelta(seconds=passed)
        self.take(life.receive(self.conversation, incoming(self.now - timedelta(seconds=late)), self.now))
        assert self.conversation.unresolved
        assert self.conversation.state.waiting_since is not None

    @rule(human=st.booleans(), passed=st.integers(0, 10_000))
    def reply(self, human: bool, passed: int) -> None:
        self.now += timedelta(seconds=passed)
        before = self.conversation

        def act() -> Change:
            return writing.reply(before, said(human=human), self.now)

        self.attempt(act, allowed=not before.state.archived)
        if not before.state.archived:
            event = self.events[-1]
            assert isinstance(event, MessageCreated)
            self.sent.append(event.message)
            assert self.conversation.state.status == before.state.status
            if human:
                assert self.conversation.state.waiting_since is None

    @rule(who=st.sets(st.sampled_from(AGENTS)))
    def note(self, who: set[str]) -> None:
        before = self.conversation
        change = writing.note(before, said(), self.now, mentions=[f"agent:{w}" for w in who], mentioned_agents=who)
        assert change.outbound is None
        self.take(change)
        assert who <= set(self.conversation.state.participant_ids)
        assert self.conversation.state.waiting_since == before.state.waiting_since
        assert self.conversation.state.first_reply_at == before.state.first_reply_at

    @rule()
    def resolve(self) -> None:
        before = self.conversation
        self.attempt(lambda: life.resolve(before, self.now), allowed=before.unresolved)

    @rule()
    def reopen(self) -> None:
        before = self.conversation
        self.attempt(lambda: life.reopen(before, self.now), allowed=not before.unresolved)

    @rule()
    def archive(self) -> None:
        before = self.conversation
        self.attempt(lambda: life.archive(before, self.now), allowed=not before.state.archived)

    @rule()
    def spam(self) -> None:
        before = self.conversation
        self.attempt(lambda: removal.mark_spam(before, self.now), allowed=not before.state.archived)

    @rule()
    def unarchive(self) -> None:
        before = self.conversation
        self.attempt(lambda: life.unarchive(before, self.now), allowed=before.state.archived)

    @rule(ahead=st.one_of(st.none(), st.integers(-10, 10_000)))
    def snooze(self, ahead: int | None) -> None:
        before = self.conversation
        until = None if ahead is None else self.now + timedelta(seconds=ahead)
        future = ahead is None or ahead > 0
        self.attempt(lambda: snooze.snooze(before, until, self.now), allowed=before.unresolved and future)
        if before.unresolved and future:
            assert (self.conversation.state.status, self.conversation.state.snoozed_until) == ("snoozed", until)

    @rule()
    def wake(self) -> None:
        before = self.conversation
        self.attempt(lambda: snooze.wake(before, self.now), allowed=before.state.status == "snoozed")

    @rule(ahead=st.integers(0, 10_000))
    def a_timer_rings(self, ahead: int) -> None:
        before = self.conversation.state
        self.now += timedelta(seconds=ahead)
        self.take(snooze.come_due(self.conversation, self.now, self.now))
        due = before.snoozed_until is not None and before.snoozed_until <= self.now
        assert self.conversation.state.status == ("open" if due else before.status)

    @rule()
    def leave_to_the_bot(self) -> None:
        before = self.conversation
        allowed = before.unresolved and before.state.status != "pending"
        self.attempt(lambda: snooze.make_pending(before, self.now), allowed=allowed)

    @rule()
    def take_over(self) -> None:
        before = self.conversation
        self.attempt(lambda: snooze.take_over(before, self.now), allowed=before.state.status == "pending")

    @rule(priority=st.sampled_from([None, "low", "urgent"]), subject=st.sampled_from(["", "Pedido", "Factura"]))
    def describe(self, priority: Any, subject: str) -> None:
        self.take(properties.set_priority(self.conversation, priority, self.now))
        self.take(properties.set_subject(self.conversation, subject, self.now))
        assert (self.conversation.state.priority, self.conversation.state.subject) == (priority, subject)

    @rule(values=st.dictionaries(st.sampled_from("xy"), st.sampled_from([None, True, False, 3, "texto"])))
    def attributes(self, values: dict[str, Any]) -> None:
        before = dict(self.conversation.state.attributes)
        self.take(properties.set_attributes(self.conversation, values, self.now))
        assert self.conversation.state.attributes == {k: v for k, v in (before | values).items() if v is not None}

    @rule(add=st.sets(st.sampled_from("abcd")), remove=st.sets(st.sampled_from("abcd")))
    def labels(self, add: set[str], remove: set[str]) -> None:
        before = set(self.conversation.state.labels)
        self.take(properties.change_labels(self.conversation, sorted(add), sorted(remove), self.now))
        assert set(self.conversation.state.labels) == (before - remove) | add

    @rule(data=st.data(), text=st.sampled_from(["Otra cosa", None]))
    def change_what_was_said(self, data: st.DataObject, text: str | None) -> None:
        if not self.said:
            return
        id_ = data.draw(st.sampled_from(sorted(self.said)))
        message, before = self.said[id_], self.conversation
        change = amending.delete if text is None else lambda c, m, at: amending.edit(c, m, text, at)
        allowed = message.kind == "note" and message.deleted_at is None
        self.attempt(lambda: change(before, message, self.now), allowed=allowed)

    @rule(data=st.data(), emoji=st.sampled_from("👍🎉"), add=st.booleans())
    def react(self, data: st.DataObject, emoji: str, add: bool) -> None:
        if not self.said:
            return
        message, before = self.said[data.draw(st.sampled_from(sorted(self.said)))], self.conversation
        allowed = message.kind == "note" and message.deleted_at is None
        self.attempt(lambda: amending.react(before, message, "agent:x", emoji, self.now, add=add), allowed=allowed)
        if allowed:
            assert (Reaction(author="agent:x", emoji=emoji) in self.said[message.id].reactions) == add

    @rule(add=st.sets(st.sampled_from(AGENTS)), remove=st.sets(st.sampled_from(AGENTS)))
    def take_part(self, add: set[str], remove: set[str]) -> None:
        before = set(self.conversation.state.participant_ids)
        self.take(participants.change_participants(self.conversation, sorted(add), sorted(remove), self.now))
        assert set(self.conversation.state.participant_ids) == (before - remove) | add

    @rule(version=st.integers(0, 20), agent=st.sampled_from([None, *AGENTS]), team=st.sampled_from([None, "t1"]))
    def assign(self, version: int, agent: str | None, team: str | None) -> None:
        before = self.conversation.state
        self.take(
            assignee.fold_assignment(
                self.conversation,
                version=version,
                assignee_id=agent,
                team_id=team,
                reason="manual",
                mode="manual",
                at=self.now,
            )
        )
        after = self.conversation.state
        newer = version > before.assignment_version
        assert after.assignment_version == max(version, before.assignment_version)
        assert (after.assignee_id, after.team_id) == ((agent, team) if newer else (before.assignee_id, before.team_id))

    @rule(undo=st.booleans())
    def merge(self, undo: bool) -> None:
        other = CONTACT.model_copy(update={"id": new_id(), "name": "Ana Núñez"})
        self.take(hand_over(self.conversation, other, self.now, undo=undo))
        assert self.conversation.state.contact == other

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        message, before = data.draw(st.sampled_from(self.sent)), self.conversation
        allowed = message.status == "failed" and not before.state.archived
        self.attempt(lambda: amending.retry(before, message, said(), self.now), allowed=allowed)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), status=st.sampled_from(["sent", "delivered", "read", "failed"]))
    def report(self, data: st.DataObject, status: str) -> None:
        index = data.draw(st.integers(0, len(self.sent) - 1))
        change = writing.fold_status(
            self.conversation, self.sent[index], status=status, error="x", external_id="wamid", at=self.now
        )
        self.take(change)
        if change.message:
            self.sent[index] = change.message

    @invariant()
    def numbers_have_no_gap(self) -> None:
        assert self.conversation.state.sequence == len(self.events)

    @invariant()
    def the_state_is_consistent(self) -> None:
        s = self.conversation.state
        assert s.stage == stage_of(s.status, archived=s.archived, first_reply_at=s.first_reply_at)
        assert not s.archived or s.status == "resolved"
        assert (s.resolved_at is not None) == (s.status == "resolved")
        assert s.waiting_since is None or (s.status != "resolved" and s.waiting_since >= s.opened_at)
        assert s.snoozed_until is None or s.status == "snoozed"
        assert s.resolved_at is None or s.resolved_at >= s.opened_at
        assert s.first_reply_at is None or s.first_reply_at >= s.opened_at
        assert s.last_activity_at <= self.now

    @invariant()
    def each_event_changes_what_it_may_and_tells_the_facts_before_it(self) -> None:
        folds(self.events[self.folded :])
        self.folded = len(self.events) - 1
        assert self.events[-1].conversation.model_copy(
            update={"assignment_version": self.conversation.state.assignment_version}
        ) == (self.conversation.state)

    @invariant()
    def every_change_but_what_is_said_leaves_a_line_that_can_be_read(self) -> None:
        for event in self.events[-3:]:
            line = activity.line_of(event)
            shows_itself = isinstance(event, _SHOWN_AS_ITSELF)
            assert (line is None) == shows_itself
            if line:
                es, en = (activity.words(line, "agent:x", {"x": "Eva"}, lang, "Europe/Madrid") for lang in ("es", "en"))
                assert es.startswith("Eva ")
                assert en.startswith("Eva ")
                assert es != en

    @invariant()
    def only_public_replies_leave(self) -> None:
        messages = [e.message for e in self.events if isinstance(e, MessageCreated)]
        assert self.left == [m.id for m in messages if m.kind == "outgoing"]
        assert self.conversation.state.message_count == len(messages)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_ten_thousand_lives() -> None:
    for _ in range(20):  # what Hypothesis remembers of a run grows with it
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=500,
                stateful_step_count=25,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


@given(st.lists(st.sampled_from(["sent", "delivered", "read", "failed"]), max_size=8), st.randoms())
def test_delivery_reports_give_the_same_in_any_order(reports: list[str], random: object) -> None:
    def fold(order: list[str]) -> str:
        change = writing.reply(begun(), said(), START)
        conversation, message = change.conversation, change.message
        assert message
        for status in order:
            step = writing.fold_status(conversation, message, status=status, error=None, external_id=None, at=START)
            conversation, message = step.conversation, step.message or message
        return message.status

    shuffled = list(reports)
    random.shuffle(shuffled)
    assert fold(reports) == fold(shuffled)


def test_a_customer_reopens_an_archived_conversation_which_loses_the_flag_first() -> None:
    archived = life.archive(begun(), START).conversation
    change = life.receive(archived, incoming(START), START)
    assert kinds(change) == ["ConversationUnarchived", "ConversationReopened", "MessageCreated"]
    assert change.conversation.state.cycle == 2
    assert change.conversation.state.stage == "new"


def test_archiving_an_open_conversation_resolves_it_in_the_same_act() -> None:
    change = life.archive(begun(), START)
    assert kinds(change) == ["ConversationResolved", "ConversationArchived"]
    assert [e.conversation.stage for e in change.events] == ["closed", "archived"]


def test_the_inbox_policy_decides_what_a_new_message_does() -> None:
    resolved = life.resolve(begun(), START).conversation
    archived = life.archive(resolved, START).conversation
    for policy, closed in (("always_one", "reopen"), ("new_after_resolved", "open")):
        assert life.destination(None, policy) == "open"
        assert life.destination(begun(), policy) == "append"
        assert life.destination(resolved, policy) == closed
        assert life.destination(archived, policy) == closed


def test_the_first_reply_and_the_wait_that_it_ends_are_told_once() -> None:
    waiting = life.receive(begun(), incoming(START), START).conversation
    later = START + timedelta(minutes=3)
    rule_wrote = writing.reply(waiting, said(human=False), later)
    assert rule_wrote.conversation.state.waiting_since == START
    assert rule_wrote.conversation.state.stage == "new"
    first = writing.reply(rule_wrote.conversation, said(), later).events[0]
    assert isinstance(first, MessageCreated)
    assert (first.first_reply, first.answered_since) == (True, START)
    assert first.conversation.stage == "in_progress"
    second = writing.reply(writing.reply(waiting, said(), later).conversation, said(), later).events[0]
    assert isinstance(second, MessageCreated)
    assert (second.first_reply, second.answered_since) == (False, None)


def test_a_time_from_the_future_is_cut_to_now_and_a_cycle_never_begins_before_the_last_ended() -> None:
    ahead = life.receive(begun(), incoming(START + timedelta(days=1)), START)
    assert ahead.conversation.state.waiting_since == START
    closed_at = START + timedelta(hours=2)
    resolved = life.resolve(begun(), closed_at).conversation
    reopened = life.receive(resolved, incoming(START), closed_at + timedelta(minutes=1)).conversation.state
    assert reopened.opened_at == closed_at
    assert reopened.waiting_since == closed_at


def test_a_timer_wakes_what_waits_for_it_and_nothing_that_waits_for_later() -> None:
    until = START + timedelta(hours=1)
    asleep = snooze.snooze(begun(), until, START).conversation
    late = START + timedelta(days=40)
    assert kinds(snooze.come_due(asleep, until, late)) == ["ConversationWoken"]
    assert kinds(snooze.come_due(asleep, until - timedelta(seconds=1), late)) == []
    forever = snooze.snooze(begun(), None, START).conversation
    assert kinds(snooze.come_due(forever, until, late)) == []
