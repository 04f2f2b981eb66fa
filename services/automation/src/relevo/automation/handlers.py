"""From the conversations' story to the commands that rules order."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import structlog
from pydantic import ValidationError

from relevo.automation import store
from relevo.automation.domain.rules import Execution, Rule, RuleSet, compile_rule, evaluate
from relevo.automation.domain.triggers import TRIGGERS_OF, occurrence
from relevo.automation.labels import on_labels
from relevo.chassis import Received, Tx
from relevo.contracts.automation import RuleExecuted
from relevo.contracts.base import now
from relevo.contracts.envelope import Envelope
from relevo.kernel.conditions import ConditionError

_BREATHE: Final = 20
log = structlog.get_logger("relevo.automation")


class Automaton:
    """Judges every event by its account's rules. Keeps them compiled, and asks at each batch whether they changed."""

    def __init__(self, depth_limit: int) -> None:
        self._depth_limit = depth_limit
        self._sets: dict[str, RuleSet] = {}

    async def on_conversation(self, batch: Sequence[Received], tx: Tx) -> None:
        """Order what the matching rules say, each rule, version and event once; one statement reads, one writes."""
        await on_labels(batch, tx)
        triggering = [received for received in batch if received.type in TRIGGERS_OF]
        if not triggering:
            return
        await self._refresh(tx, {received.envelope.account for received in triggering})
        causes: dict[str, Envelope] = {}
        executions: list[Execution] = []
        for number, received in enumerate(triggering):
            if number % _BREATHE == 0:
                await asyncio.sleep(0)  # judging is all computing: leases and other work must get their turn
            envelope = received.envelope
            rules = self._sets.get(envelope.account)
            # Most events end here, before their body is decoded.
            if rules is None or not rules.listens(TRIGGERS_OF[received.type]):
                continue
            event = occurrence(envelope, received.data)
            if event is not None:
                causes[envelope.id] = envelope
                executions += evaluate(rules, event, depth_limit=self._depth_limit)
        if not executions:
            return
        fresh = await store.record(tx, executions, now())
        for execution in executions:
            if execution.id in fresh:
                _order(tx, execution, causes[execution.event.event_id])

    async def _refresh(self, tx: Tx, accounts: set[str]) -> None:
        """Bring the rules of these accounts up to date, compiling only what changed."""
        versions = await store.versions(tx, accounts)
        for account in accounts - versions.keys():
            self._sets.pop(account, None)
        stale = {
            account
            for account, version in versions.items()
            if account not in self._sets or self._sets[account].version != version
        }
        if not stale:
            return
        found: dict[str, list[Rule]] = defaultdict(list)
        # Read after the versions: what is newer than its version is only read once more.
        for stored in await store.enabled_rules(tx, stale):
            rule = _compiled(stored)
            if rule is not None:
                found[stored.account_id].append(rule)
        for account in stale:
            self._sets[account] = RuleSet(versions[account], found[account])


def _compiled(stored: store.StoredRule) -> Rule | None:
    try:
        return compile_rule(
            id=stored.id,
            version=stored.version,
            name=stored.name,
            trigger=stored.trigger,
            conditions=stored.conditions,
            actions=stored.actions,
            inbox_ids=stored.inbox_ids,
            on_automated=stored.on_automated,
        )
    except (ConditionError, ValidationError, KeyError):
        # Checked when it was written; an older release's rule must not stop the line of the others.
        log.exception("rule_unusable", account=stored.account_id, rule=stored.id)
        return None


def _order(tx: Tx, execution: Execution, cause: Envelope) -> None:
    if execution.outcome != "ordered":
        return
    rule, conversation = execution.rule, execution.event.conversation
    for number, command in enumerate(execution.commands):
        tx.emit(
            command,
            account=cause.account,
            entity=conversation.id,
            actor=rule.actor,
            cause=cause,
            id=execution.command_id(number),
            actor_version=rule.version,
        )
    executed = RuleExecuted(
        rule_id=rule.id,
        rule_version=rule.version,
        rule_name=rule.name,
        event_id=execution.event.event_id,
        event_type=execution.event.event_type,
        conversation_id=conversation.id,
        inbox_id=conversation.inbox_id,
        channel=conversation.channel,
        actions=tuple(action.type for action in rule.actions),
    )
    tx.emit(executed, account=cause.account, entity=conversation.id, actor=rule.actor, cause=cause, id=execution.id)
