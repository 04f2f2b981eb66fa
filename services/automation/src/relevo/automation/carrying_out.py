"""Steps carried out: commands on the bus, posts to webhooks, and waits, which a timer ends.

A wait is a row, in the transaction that took the event; what comes before its end and makes it moot deletes the row. A timer
is believed only when this service has read all that had been said before it rang.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from relevo.automation import waits_store as store
from relevo.automation.caught_up import believed
from relevo.automation.domain.actions import Order, Pause, PostStep, Step, dumped, loaded
from relevo.automation.domain.rules import Execution, command_id
from relevo.automation.domain.waits import over_at
from relevo.automation.domain.webhooks import rule_payload
from relevo.automation.waits_store import Wait
from relevo.automation.webhooks import Direct, Webhooks
from relevo.chassis import Runtime, Tx
from relevo.chassis.calendars import calendars
from relevo.chassis.timers import DueTimer, Timer, cancel, schedule_all
from relevo.contracts import streams
from relevo.contracts.automation import RuleExecuted
from relevo.contracts.base import Model
from relevo.contracts.envelope import Envelope
from relevo.kernel.business_time import Calendar

WAIT: Final = "rule_wait"
"""The timers of waits, by the execution's id."""


@dataclass(frozen=True, slots=True)
class Run:
    """An execution under way: whose rule it is, about what, and because of which event. Ids and times only."""

    execution_id: str
    rule_id: str
    rule_version: int
    rule_name: str
    conversation_id: str | None
    entity: str
    inbox_id: str | None
    channel: str | None
    team_id: str | None
    actions: tuple[str, ...]
    cause: Envelope
    told: bool = False

    @classmethod
    def of(cls, execution: Execution, cause: Envelope) -> "Run":
        """The run of an execution that begins."""
        rule, subject = execution.rule, execution.event.subject
        return cls(
            execution.id,
            rule.id,
            rule.version,
            rule.name,
            subject.conversation_id,
            subject.entity,
            subject.inbox_id,
            subject.channel,
            subject.team_id,
            tuple(action.type for action in rule.actions),
            cause,
        )

    @property
    def actor(self) -> str:
        """Who its commands are from."""
        return f"rule:{self.rule_id}"


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done of a run now, and from when on its next wait counts. ``event``: what happened, when it was just now."""

    run: Run
    steps: Sequence[Step]
    since: datetime
    event: Model | None = None


class CarryingOut:
    """Carries out what rules order; one for each process."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._runtime: Runtime | None = None

    def setup(self, runtime: Runtime) -> None:
        """Know the bus, which tells how far the story has come."""
        self._runtime = runtime

    async def carry_out(self, tx: Tx, due: Iterable[Due]) -> None:
        """Do what can be done now, each in its order, and have the rest wait."""
        posts: list[Direct] = []
        waiting: list[tuple[Due, Pause, Sequence[Step]]] = []
        for one in due:
            run = one.run
            at = next((at for at, step in enumerate(one.steps) if isinstance(step, Pause)), len(one.steps))
            if not run.told and (at > 0 or not one.steps):
                run = replace(run, told=True)
                _tell(tx, run)
            for step in one.steps[:at]:
                match step:
                    case Order():
                        _order(tx, run, step)
                    case PostStep():
                        posts.append(_post(run, step, one.event))
            if at < len(one.steps):
                pause = one.steps[at]
                assert isinstance(pause, Pause)
                waiting.append((replace(one, run=run), pause, one.steps[at + 1 :]))
        await self._webhooks.post(tx, posts)
        await _wait(tx, waiting)

    async def on_wait(self, due: Sequence[DueTimer], tx: Tx) -> None:
        """Timers of waits: go on where nothing has made it moot, and the rule is still there and on."""
        assert self._runtime is not None
        ready = {timer.key for timer in await believed(tx, self._runtime, WAIT, streams.EVT_CONVERSATION, due)}
        accounts = {timer.account_id for timer in due}
        found = await store.take(tx, accounts, ready) if ready else []
        goes_on = [wait for wait in found if wait.enabled]
        # What somebody switched off meanwhile is not begun again by a timer.
        await store.end(tx, accounts, [wait.id for wait in found if not wait.enabled], "moot")
        await store.end(tx, accounts, [wait.id for wait in goes_on], "ordered")
        await self.carry_out(tx, [Due(_run(wait.run), loaded(wait.steps), wait.due_at) for wait in goes_on])


