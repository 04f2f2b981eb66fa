"""The schema of notification's database, and its doors through the wall between accounts."""

from typing import Final

from relevo.chassis.tenancy import SOUGHT, Door

DOORS: Final = (
    # What is due, and whether it was read meanwhile.
    Door("mails", "mails", writes=True),
    Door("mails", "notifications"),
    Door("pushes", "pushes", writes=True),
    Door("pushes", "push_subscriptions"),
    Door("pushes", "notifications"),
    # A device is whoever's signed in on it last, in whichever account.
    Door("device", "push_subscriptions", f"endpoint = {SOUGHT}", writes=True),
    Door("retention", "pushes", writes=True),
    Door("retention", "mails", writes=True),
    Door("retention", "notifications", writes=True),
)
