"""From the conversations' story to the commands that rules order."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import structlog

from relevo.automation import store, waits_store
from relevo.automation.carrying_out import CarryingOut, Due, Run, make_moot
from relevo.automation.domain.actions import Pause
from relevo.automation.domain.rules import FIRED, Execution, Rule, RuleSet, evaluate, within_rate
from relevo.automation.domain.triggers import TRIGGERS_OF, Trigger, occurrence
from relevo.automation.domain.waits import TYPES as MOOTING
from relevo.automation.domain.waits import moot_by
from relevo.automation.labels import on_labels
from relevo.chassis import Received, Tx
from relevo.contracts.base import Model, now
from relevo.contracts.conversation import ConversationEvent
from relevo.contracts.envelope import Envelope

_BREATHE: Final = 20
_NONE: Final[frozenset[Trigger]] = frozenset()
log = structlog.get_logger("relevo.automation")


class Automaton:
    """Judges every event by its account's rules. Keeps them compiled, and asks at each batch whether they changed."""

    def __init__(self, depth_limit: int, hourly_limit: int, carrying_out: CarryingOut) -> None:
        self._depth_limit = depth_limit
        self._hourly_limit = hourly_limit
        self._carrying_out = carrying_out
        self._sets: dict[str, RuleSet] = {}

    async def on_conversation(self, batch: Sequence[Received], tx: Tx) -> None:
        """Order what the matching rules say, each rule, version and event once; one statement reads, one writes."""
        await on_labels(batch, tx)
        heeded = [received for received in batch if received.type in TRIGGERS_OF or received.type in MOOTING]
        if not heeded:
            return
        waiting = await self._refresh(tx, {received.envelope.account for received in heeded})
        judged = _Judged()
        for number, received in enumerate(heeded):
            if number % _BREATHE == 0:
                await asyncio.sleep(0)  # judging is all computing: leases and other work must get their turn
            envelope = received.envelope
            rules = self._sets.get(envelope.account)
            # Most events end here, before their body is decoded.
            if rules is None:
                continue
            if received.type in MOOTING and (envelope.account in waiting or envelope.account in judged.waiting):
                judged.heard(received.data)
            if rules.listens(TRIGGERS_OF.get(received.type, _NONE)):
                self._judge(judged, rules, envelope, received.data)
        await make_moot(tx, waiting, judged.moot)
        await self._order(tx, judged)

    async def on_own(self, tx: Tx, events: Sequence[tuple[Envelope, Model]]) -> None:
        """Judge what this service tells itself, in the transaction that tells it."""
        if not events:
            return
        await self._refresh(tx, {envelope.account for envelope, _ in events})
        judged = _Judged()
        for envelope, data in events:
            rules = self._sets.get(envelope.account)
            if rules is not None and rules.listens(TRIGGERS_OF.get(envelope.type, _NONE)):
                self._judge(judged, rules, envelope, data)
        await self._order(tx, judged)

    def _judge(self, judged: "_Judged", rules: RuleSet, envelope: Envelope, data: Model) -> None:
        event = occurrence(envelope, data)
        if event is not None:
            for execution in evaluate(rules, event, depth_limit=self._depth_limit):
                judged.add(execution, envelope)

    async def _order(self, tx: Tx, judged: "_Judged") -> None:
        if not judged.executions:
            return
        executions = await _not_waiting(tx, judged.executions)
        executions = within_rate(executions, await self._fired(tx, judged), hourly_limit=self._hourly_limit)
        fresh = await store.record(tx, executions, now())
        await self._carrying_out.carry_out(
            tx,
            [
                Due(Run.of(execution, cause), execution.steps, cause.time, execution.event.data)
                for execution in executions
                if execution.id in fresh and execution.outcome in FIRED
                for cause in (judged.causes[execution.event.event_id],)
            ],
        )

    async def _fired(self, tx: Tx, judged: "_Judged") -> dict[tuple[str, str], list[datetime]]:
        """When the rules of these executions fired before, where it may have been too often.

        No rule fires more often than its conversation has events, so that most are not asked for.
        """
        asked = [
            one
            for one in judged.executions
            if one.event.subject.conversation_id is not None
            and not 0 < judged.causes[one.event.event_id].sequence <= self._hourly_limit
        ]
        return await store.fired(tx, asked) if asked else {}

    async def _refresh(self, tx: Tx, accounts: set[str]) -> set[str]:
        """Bring the rules of these accounts up to date, compiling only what changed; answers where some wait."""
        known = await store.versions(tx, accounts)
        waiting = {account for account, (_, waits) in known.items() if waits}
        versions = {account: version for account, (version, _) in known.items()}
        for account in accounts - versions.keys():
            self._sets.pop(account, None)
        stale = {
            account
            for account, version in versions.items()
            if account not in self._sets or self._sets[account].version != version
        }
        if not stale:
            return waiting
        found: dict[str, list[Rule]] = defaultdict(list)
        # Read after the versions: what is newer than its version is only read once more.
        for stored in await store.enabled_rules(tx, stale):
            rule = compiled(stored)
            if rule is not None:
                found[stored.account_id].append(rule)
        for account in stale:
            self._sets[account] = RuleSet(versions[account], found[account])
        return waiting


def compiled(stored: store.StoredRule) -> Rule | None:
    """The rule ready to be judged; None, and a line in the log, for one that cannot be used any more."""
    try:
        return stored.compiled()
    except store.UNUSABLE:
        # Checked when it was written; an older release's rule must not stop the line of the others.
        log.exception("rule_unusable", account=stored.account_id, rule=stored.id)
        return None


@dataclass
class _Judged:
    """What a batch comes to, event by event: what fires, and which waits end, those of the batch itself too."""

    executions: list[Execution] = field(default_factory=list)
    causes: dict[str, Envelope] = field(default_factory=dict)
    moot: set[tuple[str, str]] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)

    def add(self, execution: Execution, cause: Envelope) -> None:
        self.executions.append(execution)
        self.causes[cause.id] = cause
        if execution.outcome == "waiting":
            self.waiting.add(cause.account)

    def heard(self, data: Model) -> None:
        """An event: waits of its conversation that it makes moot, begun before it, are over."""
        if not isinstance(data, ConversationEvent) or not (reasons := moot_by(data)):
            return
        of = data.conversation.id
        self.moot |= {(of, reason) for reason in reasons}
        for at, one in enumerate(self.executions):
            if one.outcome == "waiting" and one.event.subject.conversation_id == of:
                first = next(place for place, step in enumerate(one.steps) if isinstance(step, Pause))
                pause = one.steps[first]
                if isinstance(pause, Pause) and pause.wait.unless in reasons:
                    self.executions[at] = replace(one, outcome="moot", steps=one.steps[:first])


async def _not_waiting(tx: Tx, executions: Sequence[Execution]) -> list[Execution]:
    """The same, but a rule that waits in a conversation does not begin there again: the first event counts."""
    wanting = [one for one in executions if one.outcome == "waiting"]
    if not wanting:
        return list(executions)
    of = [one.event.subject.entity for one in wanting]
    taken = await waits_store.busy(tx, {one.event.account_id for one in wanting}, of)
    found = []
    for one in executions:
        pair = (one.rule.id, one.event.subject.entity)
        if one.outcome == "waiting" and pair in taken:
            found.append(replace(one, outcome="already_waiting", steps=()))
            continue
        if one.outcome == "waiting":
            taken.add(pair)
        found.append(one)
    return found
