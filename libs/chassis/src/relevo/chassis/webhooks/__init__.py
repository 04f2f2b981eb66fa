"""Outgoing webhooks that outlive restarts: endpoints of accounts, and deliveries that wait in the service's database.

Events are added in the transaction that handles them (`deliveries.add`); `Sender` posts them, signed, in order, at
least once, for as long as `relevo.kernel.webhooks.Patience` says. A service that wants them creates the tables in a
migration (`create_webhook_tables`), adds `DOORS` to its doors, `HELD` and `PLAIN` to what it says it holds of people, and runs
`Sender.run` as a worker.
"""

from typing import Final

from relevo.chassis.erasing import Held
from relevo.chassis.tenancy import Door
from relevo.chassis.webhooks.sender import Limits, Paused, Sender

__all__ = ["DOORS", "HELD", "PLAIN", "Limits", "Paused", "Sender"]

DOORS: Final = (
    # Whose deliveries are due is known once they are claimed.
    Door("webhooks", "webhook_endpoints", writes=True),
    Door("webhooks", "webhook_lanes", writes=True),
    Door("retention", "webhook_deliveries", writes=True),
)

HELD: Final = (
    Held(
        "webhook_deliveries",
        ("body",),
        """account_id = cast(:account as uuid)
           and entity_id = any(cast(:conversations as text[]) || cast(:contacts as text[]))""",
        """body = '', done_at = coalesce(done_at, now()),
           state = case when state = 'waiting' then 'failed' else state end""",
    ),
)
"""Deliveries tell of people; once one is erased, what still waits is not sent."""

PLAIN: Final = {
    "webhook_endpoints": (
        "description",
        "last_error",
        "ordered_by",
        "previous_secret",
        "secret",
        "types",
        "updated_by",
        "url",
    ),
    "webhook_lanes": ("lane",),
    "webhook_deliveries": ("entity_id", "event_id", "lane", "last_error", "state", "type"),
}
"""Columns that tell of nobody: ids, and the team's own words. Why an attempt failed names neither address nor answer."""
