"""Rules that come by the clock: a timer each, which asks conversation for those that the schedule is about."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from relevo.automation import store
from relevo.automation.domain.schedules import Schedule, next_after, zone_of
from relevo.automation.store import StoredRule
from relevo.chassis import Tx, directory
from relevo.chassis.timers import DueTimer, Timer, cancel, schedule_all
from relevo.contracts.base import now
from relevo.contracts.conversation import ReviewConversations

SCHEDULE: Final = "rule_schedule"
"""The timers of scheduled rules, by the rule's id."""

_NAMESPACE: Final = UUID("0f5d2d4e-3f5b-5d0c-9c7d-6a8d3c1b7e52")
_UTC: Final = ZoneInfo("UTC")


async def follow(tx: Tx, rule: StoredRule) -> None:
    """Set the timer of a rule that was made or changed, or take it away."""
    at = next_of(rule, await zones(tx, [rule.account_id]), now())
    if at is None:
        await cancel(tx, SCHEDULE, rule.id)
    else:
        await schedule_all(tx, SCHEDULE, [Timer(rule.id, at, account_id=rule.account_id)])


async def forget(tx: Tx, rule_id: str) -> None:
    """The rule is gone."""
    await cancel(tx, SCHEDULE, rule_id)


async def on_schedule(due: Sequence[DueTimer], tx: Tx) -> None:
    """Rules whose time has come: ask for their conversations, once however many times were missed, and wait for the next."""
    accounts = {timer.account_id for timer in due}
    rules = await store.scheduled(tx, accounts, [timer.key for timer in due])
    known = await zones(tx, accounts)
    moment = now()
    next_ones = []
    for timer in due:
        rule = rules.get(timer.key)
        if rule is None:
            continue
        schedule = Schedule.model_validate(rule.schedule)
        asked = ReviewConversations(
            rule_id=rule.id,
            due_at=moment,
            statuses=schedule.statuses,
            inbox_ids=rule.inbox_ids,
            idle_minutes=schedule.idle_minutes,
            waiting_minutes=schedule.waiting_minutes,
        )
        tx.emit(
            asked,
            account=rule.account_id,
            entity=rule.id,
            actor=f"rule:{rule.id}",
            id=str(uuid5(_NAMESPACE, f"{rule.id}/{timer.due_at.isoformat()}")),
            actor_version=rule.version,
        )
        if at := next_of(rule, known, max(moment, timer.due_at)):
            next_ones.append(Timer(rule.id, at, account_id=rule.account_id))
    await schedule_all(tx, SCHEDULE, next_ones)


def next_of(rule: StoredRule, known: Mapping[str, ZoneInfo], moment: datetime) -> datetime | None:
    """When a rule comes next after a moment; None: never, or it has no schedule, or is off."""
    if rule.schedule is None or not rule.enabled:
        return None
    return next_after(Schedule.model_validate(rule.schedule), known.get(rule.account_id, _UTC), moment)


async def zones(tx: Tx, accounts: Collection[str]) -> dict[str, ZoneInfo]:
    """The time zones of accounts."""
    found = await directory.accounts(tx, accounts)
    return {id_: zone_of(account.time_zone) or _UTC for id_, account in found.items()}
