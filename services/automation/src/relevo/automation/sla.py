"""Service levels: clocks that follow the conversations' story, and timers that say when one is due.

A timer is believed only when this service has read everything that had been said before it rang: after a pause the
reply that came in time may still be on its way, and then the timer waits for it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import structlog

from relevo.automation import sla_store as store
from relevo.automation.caught_up import believed
from relevo.automation.domain.fields import SNAPSHOT_FIELDS, snapshot_facts
from relevo.automation.domain.sla import MEASURES, Clock, Measure, Targets, clocks, fold
from relevo.automation.domain.sla_telling import Kept, Kind, Told, rung, settled
from relevo.automation.handlers import Automaton
from relevo.automation.sla_store import Followed, Policy, Whose
from relevo.automation.webhooks import Webhooks
from relevo.chassis import Received, Runtime, Tx
from relevo.chassis.calendars import calendars
from relevo.chassis.paging import FIRST_ID
from relevo.chassis.timers import DueTimer, Timer, cancel, schedule, schedule_all
from relevo.contracts import streams
from relevo.contracts.automation import SlaBreached, SlaEvent, SlaMet, SlaWarned
from relevo.contracts.base import Model, now
from relevo.contracts.conversation import ConversationDeleted, ConversationEvent
from relevo.contracts.envelope import Envelope
from relevo.contracts.identity import CalendarChanged
from relevo.contracts.notification import Notify
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.kernel.calendars import Calendars
from relevo.kernel.conditions import ConditionError, Facts, compile_condition, parse

CLOCK: Final = "sla_clock"
RECKON: Final = "sla_reckon"
_MODELS: Final[Mapping[Kind, type[SlaEvent]]] = {"warned": SlaWarned, "breached": SlaBreached, "met": SlaMet}
_BATCH: Final = 500
log = structlog.get_logger("relevo.automation")


@dataclass(frozen=True, slots=True)
class _Told:
    """What is to be told of a conversation."""

    followed: Followed
    told: Told


class Sla:
    """The handlers and the timers; one for each process."""

    def __init__(self, webhooks: Webhooks, automaton: Automaton) -> None:
        self._webhooks = webhooks
        self._automaton = automaton
        self._runtime: Runtime | None = None

    def setup(self, runtime: Runtime) -> None:
        """Know the bus, which tells how far the story has come."""
        self._runtime = runtime

    async def on_conversation(self, batch: Sequence[Received], tx: Tx) -> None:
        """Go on with the clocks of the accounts that have policies."""
        accounts = {received.envelope.account for received in batch}
        applying: dict[str, list[Policy]] = {}
        for each in await store.enabled(tx, accounts):
            applying.setdefault(each.account_id, []).append(each)
        if not applying:
            return
        events = [
            (received, received.data)
            for received in batch
            if received.envelope.account in applying and isinstance(received.data, ConversationEvent)
        ]
        if not events:
            return
        known = await store.followed(tx, applying, [event.conversation.id for _, event in events])
        counting = await calendars(tx, applying)
        changed: dict[str, Followed] = {}
        gone: set[str] = set()
        told: list[_Told] = []
        for received, event in events:
            one, account = event.conversation, received.envelope.account
            if isinstance(event, ConversationDeleted):
                gone.add(one.id)
                continue
            before = changed.get(one.id) or known.get(one.id)
            course = fold(before.course if before else None, one, received.envelope.time)
            if before is not None and course is before.course:
                continue
            policy = _chosen(applying[account], one, received.envelope.time)
            after = Followed(one.id, account, course, _whose(one), clocks=before.clocks if before is not None else {})
            changed[one.id], news = _reckoned(after, policy, counting[account])
            told += news
        await self._write(tx, changed, told)
        if gone:
            await store.forget(tx, applying, gone)
            await cancel(tx, CLOCK, *(key for one in gone for key in _keys(one)))

    async def on_identity(self, batch: Sequence[Received], tx: Tx) -> None:
        """A calendar that is edited moves what is due in the future."""
        for account in {received.envelope.account for received in batch if received.is_a(CalendarChanged)}:
            await reckon(tx, account)

    async def on_reckon(self, due: Sequence[DueTimer], tx: Tx) -> None:
        """Timers of `reckon`: so many conversations at a time, then the next."""
        for timer in due:
            account, policy_id = timer.account_id, timer.payload["policy"]
            ids = await store.open_ones(tx, account, policy_id=policy_id, after=timer.payload["after"], limit=_BATCH)
            applying = {one.id: one for one in await store.enabled(tx, {account})}
            counting = (await calendars(tx, {account}))[account]
            changed: dict[str, Followed] = {}
            told: list[_Told] = []
            for id_, one in (await store.followed(tx, {account}, ids)).items():
                after, news = _reckoned(one, applying.get(one.policy_id or ""), counting)
                # What was due before stays as it was: what is over is not made to have been otherwise.
                present = now()
                if policy_id is None:
                    kept = {m: _future(one.clocks.get(m), new, present) for m, new in after.clocks.items()}
                    after, news = replace(after, clocks=kept), []
                changed[id_] = after
                told += news
            await self._write(tx, changed, told)
            if len(ids) == _BATCH:
                await schedule(tx, RECKON, timer.key, now(), {**timer.payload, "after": ids[-1]}, account_id=account)

    async def on_clock(self, due: Sequence[DueTimer], tx: Tx) -> None:
        """Timers of clocks: tell what is due, if it still is."""
        assert self._runtime is not None
        ready = await believed(tx, self._runtime, CLOCK, streams.EVT_CONVERSATION, due)
        accounts = {timer.account_id for timer in ready}
        known = await store.followed(tx, accounts, [timer.payload["conversation"] for timer in ready]) if ready else {}
        changed: dict[str, Followed] = {}
        told: list[_Told] = []
        for timer in ready:
            id_, measure = timer.payload["conversation"], timer.payload["measure"]
            one = changed.get(id_) or known.get(id_)
            kept = one.clocks.get(measure) if one is not None else None
            if one is None or kept is None:
                continue
            found = rung(kept, datetime.fromisoformat(timer.payload["at"]), timer.payload["kind"], now())
            if found is not None:
                changed[id_] = replace(one, clocks={**one.clocks, measure: found[0]})
                told.append(_Told(changed[id_], found[1]))
        await self._write(tx, changed, told)

    async def _write(self, tx: Tx, changed: Mapping[str, Followed], told: Sequence[_Told]) -> None:
        if not changed:
            return
        await store.keep(tx, list(changed.values()))
        wanted = [timer for one in changed.values() for timer in _timers(one)]
        keys = {timer.key for timer in wanted}
        await cancel(tx, CLOCK, *(key for id_ in changed for key in _keys(id_) if key not in keys))
        await schedule_all(tx, CLOCK, wanted)
        events: list[tuple[Envelope, SlaEvent]] = []
        for one in told:
            event = _event(one)
            envelope = tx.emit(
                event,
                account=one.followed.account_id,
                entity=one.followed.conversation_id,
                time=one.told.at,
            )
            events.append((envelope, event))
            if one.told.kind != "met":
                _notify(tx, one)
        await self._webhooks.add(tx, events)
        await self._automaton.on_own(tx, events)


async def reckon(tx: Tx, account_id: str, policy_id: str | None = None) -> None:
    """Have the clocks of an account, or of one policy, computed anew."""
    payload = {"policy": policy_id, "after": FIRST_ID}
    await schedule(tx, RECKON, f"{account_id}:{policy_id or ''}", now(), payload, account_id=account_id)


def _future(before: Kept | None, after: Kept, present: datetime) -> Kept:
    """A clock by another calendar: only a due time that has not come moves."""
    if before is None or before.clock.due_at is None or before.clock.due_at > present:
        return after
    return before


def _chosen(policies: Sequence[Policy], snapshot: ConversationSnapshot, at: datetime) -> Policy | None:
    """The first policy whose conditions hold."""
    facts = Facts({"now": at, **snapshot_facts(snapshot)})
    for policy in policies:
        judge = _compiled(json.dumps(policy.conditions, sort_keys=True))
        if judge is not None and judge(facts):
            return policy
    return None


@lru_cache(maxsize=1024)
def _compiled(conditions: str) -> Any:
    try:
        return compile_condition(parse(json.loads(conditions), SNAPSHOT_FIELDS))
    except ConditionError:
        # Checked when it was written; an older release's policy must not stop the line of the others.
        log.exception("sla_policy_unusable")
        return None


def _reckoned(one: Followed, policy: Policy | None, counting: Calendars) -> tuple[Followed, list[_Told]]:
    """The conversation under this policy, computed from the start of its cycle, and what is to be told of it."""
    if policy is None:
        return replace(one, policy_id=None, policy_version=None, calendar_id=None, calendar_version=None, clocks={}), []
    calendar = None
    if policy.terms.business_hours:
        calendar = counting.of(inbox_id=one.whose.inbox_id, team_id=one.whose.team_id)
    targets: Targets = policy.terms.of(one.whose.priority)
    found: dict[Measure, Clock] = {
        clock.measure: clock
        for clock in clocks(one.course, policy.terms, targets, calendar.calendar if calendar else None)
    }
    kept, told = settled(one.clocks, found)
    after = replace(
        one,
        policy_id=policy.id,
        policy_version=policy.version,
        calendar_id=calendar.id if calendar else None,
        calendar_version=calendar.version if calendar else None,
        clocks=kept,
    )
    return after, [_Told(after, news) for news in told]


def _timers(one: Followed) -> list[Timer]:
    found = []
    for measure, kept in one.clocks.items():
        clock = kept.clock
        if clock.state != "running" or clock.due_at is None:
            continue
        wanted = []
        if kept.breached_for != clock.due_at:
            wanted.append(("breached", clock.due_at))
            if clock.warn_at is not None and kept.warned_for != clock.due_at:
                wanted.append(("warned", clock.warn_at))
        for kind, at in wanted:
            payload = {"conversation": one.conversation_id, "measure": measure, "kind": kind, "at": at.isoformat()}
            found.append(Timer(f"{one.conversation_id}:{measure}:{kind}", at, payload, one.account_id))
    return found


def _keys(conversation_id: str) -> list[str]:
    return [f"{conversation_id}:{measure}:{kind}" for measure in MEASURES for kind in ("breached", "warned")]


def _whose(one: ConversationSnapshot) -> Whose:
    return Whose(
        one.number,
        one.inbox_id,
        one.channel,
        one.team_id,
        one.assignee_id,
        one.participant_ids,
        one.owner_id,
        one.priority,
    )


def _event(one: _Told) -> SlaEvent:
    whose, followed, clock = one.followed.whose, one.followed, one.told.clock
    given: dict[str, Any] = {
        "conversation_id": followed.conversation_id,
        "number": whose.number,
        "inbox_id": whose.inbox_id,
        "channel": whose.channel,
        "assignee_id": whose.assignee_id,
        "team_id": whose.team_id,
        "priority": whose.priority,
        "cycle": followed.course.cycle,
        "policy_id": followed.policy_id,
        "policy_version": followed.policy_version,
        "measure": clock.measure,
        "target_seconds": clock.target,
        "started_at": clock.started_at,
        "due_at": clock.due_at or one.told.at,
        "calendar_id": followed.calendar_id,
        "calendar_version": followed.calendar_version,
    }
    if one.told.kind == "met":
        given["done_at"] = one.told.at
    return _MODELS[one.told.kind](**given)


def _notify(tx: Tx, one: _Told) -> None:
    """Tell whoever has the conversation, else its team."""
    whose, clock = one.followed.whose, one.told.clock
    to = {"agent_id": whose.assignee_id} if whose.assignee_id else {"team_id": whose.team_id}
    if not any(to.values()):
        return
    command: Model = Notify(
        dedup_key=f"sla:{one.followed.conversation_id}:{clock.measure}:{one.told.kind}:{clock.due_at}",
        kind="sla",
        template=f"sla_{one.told.kind}_{clock.measure}",
        data={"number": whose.number},
        conversation_id=one.followed.conversation_id,
        useless_after=clock.due_at if one.told.kind == "warned" else None,
        **to,
    )
    tx.emit(command, account=one.followed.account_id, entity=one.followed.conversation_id)
