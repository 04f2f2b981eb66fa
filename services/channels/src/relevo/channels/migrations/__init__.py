"""The schema of channels' database, and its doors through the wall between accounts."""

from typing import Final

from relevo.chassis.tenancy import SOUGHT, Door

DOORS: Final = (
    # A widget names its inbox, and nothing else.
    Door("inbox", "directory", f"kind = 'inbox' and id = {SOUGHT}"),
    Door("deliveries", "deliveries", writes=True),
    Door("reports", "reports", writes=True),
)
