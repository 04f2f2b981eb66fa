"""What a rule that comes by itself asks of conversation: to tell it of those that it is about."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from relevo.automation.domain.reviews import Absence, Among
from relevo.automation.store import StoredRule
from relevo.chassis import Tx
from relevo.contracts.conversation import ReviewConversations

_NAMESPACE: Final = UUID("0f5d2d4e-3f5b-5d0c-9c7d-6a8d3c1b7e52")


def ask(tx: Tx, rule: StoredRule, among: Among, occasion: datetime, at: datetime) -> None:
    """Order it in this transaction: once for each ``occasion`` of a rule. Minutes count back from ``at``."""
    tx.emit(
        ReviewConversations(
            rule_id=rule.id,
            due_at=at,
            statuses=among.statuses,
            inbox_ids=rule.inbox_ids,
            team_id=among.team_id if isinstance(among, Absence) else None,
            idle_minutes=among.idle_minutes,
            waiting_minutes=among.waiting_minutes,
        ),
        account=rule.account_id,
        entity=rule.id,
        actor=f"rule:{rule.id}",
        id=str(uuid5(_NAMESPACE, f"{rule.id}/{occasion.isoformat()}")),
        actor_version=rule.version,
    )
