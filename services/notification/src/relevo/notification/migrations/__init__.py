"""The schema of notification's database, and its doors through the wall between accounts."""

from typing import Final

from relevo.chassis.tenancy import Door

DOORS: Final = (
    # What is due, and whether it was read meanwhile.
    Door("mails", "mails", writes=True),
    Door("mails", "notifications"),
    Door("retention", "mails", writes=True),
    Door("retention", "notifications", writes=True),
)
