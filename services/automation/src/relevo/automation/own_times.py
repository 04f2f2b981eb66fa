"""Rules that come by themselves: by the clock, or when nobody is there. What they are told of that, and their timers."""

from collections.abc import Mapping
from typing import Any, Final

from relevo.automation import absences, schedules
from relevo.automation.domain.reviews import Among
from relevo.automation.domain.schedules import Schedule, faults
from relevo.automation.domain.triggers import Trigger
from relevo.automation.store import StoredRule
from relevo.chassis.database import Tx
from relevo.chassis.problems import FieldError, invalid_fields

TRIGGER_OF: Final[Mapping[str, Trigger]] = {"schedule": "schedule", "absence": "nobody_available"}
"""The trigger of each field that says when a rule comes by itself."""


def kept(given: Among | None, name: str, trigger: Trigger) -> Any:
    """The field as it is kept. Raises Problem 422 where it is missing, not wanted, or of no use."""
    of = TRIGGER_OF[name]
    if (given is None) == (trigger == of):
        es = f"El disparador «{of}», y solo él, lleva «{name}»."
        en = f"The trigger `{of}`, and no other, takes `{name}`."
        raise invalid_fields([FieldError(f"/{name}", es=es, en=en)])
    if isinstance(given, Schedule) and (wrong := list(faults(given))):
        raise invalid_fields([FieldError(f"/schedule/{field}", es=es, en=en) for field, es, en in wrong])
    return None if given is None else given.model_dump(mode="json")


async def follow(tx: Tx, rule: StoredRule) -> None:
    """Set the timers of a rule that was made or changed, and drop those that it has no more."""
    await schedules.follow(tx, rule)
    await absences.forget(tx, rule.id)
    await absences.watch(tx, {rule.account_id}, only=rule.id)


async def forget(tx: Tx, rule_id: str) -> None:
    """The rule is gone."""
    await schedules.forget(tx, rule_id)
    await absences.forget(tx, rule_id)
