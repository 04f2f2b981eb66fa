"""Rules that come by the clock: a timer each, which asks conversation for those that the schedule is about."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from relevo.automation import store
from relevo.automation.domain.schedules import Schedule, next_after
from relevo.automation.reviews import ask
from relevo.automation.store import StoredRule
from relevo.chassis import Tx, directory
from relevo.chassis.timers import DueTimer, Timer, cancel, schedule_all
from relevo.contracts.base import now
from relevo.kernel.zones import zone_named

SCHEDULE: Final = "rule_schedule"
"""The timers of scheduled rules, by the rule's id."""

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
        ask(tx, rule, schedule, timer.due_at, moment)
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
    return {id_: zone_named(account.time_zone) or _UTC for id_, account in found.items()}