async def make_moot(tx: Tx, accounts: Iterable[str], reasons: Iterable[tuple[str, str]]) -> None:
    """Give up the waits of these conversations that wait for these things: pairs of a conversation and what it waits for."""
    accounts = list(accounts)
    gone = await store.drop(tx, accounts, reasons)
    if gone:
        await store.end(tx, accounts, gone, "moot")
        await cancel(tx, WAIT, *gone)


async def _wait(tx: Tx, waiting: Sequence[tuple[Due, Pause, Sequence[Step]]]) -> None:
    if not waiting:
        return
    counting = await calendars(tx, {one.run.cause.account for one, _, _ in waiting})
    rows, timers = [], []
    for one, pause, rest in waiting:
        run = one.run
        found = counting[run.cause.account].of(inbox_id=run.inbox_id, team_id=run.team_id)
        calendar: Calendar | None = found.calendar if found else None
        due_at = over_at(pause, one.since, calendar)
        rows.append(
            Wait(
                id=run.execution_id,
                account_id=run.cause.account,
                rule_id=run.rule_id,
                conversation_id=run.entity,
                unless=pause.wait.unless,
                due_at=due_at,
                run=_kept(run),
                steps=dumped(rest),
            )
        )
        payload = {"conversation": run.entity, "at": due_at.isoformat()}
        timers.append(Timer(run.execution_id, due_at, payload, run.cause.account))
    await store.add(tx, rows)
    await store.end(tx, {row.account_id for row in rows}, [row.id for row in rows], "waiting")
    await schedule_all(tx, WAIT, timers)


def _order(tx: Tx, run: Run, step: Order) -> None:
    tx.emit(
        step.command,
        account=run.cause.account,
        entity=run.entity,
        actor=run.actor,
        cause=run.cause,
        id=command_id(run.execution_id, step.number),
        actor_version=run.rule_version,
    )


def _executed(run: Run, conversation_id: str) -> RuleExecuted:
    return RuleExecuted(
        rule_id=run.rule_id,
        rule_version=run.rule_version,
        rule_name=run.rule_name,
        event_id=run.cause.id,
        event_type=run.cause.type,
        conversation_id=conversation_id,
        inbox_id=run.inbox_id,
        channel=run.channel,
        actions=run.actions,
    )


def _tell(tx: Tx, run: Run) -> None:
    # What happens to a contact is told to nobody: reports count by conversations.
    if run.conversation_id is not None:
        data = _executed(run, run.conversation_id)
        tx.emit(
            data, account=run.cause.account, entity=run.entity, actor=run.actor, cause=run.cause, id=run.execution_id
        )


def _post(run: Run, step: PostStep, event: Model | None) -> Direct:
    told = _executed(run, run.conversation_id or run.entity)
    return Direct(
        account_id=run.cause.account,
        endpoint_id=step.endpoint_id,
        entity_id=run.entity,
        id=command_id(run.execution_id, step.number),
        body=lambda at: rule_payload(run.cause, command_id(run.execution_id, step.number), told, event, at),
    )


def _kept(run: Run) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(run), default=lambda at: at.isoformat()))  # type: ignore[no-any-return]


def _run(kept: dict[str, Any]) -> Run:
    cause = dict(kept["cause"])
    cause |= {name: datetime.fromisoformat(cause[name]) for name in ("time", "recorded")}
    cause["ancestors"] = tuple(cause["ancestors"])
    return Run(**{**kept, "actions": tuple(kept["actions"]), "cause": Envelope(**cause)})
